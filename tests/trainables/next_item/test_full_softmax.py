import pytest
import torch
from torch.nn import functional

from trainables.next_item import full_softmax
from trainables.next_item.full_softmax import full_softmax_loss


@pytest.mark.parametrize("chunk_scores", [1, 3 * 40, 2**19], ids=["row by row", "three rows", "at once"])
@pytest.mark.parametrize("block_items", [7, 2048])
def test_equals_torchs_cross_entropy_with_its_gradients(
    monkeypatch: pytest.MonkeyPatch, chunk_scores: int, block_items: int
) -> None:
    monkeypatch.setattr(full_softmax, "CHUNK_SCORES", chunk_scores)
    monkeypatch.setattr(full_softmax, "BLOCK_ITEMS", block_items)
    torch.manual_seed(0)
    state_BD, item_ID = torch.randn(7, 5, requires_grad=True), torch.randn(40, 5, requires_grad=True)
    target_B = torch.randint(0, 40, (7,), dtype=torch.int32)
    chunked = full_softmax_loss(state_BD, item_ID, target_B)
    whole = functional.cross_entropy(state_BD @ item_ID.T, target_B.long())
    torch.testing.assert_close(chunked, whole)
    expected = torch.autograd.grad(3 * whole, (state_BD, item_ID))
    for gradient, reference in zip(torch.autograd.grad(3 * chunked, (state_BD, item_ID)), expected, strict=True):
        torch.testing.assert_close(gradient, reference)


@pytest.mark.parametrize("chunk_scores", [1, 2**19])
def test_a_bias_of_each_item_equals_torchs_with_its_gradients(
    monkeypatch: pytest.MonkeyPatch, chunk_scores: int
) -> None:
    monkeypatch.setattr(full_softmax, "CHUNK_SCORES", chunk_scores)
    torch.manual_seed(0)
    state_BD, item_ID = torch.randn(7, 4, requires_grad=True), torch.randn(20, 4, requires_grad=True)
    bias_I, target_B = torch.randn(20, requires_grad=True), torch.randint(20, (7,))
    loss = full_softmax_loss(state_BD, item_ID, target_B, bias_I)
    expected = functional.cross_entropy(state_BD @ item_ID.T + bias_I, target_B)
    torch.testing.assert_close(loss, expected)
    inputs = (state_BD, item_ID, bias_I)
    torch.testing.assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs))


def test_chunks_are_about_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_softmax, "CHUNK_SCORES", 1000)
    assert full_softmax._chunks(256, 10) == [slice(0, 86), slice(86, 172), slice(172, 256)]
    assert full_softmax._chunks(5, 10_000) == [slice(row, row + 1) for row in range(5)]


def test_scores_far_from_zero_do_not_overflow() -> None:
    state_BD, item_ID = torch.tensor([[1000.0]]), torch.tensor([[1.0], [-1.0]])
    assert float(full_softmax_loss(state_BD, item_ID, torch.tensor([0]))) == 0
    assert float(full_softmax_loss(state_BD, item_ID, torch.tensor([1]))) == 2000


@pytest.mark.parametrize("level", [-300.0, -100.0, -30.0, 60.0, 84.0, 300.0])
@pytest.mark.parametrize("by_bias", [False, True], ids=["one history's", "all scores"])
def test_scores_of_any_level_have_the_gradients_of_torchs(level: float, by_bias: bool) -> None:
    torch.manual_seed(0)
    state_BD, item_ID, bias_I = torch.randn(7, 5), torch.randn(40, 5), torch.randn(40)
    if by_bias:
        bias_I += level
    else:
        state_BD[:, -1], item_ID[:, -1] = torch.tensor([level, 0, 0, 0, 0, 0, 0]), 1.0
    inputs = state_BD.requires_grad_(), item_ID.requires_grad_(), bias_I.requires_grad_()
    target_B = torch.randint(40, (7,))
    loss = full_softmax_loss(inputs[0], inputs[1], target_B, inputs[2])
    expected = functional.cross_entropy(inputs[0] @ inputs[1].T + inputs[2], target_B)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    for gradient, reference in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-5)


def test_gradients_do_not_overflow_where_the_sum_of_exponentials_does_not() -> None:
    state_BD, item_ID = torch.zeros(1, 1, requires_grad=True), torch.tensor([[1000.0], [3000.0]])
    full_softmax_loss(state_BD, item_ID, torch.tensor([0]), torch.full((2,), 87.0)).backward()
    torch.testing.assert_close(state_BD.grad, torch.tensor([[1000.0]]))  # (1000 + 3000) / 2 − 1000


def test_constant_items_get_no_gradient() -> None:
    state_BD, item_ID = torch.randn(4, 3, requires_grad=True), torch.randn(9, 3)
    full_softmax_loss(state_BD, item_ID, torch.zeros(4, dtype=torch.int64)).backward()
    assert state_BD.grad is not None
    assert item_ID.grad is None
