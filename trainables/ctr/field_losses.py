"""The cross-entropy of a predicted field: over all its values, or over its own and sampled ones.

A field is a set of words; a category is a set of one. The loss of a row is the mean over its words, and the other words
of the set take no part in the softmax of one of them.

Legend: K rows, M words of all rows, V values, C sampled values, L positions of a sequence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LEFT_OUT = -1e9
"""The logit of a value that takes no part: finite, so that a row of nothing else still has a gradient, of zero."""


class Words(NamedTuple):
    """The words of the sets of K rows, one after the other: what they are, and whose, both int64 [M].

    `single` says that each row has exactly one, in the order of the rows.
    """

    word_M: Tensor
    row_M: Tensor
    rows: int
    single: bool = False


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
    own_M: Tensor, sampled_KC: Tensor, words: Words, sampled_C: Tensor, log_share_C: Tensor | None = None
) -> Tensor:
    """Return −log softmax of each row's words among sampled values, their mean, [K]; 0 for an empty set.

    A sampled value that is one of the row's own words is left out. Without a correction the softmax is over what was
    sampled. With `log_share_C`, the logarithm of the chance with which a draw gives each value, a sampled logit is
    lowered by log(C · share), so that the sampled sum is an unbiased estimate of the sum over all other values (Bengio
    & Senécal 2008; the "logQ correction").

    Args:
        own_M: logits of the rows' words.
        sampled_KC: logits of the sampled values.
        words: the rows' words.
        sampled_C: the ids of the sampled values, ascending, as often as they were drawn.
        log_share_C: logarithms of their shares among the draws, or None.
    """
    if log_share_C is not None:
        sampled_KC = sampled_KC - (log_share_C + math.log(max(len(sampled_C), 1)))
    row, column = _hits(words, sampled_C)
    if words.single:  # one fused softmax over the own value and the sampled ones
        logits_KC1 = torch.cat([own_M.unsqueeze(1), sampled_KC], dim=1)
        logits_KC1.view(-1).index_fill_(0, row * logits_KC1.shape[1] + column + 1, LEFT_OUT)
        return F.cross_entropy(logits_KC1, torch.zeros_like(words.word_M), reduction="none")
    others_KC = sampled_KC.flatten().index_fill(0, row * len(sampled_C) + column, LEFT_OUT).view_as(sampled_KC)
    return _mean_over_words(own_M, others_KC.logsumexp(dim=1), words)


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
    loss_M = F.softplus(others_K.index_select(0, words.row_M) - own_M)
    sum_K = loss_M.new_zeros(words.rows).index_add(0, words.row_M, loss_M)
    return sum_K / torch.bincount(words.row_M, minlength=words.rows).clamp(min=1)
