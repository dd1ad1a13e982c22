"""How often each user, item or category occurs, and an order of the rows that needs no memory.

Legend: N users, items or categories, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_ROUNDS = 4


@dataclass(frozen=True)
class Tail:
    """The upper tail of a popularity: this share occurs more than `above` times, and it falls as x^-exponent."""

    share: float
    above: float
    exponent: float


def long_tail(total: int, number: int, tail: Tail) -> NDArray[np.int64]:
    """Return how often each of some items occurs, at least once, descending, int64 [N], summing to `total`.

    The share of items that occur more than x times is a power of x with the tail's exponent above some x, and with
    another one below, down to 1; where they meet is what gives the items the mean that they must have.
    """
    mean = total / number
    low, high = 1.0 + 1e-6, tail.above
    for _ in range(100):  # the mean falls as the place where they meet rises
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _mean(middle, tail) > mean else (low, middle)
    at_meeting, body = _body(high, tail)
    share_N = (np.arange(number) + 0.5) / number
    times_N = np.where(
        share_N < at_meeting,
        tail.above * (tail.share / share_N) ** (1 / tail.exponent),
        share_N ** (-1 / body),
    )
    return summing_to(total, np.minimum(times_N, total))


def in_proportion(total: int, count_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each occurs where all occur as many times as often, int64 [N], summing to `total`."""
    return summing_to(total, count_N * (total / count_N.sum()))


def log_normal(total: int, number: int, sigma: float) -> NDArray[np.int64]:
    """Return how often each of some users occurs, at least once, descending, int64 [N], summing to `total`."""
    times_N = np.exp(sigma * ndtri((np.arange(number, 0, -1) - 0.5) / number))
    return summing_to(total, times_N * total / times_N.sum())


def _body(meeting: float, tail: Tail) -> tuple[float, float]:
    """Return the share that occurs more than `meeting` times, and the exponent below."""
    share = min(tail.share * (tail.above / meeting) ** tail.exponent, 0.999)
    return share, -np.log(share) / np.log(meeting)


def _mean(meeting: float, tail: Tail) -> float:
    share, body = _body(meeting, tail)
    below = np.log(meeting) if abs(1 - body) < 1e-9 else (meeting ** (1 - body) - 1) / (1 - body)
    return float(1 + below + share * meeting / (tail.exponent - 1))


def zipf(total: int, number: int) -> NDArray[np.int64]:
    """Return how often each of some categories occurs, at least once, as 1 / rank, int64 [N], summing to `total`."""
    weight_N = 1 / np.arange(1, number + 1)
    return summing_to(total, 1 + (total - number) * weight_N / weight_N.sum())


def summing_to(total: int, times_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round numbers, none below 1, so that they sum to `total`: what is missing or too much is spread over the small.

    Raises:
        ValueError: `total` is less than the number of them.
    """
    if total < len(times_N):
        raise ValueError(f"{total} rows for {len(times_N)}, one each at least")
    count_N = np.maximum(np.rint(times_N), 1).astype(np.int64)
    while (missing := total - int(count_N.sum())) != 0:
        place_S = np.arange(len(count_N)) if missing > 0 else np.flatnonzero(count_N > 1)
        place_S = place_S[len(place_S) // 2 :] if len(place_S) > 1 else place_S  # those of the lower half
        chosen = place_S[np.linspace(0, len(place_S) - 1, min(abs(missing), len(place_S))).astype(np.int64)]
        count_N[chosen] += np.sign(missing)
    return count_N


def scaled(number: int, share: float) -> int:
    """Return this share of a number of the whole, at least two."""
    return max(round(number * share), 2)


def dealt(random: np.random.Generator, number: int, categories: int) -> NDArray[np.int64]:
    """Return a category 0 … for each of this many, each category at least once and as 1 / rank, int64 [N]."""
    return random.permutation(np.repeat(np.arange(categories), zipf(number, categories)))


def without(random: np.random.Generator, values_N: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Return the values with -1 in place of this share of them, chosen at random."""
    number = len(values_N)
    return np.where(random.permutation(number) < round(share * number), -1, values_N)


def permuted(place_R: NDArray[Any], size: int, key: int) -> NDArray[np.int64]:
    """Return where a fixed permutation of 0 … size-1 sends these places, int64 [R].

    A Feistel network over the next even power of two; what falls outside goes through it again.
    """
    half = max((size - 1).bit_length() + 1, 2) // 2
    mask = np.uint32((1 << half) - 1)
    keys = np.random.SeedSequence([key, size]).generate_state(_ROUNDS)
    found_R = place_R.astype(np.uint32)
    outside = np.arange(len(found_R))
    while len(outside):
        value = found_R[outside]
        left, right = value >> np.uint32(half), value & mask
        for of_round in keys:
            mixed = (right ^ of_round) * np.uint32(0x9E3779B1)
            mixed ^= mixed >> np.uint32(15)
            mixed *= np.uint32(0x85EBCA77)
            left, right = right, left ^ ((mixed >> np.uint32(32 - half)) & mask)
        value = (left << np.uint32(half)) | right
        found_R[outside] = value
        outside = outside[value >= size]
    return found_R.astype(np.int64)
