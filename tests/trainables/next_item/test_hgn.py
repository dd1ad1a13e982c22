import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.next_item.hgn import HGN


def make(**parameters: object) -> HGN:
    torch.manual_seed(0)
    model = HGN(50, 6, size=8, **parameters)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def by_hand(model: HGN, items: list[int]) -> Tensor:
    """Eq. 2–8 without the user, one item at a time; scores [I]."""
    embedded = [model.embedding.weight[item - 1] for item in items]
    gated = [e * torch.sigmoid(model.feature_gate.weight @ e + model.feature_gate.bias) for e in embedded]
    gated = [g * torch.sigmoid(model.instance_gate.weight[0] @ g) for g in gated]
    pooled = sum(gated) / len(items) if model.pooling == "mean" else torch.stack(gated).amax(0)
    scores = []
    for output_D in model.output.weight:
        item_item = sum(e @ output_D for e in embedded)
        scores.append(pooled @ output_D + item_item)
    return torch.stack(scores)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@torch.no_grad()
def test_scores_are_those_of_the_equations(pooling: str) -> None:
    model, batch = make(pooling=pooling).eval(), random_batch(5)
    rows = zip(batch.history_BL.tolist(), batch.length_B.tolist(), strict=True)
    expected = torch.stack([by_hand(model, history[:length]) for history, length in rows])
    torch.testing.assert_close(model.rank_scores(batch), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_loss_is_the_cross_entropy_of_the_ranking_scores() -> None:
    model, batch = make().eval(), random_batch(9)
    expected = functional.cross_entropy(model.rank_scores(batch), batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), expected)


def test_weights_start_as_in_the_authors_program() -> None:
    """model/gating_network.py: normal with deviation 1/d for items, Xavier-uniform for the gate of an item."""
    torch.manual_seed(0)
    model = HGN(400, 6, size=64)
    for table in (model.embedding.weight, model.output.weight):
        assert float(table.detach().std()) == pytest.approx(1 / 64, rel=0.02)
    bound = (6 / (64 + 1)) ** 0.5
    assert 0.9 * bound < float(model.instance_gate.weight.detach().abs().max()) <= bound


def test_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    model, batch = HGN(50, 6, size=32, learning_rate=0.01), random_batch(64)
    optimizer, losses = model.optimizer(), []
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 < 3 < losses[0]
