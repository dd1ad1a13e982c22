import errno
import json
import multiprocessing
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import resident_tables
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import read_table
from harness.errors import DataError
from harness.feed import open_rows, open_sequences
from tests.harness.batches import joined
from tests.harness.prepared_anew import prepare_anew


def _open_and_sum(folder: Path, dataset: PreparedDataset, queue: Any) -> None:
    source = open_rows(dataset, "base", "repeat")
    queue.put(sum(int(batch.columns["item_id"].sum()) for batch in source.batches(100)))


def test_processes_that_race_decode_into_one_folder(interactions: PreparedDataset) -> None:
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    processes = [fork.Process(target=_open_and_sum, args=(interactions.folder, interactions, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    sums = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(sums)) == 1
    resident = interactions.folder / "resident"
    assert sorted(path.name for path in resident.iterdir()) == sorted([interactions.hash[:16], "lock"])


def copied_kilobytes(folder: Path) -> int:
    """Copies that this process made of pages of mapped files under a folder, in KiB."""
    copied, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = str(folder) in line
        elif inside and line.startswith("Anonymous:"):
            copied += int(line.split()[1])
    return copied


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="no /proc/self/smaps on this system")
def test_reading_makes_no_copy_of_the_mapped_pages(interactions: PreparedDataset) -> None:
    source = open_rows(interactions, "base", "repeat")
    assert str(interactions.folder) in Path("/proc/self/smaps").read_text(), "the arrays are mapped"
    list(source.batches(64, shuffle_seed=0))
    assert copied_kilobytes(interactions.folder) == 0
    source.items.columns["title"].fill_(1)
    assert copied_kilobytes(interactions.folder) > 0, "what was written is this process's own"


def test_damaged_files_are_one_line(interactions: PreparedDataset) -> None:
    rows = interactions.folder / "rows.parquet"
    whole = rows.read_bytes()
    rows.write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read") as error:
        open_rows(interactions, "base", "repeat")
    assert "\n" not in str(error.value)
    rows.write_bytes(whole)
    open_rows(interactions, "base", "repeat")
    array = interactions.folder / "resident" / interactions.hash[:16] / "rows.npy"
    array.write_bytes(array.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"rows\.npy: cannot be read .* it is decoded again"):
        open_rows(interactions, "base", "repeat")


def test_rows_that_are_not_the_schemas_are_refused(interactions: PreparedDataset) -> None:
    schema = json.loads((interactions.folder / "schema.json").read_text())
    schema["splits"]["test"]["rows"] += 1
    wrong = PreparedDataset(interactions.folder, type(interactions.schema).model_validate(schema))
    with pytest.raises(DataError, match=r"split test has [\d,]+ rows, schema\.json says"):
        open_rows(wrong, "base", "repeat")
    assert [path.name for path in (interactions.folder / "resident").iterdir()] == ["lock"]


def test_rows_that_were_prepared_anew_are_not_taken_for_those_that_were_opened(
    interactions: PreparedDataset, sequences: PreparedDataset
) -> None:
    for dataset in (interactions, sequences):
        prepare_anew(dataset)
    with pytest.raises(DataError, match=r"was prepared anew while it was in use.*; run the command again$") as error:
        open_rows(interactions, "base", "repeat")
    assert "\n" not in str(error.value) and str(error.value).startswith("interactions: ")
    with pytest.raises(DataError, match="was prepared anew while it was in use"):
        open_sequences(sequences, "train", "repeat")
    for dataset in (interactions, sequences):
        assert not list(dataset.folder.rglob(f"{dataset.hash[:16]}*"))
        shutil.rmtree(dataset.folder)
    with pytest.raises(DataError, match="interactions was prepared anew while it was in use, or removed"):
        open_rows(interactions, "base", "repeat")
    assert not interactions.folder.exists()


@pytest.mark.parametrize("table", ["rows", "users", "items"])
def test_rows_that_are_prepared_anew_while_they_are_decoded_are_not_kept(
    interactions: PreparedDataset, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    def read(path: Path) -> Any:
        if path.stem == table:
            new.append(prepare_anew(interactions))
        return read_table(path)

    new: list[PreparedDataset] = []
    monkeypatch.setattr(resident_tables, "read_table", read)
    with pytest.raises(DataError, match="was prepared anew while it was in use"):
        open_rows(interactions, "base", "repeat")
    assert not list(interactions.folder.rglob(f"{interactions.hash[:16]}*"))
    monkeypatch.undo()
    assert len(open_rows(new[0], "base", "repeat")) == interactions.schema.splits["base"].rows


def test_what_was_decoded_stays_as_it_was_opened(interactions: PreparedDataset) -> None:
    source = open_rows(interactions, "base", "repeat")
    before = joined(source.batches(100))
    new = open_rows(prepare_anew(interactions), "base", "repeat")
    after = joined(source.batches(100))
    assert all(np.array_equal(after[name], column) for name, column in before.items())
    assert np.array_equal(joined(new.batches(100))["label"], 1 - before["label"])


def test_a_full_disk_leaves_no_array(interactions: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        open_rows(interactions, "base", "repeat")
    assert [path.name for path in (interactions.folder / "resident").iterdir()] == ["lock"]
