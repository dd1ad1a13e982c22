from __future__ import annotations

import torch

from trainables.lookups import looked_up, lookup, row_lookup


def test_sums_and_their_gradient_by_hand() -> None:
    """Sum 0 adds rows 2 and 2, sum 1 nothing, sum 2 rows 0 and 2; row 1 and row 3 are not asked for."""
    table_VD = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]], requires_grad=True)
    places = lookup(torch.tensor([2, 2, 0, 2]), torch.tensor([0, 0, 2, 2]), 3, 4)
    sums_ND = looked_up(table_VD, places)
    assert sums_ND.tolist() == [[6.0, 60.0], [0.0, 0.0], [4.0, 40.0]]
    (gradient_VD,) = torch.autograd.grad((sums_ND * torch.tensor([[1.0], [100.0], [7.0]])).sum(), table_VD)
    assert gradient_VD.tolist() == [[7.0, 7.0], [0.0, 0.0], [9.0, 9.0], [0.0, 0.0]]


def test_one_row_for_each_place_is_indexing() -> None:
    table_VD, index_N, weight_ND = torch.randn(5, 3, requires_grad=True), torch.tensor([4, 0, 4, 2]), torch.randn(4, 3)
    ours, theirs = looked_up(table_VD, row_lookup(index_N, 5)), table_VD[index_N]
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad((rows * weight_ND).sum(), table_VD)[0] for rows in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_all_rows_of_a_table_asked_for() -> None:
    table_VD = torch.randn(3, 2, requires_grad=True)
    looked_up(table_VD, row_lookup(torch.tensor([1, 0, 2, 1]), 3)).sum().backward()  # type: ignore[no-untyped-call]
    assert table_VD.grad is not None and table_VD.grad.tolist() == [[1, 1], [2, 2], [1, 1]]


def test_no_place_at_all() -> None:
    table_VD = torch.randn(3, 2, requires_grad=True)
    nothing = torch.empty(0, dtype=torch.int64)
    sums_ND = looked_up(table_VD, lookup(nothing, nothing, 2, 3))
    sums_ND.sum().backward()  # type: ignore[no-untyped-call]
    assert sums_ND.tolist() == [[0, 0], [0, 0]]
    assert table_VD.grad is not None and not table_VD.grad.any()
