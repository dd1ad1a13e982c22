"""PreferDiff (Liu et al., ICLR 2025): a diffusion recommender that also learns what users prefer less.

Legend: B histories, N negatives of each (B − 1, or fewer that are drawn), D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from trainables.base import PositiveFloat, PositiveInt, Probability, SequenceBatch
from trainables.next_item.diffusion_recommender import DiffusionRecommender

Measure = Literal["cosine", "l2", "l1", "huber"]

RELEASED_SCALE = 5.0
"""What the released program multiplies the margin with, where the paper has the number of negatives."""


def cosine_error(predicted: Tensor, clean: Tensor) -> Tensor:
    """Return 1 − cos of each pair of rows (§3.1)."""
    return 1 - functional.cosine_similarity(predicted, clean, dim=-1)


def squared_error(predicted: Tensor, clean: Tensor) -> Tensor:
    """Return each row's squared error, averaged over its dimensions."""
    return (predicted - clean).square().mean(-1)


def absolute_error(predicted: Tensor, clean: Tensor) -> Tensor:
    """Return each row's absolute error, averaged over its dimensions."""
    return (predicted - clean).abs().mean(-1)


def huber_error(predicted: Tensor, clean: Tensor) -> Tensor:
    """Return each row's Huber error with threshold 1, averaged over its dimensions."""
    return functional.huber_loss(predicted, clean, reduction="none").mean(-1)


MEASURES: dict[Measure, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_error,
    "l2": squared_error,
    "l1": absolute_error,
    "huber": huber_error,
}


def drawn_others(rows: int, count: int) -> Tensor:
    """Draw N = `count` different rows for every row, never itself, all sets equally likely, int64 [B, N].

    There have to be as many: at most B − 1.
    """
    return torch.multinomial(1 - torch.eye(rows), count)


def centroids(target_BD: Tensor, other_BN: Tensor) -> Tensor:
    """Return the mean of each row's chosen targets [B, D]."""
    rows, count = other_BN.shape
    # A product with the matrix of who is chosen: gathered, the targets of all rows would take B · N · D numbers.
    share_BB = torch.zeros(rows, rows).scatter_(1, other_BN, 1 / count)
    return share_BB @ target_BD


class PreferDiff(DiffusionRecommender):
    """λ · S(x̂⁺, x⁺) − (1 − λ) · log σ(−|H| · (S(x̂⁺, x⁺) − S(x̂⁻, x⁻))), eq. 12 with eq. 11 or eq. 10.

    The negatives H of a user are the targets of the batch's other users, all or some of them; two users may have the
    same target. Table 2's ablations: `balance=1` is w/o-N, `measure="l2"` is w/o-C, both together w/o-C&N.

    Args:
        balance: λ; 1 leaves the preference term out.
        negatives: `centroid` noises and denoises the negatives' mean (eq. 11), `each` every negative with noise of
            its own (eq. 10), which costs |H| times as much.
        negative_samples: |H|, how many of the others are a user's negatives, drawn without replacement for every user
            and anew in every batch; all of them with None, or where a batch has no more.
        measure: S. `l2`, `l1` and `huber` are averaged over dimensions.
        variant: `released` follows the authors' program: the errors are averaged over the batch before the sigmoid,
            5 stands for |H|, and the cosine error is (1 − cos)².
        margin_scale: what multiplies the difference of the errors before the sigmoid; None for the variant's own.

    The other parameters are as in `DiffusionRecommender`. Gradients flow into the embeddings of targets and negatives.

    Source: PreferDiff eq. 7–12, Algorithms 1 and 2, Tables 2, 4 and 12, E.1 and Figure 6.

    Raises:
        ValueError: `released` with `negatives="each"`, which the released program does not have.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        balance: Probability = 0.4,
        negatives: Literal["centroid", "each"] = "centroid",
        negative_samples: PositiveInt | None = None,
        measure: Measure = "cosine",
        variant: Literal["paper", "released"] = "paper",
        margin_scale: PositiveFloat | None = None,
        **shared: Any,
    ) -> None:
        if variant == "released" and negatives == "each":
            raise ValueError("PreferDiff: variant 'released' has no negatives 'each'; use variant 'paper'")
        super().__init__(items, history_length, **shared)
        self.balance = balance
        self.negatives = negatives
        self.negative_samples = negative_samples
        self.measure: Measure = measure
        self.variant = variant
        self.margin_scale = margin_scale

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return eq. 12, averaged over the batch."""
        history_BLD, target_BD = self.embedding.histories_and_targets(batch)
        time_B, context_BD = self.training_context(history_BLD, batch.length_B)
        positive_B = self._error(self.denoised(target_BD, time_B, context_BD), target_BD)
        if self.balance == 1 or len(batch) == 1:
            return self.balance * positive_B.mean()
        other_BN = self._drawn_negatives(len(batch))
        if self.negatives == "each":
            negative_B = self._error_of_each(target_BD, other_BN, time_B, context_BD)
        else:
            centroid_BD = _centroids_of_others(target_BD) if other_BN is None else centroids(target_BD, other_BN)
            negative_B = self._error(self.denoised(centroid_BD, time_B, context_BD), centroid_BD)
        count = len(batch) - 1 if other_BN is None else other_BN.shape[1]
        preference = self._preference(positive_B - negative_B, count)
        return self.balance * positive_B.mean() + (1 - self.balance) * preference

    def _drawn_negatives(self, rows: int) -> Tensor | None:
        """Return the rows whose targets are each row's negatives, int64 [B, N]; None for all other rows."""
        if self.negative_samples is None or self.negative_samples >= rows - 1:
            return None
        return drawn_others(rows, self.negative_samples)

    def _error(self, predicted: Tensor, clean: Tensor) -> Tensor:
        error = MEASURES[self.measure](predicted, clean)
        return error.square() if self.measure == "cosine" and self.variant == "released" else error

    def _error_of_each(self, target_BD: Tensor, other_BN: Tensor | None, time_B: Tensor, context_BD: Tensor) -> Tensor:
        """Return the mean error over each row's negatives, every one noised and denoised (eq. 10)."""
        negative_BND = target_BD[_all_others(len(target_BD)) if other_BN is None else other_BN]
        return self._error(self.denoised(negative_BND, time_B, context_BD[:, None]), negative_BND).mean(1)

    def _preference(self, margin_B: Tensor, count: int) -> Tensor:
        if self.variant == "released":
            return -functional.logsigmoid(-(self.margin_scale or RELEASED_SCALE) * margin_B.mean())
        return -functional.logsigmoid(-(self.margin_scale or count) * margin_B).mean()


def _all_others(rows: int) -> Tensor:
    """Return for every row all other rows, int64 [B, B − 1]."""
    return torch.arange(rows).expand(rows, rows)[~torch.eye(rows, dtype=torch.bool)].view(rows, -1)


def _centroids_of_others(target_BD: Tensor) -> Tensor:
    """Return the mean of all other rows' targets [B, D]."""
    return (target_BD.sum(0) - target_BD) / (len(target_BD) - 1)
