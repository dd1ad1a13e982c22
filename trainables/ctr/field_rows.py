"""Where the fields of a backbone lie in its tables, so that the values of many fields are gathered at once.

Legend: V values of a field, R rows of a table, C requested rows, L positions of a sequence, D embedding size,
N numeric fields, S sampled rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.base import Field, RowSource
from trainables.layers import FieldEmbeddings, gather_rows
from trainables.workers import gathered, summed


class FieldRows(nn.Module):
    """Rows of a backbone's embedding tables, requested by field: the item-ID table, and the one of all others."""

    def __init__(self, embeddings: FieldEmbeddings) -> None:
        super().__init__()
        self.fields = embeddings.embedded
        self.item_field = embeddings.item_field
        self._first: dict[int, int] = {}
        row = 0
        for position, field in enumerate(self.fields):
            if position != self.item_field:
                self._first[position] = row
                row += field.size
        self._embeddings = (embeddings,)  # a tuple, so that the backbone's parameters are not this module's too

    def gather(self, request: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return the embeddings of values, [*shape, D], for int64 ids of any shape by the field's position.

        One gather a table, and so one scatter in the backward pass, however many fields there are.
        """
        embeddings = self._embeddings[0]
        found = {}
        if self.item_field in request:
            id_ = request[self.item_field]
            found[self.item_field] = gather_rows(embeddings.item_ID, id_.flatten()).view(*id_.shape, -1)
        others = {position: ids for position, ids in request.items() if position != self.item_field}
        if others:
            index_C = torch.cat([ids.flatten() + self._first[position] for position, ids in others.items()])
            rows_CD = gather_rows(embeddings.others.table_VD, index_C)
            parts = rows_CD.split([ids.numel() for ids in others.values()])
            for (position, ids), part_CD in zip(others.items(), parts, strict=True):
                found[position] = part_CD.view(*ids.shape, -1)
        return found


def value_shares(fields: tuple[Field, ...], rows: RowSource, batch_size: int = 65536) -> list[Tensor]:
    """Return how often each value of each field occurs among all words of the field, float32 [V] each, in [0, 1].

    Of several workers, among the words of all of them: a value that one of them lacks still has its share.
    """
    counts = [torch.zeros(field.size, dtype=torch.int64) for field in fields]
    for batch in rows.batches(batch_size):
        for count_V, field in zip(counts, fields, strict=True):
            word = batch.columns[field.name].flatten()
            if field.kind == "sequence":
                word = word[word != 0]
            count_V += torch.bincount(word.long(), minlength=field.size)
    counts = [summed(count_V) for count_V in counts]
    return [(count_V / count_V.sum().clamp(min=1)).float() for count_V in counts]


def number_bins(fields: tuple[Field, ...], rows: RowSource, bins: int, seed: int, sample: int = 200_000) -> Tensor:
    """Return the inner edges of bins with equal numbers of rows, float32 [N, bins − 1], from a sample of the rows.

    Several workers sample the batches that one alone would, each its part of them, and all get the same edges.
    """
    batches = []
    seen = 0
    for batch in rows.batches(8192, shuffle_seed=seed):
        batches.append(torch.stack([batch.columns[field.name] for field in fields], dim=1))
        seen += int(summed(torch.tensor(len(batch))))
        if seen >= sample:
            break
    value_SN = gathered(torch.cat(batches))
    level = torch.arange(1, bins) / bins
    return torch.quantile(value_SN.double(), level.double(), dim=0).T.float().contiguous()
