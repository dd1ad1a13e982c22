"""Row-wise Adam against torch's SparseAdam and, where every row occurs, its dense Adam.

Legend: V rows of a table, C looked-up rows, D embedding size.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.small_rows import FIELDS, small_rows
from trainables.cold_start.bare import BareBackbone
from trainables.cold_start.csdm import CSDM
from trainables.cold_start.mwuf import MWUF
from trainables.cold_start.velf import VELF
from trainables.ctr.deepfm import DeepFM
from trainables.layers import FieldSums, gather_rows
from trainables.lookups import looked_up, row_lookup
from trainables.rowwise_adam import RowwiseAdam, adam_of, rows_of

V, D = 7, 3


def table(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(V, D, generator=torch.Generator().manual_seed(seed)))


def gradients(rows: list[list[int]]) -> list[Tensor]:
    """Return dense gradients [V, D] that are zero but in these rows."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for touched in rows:
        grad_VD = torch.zeros(V, D)
        grad_VD[touched] = torch.randn(len(touched), D, generator=generator)
        found.append(grad_VD)
    return found


def trained(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, grads: list[Tensor], *, sparse: bool) -> Tensor:
    for grad_VD in grads:
        parameter.grad = grad_VD.to_sparse(1) if sparse else grad_VD.clone()
        optimizer.step()
    return parameter.detach()


def test_steps_are_those_of_torch_s_sparse_adam() -> None:
    grads = gradients([[0, 2], [2, 5], [6], [0, 1, 2, 3, 4, 5, 6], [3]] * 4)
    own, torchs = table(), table()
    found = trained(RowwiseAdam([own], lr=0.1, weight_decay=0.0), own, grads, sparse=True)
    expected = trained(torch.optim.SparseAdam([torchs], lr=0.1), torchs, grads, sparse=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_where_every_row_occurs_steps_are_those_of_dense_adam(weight_decay: float) -> None:
    grads = gradients([list(range(V))] * 20)
    own, torchs = table(), table()
    found = trained(RowwiseAdam([own], lr=0.1, weight_decay=weight_decay), own, grads, sparse=True)
    dense = torch.optim.Adam([torchs], lr=0.1, weight_decay=weight_decay)
    torch.testing.assert_close(found, trained(dense, torchs, grads, sparse=False), rtol=1e-5, atol=1e-6)


def test_rows_without_a_gradient_stay_bit_for_bit() -> None:
    parameter = table()
    optimizer = RowwiseAdam([parameter], lr=0.1, weight_decay=0.5)
    trained(optimizer, parameter, gradients([[0, 1, 2, 3, 4, 5, 6]]), sparse=True)
    before = parameter.detach().clone()
    trained(optimizer, parameter, gradients([[1, 4]] * 5), sparse=True)
    moved = (parameter.detach() != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 4]


def test_dense_gradients_take_adam_s_steps_beside_sparse_ones() -> None:
    grads = gradients([[0, 1, 2, 3, 4, 5, 6]] * 5)
    rows, dense, alone = table(), table(1), table(1)
    optimizer = RowwiseAdam([rows, dense], lr=0.1, weight_decay=0.1)
    plain = torch.optim.Adam([alone], lr=0.1, weight_decay=0.1, fused=True)
    for grad_VD in grads:
        rows.grad, dense.grad = grad_VD.to_sparse(1), grad_VD.clone()
        optimizer.step()
    assert torch.equal(dense.detach(), trained(plain, alone, grads, sparse=False))


def test_a_saved_state_goes_on_as_if_nothing_had_happened() -> None:
    grads = gradients([[0, 2], [2, 5], [6], [3]])
    whole = table()
    expected = trained(RowwiseAdam([whole], lr=0.1, weight_decay=0.1), whole, grads, sparse=True)
    first = table()
    optimizer = RowwiseAdam([first], lr=0.1, weight_decay=0.1)
    trained(optimizer, first, grads[:2], sparse=True)
    second = nn.Parameter(first.detach().clone())
    resumed = RowwiseAdam([second], lr=0.1, weight_decay=0.1)
    resumed.load_state_dict(optimizer.state_dict())
    assert torch.equal(trained(resumed, second, grads[2:], sparse=True), expected)


def test_the_state_of_a_table_is_two_numbers_for_each_of_its_own() -> None:
    parameter = table()
    optimizer = RowwiseAdam([parameter], lr=0.1, weight_decay=0.0)
    trained(optimizer, parameter, gradients([[1]]), sparse=True)
    sizes = [value.numel() for value in optimizer.state[parameter].values()]
    assert sum(size for size in sizes if size > 1) == 2 * parameter.numel()


@pytest.mark.parametrize("way", ["gather", "lookup"])
def test_a_row_gradient_is_the_dense_one(way: str) -> None:
    index_C = torch.tensor([4, 1, 4, 4, 0, 1])
    weight_CD = torch.randn(6, D, generator=torch.Generator().manual_seed(2))
    found = []
    for by_row in (False, True):
        parameter = table()
        parameter.has_row_gradients = by_row  # type: ignore[attr-defined]
        rows_CD = gather_rows(parameter, index_C) if way == "gather" else looked_up(parameter, row_lookup(index_C, V))
        (rows_CD * weight_CD).sum().backward()
        assert parameter.grad is not None and parameter.grad.is_sparse == by_row
        found.append(parameter.grad)
    row_W, grad_WD = rows_of(found[1])
    assert row_W.tolist() == [0, 1, 4] and grad_WD.shape == (3, D)
    torch.testing.assert_close(found[1].to_dense(), found[0])


def test_no_dense_gradient_of_a_table_exists_in_a_step() -> None:
    backbone = DeepFM(FIELDS)
    method = BareBackbone(backbone, embedding_updates="touched_rows", batch_size=16)
    optimizer = method.optimizer(list(backbone.parameters()), 1e-3)
    method.ctr_loss(next(small_rows().batches(16)))["loss"].backward()
    tables = [backbone.item_embedding] + [part.table_VD for part in backbone.modules() if isinstance(part, FieldSums)]
    assert all(table.grad is not None and table.grad.is_sparse for table in tables)
    assert sum(parameter.grad.is_sparse for parameter in backbone.parameters() if parameter.grad is not None) == 2
    optimizer.step()


@pytest.mark.parametrize("cls", [BareBackbone, CSDM, MWUF, VELF])
def test_methods_train_with_touched_rows(cls: type[BareBackbone]) -> None:
    torch.manual_seed(0)
    method = cls(DeepFM(FIELDS), embedding_updates="touched_rows", batch_size=16)
    rows = small_rows(items=(0, 6))
    before = method.backbone.item_embedding.detach().clone()
    method.pretrain(rows, seed=1)
    moved = (method.backbone.item_embedding.detach() != before).any(dim=1).nonzero().flatten()
    assert moved.tolist() == rows.distinct_items().tolist()
    method.fit(rows, seed=1)
    method.adapt(small_rows(items=(8, 12)), torch.arange(8, 12), seed=1)
    assert all(bool(parameter.isfinite().all()) for parameter in method.parameters())


def test_all_rows_is_plain_adam() -> None:
    backbone = DeepFM(FIELDS)
    optimizer = adam_of(
        backbone, backbone.parameters(), learning_rate=0.1, weight_decay=0.2, embedding_updates="all_rows"
    )
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.1, 0.2)
    assert not hasattr(backbone.item_embedding, "has_row_gradients")
