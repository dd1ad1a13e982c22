"""A dataset that is prepared anew while a trial has it open: as many rows, of other labels."""

from __future__ import annotations

import numpy as np

from harness.datasets.parts import PARTS, QUARTERS, read_groups, rows_of_groups, write_part
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import read_table, whole_folder, write_table


def prepare_anew(dataset: PreparedDataset) -> PreparedDataset:
    """Put rows with flipped labels, or targets of the next user, into the folder, as a preparation does."""
    schema = dataset.schema.model_copy(update={"hash": "f" * 64})
    with whole_folder(dataset.folder) as partial:
        for path in dataset.folder.glob("*.parquet"):
            table = read_table(path)
            if "label" in table:
                table["label"] = 1 - table["label"]
            if "target" in table:
                table["target"] = np.roll(table["target"], 1)
            write_table(partial / path.name, table)
        for folder in (PARTS, QUARTERS):
            for path in (dataset.folder / folder).rglob("*.parquet"):
                rows_RC = read_groups(path, range(len(rows_of_groups(path)))).copy()
                rows_RC[:, -1] = (1 - rows_RC[:, -1].view(np.float32)).view(np.int32)
                (partial / path.relative_to(dataset.folder)).parent.mkdir(parents=True, exist_ok=True)
                write_part(partial / path.relative_to(dataset.folder), rows_RC)
        (partial / "schema.json").write_text(schema.model_dump_json(), encoding="utf-8")
    return PreparedDataset(dataset.folder, schema)
