import torch
from torch import Tensor

from trainables.next_item.gru import GRUEncoder

SIZE, LENGTH = 8, 5


def make(dropout: float = 0.0) -> GRUEncoder:
    torch.manual_seed(0)
    return GRUEncoder(SIZE, LENGTH, dropout)


def by_hand(encoder: GRUEncoder, embedded_LD: Tensor) -> Tensor:
    """Cho et al. 2014 with torch's gate order (reset, update, candidate), one step at a time."""
    weights = dict(encoder.layer.named_parameters())
    state_D = torch.zeros(SIZE)
    for item_D in embedded_LD:
        from_item = weights["weight_ih_l0"] @ item_D + weights["bias_ih_l0"]
        from_state = weights["weight_hh_l0"] @ state_D + weights["bias_hh_l0"]
        reset, update = (from_item + from_state)[: 2 * SIZE].sigmoid().split(SIZE)
        candidate = torch.tanh(from_item[2 * SIZE :] + reset * from_state[2 * SIZE :])
        state_D = (1 - update) * candidate + update * state_D
    return state_D


def test_state_after_the_last_real_position() -> None:
    encoder, embedded_BLD, length_B = make(), torch.randn(4, LENGTH, SIZE), torch.tensor([3, 1, 5, 3])
    expected = [by_hand(encoder, row[:length]) for row, length in zip(embedded_BLD, length_B, strict=True)]
    torch.testing.assert_close(encoder(embedded_BLD, length_B.int()), torch.stack(expected))


def test_padding_has_neither_influence_nor_gradient() -> None:
    encoder, length_B = make(), torch.tensor([3, 1, 5])
    embedded_BLD = torch.randn(3, LENGTH, SIZE, requires_grad=True)
    real_BL1 = (torch.arange(LENGTH) < length_B[:, None])[..., None]
    clean_BD = encoder(embedded_BLD, length_B)
    assert torch.equal(encoder(embedded_BLD.masked_fill(~real_BL1, torch.nan), length_B), clean_BD)
    (gradient_BLD,) = torch.autograd.grad(clean_BD.square().sum(), embedded_BLD)
    assert torch.equal(gradient_BLD.any(dim=2, keepdim=True), real_BL1)


def test_dropout_falls_on_the_items_in_training_alone() -> None:
    encoder, embedded_BLD, length_B = make(dropout=0.5), torch.randn(64, LENGTH, SIZE), torch.full((64,), LENGTH)
    noisy_BD = encoder.train()(embedded_BLD, length_B)
    assert not torch.allclose(noisy_BD, encoder(embedded_BLD, length_B))
    quiet_BD = encoder.eval()(embedded_BLD, length_B)
    assert torch.equal(quiet_BD, encoder(embedded_BLD, length_B))
