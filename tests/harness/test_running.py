from __future__ import annotations

import contextlib
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from harness import running
from harness.errors import DataError, StoreError
from harness.measured import Measured, read_measured
from harness.running import run_table, write_shown
from harness.tablerun import Options, open_run
from tests.harness.small_table import SEQUENCES, TABLE, SmallTable, small_next_item


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


def test_runs_that_end_at_once_lose_nothing_of_each_other(small: SmallTable, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write_table(seeds=[0, 1])
    asked = open_run(Options(TABLE, published=True), small.places, lambda line: None)
    dataset, hashed = small.dataset_name, small.dataset.hash
    records = [Measured(dataset, "Last", "published", seed, f"{seed}", "finished", data_hash=hashed) for seed in (0, 1)]
    both_have_read = threading.Barrier(2)

    def reading(path: Path) -> list[Measured]:
        kept = read_measured(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_read.wait(timeout=0.5)
        return kept

    monkeypatch.setattr(running, "read_measured", reading)
    monkeypatch.setattr(running, "write_shown", lambda name, here: None)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda record: running.keep(asked, [record], small.places, print), records))
    assert read_measured(asked.folder / "measured.parquet") == records


def test_a_folder_that_is_shown_need_not_be_written(small: SmallTable, monkeypatch: pytest.MonkeyPatch) -> None:
    run(small)

    def refused(lock: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(running, "exclusive", refused)
    assert (SEQUENCES, "Last", "recall@5") in running.open_table(TABLE, small.places).cells
    with pytest.raises(StoreError, match=r"table1: cannot be written \(Read-only file system\); finished trials are"):
        run(small)


def test_git_tracks_no_lock_and_no_partial_file() -> None:
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text().split()
    assert {".lock", ".*.partial"} <= set(ignored)


def test_a_run_that_is_only_shown_needs_no_kept_trials(small: SmallTable) -> None:
    (small.places.results / TABLE / "measured.parquet").write_bytes(b"PAR1 half")
    run(small, overrides=("size=2",))
    assert len(small.store.ids()) == 1
