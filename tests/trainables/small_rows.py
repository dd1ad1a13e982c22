"""Twelve items, nine users, every kind of field: rows for the tests of click-through-rate models.

Legend: B rows, I items, L positions of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.base import CtrBatch, Field, ItemTable

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


@dataclass(frozen=True)
class SmallRows:
    """Rows in memory: a `RowSource`. A user likes an item whose year has the user's parity."""

    batch: CtrBatch
    items: ItemTable

    def __len__(self) -> int:
        return len(self.batch)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[CtrBatch]:
        order_B = torch.arange(len(self))
        if shuffle_seed is not None:
            order_B = torch.randperm(len(self), generator=torch.Generator().manual_seed(shuffle_seed))
        for index_B in order_B.split(batch_size):
            columns = {name: column[index_B] for name, column in self.batch.columns.items()}
            yield CtrBatch(columns, self.batch.label_B[index_B])

    def distinct_items(self) -> Tensor:
        return self.batch.columns["item_id"].long().unique()


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
