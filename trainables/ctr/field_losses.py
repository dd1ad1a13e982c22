"""The cross-entropy of a predicted field: over all its values, or over its own and sampled ones.

A field is a set of words; a category is a set of one. The loss of a row is the mean over its words, and the other words
of the set take no part in the softmax of one of them.

Legend: K rows, M words of all rows, V values, C sampled values, L positions of a sequence, D embedding size,
R rows of several matrices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

LEFT_OUT = -1e9
"""The logit of a value that takes no part: finite, so that a row of nothing else still has a gradient, of zero."""


SHORTEST = 1e-12
"""A shorter vector has no direction: its gradient is that of this length."""


class Words(NamedTuple):
    """The words of the sets of K rows, one after the other: what they are, and whose, both int64 [M].

    `single` says that each row has exactly one, in the order of the rows.
    """

    word_M: Tensor
    row_M: Tensor
    rows: int
    single: bool = False

    def each(self, of_rows: Tensor) -> Tensor:
        """Return for each word what belongs to its row: [K, …] → [M, …]."""
        return of_rows if self.single else of_rows.index_select(0, self.row_M)


def category_words(value_K: Tensor) -> Words:
    """Return the sets of one value each."""
    return Words(value_K.long(), torch.arange(len(value_K), device=value_K.device), len(value_K), single=True)


def sequence_words(word_KL: Tensor) -> Words:
    """Return the sets of the words that are not padding, 0; a word that stands there twice counts twice."""
    row_M, place_M = word_KL.nonzero().unbind(1)
    return Words(word_KL[row_M, place_M].long(), row_M, len(word_KL))


def full_softmax_loss(logits_KV: Tensor, words: Words) -> Tensor:
    """Return −log softmax of each row's words, their mean, [K]; 0 for an empty set."""
    if words.single:
        return F.cross_entropy(logits_KV, words.word_M, reduction="none")
    place_M = words.row_M * logits_KV.shape[1] + words.word_M
    own_M = logits_KV.flatten().index_select(0, place_M)
    others_KV = logits_KV.flatten().index_fill(0, place_M, LEFT_OUT).view_as(logits_KV)
    return _mean_over_words(own_M, others_KV.logsumexp(dim=1), words)


def sampled_softmax_loss(
    direction_KD: Tensor,
    own_MD: Tensor,
    words: Words,
    sampled_CD: Tensor,
    sampled_C: Tensor,
    log_share_C: Tensor | None = None,
) -> Tensor:
    """Return −log softmax of each row's words among sampled values, their mean, [K]; 0 for an empty set.

    A value's logit is its inner product with the row's direction. A sampled value that is one of the row's own words is
    left out. Without a correction the softmax is over what was sampled. With `log_share_C`, the logarithm of the chance
    with which a draw gives each value, a sampled logit is lowered by log(C · share), so that the sampled sum is an
    unbiased estimate of the sum over all other values (Bengio & Senécal 2008; the "logQ correction").

    Args:
        direction_KD: what the rows predict.
        own_MD: the embeddings of the rows' words.
        words: the rows' words.
        sampled_CD: the embeddings of the sampled values.
        sampled_C: the ids of the sampled values, ascending, as often as they were drawn.
        log_share_C: logarithms of their shares among the draws, or None.
    """
    offset_C = None if log_share_C is None else log_share_C + math.log(max(len(sampled_C), 1))
    row, column = _hits(words, sampled_C)
    others_K = log_sum_exp(direction_KD, sampled_CD, row * len(sampled_C) + column, offset_C)
    own_M = torch.linalg.vecdot(own_MD, words.each(direction_KD))
    return _mean_over_words(own_M, others_K, words)


def log_sum_exp(direction_KD: Tensor, sampled_CD: Tensor, left_out: Tensor, offset_C: Tensor | None = None) -> Tensor:
    """Return log Σ_c exp(⟨direction_k, sampled_c⟩ − offset_c) [K], without the flat places `left_out` of [K, C]."""
    if not len(sampled_CD):
        return direction_KD.new_full((len(direction_KD),), LEFT_OUT)
    sums_K: Tensor = _LogSumExp.apply(direction_KD, sampled_CD, left_out, offset_C)  # type: ignore[no-untyped-call]
    return sums_K


class _LogSumExp(torch.autograd.Function):
    """One matrix [K, C] is made and kept, the exponentials; step by step, autograd would hold four and copy more."""

    @staticmethod
    def forward(
        ctx: Any, direction_KD: Tensor, sampled_CD: Tensor, left_out: Tensor, offset_C: Tensor | None
    ) -> Tensor:
        logits_KC = direction_KD @ sampled_CD.T
        if offset_C is not None:
            logits_KC -= offset_C
        logits_KC.view(-1).index_fill_(0, left_out, LEFT_OUT)
        top_K1 = logits_KC.amax(dim=1, keepdim=True)
        part_KC = logits_KC.sub_(top_K1).exp_()
        total_K = part_KC.sum(dim=1)
        ctx.save_for_backward(direction_KD, sampled_CD, part_KC, total_K)
        return total_K.log().add_(top_K1.squeeze(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_K: Tensor) -> tuple[Tensor, Tensor, None, None]:
        direction_KD, sampled_CD, part_KC, total_K = ctx.saved_tensors
        grad_KC = part_KC * (grad_K / total_K).unsqueeze(1)
        return grad_KC @ sampled_CD, grad_KC.T @ direction_KD, None, None


def directions(vectors: Mapping[int, Tensor], length: float = 1.0) -> dict[int, Tensor]:
    """Return the rows of several matrices [R, D] at this length, a row of zeros as it is; all of them in one pass."""
    if not vectors:
        return {}
    rows_RD = torch.cat(list(vectors.values()))
    found_RD: Tensor = _Directions.apply(rows_RD, length)  # type: ignore[no-untyped-call]
    return dict(zip(vectors, found_RD.split([len(part) for part in vectors.values()]), strict=True))


class _Directions(torch.autograd.Function):
    """x · length / |x|; of a gradient, the part that turns x remains. Autograd takes a dozen operations for it."""

    @staticmethod
    def forward(ctx: Any, rows_RD: Tensor, length: float) -> Tensor:
        scale_R1 = length / torch.linalg.vector_norm(rows_RD, dim=1, keepdim=True).clamp(min=SHORTEST)
        found_RD: Tensor = rows_RD * scale_R1
        ctx.save_for_backward(found_RD, scale_R1)
        ctx.length = length
        return found_RD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RD: Tensor) -> tuple[Tensor, None]:
        found_RD, scale_R1 = ctx.saved_tensors
        along_R1 = torch.linalg.vecdot(grad_RD, found_RD).unsqueeze(1) / ctx.length**2
        turning_RD: Tensor = (grad_RD - found_RD * along_R1) * scale_R1
        return turning_RD, None


def _hits(words: Words, sampled_C: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns where a sampled value is one of the row's own words."""
    first_M = torch.searchsorted(sampled_C, words.word_M)
    count_M = torch.searchsorted(sampled_C, words.word_M, right=True) - first_M
    before_M = count_M.cumsum(0) - count_M  # how many hits the words before have
    column = (first_M - before_M).repeat_interleave(count_M)
    column += torch.arange(len(column), device=column.device)
    return words.row_M.repeat_interleave(count_M), column


def _mean_over_words(own_M: Tensor, others_K: Tensor, words: Words) -> Tensor:
    """Return by row the mean of log(e^own + e^others) − own."""
    loss_M = F.softplus(words.each(others_K) - own_M)
    if words.single:
        return loss_M
    sum_K = loss_M.new_zeros(words.rows).index_add(0, words.row_M, loss_M)
    return sum_K / torch.bincount(words.row_M, minlength=words.rows).clamp(min=1)
