"""Raw files: what is known of them, and reading them so that a bad line is named.

Legend: R rows of a file.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from harness.datasets.prepared import InputFile
from harness.datasets.writing import Contents
from harness.errors import DataError

_PIECE = 1 << 22

INTEGER_DIGITS = 18
"""The digits of an integer at most; so many fit into 64 bits."""

Say = Callable[[str], None]
"""Shows one line of progress."""


@dataclass(frozen=True)
class KnownFile:
    """What is known of a raw file: its number of lines, and the SHA-256 of every copy that we could look at.

    A `streamed` file is too large to be held in memory; its lines are not counted beforehand.
    """

    lines: int
    sha256: tuple[str, ...] = ()
    streamed: bool = False


Layout = Mapping[str, KnownFile]
"""The files that hold a dataset together, by path inside its raw folder."""


@dataclass(frozen=True)
class RawFile:
    """A raw file in memory."""

    name: str
    data: bytes = b""

    @property
    def sha256(self) -> str:
        """The checksum."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def lines(self) -> int:
        """The number of lines; the last one counts whether or not it is ended."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n") and bool(self.data))

    def input(self) -> InputFile:
        """Return what the schema records of it."""
        return InputFile(file=self.name, sha256=self.sha256, bytes=len(self.data))

    def fail(self, line: int, problem: str) -> NoReturn:
        """Raise a `DataError` that names this file and the line, counted from 1."""
        raise DataError(f"{self.name}: line {line:,}: {problem}")


@dataclass(frozen=True)
class StreamedFile(RawFile):
    """A raw file that is read from its path, a part at a time; `data` stays empty."""

    path: Path = Path()

    @functools.cached_property
    def sha256(self) -> str:
        """The checksum."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def input(self) -> InputFile:
        """Return what the schema records of it."""
        return InputFile(file=self.name, sha256=self.sha256, bytes=self.path.stat().st_size)


RawFiles = Mapping[str, RawFile]


@dataclass(frozen=True)
class ItemTextFile:
    """The file that says what the items are, inside the raw folder: its column of item ids, and its SHA-256."""

    name: str
    id_column: str
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """A dataset of the catalog: what its raw files are, and how they become a prepared dataset.

    Attributes:
        name: the name in commands and tables.
        title: one line that says what it is.
        kind: whether it holds interactions or sequences.
        folder: where its raw files lie inside a folder of raw data.
        source: where the raw files come from and under which terms; completes "put … there".
        layouts: the alternative sets of raw files.
        parse: turns raw files into contents; `DataError` names the file and line that cannot be read.
        facts: the counts of the known data: of `Contents.facts`, `users`, `items` and the splits by name.
        row_hashes: hashes of the prepared rows of the known data, which files of unknown checksum may give too.
        counts_suffice: whether files of unknown checksum are taken, with a note, when all counts are right.
        download: fetches the raw files into a folder, where that is possible.
        version: raised whenever the prepared rows or descriptions change.
        item_text: where the items' titles, categories and brands are; no part of the prepared rows or of their hash. A
            dataset whose contents describe its items needs none.
        tried: whether the known files were at hand when this was written. Where they were not, it is tested on small
            files of their format, and tables that have no trials of it say `no data`.
    """

    name: str
    title: str
    kind: Literal["interactions", "sequences"]
    folder: str
    source: str
    layouts: tuple[Layout, ...]
    parse: Callable[[RawFiles], Contents]
    facts: Mapping[str, int]
    row_hashes: tuple[str, ...] = ()
    counts_suffice: bool = False
    download: Callable[[Path, Say], None] | None = None
    version: int = 1
    item_text: ItemTextFile | None = None
    tried: bool = True


def input_file(path: Path) -> InputFile:
    """Return what the schema records of a raw file, reading it piece by piece.

    Raises:
        DataError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    return InputFile(file=path.name, sha256=digest.hexdigest(), bytes=size)


def read_raw(folder: Path, layout: Layout) -> RawFiles:
    """Read the files of a layout.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    files: dict[str, RawFile] = {}
    for name, known in layout.items():
        path = folder / name
        try:
            files[name] = (
                StreamedFile(name, path=_readable(path)) if known.streamed else RawFile(name, path.read_bytes())
            )
        except FileNotFoundError:
            raise DataError(f"{folder / name}: missing; {', '.join(layout)} belong together") from None
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read ({error.strerror or error})") from None
    return files


def _readable(path: Path) -> Path:
    with path.open("rb"):
        return path


def check_lines(file: RawFile, known: KnownFile) -> None:
    """Check the number of lines, and that the last one is ended; of a streamed file, nothing.

    Raises:
        DataError: the file has other lines than the known one.
    """
    if known.streamed:
        return
    if file.lines != known.lines:
        raise DataError(
            f"{file.name}: {file.lines:,} lines, {known.lines:,} expected; the file is truncated or another one"
        )
    if not file.data.endswith(b"\n"):
        file.fail(file.lines, "no line end; the file is truncated")


def integer_columns(
    file: RawFile, separator: bytes, names: Sequence[str], *, header: bytes | None = None
) -> dict[str, NDArray[np.int64]]:
    """Return the columns of a file that holds nothing but integers, int64 [R].

    Raises:
        DataError: a line has another number of fields, or a field is not an integer.
    """
    first = _after_header(file, separator, header)
    body = file.data[first:]
    if separator != b"\t":  # one byte is needed; a tab cannot stand in a number, so a stray one is still an error
        body = b"" if b"\t" in body else body.replace(separator, b"\t")
    try:
        table = pa.csv.read_csv(
            io.BytesIO(body),
            read_options=pa.csv.ReadOptions(column_names=list(names)),
            parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.int64() for name in names}, null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowException:
        _explain_integers(file, separator, names, skip=bool(header))
    return {name: table.column(name).to_numpy() for name in names}


def text_rows(
    file: RawFile, separator: str, fields: int, *, encoding: str = "utf-8", header: bytes | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every line; a file said to be latin-1 may be UTF-8 as a whole.

    Raises:
        DataError: a line has another number of fields, or cannot be decoded.
    """
    _after_header(file, separator.encode(), header)
    if encoding == "latin-1" and _decodes(file.data):
        encoding = "utf-8"
    lines = file.data.removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if header is not None and number == 1:
            continue
        text = _decode(file, number, line.removesuffix(b"\r"), encoding)
        row = text.split(separator)
        if len(row) != fields:
            file.fail(number, f"{len(row)} fields, {fields} expected, separated by {separator!r}")
        yield number, row


def integer(file: RawFile, line: int, text: str, what: str) -> int:
    """Return a field as an integer.

    Raises:
        DataError: it is none, or has more digits than any number of these files.
    """
    if not is_integer(text):
        file.fail(line, f"{what} {text!r:.40}, an integer expected, of {INTEGER_DIGITS} digits at most")
    return int(text)


def is_integer(text: str | bytes) -> bool:
    """Return whether a text is made of digits, no more of them than `INTEGER_DIGITS`."""
    return text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS


def _after_header(file: RawFile, separator: bytes, header: bytes | None) -> int:
    """Return where the rows begin."""
    if header is None:
        return 0
    first, _, _ = file.data.partition(b"\n")
    if first.removesuffix(b"\r") != header:
        expected = header.decode().replace(separator.decode(), " ")
        file.fail(1, f"not the expected header ({expected})")
    return len(first) + 1


def _explain_integers(file: RawFile, separator: bytes, names: Sequence[str], *, skip: bool) -> NoReturn:
    for number, row in text_rows(RawFile(file.name, file.data), separator.decode(), len(names), encoding="latin-1"):
        if skip and number == 1:
            continue
        for name, text in zip(names, row, strict=True):
            integer(file, number, text, name)
    raise DataError(f"{file.name}: cannot be read as {len(names)} integers a line")


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _decode(file: RawFile, number: int, line: bytes, encoding: str) -> str:
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError:
        file.fail(number, f"not {encoding}; the file has another encoding")
    if encoding == "latin-1" and any("\x7f" <= character <= "\x9f" for character in text):
        file.fail(number, "not latin-1 (control characters); the file has another encoding")
    return text


def first_index(mask_R: NDArray[Any]) -> int | None:
    """Return the index of the first true value, or None."""
    index = int(np.argmax(mask_R)) if len(mask_R) else 0
    return index if len(mask_R) and bool(mask_R[index]) else None
