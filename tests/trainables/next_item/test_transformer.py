import math

import pytest
import torch
from torch import Tensor

from trainables.next_item import dropout, few_query_attention
from trainables.next_item.transformer import TransformerEncoder


def make(size: int = 8, history_length: int = 5) -> TransformerEncoder:
    torch.manual_seed(0)
    encoder = TransformerEncoder(size, history_length)
    # Leave the initial values, at which biases and norms are too simple to tell forms apart.
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def last_of_all(encoder: TransformerEncoder, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
    return encoder.all_positions(embedded_BLD, length_B)[torch.arange(len(length_B)), length_B.long() - 1]


def test_last_position_equals_the_full_form_with_its_gradients() -> None:
    encoder, length_B = make(), torch.tensor([1, 3, 5, 2])
    embedded_BLD, direction_BD = torch.randn(4, 5, 8, requires_grad=True), torch.randn(4, 8)
    gradients = []
    for state_BD in (encoder(embedded_BLD, length_B), last_of_all(encoder, embedded_BLD, length_B)):
        inputs = [embedded_BLD, *encoder.parameters()]
        gradients.append([state_BD, *torch.autograd.grad((state_BD * direction_BD).sum(), inputs)])
    for last, full in zip(*gradients, strict=True):
        torch.testing.assert_close(last, full, atol=1e-5, rtol=1e-5)


def test_forms_agree_in_training_without_dropout() -> None:
    encoder, length_B = make(), torch.tensor([4, 5])
    encoder.dropout = 0.0
    encoder.train()
    embedded_BLD = torch.randn(2, 5, 8)
    torch.testing.assert_close(
        encoder(embedded_BLD, length_B), last_of_all(encoder, embedded_BLD, length_B), atol=1e-5, rtol=1e-5
    )


class GivenMasks:
    """Stands for `kept_elements`: keeps what it was told to, one mask a call, in place of what would be drawn."""

    def __init__(self, *masks: Tensor) -> None:
        self.left = list(masks)

    def __call__(self, x: Tensor, rate: float) -> tuple[Tensor, float]:
        return self.left.pop(0).expand_as(x).clone(), 1 / (1 - rate)


def test_forms_agree_in_training_with_the_same_elements_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of embeddings, attention weights (B, H, L) and feed-forward, in this order."""
    encoder, length_B = make().double().train(), torch.tensor([1, 3, 5, 2])
    encoder.dropout = 0.4
    embedded_BLD, direction_BD = torch.randn(4, 5, 8).double().requires_grad_(), torch.randn(4, 8).double()
    embedded, weights, changed = (torch.rand(shape) > 0.4 for shape in ((4, 5, 8), (4, 2, 5), (4, 8)))
    real_BL = torch.arange(5) < length_B[:, None]
    gradients = []
    for form, masks in (
        # Draws nothing for padded positions.
        (encoder.last_position, GivenMasks(embedded[real_BL], weights, changed)),
        # The same for all queries, of which the last one counts, and at all positions.
        (lambda *given: last_of_all(encoder, *given), GivenMasks(embedded, weights[:, :, None], changed[:, None])),
    ):
        for module in (dropout, few_query_attention):
            monkeypatch.setattr(module, "kept_elements", masks)
        state_BD = form(embedded_BLD, length_B)
        inputs = [embedded_BLD, *encoder.parameters()]
        gradients.append([state_BD, *torch.autograd.grad((state_BD * direction_BD).sum(), inputs)])
        assert not masks.left, "all three places have a dropout"
    for last, full in zip(*gradients, strict=True):
        torch.testing.assert_close(last, full)


def layer_norm(x: list[float], scale: list[float], shift: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in x) / len(x) + 1e-5)
    return [(v - mean) / deviation * a + b for v, a, b in zip(x, scale, shift, strict=True)]


@torch.no_grad()
def test_one_history_with_plain_loops() -> None:
    """The layer as the docstring says it, number by number."""
    encoder = make(size=4, history_length=3).double()
    embedded_BLD = torch.randn(1, 3, 4).double()
    length, heads, size = 2, 2, 4
    x = [[(embedded_BLD[0, i, d] + encoder.position_LD[i, d]).item() for d in range(size)] for i in range(length)]

    def affine(layer: torch.nn.Linear, row: list[float]) -> list[float]:
        bias = [0.0] * size if layer.bias is None else layer.bias.tolist()
        return [sum(w * v for w, v in zip(layer.weight[o].tolist(), row, strict=True)) + bias[o] for o in range(size)]

    def norm(layer: torch.nn.LayerNorm, row: list[float]) -> list[float]:
        return layer_norm(row, layer.weight.tolist(), layer.bias.tolist())

    normed = norm(encoder.query_norm, x[-1])
    query, keys, values = (
        affine(encoder.query, normed),
        [affine(encoder.key, row) for row in x],
        [affine(encoder.value, row) for row in x],
    )
    attended = [0.0] * size
    for head in range(heads):
        part = range(head * size // heads, (head + 1) * size // heads)
        weights = [math.exp(sum(query[d] * key[d] for d in part) / math.sqrt(size)) for key in keys]
        for d in part:
            attended[d] = sum(w * value[d] for w, value in zip(weights, values, strict=True)) / sum(weights)
    state = [a + n + last for a, n, last in zip(attended, normed, x[-1], strict=True)]
    inner_input = norm(encoder.state_norm, state)
    hidden = [max(0.0, value) for value in affine(encoder.inner, inner_input)]
    changed = [c + n for c, n in zip(affine(encoder.outer, hidden), inner_input, strict=True)]
    forwarded = norm(encoder.feed_forward_norm, changed)
    expected = norm(encoder.final_norm, [f + s for f, s in zip(forwarded, state, strict=True)])
    assert encoder(embedded_BLD, torch.tensor([length]))[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_padding_and_the_future_do_not_leak() -> None:
    encoder, length_B = make(), torch.tensor([2, 4])
    embedded_BLD = torch.randn(2, 5, 8)
    changed_BLD = embedded_BLD.clone()
    changed_BLD[0, 2:] = 100.0
    changed_BLD[1, 4:] = -100.0
    torch.testing.assert_close(encoder(embedded_BLD, length_B), encoder(changed_BLD, length_B))
    torch.testing.assert_close(
        encoder.all_positions(embedded_BLD, length_B), encoder.all_positions(changed_BLD, length_B)
    )
    later_BLD = embedded_BLD.clone()
    later_BLD[1, 3] += 1.0
    before, after = encoder.all_positions(embedded_BLD, length_B), encoder.all_positions(later_BLD, length_B)
    torch.testing.assert_close(before[1, :3], after[1, :3])
    assert not torch.allclose(before[1, 3], after[1, 3])


def test_padded_states_are_zero() -> None:
    state_BLD = make().all_positions(torch.randn(1, 5, 8), torch.tensor([3]))
    assert bool((state_BLD[0, 3:] == 0).all())
    assert bool((state_BLD[0, :3] != 0).any(dim=1).all())


def test_initial_values() -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(64, 10)
    bound = math.sqrt(6 / (64 + 64))  # Xavier-uniform
    for projection in (encoder.query, encoder.key, encoder.value):
        assert float(projection.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(encoder.query.bias.abs().max()) == float(encoder.value.bias.abs().max()) == 0
    assert float(encoder.position_LD.std()) == pytest.approx(1, abs=0.1)


def test_dropout_is_active_in_training_alone() -> None:
    encoder, embedded_BLD, length_B = make(), torch.randn(2, 5, 8), torch.tensor([5, 5])
    assert torch.equal(encoder(embedded_BLD, length_B), encoder(embedded_BLD, length_B))
    encoder.train()
    assert not torch.equal(encoder(embedded_BLD, length_B), encoder(embedded_BLD, length_B))


def test_size_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="size 9 is no multiple of 2 heads"):
        TransformerEncoder(9, 5)
