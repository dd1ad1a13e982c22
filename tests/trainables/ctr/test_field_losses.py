"""The softmax losses against double loops, and the sampled one against the full one as samples grow.

Legend: K rows, M words of all rows, V values, C sampled values.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainables.ctr.field_losses import (
    Words,
    category_words,
    full_softmax_loss,
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


@pytest.mark.parametrize("corrected", [False, True])
def test_sampled_values_by_loops(corrected: bool) -> None:
    torch.manual_seed(1)
    logits_KV, words = torch.randn(4, 6), sequence_words(SETS)
    sampled_C = torch.tensor([1, 2, 2, 4, 5])
    share_V = torch.tensor([0.0, 0.1, 0.4, 0.2, 0.2, 0.1])
    given_K = sampled_softmax_loss(
        logits_KV[words.row_M, words.word_M],
        logits_KV[:, sampled_C],
        words,
        sampled_C,
        share_V[sampled_C].log() if corrected else None,
    )
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
        own_M = logits_KV[words.row_M, words.word_M]
        log_share_C = share_V[sampled_C].log()
        sampled_K = sampled_softmax_loss(own_M, logits_KV[:, sampled_C], words, sampled_C, log_share_C)
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
    even, skewed = (sampled_softmax_loss(torch.zeros(1), logits_KV[:, c], words, c) for c in (even_C, skewed_C))
    assert float(even) == pytest.approx(math.log(10)) and float(skewed) == pytest.approx(math.log(4))


def test_a_row_whose_samples_are_all_its_own_has_no_loss_and_no_gradient() -> None:
    logits_KC = torch.randn(1, 3, requires_grad=True)
    words = Words(torch.tensor([4]), torch.tensor([0]), 1)
    loss_K = sampled_softmax_loss(torch.zeros(1), logits_KC, words, torch.tensor([4, 4, 4]))
    loss_K.sum().backward()
    assert float(loss_K.detach()) == 0 and logits_KC.grad is not None and not bool(logits_KC.grad.any())


def test_words_are_read_without_padding() -> None:
    words = sequence_words(SETS)
    assert words.word_M.tolist() == [2, 5, 3, 1, 2, 4]
    assert words.row_M.tolist() == [0, 0, 1, 3, 3, 3] and words.rows == 4
