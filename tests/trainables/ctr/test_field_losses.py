"""The softmax losses against double loops, and the sampled one against the full one as samples grow.

Legend: K rows, M words of all rows, V values, C sampled values.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainables.ctr.field_losses import (
    LEFT_OUT,
    Words,
    category_words,
    directions,
    full_softmax_loss,
    log_sum_exp,
    sampled_softmax_loss,
    sequence_words,
)

SETS = torch.tensor([[2, 5, 0], [3, 0, 0], [0, 0, 0], [1, 2, 4]], dtype=torch.int32)


def by_loops(logits_KV: Tensor, sets: list[list[int]], others: list[int], lowered: dict[int, float]) -> list[float]:
    losses = []
    for logits_V, words in zip(logits_KV.tolist(), sets, strict=True):
        rest = sum(math.exp(logits_V[value] - lowered.get(value, 0.0)) for value in others if value not in words)
        each = [-math.log(math.exp(logits_V[word]) / (math.exp(logits_V[word]) + rest)) for word in words]
        losses.append(sum(each) / len(each) if each else 0.0)
    return losses


def sets_of(word_KL: Tensor) -> list[list[int]]:
    return [[word for word in words if word] for words in word_KL.tolist()]


def test_a_category_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits_KV, value_K = torch.randn(5, 7), torch.tensor([0, 3, 6, 3, 1])
    expected_K = torch.nn.functional.cross_entropy(logits_KV, value_K, reduction="none")
    torch.testing.assert_close(full_softmax_loss(logits_KV, category_words(value_K)), expected_K)


def test_a_set_by_loops() -> None:
    torch.manual_seed(0)
    logits_KV = torch.randn(4, 6)
    given_K = full_softmax_loss(logits_KV, sequence_words(SETS))
    assert given_K.tolist() == pytest.approx(by_loops(logits_KV, sets_of(SETS), list(range(6)), {}), rel=1e-5)
    assert given_K[2] == 0


def sampled_loss(logits_KV: Tensor, words: Words, sampled_C: Tensor, log_share_C: Tensor | None = None) -> Tensor:
    """Return the loss of given logits: the embeddings are unit vectors."""
    unit_VV = torch.eye(logits_KV.shape[1])
    return sampled_softmax_loss(logits_KV, unit_VV[words.word_M], words, unit_VV[sampled_C], sampled_C, log_share_C)


@pytest.mark.parametrize("corrected", [False, True])
def test_sampled_values_by_loops(corrected: bool) -> None:
    torch.manual_seed(1)
    logits_KV, words = torch.randn(4, 6), sequence_words(SETS)
    sampled_C = torch.tensor([1, 2, 2, 4, 5])
    share_V = torch.tensor([0.0, 0.1, 0.4, 0.2, 0.2, 0.1])
    given_K = sampled_loss(logits_KV, words, sampled_C, share_V[sampled_C].log() if corrected else None)
    lowered = {value: math.log(5 * float(share_V[value])) for value in range(1, 6)} if corrected else {}
    expected = by_loops(logits_KV, sets_of(SETS), sampled_C.tolist(), lowered)
    assert given_K.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("skewed", [False, True])
def test_more_samples_come_closer_to_the_full_softmax(skewed: bool) -> None:
    torch.manual_seed(2)
    rows, values = 200, 50
    logits_KV, words = torch.randn(rows, values), category_words(torch.randint(values, (rows,)))
    share_V = torch.softmax((1.5 if skewed else 0.0) * torch.randn(values), dim=0)
    full_K = full_softmax_loss(logits_KV, words)

    def error(samples: int) -> float:
        sampled_C = torch.multinomial(share_V, samples, replacement=True).sort().values
        sampled_K = sampled_loss(logits_KV, words, sampled_C, share_V[sampled_C].log())
        return float((sampled_K - full_K).abs().mean())

    errors = [sum(error(samples) for _ in range(5)) / 5 for samples in (20, 500, 20_000)]
    assert errors[0] > errors[1] > errors[2] and errors[0] > 4 * errors[2]
    assert errors[2] < 0.04


def test_without_a_correction_frequent_values_are_counted_too_often() -> None:
    """The plain in-batch softmax has another limit, unless values are drawn evenly."""
    torch.manual_seed(3)
    logits_KV, words = torch.zeros(1, 4), category_words(torch.tensor([0]))
    even_C = torch.arange(4).repeat_interleave(3)
    skewed_C = torch.tensor([0] * 9 + [1, 2, 3])
    even, skewed = (sampled_loss(logits_KV, words, sampled_C) for sampled_C in (even_C, skewed_C))
    assert float(even) == pytest.approx(math.log(10)) and float(skewed) == pytest.approx(math.log(4))


def test_a_row_whose_samples_are_all_its_own_has_no_loss_and_no_gradient() -> None:
    logits_KV = torch.randn(1, 6, requires_grad=True)
    words = Words(torch.tensor([4]), torch.tensor([0]), 1)
    loss_K = sampled_loss(logits_KV, words, torch.tensor([4, 4, 4]))
    loss_K.sum().backward()
    assert float(loss_K.detach()) == 0 and logits_KV.grad is not None and not bool(logits_KV.grad.any())


@pytest.mark.parametrize("corrected", [False, True])
def test_the_sampled_sum_and_its_gradients_are_autograd_s(corrected: bool) -> None:
    torch.manual_seed(4)
    direction_KD, sampled_CD = (torch.randn(rows, 3, dtype=torch.float64, requires_grad=True) for rows in (4, 5))
    left_out, offset_C = torch.tensor([0, 7, 19]), torch.randn(5) if corrected else None
    logits_KC = direction_KD @ sampled_CD.T - (offset_C if offset_C is not None else 0)
    plain_K = logits_KC.flatten().index_fill(0, left_out, LEFT_OUT).view(4, 5).logsumexp(dim=1)
    found_K = log_sum_exp(direction_KD, sampled_CD, left_out, offset_C)
    torch.testing.assert_close(found_K, plain_K)
    weight_K = torch.randn(4)
    for found, plain in zip(
        *(torch.autograd.grad((x_K * weight_K).sum(), [direction_KD, sampled_CD]) for x_K in (found_K, plain_K)),
        strict=True,
    ):
        torch.testing.assert_close(found, plain)


def test_without_samples_the_own_word_is_all_there_is() -> None:
    loss_K = sampled_loss(torch.randn(2, 6), sequence_words(torch.tensor([[3, 0], [0, 0]])), torch.tensor([]).long())
    assert loss_K.tolist() == [0, 0]


def test_directions_and_their_gradients_are_normalize_s() -> None:
    torch.manual_seed(5)
    one_RD, other_RD = (torch.randn(rows, 4, requires_grad=True) for rows in (3, 2))
    weight_RD = torch.randn(5, 4)
    found = directions({7: one_RD, 2: other_RD}, 10)
    plain_RD = 10 * torch.nn.functional.normalize(torch.cat([one_RD, other_RD]), dim=1)
    found_RD = torch.cat([found[7], found[2]])
    torch.testing.assert_close(found_RD, plain_RD)
    for given, expected in zip(
        *(torch.autograd.grad((x * weight_RD).sum(), [one_RD, other_RD]) for x in (found_RD, plain_RD)), strict=True
    ):
        torch.testing.assert_close(given, expected)


def test_no_direction_is_zero_and_finite_backward() -> None:
    zero_RD = torch.zeros(1, 4, requires_grad=True)
    (found_RD,) = directions({0: zero_RD}).values()
    (grad_RD,) = torch.autograd.grad(found_RD.sum(), zero_RD)
    assert not bool(found_RD.any()) and bool(grad_RD.isfinite().all())
    assert directions({}) == {}


def test_words_are_read_without_padding() -> None:
    words = sequence_words(SETS)
    assert words.word_M.tolist() == [2, 5, 3, 1, 2, 4]
    assert words.row_M.tolist() == [0, 0, 1, 3, 3, 3] and words.rows == 4
