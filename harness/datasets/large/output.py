"""Writing the files of a prepared dataset, each by one task.

Legend: R rows of a file, E groups of four rows, I items, C columns of a packed row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from harness.datasets.large.atoms import searchable, splits_of
from harness.datasets.large.digests import ITEMS, ColumnDigest, digest_of, hash_of
from harness.datasets.large.formats import Columns
from harness.datasets.large.packing import HASH, LABEL, Whole, outputs_of
from harness.datasets.large.tasks import call_one, get
from harness.datasets.parts import first_columns, packed_width, write_part
from harness.datasets.prepared import FieldSchema, Schema, SplitSchema
from harness.datasets.raw import Say
from harness.errors import DataError


def write_rows(path: Path, fields: Sequence[FieldSchema], *pieces: Columns) -> tuple[int, str]:
    """Write one file of rows, or of groups of four, in the order of their hashes; return its rows and its digest.

    Raises:
        OSError: the file cannot be written.
    """
    order_R = np.argsort(np.concatenate([piece[HASH] for piece in pieces]))
    known = [field.field() for field in fields]
    width = packed_width(known)
    side_by_side = pieces[0][LABEL].ndim * 3 - 2  # one row, or four
    packed_RC = np.empty((len(order_R), side_by_side * width), dtype=np.int32)
    for field, first in [*zip(known, first_columns(known), strict=True), (None, width - 1)]:
        values = np.concatenate([piece[field.name if field else LABEL] for piece in pieces])[order_R]
        number = field is None or field.kind == "number"
        stored = values.astype(np.float32).view(np.int32) if number else values
        packed_RC[:, first::width] = stored.reshape(len(order_R), side_by_side)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_part(path, packed_RC)
    return len(packed_RC), digest_of([packed_RC])


def write_items(path: Path, tables: Sequence[Any]) -> tuple[int, str]:
    """Write `items.parquet`, one range after the other; return the number of items and the digest.

    Args:
        path: the file.
        tables: references to the ranges' columns, in the order of the ids.

    Raises:
        OSError: the file cannot be written.
    """
    digest = ColumnDigest()
    writer: Any = None
    try:
        for reference in tables:
            columns = ray.get(reference)
            table = pa.table({name: pa.array(values) for name, values in columns.items()})
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            digest.update(columns)
    finally:
        if writer is not None:
            writer.close()
    return digest.rows, digest.value()


def write_dataset(
    folder: Path,
    whole: Whole,
    tables: Sequence[Any],
    pieces: Sequence[list[Any]],
    facts: Mapping[str, int],
    say: Say,
) -> Schema:
    """Write all files, each by one task, and return the schema.

    Args:
        folder: where they go.
        whole: what is known of all rows.
        tables: references to each range's table of items.
        pieces: of each range, references to its pieces of `outputs_of`; they are dropped as they are used.
        facts: the counts for the schema.
        say: shows progress.

    Raises:
        DataError: a file cannot be written, or was written where this process does not see it.
    """
    outputs = outputs_of(whole.atoms)
    started = {ITEMS: call_one(write_items, folder / ITEMS, list(tables))}
    for place, output in enumerate(outputs):
        of_file = [of_range[place] for of_range in pieces]
        started[output.path] = call_one(write_rows, folder / output.path, whole.fields, *of_file)
        for of_range in pieces:
            of_range[place] = None
    written: dict[str, tuple[int, str]] = dict(zip(started, get(list(started.values())), strict=True))
    absent = [path for path in written if not (folder / path).is_file()]
    if absent:
        raise DataError(
            f"{folder / absent[0]}: not here; on a cluster the folder must be on storage that all nodes share"
        )
    rows = {
        atom: sum(written[output.path][0] for output in outputs if output.atom == place)
        for place, atom in enumerate(whole.atoms.atoms)
    }
    say(f"wrote {sum(rows.values()):,} rows in {len(outputs)} files")
    return Schema(
        name=whole.dataset.name,
        kind="interactions",
        layout="parts",
        version=whole.dataset.version,
        hash=hash_of({path: digest for path, (_, digest) in written.items()}),
        inputs=(),
        fields=whole.fields,
        items=written[ITEMS][0],
        users=whole.fields[0].size,
        splits={
            split: SplitSchema(
                rows=sum(rows[atom] for atom in atoms),
                search=searchable(whole.atoms, split),
                atoms=tuple(atom.name for atom in atoms if rows[atom]),
            )
            for split, atoms in splits_of(whole.atoms).items()
        },
        facts=dict(facts),
    )
