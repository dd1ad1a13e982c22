from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import of_each_history, random_batch
from trainables.next_item.hgn import HGN

USERS = 5


def make(users: int | None = None, **parameters: object) -> HGN:
    torch.manual_seed(0)
    model = HGN(50, 6, users, size=8, **parameters)  # type: ignore[arg-type]
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


def by_hand_with_user(model: HGN, items: list[int], user: int) -> Tensor:
    """Eq. 2–8, one item at a time; scores [I]. The last item has the last of the user's six weights."""
    assert model.user is not None
    user_D = model.user.embedding.weight[user]
    embedded = [model.embedding.weight[item - 1] for item in items]
    wanted_D = model.user.feature_gate.weight @ user_D + model.feature_gate.bias
    gated = [e * torch.sigmoid(model.feature_gate.weight @ e + wanted_D) for e in embedded]
    weight_LD = model.user.instance_gate.weight
    assert weight_LD.shape == (6, 8)
    for index, value in enumerate(gated):
        place_D = weight_LD[6 - len(items) + index]
        gated[index] = value * torch.sigmoid(model.instance_gate.weight[0] @ value + place_D @ user_D)
    pooled = sum(gated) / len(items) if model.pooling == "mean" else torch.stack(gated).amax(0)
    return torch.stack([user_D @ q_D + pooled @ q_D + sum(e @ q_D for e in embedded) for q_D in model.output.weight])


@pytest.mark.parametrize("pooling", ["mean", "max"])
@torch.no_grad()
def test_users_are_in_both_gates_and_in_the_score(pooling: str) -> None:
    model, batch = make(USERS, pooling=pooling).eval(), random_batch(9, users=USERS)
    assert batch.user_B is not None and len(batch.user_B.unique()) > 2
    expected = of_each_history(batch, partial(by_hand_with_user, model))
    torch.testing.assert_close(model.rank_scores(batch), expected, atol=1e-4, rtol=1e-4)
    loss = functional.cross_entropy(expected, batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), loss, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@torch.no_grad()
def test_scores_are_those_of_the_equations(pooling: str) -> None:
    model, batch = make(pooling=pooling).eval(), random_batch(5)
    expected = of_each_history(batch, partial(by_hand, model))
    torch.testing.assert_close(model.rank_scores(batch), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_loss_is_the_cross_entropy_of_the_ranking_scores() -> None:
    model, batch = make().eval(), random_batch(9)
    expected = functional.cross_entropy(model.rank_scores(batch), batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), expected)


def test_weights_start_as_in_the_authors_program() -> None:
    """model/gating_network.py: normal with deviation 1/d for items and users, Xavier-uniform for an item's gate."""
    torch.manual_seed(0)
    model = HGN(400, 6, 400, size=64)
    assert model.user is not None
    for table in (model.embedding.weight, model.output.weight, model.user.embedding.weight):
        assert float(table.detach().std()) == pytest.approx(1 / 64, rel=0.02)
    for gate, outputs in ((model.instance_gate, 1), (model.user.instance_gate, 6)):
        bound = (6 / (64 + outputs)) ** 0.5
        assert 0.9 * bound < float(gate.weight.detach().abs().max()) <= bound


def test_without_users_weights_are_drawn_as_if_there_were_none() -> None:
    torch.manual_seed(0)
    model, after = HGN(50, 6, size=8), torch.rand(3)
    torch.manual_seed(0)
    embedding_ID, feature, instance = torch.randn(50, 8) / 8, nn.Linear(8, 8), nn.Linear(8, 1, bias=False)
    output_ID = torch.randn(50, 8) / 8
    nn.init.xavier_uniform_(instance.weight)
    tables = [embedding_ID, feature.weight, feature.bias, instance.weight, output_ID]
    found = list(model.parameters())
    assert len(found) == len(tables)
    assert all(torch.equal(one, other) for one, other in zip(found, tables, strict=True))
    assert torch.equal(torch.rand(3), after)


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
