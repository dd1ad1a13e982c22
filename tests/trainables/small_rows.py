"""Twelve items, nine users, every kind of field: rows for the tests of click-through-rate models.

A user likes an item whose year has the user's parity.

Legend: B rows, I items, L positions of a sequence.
"""

from __future__ import annotations

import torch

from trainables.base import CtrBatch, Field, ItemTable
from trainables.cold_start.conformance import RowsInMemory as SmallRows

__all__ = ["FIELDS", "ITEMS", "USERS", "SmallRows", "item_table", "small_rows"]

USERS, ITEMS = 9, 12
FIELDS = (
    Field("user_id", "category", USERS, "user_id"),
    Field("item_id", "category", ITEMS, "item_id"),
    Field("year", "category", 4, "item"),
    Field("title", "sequence", 7, "item", 3),
    Field("timestamp", "number", 1, "context"),
    Field("count", "number", 1, "item"),
)


def item_table() -> ItemTable:
    item_I = torch.arange(ITEMS, dtype=torch.int32)
    title_IL = torch.stack([1 + item_I % 6, (item_I % 2) * (1 + item_I % 3), torch.zeros_like(item_I)], dim=1)
    return ItemTable({"year": item_I % 4, "title": title_IL, "count": item_I / ITEMS})


def small_rows(rows: int = 64, *, items: tuple[int, int] = (0, ITEMS), seed: int = 0) -> SmallRows:
    """Return rows of the items from `items[0]` up to `items[1] - 1`."""
    generator = torch.Generator().manual_seed(seed)
    user_B = torch.randint(USERS, (rows,), generator=generator, dtype=torch.int32)
    item_B = torch.randint(*items, (rows,), generator=generator, dtype=torch.int32)
    table = item_table()
    columns = {
        "user_id": user_B,
        "item_id": item_B,
        "timestamp": torch.rand(rows, generator=generator),
        **table.select(item_B),
    }
    return SmallRows(CtrBatch(columns, ((user_B + columns["year"]) % 2).float()), table)
