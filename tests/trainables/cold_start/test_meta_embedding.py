from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.base import CtrBatch, CtrModel, Field, FieldValues
from trainables.cold_start.conformance import FIELDS, HOT, ITEMS, NEW, USERS, RowsInMemory, item_table, rows_of
from trainables.cold_start.meta_embedding import MetaEmbedding
from trainables.cold_start.side_information import DescribedItems, described
from trainables.ctr.deepfm import DeepFM
from trainables.layers import pairwise_interactions


class DotProduct(CtrModel):
    """Its logit is ⟨user, item⟩, so that the inner gradient has a closed form: (σ(logit) − label) · user."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: tuple[Field, ...] = FIELDS
        self.users, self.table_ID = nn.Parameter(torch.randn(USERS, 4)), nn.Parameter(torch.randn(ITEMS, 4))
        self.years = nn.Parameter(torch.randn(4, 4))

    def embed(self, batch: CtrBatch) -> FieldValues:
        user, item, year = (batch.columns[name].long() for name in ("user_id", "item_id", "year"))
        absent = torch.zeros(len(batch), 4)
        embedded = torch.stack([self.users[user], absent, self.table_ID[item], self.years[year], absent], dim=1)
        return FieldValues(embedded, torch.stack([batch.columns["timestamp"], batch.columns["count"]], dim=1), 2)

    def interact(self, values: FieldValues) -> Tensor:
        return (values.embedded_BFD[:, 0] * values.embedded_BFD[:, 2]).sum(dim=1)

    @property
    def item_embedding(self) -> nn.Parameter:
        return self.table_ID


def meta(variant: str = "paper", **parameters: Any) -> MetaEmbedding:
    torch.manual_seed(0)
    method = MetaEmbedding(DotProduct(), variant=variant, **{"batch_size": 16, **parameters})  # type: ignore[arg-type]
    for parameter in method.generator.parameters():
        nn.init.normal_(parameter, std=0.5)
    return method


def side_of(method: MetaEmbedding) -> DescribedItems:
    return DescribedItems(method.backbone, method.side, item_table(), torch.arange(ITEMS))


def quarters() -> tuple[RowsInMemory, ...]:
    return rows_of(HOT, 160).item_quarters(seed=0)


def bce(logit: Tensor, label: Tensor) -> Tensor:
    return -(label * torch.sigmoid(logit).log() + (1 - label) * torch.sigmoid(-logit).log())


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_both_losses_and_their_gradient_by_the_closed_form(variant: str) -> None:
    method = meta(variant, inner_learning_rate=0.7, cold_loss_weight=0.3)
    cold, warm, _, _ = quarters()
    side_IS = described(method.backbone, method.side, item_table(), torch.arange(ITEMS))
    found = method._losses(side_of(method), cold.batch, warm.batch)
    item_B = cold.batch.columns["item_id"].tolist()
    assert isinstance(method.backbone, DotProduct)
    cold_users, warm_users = (
        method.backbone.users[rows.batch.columns["user_id"].long()].detach() for rows in (cold, warm)
    )
    generated = {item: method.generator(side_IS[item]) for item in set(item_B)}
    gradients = [
        (torch.sigmoid(user @ generated[item]) - label) * user
        for item, user, label in zip(item_B, cold_users, cold.batch.label_B, strict=True)
    ]
    cold_loss, warm_loss = torch.zeros(()), torch.zeros(())
    for row, item in enumerate(item_B):
        if variant == "paper":
            own = [gradient for gradient, other in zip(gradients, item_B, strict=True) if other == item]
            step = torch.stack(own).mean(dim=0)
        else:
            step = gradients[row] / len(item_B)
        moved = generated[item] - 0.7 * step
        cold_loss = cold_loss + bce(cold_users[row] @ generated[item], cold.batch.label_B[row]) / len(item_B)
        warm_loss = warm_loss + bce(warm_users[row] @ moved, warm.batch.label_B[row]) / len(item_B)
    torch.testing.assert_close(found["weighted_cold_loss"], 0.3 * cold_loss)
    torch.testing.assert_close(found["weighted_warm_loss"], 0.7 * warm_loss)
    parameters = list(method.generator.parameters())
    expected = torch.autograd.grad(0.3 * cold_loss + 0.7 * warm_loss, parameters)
    for gradient, by_hand in zip(torch.autograd.grad(sum(found.values()), parameters), expected, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(gradient, by_hand, rtol=1e-4, atol=1e-6)


def test_the_gradient_goes_through_the_inner_step() -> None:
    """A first-order version, which holds the step constant, would give another gradient."""
    cold, warm, _, _ = quarters()
    gradients = []
    for rate in (0.0, 0.7):
        method = meta(inner_learning_rate=rate, cold_loss_weight=0.0)
        losses = method._losses(side_of(method), cold.batch, warm.batch)
        gradients.append(torch.autograd.grad(losses["weighted_warm_loss"], list(method.generator.parameters()))[0])
    assert float((gradients[0] - gradients[1]).abs().max()) > 1e-3


def test_the_backbone_s_pairwise_interactions_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    fields_BFD = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pairwise_interactions, fields_BFD)
    assert torch.autograd.gradgradcheck(pairwise_interactions, fields_BFD)


def test_epochs_take_neighbouring_quarters_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    method, rows = meta(fit_epochs=5), rows_of(HOT, 160)
    pairs: list[tuple[float, float]] = []
    losses = method._losses

    def recorded(side: DescribedItems, cold: CtrBatch, warm: CtrBatch) -> dict[str, Tensor]:
        assert torch.equal(cold.columns["item_id"], warm.columns["item_id"])
        pairs.append(tuple(float(batch.columns["timestamp"].mean()) for batch in (cold, warm)))  # type: ignore[arg-type]
        return losses(side, cold, warm)

    monkeypatch.setattr(method, "_losses", recorded)
    method.fit(rows, seed=0)
    steps = len(pairs) // 5
    means = [
        [sum(pair[side] for pair in pairs[e * steps : (e + 1) * steps]) / steps for side in (0, 1)] for e in range(5)
    ]
    assert [round(4 * mean - 0.5) for mean, _ in means] == [0, 1, 2, 3, 0]
    assert [round(4 * mean - 0.5) for _, mean in means] == [1, 2, 3, 0, 1]


def test_the_generator_trains_at_its_own_rate() -> None:
    """One step of torch's Adam for each batch, in stored order, of the losses that the closed form gives."""
    rates: dict[str, Any] = {"generator_learning_rate": 0.02, "learning_rate": 0.5}
    method, twin = meta(**rates), meta(**rates)
    start = twin.generator[0].weight.detach().clone()
    optimizer = torch.optim.Adam(twin.generator.parameters(), lr=0.02, weight_decay=1e-6)
    cold, warm, _, _ = quarters()
    batches = list(zip(cold.batches(16), warm.batches(16), strict=True))
    assert len(batches) > 1
    for batch, other in batches:
        optimizer.zero_grad()
        torch.stack(list(twin._losses(side_of(twin), batch, other).values())).sum().backward()
        optimizer.step()
    method.fit(rows_of(HOT, 160), seed=0)
    assert float((twin.generator[0].weight.detach() - start).abs().max()) > 0.02
    for found, expected in zip(method.generator.parameters(), twin.generator.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_released_start_is_torch_s_and_the_default_is_small() -> None:
    torch.manual_seed(0)
    DotProduct()
    torchs = nn.Sequential(nn.Linear(4 * 2 + 1, 16), nn.ReLU(), nn.Linear(16, 4)).state_dict()
    for start, variant in (("released", "paper"), ("default", "paper"), ("default", "released")):
        torch.manual_seed(0)
        own: Any = {"start": start, "variant": variant}
        found = MetaEmbedding(DotProduct(), **own).generator.state_dict()
        assert all(torch.equal(found[name], torchs[name]) for name in found) == (start == "released")
        assert all(float(value.abs().max()) <= 0.01 for value in found.values()) == (start == "default")


def test_only_the_generator_trains() -> None:
    torch.manual_seed(0)
    method = MetaEmbedding(DeepFM(FIELDS), batch_size=16)
    before = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    method.fit(rows_of(HOT, 160), seed=0)
    changed = {name for name, parameter in method.named_parameters() if not torch.equal(parameter, before[name])}
    assert {name.split(".")[0] for name in changed} == {"generator"}


@pytest.mark.parametrize(("variant", "knows"), [("paper", False), ("released", True)])
def test_whether_the_generator_knows_the_id(variant: str, knows: bool) -> None:
    method = meta(variant)
    before = method.generate(item_table(), torch.tensor(NEW))
    with torch.no_grad():
        method.backbone.item_embedding.add_(1.0)
    assert torch.equal(method.generate(item_table(), torch.tensor(NEW)), before) != knows


def test_generated_embeddings_are_the_generator_on_the_backbone_s_side_embeddings() -> None:
    method = meta()
    assert isinstance(method.backbone, DotProduct)
    for item in NEW:
        columns = item_table().select(torch.tensor([item]))
        side = torch.cat([method.backbone.years[columns["year"].long()][0], torch.zeros(4), columns["count"]])
        first, _, second = method.generator
        expected = second.weight @ (first.weight @ side + first.bias).clamp(min=0) + second.bias
        torch.testing.assert_close(method.generate(item_table(), torch.tensor([item]))[0], expected)


def test_an_item_that_nothing_describes_is_an_error() -> None:
    fields = tuple(field for field in FIELDS if field.role != "item")
    with pytest.raises(ValueError, match="nothing describes an item; use variant released"):
        MetaEmbedding(DeepFM(fields))
    MetaEmbedding(DeepFM(fields), variant="released")


def test_too_few_rows_for_quarters_are_an_error() -> None:
    with pytest.raises(ValueError, match="fit: no rows to train on"):
        meta().fit(rows_of(HOT, 3), seed=0)
