"""Ray Data reads a file in ranges of bytes: one block of whole lines each, parsed where it is read.

What is not a row, the block's number and its malformed lines, travels in the metadata of the block's Arrow schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from harness.datasets.large.formats import Columns, LineFormat, Malformed, ReadLines
from harness.errors import DataError

_REPORT = b"diffbench"
_PIECE = 1 << 16
_ROWS_OF_BYTES = 20
"""A guess that Ray Data plans with: bytes of a line."""


@dataclass(frozen=True)
class ByteRange:
    """A range of a file's bytes; the lines that begin in it are its lines."""

    path: Path
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class BlockReport:
    """What is known of a block beside its rows; see `ReadLines`."""

    number: int
    rows: int
    lines: int
    malformed: int
    shown: tuple[Malformed, ...]
    words: dict[str, tuple[str, ...]]


def byte_ranges(path: Path, block_bytes: int) -> list[ByteRange]:
    """Cut a file into ranges of this size, the last one shorter; at least one.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    starts = range(0, max(size, 1), block_bytes)
    return [ByteRange(path, number, start, min(start + block_bytes, size)) for number, start in enumerate(starts)]


def whole_lines(where: ByteRange) -> bytes:
    """Return the lines that begin in a range.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with where.path.open("rb") as file:
            if where.start:  # a line begins here if the byte before ends one
                file.seek(where.start - 1)
                while piece := file.readline(_PIECE):
                    if piece.endswith(b"\n"):
                        break
            if file.tell() >= where.stop:
                return b""
            data = file.read(where.stop - file.tell())
            return data if data.endswith(b"\n") else data + file.readline()
    except OSError as error:
        raise DataError(f"{where.path}: cannot be read ({error.strerror or error})") from None


def read_blocks(path: Path, lines: LineFormat, block_bytes: int) -> Iterator[Any]:
    """Yield Ray's reference to each block of a file, in any order, as they are read.

    Raises:
        DataError: the file cannot be read, or its header is another one.
    """
    check_header(path, lines)
    ranges = byte_ranges(path, block_bytes)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    dataset = ray.data.read_datasource(_LineSource(ranges, lines), override_num_blocks=len(ranges))
    for bundle in dataset.iter_internal_ref_bundles():
        for entry in bundle.blocks:
            yield entry.ref


def check_header(path: Path, lines: LineFormat) -> None:
    """Check a file's first line; a blank at its end counts for nothing.

    Raises:
        DataError: it is not the expected header, or the file cannot be read.
    """
    if not lines.header:
        return
    first = whole_lines(ByteRange(path, 0, 0, 1))[:_PIECE].decode("utf-8", "replace")
    if first.rstrip() != lines.header.rstrip():
        raise DataError(f"{path.name}: line 1: not the expected header ({lines.header.rstrip()})")


def unpack_block(block: Any) -> tuple[BlockReport, Columns]:
    """Return what a block of `read_blocks` holds.

    Raises:
        DataError: Ray Data has put several blocks together.
    """
    report = json.loads((block.schema.metadata or {}).get(_REPORT, b"null"))
    if report is None or report["rows"] != block.num_rows:
        raise DataError(f"a block of {block.num_rows:,} rows is not as it was read; lower the bytes of a block")
    shown = tuple(Malformed(**one) for one in report.pop("shown"))
    words = {name: tuple(known) for name, known in report.pop("words").items()}
    columns = {name: np.asarray(block.column(name).combine_chunks()) for name in block.column_names}
    return BlockReport(**report, shown=shown, words=words), columns


class _LineSource(Datasource):
    """A file as a source of Ray Data: a read task and a block for each range."""

    def __init__(self, ranges: list[ByteRange], lines: LineFormat) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ranges, self._lines = ranges, lines

    def estimate_inmemory_data_size(self) -> int:
        return self._ranges[-1].stop

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        return [self._task(where) for where in self._ranges]

    def _task(self, where: ByteRange) -> ReadTask:
        lines, size = self._lines, where.stop - where.start
        return ReadTask(lambda: [_block(where, lines)], BlockMetadata(size // _ROWS_OF_BYTES, size, None, None))


def read_range(where: ByteRange, lines: LineFormat) -> ReadLines:
    """Return the rows of a range, without the header.

    Raises:
        DataError: the file cannot be read.
    """
    data = whole_lines(where)
    if lines.header and where.start == 0:
        data = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
    return lines.read(data)


def _block(where: ByteRange, lines: LineFormat) -> Any:
    read = read_range(where, lines)
    rows = len(next(iter(read.columns.values())))
    report = {
        "number": where.number,
        "rows": rows,
        "lines": read.lines,
        "malformed": read.malformed,
        "shown": [vars(one) for one in read.shown],
        "words": read.words,
    }
    table = pa.table({name: pa.array(values) for name, values in read.columns.items()})
    return table.replace_schema_metadata({_REPORT: json.dumps(report).encode()})
