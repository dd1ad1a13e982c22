"""What follows from a row's number in its file alone: its place in the shuffle, and its random split.

Row numbers count the well-formed lines of the whole file from 0, so neither depends on how the file was read.

Legend: R rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHUFFLE, SPLIT = 20250821, 20250822
"""The keys of the two hashes."""


def hash_rows(row_R: NDArray[Any], key: int) -> NDArray[np.uint64]:
    """Return a hash of each row number, uint64 [R]; different numbers have different hashes.

    It is the output function of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), twice, with the key in between.
    """
    return _mixed(_mixed(row_R.astype(np.uint64)) ^ np.uint64(key * 0x9E3779B97F4A7C15 % 2**64))


def tenths(row_R: NDArray[Any]) -> NDArray[np.int64]:
    """Return 0 … 9 for each row, as if at random."""
    return (hash_rows(row_R, SPLIT) % np.uint64(10)).astype(np.int64)


def slices(hash_R: NDArray[np.uint64], of_R: NDArray[Any]) -> NDArray[np.int64]:
    """Return which of `of_R` equal ranges of hashes each hash lies in."""
    high_R = hash_R >> np.uint64(32)
    return ((high_R * of_R.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def _mixed(value_R: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z_R = value_R + np.uint64(0x9E3779B97F4A7C15)
    z_R = (z_R ^ (z_R >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z_R = (z_R ^ (z_R >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z_R ^ (z_R >> np.uint64(31))
