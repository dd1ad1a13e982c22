"""The known file of item text goes along with a prepared dataset."""

from functools import partial
from pathlib import Path

import pytest

from harness.datasets import amazon, catalog, item_text
from harness.datasets.prepared import PreparedDataset
from harness.datasets.raw import Dataset, ItemTextFile, KnownFile, RawFile
from harness.errors import InputError
from tests.harness.datasets.raw_copies import write_files

TEXT = """preferdiff_id,s3rec_id,asin,title,attribute_names,attribute_ids,idgenrec_keywords
4,1,B1,Soap,Jason|Skin Care,2 1,soap
3,2,B2,Brush,,,brush
"""
RAW = {"sequences.txt": "1 1 2 3 4\n2 2 3 4 1\n3 4 3 2 1\n"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a dataset of leave-one-out, with a known file of item text, into the catalog."""
    entry = Dataset(
        name="small",
        title="small",
        kind="sequences",
        folder="amazon/Small",
        source="tests",
        layouts=({"sequences.txt": KnownFile(3)},),
        parse=partial(amazon.parse_leave_one_out, items=4),
        facts={"users": 3},
        counts_suffice=True,
        item_text=ItemTextFile("item_text.csv", "s3rec_id", RawFile("item_text.csv", TEXT.encode()).sha256),
    )
    monkeypatch.setattr(catalog, "_datasets", lambda: {"small": entry})
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)


def prepared(root: Path, raw: Path | None) -> tuple[PreparedDataset, list[str]]:
    """Prepare it; return what was said of item text."""
    said: list[str] = []
    dataset = catalog.prepare("small", root / "data", raw, said.append)
    return dataset, [line for line in said if "item text" in line]


def test_a_file_beside_the_raw_files_is_all_that_trials_need(tmp_path: Path) -> None:
    raw = write_files(tmp_path / "given/Small", {**RAW, "item_text.csv": TEXT})
    dataset, said = prepared(tmp_path, tmp_path / "given")
    assert said == []
    for path in raw.iterdir():
        path.unlink()
    assert item_text.item_attributes(dataset).value.tolist() == [[2, 1], [0, 0], [0, 0], [0, 0]]
    assert catalog.verify("small", tmp_path / "data") == []


def test_its_absence_is_told_in_one_line(tmp_path: Path) -> None:
    raw = write_files(tmp_path / "given", RAW)
    dataset, said = prepared(tmp_path, raw)
    assert len(said) == 1
    assert said[0].startswith(f"small: no item_text.csv in {raw}: methods that read item text need the known")
    assert "columns s3rec_id, title, attribute_names, attribute_ids, idgenrec_keywords)" in said[0]
    assert said[0].endswith("put it there and prepare again, other methods go without")
    assert "\n" not in said[0]
    with pytest.raises(InputError, match=r"small: no item_text\.csv; put it into .*, or name its folder to .* --raw"):
        item_text.item_attributes(dataset)


def test_it_can_be_added_to_a_prepared_dataset_and_changes_no_hash(tmp_path: Path) -> None:
    raw = write_files(tmp_path / "given", RAW)
    before, _ = prepared(tmp_path, raw)
    write_files(raw, {"item_text.csv": TEXT})
    after, said = prepared(tmp_path, raw)
    assert said == []
    assert after.hash == before.hash
    assert (after.folder / "schema.json").stat().st_ino == (before.folder / "schema.json").stat().st_ino
    assert (after.folder / "raw/item_text.csv").read_text() == TEXT


def test_another_file_is_told_of_and_not_taken(tmp_path: Path) -> None:
    raw = write_files(tmp_path / "given", {**RAW, "item_text.csv": TEXT + "\n"})
    dataset, said = prepared(tmp_path, raw)
    assert len(said) == 1
    assert said[0].startswith(f"small: {raw}/item_text.csv has sha256 ")
    assert not (dataset.folder / "raw").exists()


def test_a_dataset_without_it_finds_it_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, _ = prepared(tmp_path, write_files(tmp_path / "given", RAW))
    write_files(tmp_path / "environment/amazon/Small", {"item_text.csv": TEXT})
    monkeypatch.setenv("DIFFBENCH_DATA", str(tmp_path / "environment"))
    assert not (dataset.folder / "raw").exists()
    assert item_text.item_attributes(dataset).value[0].tolist() == [2, 1]
    assert prepared(tmp_path, tmp_path / "given")[1] == []


def test_a_damaged_copy_is_not_read_and_verify_names_it(tmp_path: Path) -> None:
    raw = write_files(tmp_path / "given", {**RAW, "item_text.csv": TEXT})
    dataset, _ = prepared(tmp_path, raw)
    copy = dataset.folder / "raw/item_text.csv"
    copy.write_text(TEXT[:-5])
    with pytest.raises(InputError, match=r"small: no item_text\.csv"):
        item_text.item_attributes(dataset)
    (problem,) = catalog.verify("small", tmp_path / "data")
    assert problem == f"small: {copy} differs from the known file; delete it and prepare again"
    prepared(tmp_path, raw)
    assert catalog.verify("small", tmp_path / "data") == []
    assert [path.name for path in copy.parent.iterdir()] == ["item_text.csv"]
