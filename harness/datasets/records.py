"""Records of large files, a line at a time: JSON or Python literals, plain or gzipped.

A Python literal is what `repr` wrote. `ast.literal_eval` builds strings, numbers, lists and dictionaries from it and
runs nothing; a line that is too long or too deep for it is refused.
"""

from __future__ import annotations

import ast
import gzip
import json
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, BinaryIO, cast

from harness.datasets.raw import RawFile, StreamedFile
from harness.errors import DataError

LINE_BYTES = 1 << 20
"""A longer line is no record of these files."""

GZIP = b"\x1f\x8b"

Record = Mapping[str, Any]


def json_records(file: RawFile) -> Iterator[tuple[int, Record]]:
    """Yield the number and the object of every line of a file of JSON.

    Raises:
        DataError: a line is not an object, or the file cannot be read.
    """
    return _records(file, json.loads, "a JSON object")


def literal_records(file: RawFile) -> Iterator[tuple[int, Record]]:
    """Yield the number and the dictionary of every line of a file of Python literals.

    Raises:
        DataError: a line is not a dictionary, or the file cannot be read.
    """
    return _records(file, _literal, "a dictionary as Python writes it")


def text_of(file: RawFile, line: int, record: Record, key: str) -> str:
    """Return a record's text, which is not empty.

    Raises:
        DataError: there is none.
    """
    value = record.get(key)
    if not isinstance(value, str) or not value:
        file.fail(line, f"{key} is {value!r:.40}, a text expected")
    return value


def seconds_of(file: RawFile, line: int, record: Record, key: str) -> int:
    """Return a record's seconds since 1970.

    Raises:
        DataError: there are none.
    """
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 40:
        file.fail(line, f"{key} is {value!r:.40}, seconds since 1970 expected")
    return value


def day_of(file: RawFile, line: int, record: Record, key: str) -> int:
    """Return the number of a record's day, written as 2017-12-31.

    Raises:
        DataError: there is none.
    """
    try:
        return date.fromisoformat(record[key]).toordinal()
    except (KeyError, TypeError, ValueError):
        file.fail(line, f"{key} is {record.get(key)!r:.40}, a day as 2017-12-31 expected")


def _records(file: RawFile, parse: Callable[[str], object], expected: str) -> Iterator[tuple[int, Record]]:
    for number, line in _lines(file):
        try:
            record = parse(line.decode("utf-8"))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            record = None
        if not isinstance(record, dict):
            file.fail(number, f"not {expected}")
        yield number, record


def _lines(file: RawFile) -> Iterator[tuple[int, bytes]]:
    assert isinstance(file, StreamedFile)
    number = 0
    try:
        with file.path.open("rb") as compressed:
            gzipped = compressed.read(len(GZIP)) == GZIP
            compressed.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=compressed)) if gzipped else compressed
            while line := stream.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES:
                    file.fail(number, f"longer than {LINE_BYTES:,} bytes; the file has another format")
                yield number, line
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{file.name}: cannot be read after line {number:,} ({error}); get it again") from None


def _literal(text: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # texts hold backslashes that newer Pythons would warn of
        return ast.literal_eval(text)
