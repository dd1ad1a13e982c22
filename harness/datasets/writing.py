"""Writing a prepared dataset: all of it or nothing, and the hash of its content."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.datasets.item_descriptions import DESCRIPTIONS, ItemDescription, descriptions_file
from harness.datasets.prepared import FieldSchema, InputFile, PreparedDataset, Schema, SplitSchema
from harness.errors import DataError

Table = Mapping[str, NDArray[Any]]
"""Columns by name: int32 [R], float32 [R], or int32 [R, L] for fixed-size lists."""


@dataclass(frozen=True)
class Contents:
    """All of a prepared dataset except where it came from; `tables` by file name without `.parquet`.

    `described_items` are those of ids 1, 2, …, all of them or none.
    """

    kind: Literal["interactions", "sequences"]
    tables: Mapping[str, Table]
    splits: Mapping[str, SplitSchema]
    items: int
    users: int
    fields: Sequence[FieldSchema] = ()
    history_length: int = 0
    facts: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    described_items: Sequence[ItemDescription] = ()


def row_hash(tables: Mapping[str, Table]) -> str:
    """Return the SHA-256 of all rows: tables by name, columns in their order, each as name, type, shape and values.

    The values are hashed as little-endian bytes, so the hash does not depend on Parquet's encoding.
    """
    digest = hashlib.sha256()
    for table in sorted(tables):
        for name, values in tables[table].items():
            little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
            digest.update(f"{table}/{name}/{little.dtype.str}/{little.shape}\n".encode())
            digest.update(little.tobytes())
    return digest.hexdigest()


def dataset_hash(rows: str, descriptions: str) -> str:
    """Return the hash of a dataset: its rows', or where it describes its items one of both.

    Args:
        rows: see `row_hash`.
        descriptions: the SHA-256 of the file of the items' descriptions, empty where there is none.
    """
    if not descriptions:
        return rows
    return hashlib.sha256(f"rows {rows}\n{DESCRIPTIONS} {descriptions}\n".encode()).hexdigest()


def write_prepared(
    folder: Path, contents: Contents, *, name: str, version: int, inputs: Sequence[InputFile]
) -> PreparedDataset:
    """Write a prepared dataset to this folder, replacing what is there only once the new one is whole.

    Raises:
        DataError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    descriptions = descriptions_file(contents.described_items) if contents.described_items else b""
    described = hashlib.sha256(descriptions).hexdigest() if descriptions else ""
    schema = Schema(
        name=name,
        kind=contents.kind,
        version=version,
        hash=dataset_hash(row_hash(contents.tables), described),
        descriptions=described,
        note=contents.note,
        inputs=tuple(inputs),
        fields=tuple(contents.fields),
        items=contents.items,
        users=contents.users,
        history_length=contents.history_length,
        splits=dict(contents.splits),
        facts=dict(contents.facts),
    )
    with whole_folder(folder) as partial:
        for table, columns in contents.tables.items():
            write_table(partial / f"{table}.parquet", columns)
        if descriptions:
            (partial / DESCRIPTIONS).write_bytes(descriptions)
        (partial / "schema.json").write_text(schema.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return PreparedDataset(folder, schema)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `folder` once the body has ended without an error.

    Raises:
        DataError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        replace_folder(partial, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); nothing was kept") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def written_once(folder: Path, write: Callable[[Path], None], what: str) -> None:
    """Write a folder that follows from a dataset, unless a process has: all of it or nothing.

    Args:
        folder: where it is to be; a lock lies beside it.
        write: fills the empty folder that it is given.
        what: what lies in it, for the error's message.

    Raises:
        DataError: it cannot be written.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with exclusive(folder.parent / "lock"):
            if not folder.is_dir():
                partial.mkdir()
                write(partial)
                partial.rename(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{folder}: cannot be written ({reason}); {what} are kept beside the dataset") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put a finished folder in the place of another, which may be missing."""
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_table(path: Path, columns: Table) -> None:
    """Write the columns as one Parquet file."""
    arrays = {name: _arrow(values) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, compression="zstd")


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Read a Parquet file that `write_table` wrote.

    Raises:
        DataError: the file is missing, damaged, or has columns of another type.
    """
    try:
        table = pq.read_table(path, use_threads=False)
        return {name: _numpy(table.column(name)) for name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); delete {path.parent} and prepare it again") from None


def _arrow(values: NDArray[Any]) -> Any:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _numpy(column: Any) -> NDArray[Any]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what an older pyarrow returns for a column without rows
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if pa.types.is_fixed_size_list(array.type):
        return np.asarray(array.flatten()).reshape(-1, array.type.list_size)
    return np.asarray(array)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the lock file, so that of several processes one does the work and the others find it done.

    The umask alone decides whose processes these may be.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
