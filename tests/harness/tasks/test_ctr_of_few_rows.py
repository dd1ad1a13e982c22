"""The task `ctr` where a split has hardly any row of a class.

Legend: R rows of the dataset.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.datasets.click_split import click_contents
from harness.datasets.encoding import encode_categories
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import write_prepared
from harness.methods import MethodCatalog, trial_spec
from harness.places import places
from harness.specs import Purpose
from harness.table_rows import Row
from harness.trial import run_trial

ROWS = 200


def clicks(folder: Path, positive: range) -> PreparedDataset:
    """Write rows in the order of time: of the earlier ones every third is positive, of the last two tenths these."""
    row_R = np.arange(ROWS)
    contents = click_contents(
        row_columns=(
            encode_categories("user_id", "user_id", row_R % 7),
            encode_categories("item_id", "item_id", row_R % 5),
        ),
        user_columns=(encode_categories("parity", "user", np.arange(7) % 2),),
        item_columns=(encode_categories("genre", "item", np.arange(5) % 4),),
        time_R=row_R,
        label_R=np.where(row_R < ROWS * 8 // 10, row_R % 3 == 0, np.isin(row_R, positive)),
    )
    return write_prepared(folder / "few", contents, name="few", version=1, inputs=())


@pytest.mark.parametrize(
    ("purpose", "positive", "has_error"),
    [
        ("repeat", range(190, 191), False),
        ("repeat", range(190, 192), True),
        ("search", range(165, 166), False),
        ("search", range(165, 167), True),
    ],
)
def test_an_auc_needs_one_row_of_each_class_and_its_error_two(
    tmp_path: Path, purpose: Purpose, positive: range, has_error: bool
) -> None:
    few, catalog = clicks(tmp_path, positive), MethodCatalog(places().search_spaces)
    spec = trial_spec(
        task_name="ctr",
        dataset=few.name,
        dataset_hash=few.hash,
        row=Row(name="row", method="supervised"),
        parameters={"backbone": "fm", "epochs": 1, "patience": 0},
        seed=0,
        threads=torch.get_num_threads(),
        purpose=purpose,
        gpus=0,
        catalog=catalog,
        start=None,
    )
    result, _ = run_trial(spec, few, catalog)
    kind = "test" if purpose == "repeat" else "validation"
    assert (result.status, result.error) == ("finished", "")
    assert 0 <= result.metrics[f"{kind}/auc"] <= 1
    assert (f"{kind}/auc_standard_error" in result.metrics) == has_error
