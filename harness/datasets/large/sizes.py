"""How the work of a preparation is cut, by the size of the file of rows."""

from __future__ import annotations

from dataclasses import dataclass

_BLOCK_BYTES = 16 << 20
_RANGE_BYTES = 32 << 20
"""Of the raw rows, for each range of items: what a task then holds is about ten times as much."""


@dataclass(frozen=True)
class Sizes:
    """How the work is cut; nothing that is written depends on it."""

    block_bytes: int
    item_ranges: int
    user_ranges: int
    value_ranges: int


def sizes_for(row_bytes: int) -> Sizes:
    """Return the sizes for this many bytes of raw rows."""
    ranges = row_bytes // _RANGE_BYTES + 1
    return Sizes(_BLOCK_BYTES, ranges, ranges // 4 + 1, ranges // 8 + 1)


def object_store_bytes(row_bytes: int) -> int:
    """Return the shared memory for this many bytes of raw rows; what does not fit is spilled to disk."""
    return min(max(2 * row_bytes, 256 << 20), 3 << 30)
