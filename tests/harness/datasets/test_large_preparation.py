"""Large datasets, prepared by Ray in small blocks and ranges, against the same computed in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from harness.datasets.large import reading
from harness.datasets.large.description import Clicks, ColdStart
from harness.datasets.large.formats import ColumnFormat, LineFormat
from harness.datasets.large.output import write_items
from harness.datasets.large.preparation import prepare_large
from harness.datasets.large.reading import byte_ranges
from harness.datasets.large.sizes import Sizes
from harness.datasets.large.tasks import call_one, get, ray_for_data, task_errors
from harness.datasets.large.verification import verify_large
from harness.datasets.prepared import PreparedDataset, open_prepared
from harness.datasets.writing import read_table
from harness.errors import DataError
from tests.harness.datasets.small_ads import (
    Expected,
    expected_of,
    files_of,
    shuffled,
    small_ads,
    stored,
    write_small_ads,
)

pytestmark = pytest.mark.starts_ray

PROTOCOLS = {"cold start": ColdStart(hot_above=60, block=10), "clicks": Clicks()}
SMALL = Sizes(block_bytes=9_000, item_ranges=4, user_ranges=3, value_ranges=2)


def silent(line: str) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with ray_for_data(None, 100 << 20):
        yield


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_ads(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module", params=list(PROTOCOLS))
def both(
    raw: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[PreparedDataset, Expected]:
    dataset = small_ads(PROTOCOLS[request.param])
    folder = tmp_path_factory.mktemp("prepared") / "small"
    return prepare_large(folder, dataset, raw, silent, sizes=SMALL), expected_of(raw, dataset)


def test_every_row_has_its_fields_and_lies_in_its_splits(both: tuple[PreparedDataset, Expected]) -> None:
    prepared, expected = both
    for split, schema in prepared.schema.splits.items():
        assert schema.rows == len(expected.splits[split]) > 0
    for atom in {atom for schema in prepared.schema.splits.values() for atom in schema.atoms}:
        inside = [split for split, schema in prepared.schema.splits.items() if atom in schema.atoms]
        row_R = np.arange(len(expected.columns["label"]))
        for split, known in expected.splits.items():
            row_R = row_R[np.isin(row_R, known) == (split in inside)]
        row_R = shuffled(row_R)
        for name, values in stored(prepared, files_of(prepared, atom)).items():
            np.testing.assert_allclose(values, expected.columns[name][row_R], rtol=1e-6, err_msg=f"{atom} {name}")


def test_too_few_rows_for_the_splits_are_one_line(tmp_path: Path) -> None:
    raw = write_small_ads(tmp_path / "raw", rows=99)
    message = r"raw_sample\.csv: 99 rows, 100 or more are needed to be split 8:1:1; take more$"
    with pytest.raises(DataError, match=message):
        prepare_large(tmp_path / "small", small_ads(Clicks()), raw, silent, sizes=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_sizes_are_those_of_the_vocabularies(both: tuple[PreparedDataset, Expected]) -> None:
    prepared, expected = both
    for field in prepared.schema.fields:
        size = 1 if field.kind == "number" else len(set(expected.columns[field.name]))
        assert field.size == size, field.name
    assert (prepared.schema.users, prepared.schema.items) == (
        len(set(expected.columns["user_id"])),
        len(set(expected.columns["item_id"])),
    )


def test_the_items_have_their_fields_and_their_rows_in_each_split(both: tuple[PreparedDataset, Expected]) -> None:
    prepared, expected = both
    items = read_table(prepared.folder / "items.parquet")
    item_R = expected.columns["item_id"].astype(np.int64)
    for split, row_R in expected.splits.items():
        counts = np.bincount(item_R[row_R], minlength=prepared.schema.items)
        assert items.pop(f"count_{split}").tolist() == counts.tolist()
    assert list(items) == [field.name for field in prepared.schema.fields if field.role == "item"]
    for name, values in items.items():
        np.testing.assert_allclose(values[item_R], expected.columns[name], rtol=1e-6)


def test_quarters_stand_side_by_side(both: tuple[PreparedDataset, Expected]) -> None:
    prepared, expected = both
    folders = sorted(path.name for path in (prepared.folder / "quarters").glob("*"))
    assert folders == (["base", "validation_base"] if "base" in expected.splits else [])
    item_R, time_R = expected.columns["item_id"], expected.columns["timestamp"]
    for split in folders:
        groups = []
        for item in np.unique(item_R[expected.splits[split]]):
            row_S = expected.splits[split][item_R[expected.splits[split]] == item]
            in_time = row_S[np.argsort(time_R[row_S], kind="stable")]
            size = len(in_time) // 4
            groups += [[in_time[quarter * size + place] for quarter in range(4)] for place in range(size)]
        row_E4 = np.array(groups)
        by_first = {int(row_4[0]): row_4 for row_4 in row_E4}
        row_E4 = np.array([by_first[int(row)] for row in shuffled(row_E4[:, 0])])
        columns = stored(prepared, sorted((prepared.folder / "quarters" / split).glob("*")))
        for name, values in columns.items():
            np.testing.assert_allclose(values, expected.columns[name][row_E4], rtol=1e-6)


@pytest.mark.parametrize("sizes", [None, Sizes(1 << 20, 1, 1, 1), Sizes(3_000, 7, 5, 3)])
def test_the_schema_does_not_depend_on_how_the_work_is_cut(
    both: tuple[PreparedDataset, Expected], raw: Path, tmp_path: Path, sizes: Sizes | None
) -> None:
    prepared, expected = both
    protocol = PROTOCOLS["cold start" if "base" in expected.splits else "clicks"]
    other = prepare_large(tmp_path / "small", small_ads(protocol), raw, silent, sizes=sizes)
    assert other.schema == prepared.schema


def test_what_is_prepared_is_whole(both: tuple[PreparedDataset, Expected]) -> None:
    prepared, _ = both
    assert open_prepared(prepared.folder).schema == prepared.schema
    assert verify_large(prepared) == []


def damaged(raw: Path, folder: Path, added: dict[int, str]) -> Path:
    """Copy the files, with more lines in `raw_sample.csv`, which have these numbers, counted from 1."""
    folder.mkdir()
    for path in raw.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    lines = (folder / "raw_sample.csv").read_text().splitlines()
    for number, line in added.items():
        lines.insert(number - 1, line)
    (folder / "raw_sample.csv").write_text("\n".join(lines) + "\n")
    return folder


BAD = {3: "1,2", 700: "1,x,100,430548_1007,1,0", 2_001: "1,1494000000,100,430548_1007,1,2", 2_002: ""}


def test_malformed_lines_are_named_and_left_out(raw: Path, tmp_path: Path) -> None:
    said: list[str] = []
    dataset = replace(small_ads(PROTOCOLS["cold start"]), facts={"rows": 5, "users": 300})
    folder = damaged(raw, tmp_path / "raw", BAD)
    prepared = prepare_large(tmp_path / "bad", dataset, folder, said.append, sizes=SMALL, malformed_share=0.01)
    shown = [line for line in said if ": malformed: " in line]
    assert shown == [f"raw_sample.csv: line {number:,}: malformed: {text!r}" for number, text in BAD.items()]
    assert prepared.schema.note == ("other counts than the published ones: 4,000 rows (5); 4 malformed lines left out")
    without = prepare_large(tmp_path / "good", dataset, raw, silent, sizes=SMALL)
    assert prepared.hash == without.hash


def test_too_many_malformed_lines_are_an_error_that_leaves_nothing(raw: Path, tmp_path: Path) -> None:
    folder = damaged(raw, tmp_path / "raw", {number: f"line {number}" for number in range(2, 22)})
    said: list[str] = []
    with pytest.raises(DataError, match=r"raw_sample.csv: 20 of 4,020 lines are malformed, the first is .*'line 2'"):
        prepare_large(tmp_path / "prepared" / "bad", small_ads(Clicks()), folder, said.append, sizes=SMALL)
    assert len([line for line in said if "malformed: " in line]) == 10
    assert list((tmp_path / "prepared").iterdir()) == []


def test_another_header_is_refused(raw: Path, tmp_path: Path) -> None:
    folder = damaged(raw, tmp_path / "raw", {})
    text = (folder / "ad_feature.csv").read_text()
    (folder / "ad_feature.csv").write_text(text.replace("cate_id", "category"))
    with pytest.raises(DataError, match=r"ad_feature.csv: line 1: not the expected header"):
        prepare_large(tmp_path / "bad", small_ads(Clicks()), folder, silent, sizes=SMALL)


def test_a_changed_file_is_found(raw: Path, tmp_path: Path) -> None:
    prepared = prepare_large(tmp_path / "small", small_ads(Clicks()), raw, silent, sizes=SMALL)
    for path in (prepared.folder / "parts").glob("time_test-random_test/*"):
        path.unlink()
    problems = verify_large(prepared)
    assert any("the rows differ from schema.json's hash" in problem for problem in problems)
    assert any("split time_test has" in problem for problem in problems)
    (prepared.folder / "items.parquet").write_bytes(b"PAR1")
    assert "cannot be read" in verify_large(prepared)[0]


def test_what_a_task_raises_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.csv: cannot be read \(No such file") as ours:
        get(call_one(reading.whole_lines, reading.ByteRange(tmp_path / "nowhere.csv", 0, 0, 1)))
    columns = ray.put({"year": np.arange(3)})
    with pytest.raises(DataError, match="No such file or directory") as of_system:
        get(call_one(write_items, tmp_path / "nowhere" / "items.parquet", [columns]))
    assert "\n" not in f"{ours.value}{of_system.value}"


def test_a_file_that_vanishes_is_one_line(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone.csv").write_text("a\n1\n2\n")
    ranges = byte_ranges(tmp_path / "gone.csv", 2)
    monkeypatch.setattr(reading, "byte_ranges", lambda *arguments: ranges)
    monkeypatch.setattr(reading, "check_header", lambda *arguments: None)
    (tmp_path / "gone.csv").unlink()
    with pytest.raises(DataError, match=r"gone.csv: cannot be read \(No such file"), task_errors():
        list(reading.read_blocks(tmp_path / "gone.csv", LineFormat("gone.csv", (ColumnFormat("a"),)), 2))
