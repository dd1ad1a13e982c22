from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.trainables.small_rows import FIELDS, USERS, small_rows
from trainables.base import Field
from trainables.cold_start.mwuf import MWUF
from trainables.cold_start.side_information import described
from trainables.ctr.deepfm import DeepFM

MORE_USERS = tuple(
    Field("user_id", "category", 20, "user_id") if field.name == "user_id" else field for field in FIELDS
)


def mwuf(fields: tuple[Field, ...] = FIELDS, **parameters: Any) -> MWUF:
    torch.manual_seed(0)
    method = MWUF(DeepFM(fields, dropout=0.0), **{"batch_size": 16, **parameters})
    for module in (method.scale, method.shift, method.backbone):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return method


def user_embedding(method: MWUF, user: int) -> Tensor:
    table: Tensor = method.backbone.embeddings.others.table_VD  # type: ignore[assignment,union-attr]
    return table.detach()[user]


def test_warm_is_scale_times_cold_plus_shift() -> None:
    method, rows = mwuf(), small_rows(64, items=(0, 8))
    method._start(rows)
    mean_D = method.backbone.item_embedding.detach()[:8].mean(dim=0)
    met = list(zip(rows.batch.columns["user_id"].tolist(), rows.batch.columns["item_id"].tolist(), strict=True))
    side_IS = described(method.backbone, method.side, rows.items, torch.arange(12))
    generated = method.generate(rows.items, torch.arange(12))
    for item in range(12):
        users = [user for user, other in met if other == item] or [user for user, _ in met]
        audience = torch.stack([user_embedding(method, user) for user in users]).mean(dim=0)
        (a, _, b), (c, _, d) = method.scale, method.shift
        scale = b.weight @ (a.weight @ side_IS[item] + a.bias).clamp(min=0) + b.bias
        shift = d.weight @ (c.weight @ audience + c.bias).clamp(min=0) + d.bias
        torch.testing.assert_close(generated[item], scale * mean_D + shift, rtol=1e-4, atol=1e-5)


def test_the_release_swaps_users_and_items() -> None:
    method, rows = mwuf(MORE_USERS, variant="released"), small_rows(64)
    method._start(rows)
    met = list(zip(rows.batch.columns["user_id"].tolist(), rows.batch.columns["item_id"].tolist(), strict=True))
    users_ID = method.get_buffer("users_ID")
    for item in range(12):
        read_as_users = [other for user, other in met if user == item]
        if read_as_users:
            expected = torch.stack([user_embedding(method, user) for user in read_as_users]).mean(dim=0)
        else:
            expected = torch.zeros(16)
        torch.testing.assert_close(users_ID[item], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(method.cold_ID.detach()[3], method.backbone.item_embedding.detach().mean(dim=0))


def test_each_batch_trains_the_table_then_the_networks() -> None:
    """Two optimizers beside each other, written out; the networks see the table after its step."""
    given: dict[str, Any] = {"backbone_mode": "evaluation", "generator_learning_rate": 3e-3, "learning_rate": 0.5}
    method, twin, rows = mwuf(**given), mwuf(**given), small_rows(48, items=(0, 8))
    twin._start(rows)
    twin.backbone.eval()
    side_IS = described(twin.backbone, twin.side, rows.items, torch.arange(12))
    users_ID = twin.get_buffer("users_ID")
    networks = [*twin.scale.parameters(), *twin.shift.parameters()]
    table = torch.optim.Adam([twin.cold_ID], lr=3e-3)
    meta = torch.optim.Adam(networks, lr=3e-3, weight_decay=1e-6)
    for batch in rows.batches(16, shuffle_seed=5):
        item_B = batch.columns["item_id"].long()
        values = twin.backbone.embed(batch)
        table.zero_grad()
        cold = F.binary_cross_entropy_with_logits(
            twin.backbone.interact(values.with_item(twin.cold_ID[item_B])), batch.label_B
        )
        cold.backward()  # type: ignore[no-untyped-call]
        table.step()
        meta.zero_grad()
        values = twin.backbone.embed(batch)
        warm_BD = twin.scale(side_IS[item_B]) * twin.cold_ID.detach()[item_B] + twin.shift(users_ID[item_B])
        warm = F.binary_cross_entropy_with_logits(twin.backbone.interact(values.with_item(warm_BD)), batch.label_B)
        warm.backward()  # type: ignore[no-untyped-call]
        meta.step()
    method.fit(rows, seed=5)
    torch.testing.assert_close(method.cold_ID, twin.cold_ID, rtol=1e-4, atol=1e-5)
    for found, expected in zip([*method.scale.parameters(), *method.shift.parameters()], networks, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("variant", "shrinks"), [("paper", False), ("released", True)])
def test_cold_embeddings_of_new_items_stay_at_the_mean_but_in_the_release(variant: str, shrinks: bool) -> None:
    method, rows = mwuf(MORE_USERS, variant=variant, weight_decay=1e-2), small_rows(64, items=(0, 8))
    method.fit(rows, seed=0)
    known = method.backbone.item_embedding.detach()
    mean_D = (known if shrinks else known[:8]).mean(dim=0)
    new_MD = method.cold_ID.detach()[8:]
    assert bool((new_MD.abs() < mean_D.abs()).all() if shrinks else (new_MD == mean_D).all())
    assert not bool((method.cold_ID.detach()[:8] == mean_D).any())


def test_fitting_leaves_the_backbone_alone() -> None:
    method = mwuf()
    before = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    method.fit(small_rows(64), seed=0)
    changed = {name for name, parameter in method.named_parameters() if not torch.equal(parameter, before[name])}
    assert {name.split(".")[0] for name in changed} == {"cold_ID", "scale", "shift"}


def test_item_ids_that_cannot_be_read_as_user_ids_are_an_error() -> None:
    assert USERS < 12
    with pytest.raises(ValueError, match="there are 12 items but 9 users; use variant paper"):
        mwuf(variant="released")


def test_a_dataset_without_users_is_an_error() -> None:
    with pytest.raises(ValueError, match="MWUF: the dataset has no field with the role user_id"):
        MWUF(DeepFM(FIELDS[1:]))
