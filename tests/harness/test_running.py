from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from harness.errors import DataError, StoreError
from harness.running import run_table, write_shown
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


@pytest.mark.parametrize("name", ["table.md", "seeds.png", "seeds.svg"])
def test_a_table_that_cannot_be_written_anew_stays_as_it_was(
    small: SmallTable, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run(small)
    folder = small.places.results / TABLE
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write, savefig = Path.write_text, Figure.savefig

    def full_disk(path: Path, text: str, **options: Any) -> int:
        if name not in path.name:
            return write(path, text, **options)
        write(path, text[:10], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_disk_of_pictures(figure: Figure, path: Any, **options: Any) -> None:
        if isinstance(path, Path) and name in path.name:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        savefig(figure, path, **options)

    monkeypatch.setattr(Path, "write_text", full_disk)
    monkeypatch.setattr(Figure, "savefig", full_disk_of_pictures)
    with pytest.raises(StoreError, match="No space left on device"):
        write_shown(TABLE, small.places)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_that_is_only_shown_needs_no_kept_trials(small: SmallTable) -> None:
    (small.places.results / TABLE / "measured.parquet").write_bytes(b"PAR1 half")
    run(small, overrides=("size=2",))
    assert len(small.store.ids()) == 1
