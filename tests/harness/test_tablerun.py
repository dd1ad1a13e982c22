from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.datasets import catalog
from harness.datasets.large.synthesis.names import UNASKED_ROWS
from harness.datasets.raw import Dataset, KnownFile
from harness.errors import DataError, InputError
from harness.running import plan_table, run_table
from harness.tablerun import Options, TableRun, open_run
from tests.harness.small_table import SEQUENCES, TABLE, SmallTable, small_next_item

OTHER = "other"


def no_download(folder: Path, say: Callable[[str], None]) -> None:
    raise DataError("https://example.org/other.zip: cannot be fetched (no answer)")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallTable:
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)
    (tmp_path / "results" / TABLE).mkdir(parents=True)
    (tmp_path / "results" / TABLE / "published.csv").write_text("dataset,row,metric,value,flag\n")
    return small_next_item(tmp_path, datasets=[SEQUENCES, OTHER], seeds=[0])


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put the dataset `other`, of one raw file, into the catalog."""

    def add(**changed: Any) -> None:
        keys: dict[str, Any] = {
            "name": OTHER,
            "title": OTHER,
            "kind": "sequences",
            "folder": OTHER,
            "source": "other.csv",
            "layouts": ({"other.csv": KnownFile(1)},),
            "parse": lambda files: pytest.fail("not parsed here"),
            "facts": {},
        }
        monkeypatch.setattr(catalog, "_datasets", lambda: {OTHER: Dataset(**keys | changed)})

    return add


def opened(small: SmallTable, **options: Any) -> TableRun:
    return open_run(Options(TABLE, **options), small.places, lambda line: None)


def test_seeds_that_the_table_lacks_are_told_before_data_are_prepared(
    small: SmallTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tablerun._open_dataset", lambda *given, **named: pytest.fail("data were opened"))
    with pytest.raises(InputError, match="--seeds '7': the table has no seed 7"):
        opened(small, seeds="7")


def test_a_dataset_without_raw_files_is_left_out(small: SmallTable, other: Callable[..., None]) -> None:
    other()
    run = opened(small)
    assert list(run.request.datasets) == [SEQUENCES]
    assert run.missing[OTHER].startswith("other: no raw files; put other.csv into ")
    with pytest.raises(DataError, match="other: no raw files"):
        opened(small, datasets=f"{SEQUENCES},{OTHER}")


def test_run_and_plan_tell_what_is_left_out(small: SmallTable, other: Callable[..., None]) -> None:
    other()
    planned: list[str] = []
    ran: list[str] = []
    plan_table(Options(TABLE, published=True), small.places, planned.append, cpus=1)
    run_table(Options(TABLE, published=True), small.places, ran.append, address=None, cpus=1, serial=True)
    for said in (planned, ran):
        assert [line for line in said if line.startswith("other: no data: other: no raw files; put other.csv into ")]


@pytest.mark.parametrize("used_for", ["rows", "pretraining"])
def test_a_failed_download_is_no_missing_dataset(small: SmallTable, other: Callable[..., None], used_for: str) -> None:
    other(download=no_download)
    if used_for == "pretraining":
        start = {"method": "last_item", "pretrained_on": [OTHER]}
        small.write_table(datasets=[SEQUENCES], rows=[{"name": "Last", "method": "last_item"} | start])
    remedy = "; or run without other: name the others with --datasets" if used_for != "pretraining" else ""
    with pytest.raises(DataError, match=rf"cannot be fetched \(no answer\){remedy}$"):
        opened(small)


def test_a_raw_file_that_differs_is_no_missing_dataset(small: SmallTable, other: Callable[..., None]) -> None:
    other()
    folder = small.places.data / "raw" / OTHER
    folder.mkdir(parents=True)
    (folder / "other.csv").write_text("1\n2\n")
    with pytest.raises(DataError, match=r"other\.csv: 2 lines, 1 expected"):
        opened(small)


@pytest.mark.parametrize("name", [OTHER, "in-no-catalog", f"taobao-ctr-synthetic-{2 * UNASKED_ROWS // 1_000_000}m"])
def test_damaged_prepared_data_are_no_missing_dataset(small: SmallTable, other: Callable[..., None], name: str) -> None:
    if name == OTHER:
        other()
    small.write_table(datasets=[SEQUENCES, name])
    folder = small.places.data / "prepared" / name
    folder.mkdir(parents=True)
    (folder / "schema.json").write_text("{")
    with pytest.raises(DataError, match=rf"{name}/schema\.json: not a schema"):
        opened(small)


def test_a_large_dataset_that_is_not_generated_is_left_out(small: SmallTable) -> None:
    name = f"taobao-ctr-synthetic-{2 * UNASKED_ROWS // 1_000_000}m"
    small.write_table(datasets=[SEQUENCES, name])
    assert "not generated, which takes minutes" in opened(small).missing[name]
