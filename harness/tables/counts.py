"""What a dataset counts: the measurements of a table of kind `statistics`."""

from __future__ import annotations

from harness.datasets.prepared import PreparedDataset
from harness.measured import Measured
from harness.specs import COUNTED

COUNTS = ("users", "items", "rows")
"""What such a table may ask for: users and items that occur, and interactions (or examples of sequences)."""


def count(dataset: PreparedDataset) -> Measured:
    """Return a dataset's counts; no trial stands behind them, and no seed changes them."""
    schema = dataset.schema
    # A cold-start split leaves rows out, so that the splits' sizes do not add up to all rows.
    rows = schema.facts.get("rows", sum(split.rows for split in schema.splits.values() if not split.search))
    counted = dict(zip(COUNTS, (schema.users, schema.items, rows), strict=True))
    return Measured(
        dataset=dataset.name,
        row=COUNTED,
        selection="published",
        seed=0,
        trial_id="",
        status="finished",
        metrics={f"test/{name}": float(value) for name, value in counted.items()},
        data_hash=dataset.hash,
        data_note=schema.note,
    )
