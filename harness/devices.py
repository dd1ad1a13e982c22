"""Where a trial computes: on the CPU, or on a GPU where it takes one.

Rows are read on the CPU and moved a batch at a time; what a method makes without word of a device is made on the
trial's. Records, arrays and checkpoints hold tensors of the CPU alone, so that any machine reads them.

Legend: M distinct items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.errors import ClusterError
from trainables.base import CtrBatch, ItemTable, RowSource, SequenceBatch, SequenceSource

CPU = torch.device("cpu")

# Torch lists the functions that heed a default device when the first one is called under it, and keeps the list.
# Libraries that load weights replace some of them meanwhile (transformers: torch.linspace): the list is made before.
with CPU:
    torch.empty(0)

Batch = TypeVar("Batch", CtrBatch, SequenceBatch)


def device_of(gpus: float) -> torch.device:
    """Return the device of a trial that takes so many GPUs: the first that this process sees, or the CPU.

    Raises:
        ClusterError: it takes a GPU, and torch sees none.
    """
    if not gpus:
        return CPU
    if not torch.cuda.is_available():
        raise ClusterError("gpus: torch sees no GPU in this process; set gpus: 0, or install a build of torch for it")
    return torch.device("cuda", torch.cuda.current_device())


def device_name(device: torch.device) -> str:
    """Return what a record says of a device; nothing of the CPU, which it describes elsewhere."""
    if device.type == "cpu":
        return ""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


@contextmanager
def computing_on(device: torch.device) -> Iterator[None]:
    """Make on this device whatever is made without word of one."""
    if device.type == "cpu":
        yield
        return
    with device:
        yield


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def moved(value: Any, device: torch.device) -> Any:
    """Return a structure of dictionaries, lists and tuples with all its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: moved(inner, device) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(inner, device) for inner in value)
    return value


def rows_on(rows: RowSource, device: torch.device) -> RowSource:
    """Return the same rows with their batches on a device."""
    return rows if device.type == "cpu" else RowsOnDevice(rows, device)


def sequences_on(sequences: SequenceSource, device: torch.device) -> SequenceSource:
    """Return the same sequences with their batches on a device."""
    return sequences if device.type == "cpu" else SequencesOnDevice(sequences, device)


class RowsOnDevice:
    """A `RowSource` of another one's rows, its batches and items on a device."""

    def __init__(self, rows: RowSource, device: torch.device) -> None:
        self._rows, self._device = rows, device
        self._items = ItemTable(moved(rows.items.columns, device))

    @property
    def items(self) -> ItemTable:
        """The items as this split may know them."""
        return self._items

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield the same batches; see `RowSource`."""
        return _moved_batches(self._rows.batches(batch_size, shuffle_seed=shuffle_seed, skip=skip), self._device)

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        return self._rows.distinct_items().to(self._device)

    def item_quarters(self, seed: int) -> tuple[RowSource, RowSource, RowSource, RowSource]:
        """Return the quarters of every item's rows; see `RowSource`."""
        with CPU:
            quarters = self._rows.item_quarters(seed)
        first, second, third, fourth = (RowsOnDevice(quarter, self._device) for quarter in quarters)
        return first, second, third, fourth


@dataclass(frozen=True)
class SequencesOnDevice:
    """A `SequenceSource` of another one's sequences, its batches on a device."""

    sequences: SequenceSource
    device: torch.device

    def __len__(self) -> int:
        return len(self.sequences)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[SequenceBatch]:
        """Yield the same batches; see `SequenceSource`."""
        return _moved_batches(self.sequences.batches(batch_size, shuffle_seed=shuffle_seed), self.device)


def _moved_batches(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Read batches on the CPU, whatever device is meant where they are asked for, and yield them moved."""
    iterator = iter(batches)
    while True:
        with CPU:
            batch = next(iterator, None)
        if batch is None:
            return
        yield type(batch)(*(moved(getattr(batch, field.name), device) for field in fields(batch)))
