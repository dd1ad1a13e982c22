"""Lines of comma-separated files: what each column may hold, and reading a block of whole lines.

A line is malformed when it does not match its format as a whole. A block without such a line is read by Arrow at once;
in others each line is looked at. Both accept the same lines, so that the result does not depend on the blocks.

Legend: R rows, the well-formed lines of a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from harness.errors import DataError

Columns = Mapping[str, NDArray[Any]]
"""Columns of equal length by name."""

LARGEST = 10**18 - 1
"""Integers have at most eighteen digits."""
MISSING, NO_PROFILE = LARGEST + 1, LARGEST + 2
"""What stands for an empty category, and for every category of a user or item without a profile: the last two in
numeric order, each a category of its own."""

NULLS = ("", "NULL")
SHOWN = 10
"""Malformed lines that are kept to be shown."""
_SHOWN_CHARACTERS = 80

ColumnKind = Literal["integer", "flag", "decimal", "word"]
_PATTERNS = {"integer": "0*[0-9]{1,18}", "flag": "0*[01]", "decimal": r"[0-9]+(?:\.[0-9]+)?"}
_HALF_DECIMAL = re.compile(rb"(?<![0-9])\.|\.(?![0-9])")


@dataclass(frozen=True)
class ColumnFormat:
    """A column: integers, 0 or 1, decimals, or words of a pattern; `optional` ones may be empty or NULL."""

    name: str
    kind: ColumnKind = "integer"
    optional: bool = False
    words: str = ""

    @property
    def pattern(self) -> str:
        """The regular expression of what may stand there."""
        one = self.words if self.kind == "word" else _PATTERNS[self.kind]
        return f"(?:{one}|{'|'.join(NULLS)})" if self.optional else f"(?:{one})"


@dataclass(frozen=True)
class Malformed:
    """A line that does not have its file's format; `line` counts from 0 within the block."""

    line: int
    text: str


@dataclass(frozen=True)
class ReadLines:
    """A block's rows.

    Attributes:
        columns: integers and flags in the narrowest of int8, int16, int32 and int64, `MISSING` where empty; decimals
            as float64, NaN where empty; words as codes into `words`.
        words: the distinct words of each such column.
        lines: the number of lines, malformed ones included.
        malformed: how many of them are malformed.
        shown: the first of these.
    """

    columns: Columns
    words: Mapping[str, tuple[str, ...]]
    lines: int
    malformed: int = 0
    shown: tuple[Malformed, ...] = ()


@dataclass(frozen=True)
class LineFormat:
    """The format of a file: its columns in their order, and whether a header with their names comes first."""

    file: str
    columns: tuple[ColumnFormat, ...]
    header: str = ""
    needed: tuple[str, ...] = field(default=())
    """The columns to keep; all by default."""

    @property
    def kept(self) -> tuple[ColumnFormat, ...]:
        """The columns that are kept."""
        return tuple(column for column in self.columns if not self.needed or column.name in self.needed)

    @cached_property
    def line(self) -> re.Pattern[bytes]:
        """The regular expression of a whole line."""
        return re.compile(",".join(column.pattern for column in self.columns).encode())

    @cached_property
    def letters(self) -> bytes:
        """The bytes that a well-formed file is made of."""
        special = "".join(column.words for column in self.columns) + "".join(NULLS)
        return b"0123456789.,\n" + b"".join(re.findall(rb"[A-Za-z_]", special.encode()))

    def read(self, data: bytes) -> ReadLines:
        """Return the rows of a block of whole lines; the last line may lack its end."""
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        if not data:
            return self._rows(pa.table({column.name: pa.array([], _TYPES[column.kind]) for column in self.columns}))
        if not data.translate(None, self.letters) and not _HALF_DECIMAL.search(data):
            table = self._parse(data)
            if table is not None:
                return self._rows(table)
        return self._well_formed(data.removesuffix(b"\n").split(b"\n"))

    def _well_formed(self, lines: Sequence[bytes]) -> ReadLines:
        fits = self.line.fullmatch
        wrong = [number for number, line in enumerate(lines) if not fits(line)]
        if not wrong:
            raise DataError(
                f"{self.file}: lines of the right format that cannot be read, {_shown(lines[0])} among them"
            )
        out = set(wrong)
        rows = self.read(b"\n".join(line for number, line in enumerate(lines) if number not in out))
        shown = tuple(Malformed(number, _shown(lines[number])) for number in wrong[:SHOWN])
        return ReadLines(rows.columns, rows.words, len(lines), len(wrong), shown)

    def _parse(self, data: bytes) -> Any:
        """Return the Arrow table of the lines, or None where one of them is malformed."""
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(data),
                read_options=pa.csv.ReadOptions(
                    column_names=[column.name for column in self.columns], use_threads=False, block_size=len(data) + 1
                ),
                parse_options=pa.csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
                convert_options=pa.csv.ConvertOptions(
                    column_types={column.name: _TYPES[column.kind] for column in self.columns},
                    null_values=list(NULLS),
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowException:
            return None
        return table if all(self._allowed(column, table.column(column.name)) for column in self.columns) else None

    def _allowed(self, column: ColumnFormat, values: Any) -> bool:
        if values.null_count and not column.optional:
            return False
        if column.kind == "word":
            pattern = re.compile(column.words)
            return all(pattern.fullmatch(word) for chunk in values.chunks for word in chunk.dictionary.to_pylist())
        if column.kind == "decimal":
            return True
        largest = pa.compute.max(values).as_py() or 0
        return bool(largest <= (LARGEST if column.kind == "integer" else 1))

    def _rows(self, table: Any) -> ReadLines:
        columns: dict[str, NDArray[Any]] = {}
        words: dict[str, tuple[str, ...]] = {}
        for column in self.kept:
            values = table.column(column.name).combine_chunks()
            if isinstance(values, pa.ChunkedArray):
                values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
            if column.kind == "word":
                words[column.name] = tuple(values.dictionary.to_pylist())
                columns[column.name] = narrow(np.asarray(values.indices))
            elif column.kind == "decimal":
                columns[column.name] = values.to_numpy(zero_copy_only=False)
            else:
                filled = values.fill_null(MISSING) if values.null_count else values
                columns[column.name] = narrow(filled.to_numpy(zero_copy_only=False))
        return ReadLines(columns, words, table.num_rows)


_TYPES = {
    "integer": pa.int64(),
    "flag": pa.int64(),
    "decimal": pa.float64(),
    "word": pa.dictionary(pa.int32(), pa.string()),
}


def narrow(values_R: NDArray[Any]) -> NDArray[Any]:
    """Return integers, none of them negative, in the narrowest of int8, int16, int32 and int64 that holds them."""
    largest = int(values_R.max()) if len(values_R) else 0
    return values_R.astype(np.min_scalar_type(-largest - 1), copy=False)


def _shown(line: bytes) -> str:
    text = line[:_SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")
    return text + "…" if len(line) > _SHOWN_CHARACTERS else text
