"""What a dataset counts: the measurements of a table of kind `statistics`."""

from __future__ import annotations

from harness.datasets.prepared import PreparedDataset
from harness.measured import Measured
from harness.table_specs import COUNTED

AVERAGE_LENGTH = "average_length"
COUNTS = ("users", "items", "rows", "interactions", AVERAGE_LENGTH)
"""What such a table may ask for: users and items (all that there are ids for, though histories may be cut before some),
rows (of sequences, test examples), interactions (of sequences, those of histories and targets; of leave-one-out, those
before histories are cut), and interactions by users."""


def count(dataset: PreparedDataset) -> Measured:
    """Return a dataset's counts; no trial stands behind them, and no seed changes them."""
    schema = dataset.schema
    # A cold-start split leaves rows out, so that the splits' sizes do not add up to all rows.
    rows = schema.facts.get("rows", sum(split.rows for split in schema.splits.values() if not split.search))
    interactions = schema.facts.get("interactions", rows)
    average = interactions / max(schema.users, 1)
    counted = dict(zip(COUNTS, (schema.users, schema.items, rows, interactions, average), strict=True))
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
