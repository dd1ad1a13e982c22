"""The world that generated rows come from: who and what there is, who meets what, and how likely a click is.

The planted model. The logit of a click is

    a(position) + Σ effects of the user's fields + own effect of the user
                + Σ effects of the item's categories + own effect of the item + ⟨taste of the user, style of the item⟩,

where a taste is the sum of a vector for each of the user's fields and of one of their own, and a style the same of the
item's categories. All are independent normal draws with the standard deviations below; a constant is added so that the
mean probability is the wanted one. Nothing else decides: neither time nor order.

Legend: U users, I items, R rows, D size of a taste.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        user_of: the user of each row in a hidden order, int32 [R].
        item_of: the item of each row in another hidden order, int32 [R].
        position_logit: what of the logit is the position's, by its number.
        user_vector: of the users the taste, their own part of the logit, and 1, float32 [U, D + 2].
        item_vector: of the items the style, 1, and their own part of the logit, float32 [I, D + 2].
    """

    rows: int
    seed: int
    user_fields: Mapping[str, NDArray[np.int64]]
    item_fields: Mapping[str, NDArray[np.int64]]
    user_of: NDArray[np.int32]
    item_of: NDArray[np.int32]
    position_logit: NDArray[np.float32]
    user_vector: NDArray[np.float32]
    item_vector: NDArray[np.float32]

    @property
    def users(self) -> int:
        """The number of users, U."""
        return len(self.user_vector)

    @property
    def items(self) -> int:
        """The number of items, I."""
        return len(self.item_vector)

    def pairs(self, row_R: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the user and the item of rows of these numbers, int32 [R]."""
        user_R = self.user_of.take(permuted(row_R, self.rows, 2 * self.seed))
        return user_R, self.item_of.take(permuted(row_R, self.rows, 2 * self.seed + 1))

    def logits(self, user_R: NDArray[Any], item_R: NDArray[Any], position_R: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logit of the true probability of a click, float32 [R]."""
        user_RD, item_RD = self.user_vector.take(user_R, axis=0), self.item_vector.take(item_R, axis=0)
        logit_R: NDArray[np.float32] = np.einsum("rd,rd->r", user_RD, item_RD) + self.position_logit[position_R]
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
    position_shares: Sequence[float],
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
        position_shares: how often each position occurs.
    """
    random = np.random.default_rng([seed, 1])
    user_logit, taste = _effects(random, user_fields, len(user_rows), USER_FIELDS, USER_OWN)
    item_logit, style = _effects(random, item_fields, len(item_rows), ITEM_FIELDS, ITEM_OWN)
    world = World(
        rows,
        seed,
        user_fields,
        item_fields,
        np.repeat(np.arange(len(user_rows), dtype=np.int32), random.permutation(user_rows)),
        np.repeat(np.arange(len(item_rows), dtype=np.int32), random.permutation(item_rows)),
        (POSITION * random.standard_normal(len(position_shares))).astype(np.float32),
        np.column_stack([taste, user_logit, np.ones(len(taste))]).astype(np.float32),
        np.column_stack([style / TASTE**0.5, np.ones(len(style)), item_logit]).astype(np.float32),
    )
    row_R = np.unique(np.linspace(0, rows - 1, min(rows, CALIBRATION_ROWS)).astype(np.int64))
    share = np.array(position_shares) / sum(position_shares)
    position_R = random.choice(len(share), len(row_R), p=share)
    logit_R = world.logits(*world.pairs(row_R), position_R).astype(np.float64)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logit_R + middle).mean() < rate else (low, middle)
    world.position_logit[:] += np.float32(low)
    return world


def sigmoid(logit_R: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of each logit."""
    probability_R: NDArray[Any] = 1 / (1 + np.exp(-logit_R))
    return probability_R


def _effects(
    random: np.random.Generator, fields: Mapping[str, NDArray[np.int64]], number: int, of_fields: float, own: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
    return logit, vector
