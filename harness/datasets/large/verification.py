"""Checking a large dataset against its schema, one file at a time."""

from __future__ import annotations

from harness.datasets.large.digests import ITEMS, hash_of, items_digest, part_digest
from harness.datasets.parts import PARTS, QUARTERS
from harness.datasets.prepared import PreparedDataset
from harness.errors import DataError


def verify_large(prepared: PreparedDataset) -> list[str]:
    """Check the hash of all files, the items, and the splits' sizes.

    Returns:
        One line for each problem; none when all is well.
    """
    folder, schema, name = prepared.folder, prepared.schema, prepared.name
    digests: dict[str, str] = {}
    rows: dict[str, int] = {}
    try:
        items, digests[ITEMS] = items_digest(folder / ITEMS)
        for path in sorted(path for kind in (PARTS, QUARTERS) for path in (folder / kind).glob("*/part-*.parquet")):
            key = path.relative_to(folder).as_posix()
            found, digests[key] = part_digest(path)
            if key.startswith(f"{PARTS}/"):
                rows[path.parent.name] = rows.get(path.parent.name, 0) + found
    except DataError as error:
        return [str(error)]
    problems = []
    if hash_of(digests) != schema.hash:
        problems.append(f"{name}: the rows differ from schema.json's hash; delete {folder} and prepare it again")
    if items != schema.items:
        problems.append(f"{name}: {items:,} items, schema.json says {schema.items:,}")
    for split, known in schema.splits.items():
        found = sum(rows.get(atom, 0) for atom in known.atoms)
        if found != known.rows:
            problems.append(f"{name}: split {split} has {found:,} rows, schema.json says {known.rows:,}")
    return problems
