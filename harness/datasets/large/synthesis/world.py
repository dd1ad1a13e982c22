"""The world that generated rows come from: who and what there is, who meets what, and how likely a click is.

The planted model. The logit of a click is

    bias + a(position) + Σ effects of the user's fields + own effect of the user
         + Σ effects of the item's categories + own effect of the item + ⟨taste of the user, style of the item⟩,

where a taste is the sum of a vector for each of the user's fields and of one of their own, and a style the same of the
item's categories. All are independent normal draws with the standard deviations below; the bias is set so that the mean
probability is the wanted one. Nothing else decides: neither time nor order.

Legend: U users, I items, R rows, D size of a taste.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.large.synthesis.marginals import permuted

TASTE = 4
USER_FIELDS, USER_OWN = 0.4, 0.2
ITEM_FIELDS, ITEM_OWN = 0.6, 0.3
POSITION = 0.15
TASTE_FIELDS, TASTE_OWN = 0.7, 0.2
"""Standard deviations: of the sum over all fields, and of what is a user's or an item's own. A taste's are those of
each of the D entries, before the inner product is divided by √D."""

CALIBRATION_ROWS = 1 << 18


@dataclass(frozen=True)
class World:
    """A generated world; ids count from 0 here, and from 1 in the files.

    Attributes:
        rows: R.
        seed: what it is drawn from.
        user_fields: the users' fields, int64 [U]; negative where there is none.
        item_fields: the items' fields, int64 [I].
        user_after: after how many rows, in a hidden order, each user's end, int64 [U].
        item_after: the same of each item in another order, int64 [I].
        user_logit: what of the logit is the user's, the bias included, float32 [U].
        item_logit: what is the item's, float32 [I].
        position_logit: what is the position's, by its number.
        taste: of the users, float32 [U, D].
        style: of the items, float32 [I, D].
    """

    rows: int
    seed: int
    user_fields: Mapping[str, NDArray[np.int64]]
    item_fields: Mapping[str, NDArray[np.int64]]
    user_after: NDArray[np.int64]
    item_after: NDArray[np.int64]
    user_logit: NDArray[np.float32]
    item_logit: NDArray[np.float32]
    position_logit: NDArray[np.float32]
    taste: NDArray[np.float32]
    style: NDArray[np.float32]

    def pairs(self, row_R: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the user and the item of rows of these numbers."""
        user_R = np.searchsorted(self.user_after, permuted(row_R, self.rows, 2 * self.seed), side="right")
        item_R = np.searchsorted(self.item_after, permuted(row_R, self.rows, 2 * self.seed + 1), side="right")
        return user_R, item_R

    def logits(self, user_R: NDArray[Any], item_R: NDArray[Any], position_R: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logit of the true probability of a click, float32 [R]."""
        agreement_R = np.einsum("rd,rd->r", self.taste[user_R], self.style[item_R])
        own_R = self.user_logit[user_R] + self.item_logit[item_R]
        logit_R: NDArray[np.float32] = agreement_R + own_R + self.position_logit[position_R]
        return logit_R


def plant(
    rows: int,
    seed: int,
    rate: float,
    *,
    user_fields: Mapping[str, NDArray[np.int64]],
    item_fields: Mapping[str, NDArray[np.int64]],
    user_rows: NDArray[np.int64],
    item_rows: NDArray[np.int64],
    positions: int,
) -> World:
    """Draw the click model over these users and items, who occur in so many rows each.

    Args:
        rows: R.
        seed: what is drawn depends on it alone.
        rate: the mean probability of a click.
        user_fields: the users' fields; negative where there is none, which has no effect.
        item_fields: the items' categories.
        user_rows: how many rows each user has, int64 [U].
        item_rows: how many each item has, int64 [I].
        positions: how many positions there are.
    """
    random = np.random.default_rng([seed, 1])
    user_logit, taste = _effects(random, user_fields, len(user_rows), USER_FIELDS, USER_OWN)
    item_logit, style = _effects(random, item_fields, len(item_rows), ITEM_FIELDS, ITEM_OWN)
    world = World(
        rows,
        seed,
        user_fields,
        item_fields,
        np.cumsum(random.permutation(user_rows)),
        np.cumsum(random.permutation(item_rows)),
        user_logit,
        item_logit,
        (POSITION * random.standard_normal(positions)).astype(np.float32),
        taste,
        (style / TASTE**0.5).astype(np.float32),
    )
    row_R = np.unique(np.linspace(0, rows - 1, min(rows, CALIBRATION_ROWS)).astype(np.int64))
    logit_R = world.logits(*world.pairs(row_R), random.integers(0, positions, len(row_R))).astype(np.float64)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logit_R + middle).mean() < rate else (low, middle)
    world.user_logit[:] += np.float32(low)
    return world


def sigmoid(logit_R: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of each logit."""
    probability_R: NDArray[Any] = 1 / (1 + np.exp(-logit_R))
    return probability_R


def _effects(
    random: np.random.Generator, fields: Mapping[str, NDArray[np.int64]], number: int, of_fields: float, own: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the effect [N] and the vector [N, D] of each user or item."""
    logit = own * random.standard_normal(number)
    vector = TASTE_OWN * random.standard_normal((number, TASTE))
    for value in fields.values():
        size = int(value.max()) + 2  # the last, which -1 finds, is for those who have none
        effect = of_fields / len(fields) ** 0.5 * random.standard_normal(size)
        vectors = TASTE_FIELDS / len(fields) ** 0.5 * random.standard_normal((size, TASTE))
        effect[-1], vectors[-1] = 0.0, 0.0
        logit += effect[value]
        vector += vectors[value]
    return logit.astype(np.float32), vector.astype(np.float32)
