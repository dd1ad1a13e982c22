"""Small files in the formats of large ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.datasets.raw import StreamedFile


def write_gzipped(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def streamed(path: Path) -> StreamedFile:
    return StreamedFile(path.name, path=path)


def as_json(records: Iterable[Mapping[str, object]]) -> list[str]:
    return [json.dumps(record) for record in records]


def as_python_2(records: Iterable[Mapping[str, object]]) -> list[str]:
    """Write dictionaries as Python 2 wrote those with unicode texts."""
    return ["{" + ", ".join(f"u{key!r}: {_python_2(value)}" for key, value in one.items()) + "}" for one in records]


def _python_2(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_python_2, value)) + "]"
    return f"u{value!r}" if isinstance(value, str) else repr(value)
