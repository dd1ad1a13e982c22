"""Batches put together again, to compare them with the rows that they come from."""

from collections.abc import Iterable
from typing import Any

import torch
from numpy.typing import NDArray

from trainables.base import CtrBatch


def joined(batches: Iterable[CtrBatch]) -> dict[str, NDArray[Any]]:
    """Return the batches' columns and labels, one after the other."""
    found = list(batches)
    columns = {name: torch.cat([batch.columns[name] for batch in found]).numpy() for name in found[0].columns}
    return columns | {"label": torch.cat([batch.label_B for batch in found]).numpy()}
