from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError
from harness.running import run_table
from harness.tablerun import Options
from tests.harness.small_table import TABLE, SmallTable, small_next_item


@pytest.fixture
def small(tmp_path: Path) -> SmallTable:
    small = small_next_item(tmp_path, seeds=[0])
    (small.places.results / TABLE / "published.csv").write_text("dataset,row,metric,value,flag\n")
    return small


def run(small: SmallTable, **options: Any) -> None:
    run_table(
        Options(TABLE, published=True, **options),
        small.places,
        lambda line: None,
        address=None,
        cpus=None,
        serial=True,
    )


@pytest.mark.parametrize("name", ["measured.parquet", "projection.parquet"])
def test_a_damaged_file_of_the_folder_is_told_before_any_trial_runs(small: SmallTable, name: str) -> None:
    if name == "projection.parquet":
        small.write_table(kind="projection", figure="covariance", seeds=[0])
    (small.places.results / TABLE / name).write_bytes(b"PAR1 half")
    with pytest.raises(DataError, match=rf"{name}: cannot be read"):
        run(small)
    assert small.store.ids() == []


def test_a_run_that_is_only_shown_needs_no_kept_trials(small: SmallTable) -> None:
    (small.places.results / TABLE / "measured.parquet").write_bytes(b"PAR1 half")
    run(small, overrides=("size=2",))
    assert len(small.store.ids()) == 1
