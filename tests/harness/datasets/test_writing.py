import errno
import hashlib
import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.datasets.item_descriptions import ItemDescription, one_line
from harness.datasets.prepared import SplitSchema, open_prepared
from harness.datasets.writing import (
    Contents,
    dataset_hash,
    exclusive,
    read_table,
    row_hash,
    write_prepared,
    write_table,
)
from harness.errors import DataError


def contents(first: int = 1) -> Contents:
    return Contents(
        kind="sequences",
        tables={
            "train": {
                "history": np.array([[first, 2], [3, 0]], dtype=np.int32),
                "length": np.array([2, 1], dtype=np.int32),
                "weight": np.array([0.5, 2.0], dtype=np.float32),
            },
            "test": {"history": np.zeros((0, 2), dtype=np.int32), "length": np.zeros(0, dtype=np.int32)},
        },
        splits={"train": SplitSchema(rows=2, search=True), "test": SplitSchema(rows=0, search=False)},
        items=3,
        users=2,
        history_length=2,
    )


def write(folder: Path, made: Contents) -> str:
    return write_prepared(folder, made, name=folder.name, version=1, inputs=()).hash


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = write(tmp_path / "small", contents())
    opened = open_prepared(tmp_path / "small")
    assert opened.hash == written
    for name, table in contents().tables.items():
        columns = read_table(tmp_path / "small" / f"{name}.parquet")
        assert list(columns) == list(table)
        for column, values in table.items():
            assert columns[column].dtype == values.dtype
            assert columns[column].tolist() == values.tolist()
            assert columns[column].shape == values.shape


def test_the_hash_covers_values_names_types_and_shapes_but_not_the_encoding(tmp_path: Path) -> None:
    base: dict[str, Any] = {"a": np.array([1, 2], dtype=np.int32)}
    others: list[dict[str, Any]] = [
        {"a": np.array([2, 1], dtype=np.int32)},
        {"b": base["a"]},
        {"a": base["a"].view(np.float32)},
        {"a": base["a"].reshape(1, 2)},
        {"a": base["a"][:1]},
    ]
    hashes = [row_hash({"t": table}) for table in (base, *others)]
    assert len(set(hashes)) == len(hashes)
    assert row_hash({"t": {"a": np.array([0, 1, 2, 3], dtype=np.int32)[1:3]}}) == hashes[0]
    assert row_hash({"t": {"a": np.array([1, 2], dtype=">i4")}}) == hashes[0]
    pq.write_table(pq.read_table(_written(tmp_path, base)), tmp_path / "plain.parquet", compression="none")
    assert row_hash({"t": read_table(tmp_path / "plain.parquet")}) == hashes[0]


def test_the_hash_covers_descriptions_where_there_are_any(tmp_path: Path) -> None:
    items = [ItemDescription("Soap", ("Jason", "Skin")), ItemDescription("Brush"), ItemDescription()]
    others = [
        [*items[:2], ItemDescription("Comb")],
        items[1:] + items[:1],
        [ItemDescription("Soap", ("Skin", "Jason")), *items[1:]],
    ]
    plain = write(tmp_path / "plain", contents())
    assert plain == row_hash(contents().tables)
    hashes = [write(tmp_path / "some", replace(contents(), described_items=some)) for some in (items, *others)]
    assert len({plain, *hashes}) == 5
    assert write(tmp_path / "again", replace(contents(), described_items=items)) == hashes[0]
    written = hashlib.sha256((tmp_path / "again/item_text.csv").read_bytes()).hexdigest()
    assert open_prepared(tmp_path / "again").schema.descriptions == written
    assert dataset_hash(plain, written) == hashes[0]
    assert open_prepared(tmp_path / "plain").schema.descriptions == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Guitar \ud83d", "Guitar \ufffd"),
        ("\ude00 Guitar \ude00\ud83d", "\ufffd Guitar \ufffd\ufffd"),
        ("Guitar \ud83d\ude00", "Guitar \U0001f600"),  # as Python 2 wrote it
        ("Beyonc\u00e9 \U0001f600 \ufeff", "Beyonc\u00e9 \U0001f600 \ufeff"),
        (" a|b\n c ", "a b c"),
        (None, ""),
    ],
)
def test_a_description_is_one_line_that_can_be_written(text: object, line: str, tmp_path: Path) -> None:
    assert one_line(text, 20) == line
    described = [ItemDescription(one_line(text, 20), (one_line(text, 20),))] * 3
    write(tmp_path / "small", replace(contents(), described_items=described))


def _written(folder: Path, table: dict[str, Any]) -> Path:
    write_table(folder / "zstd.parquet", table)
    return folder / "zstd.parquet"


def test_a_full_disk_leaves_the_old_dataset_and_no_partial_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(tmp_path / "small", contents())
    real = pq.write_table

    def full(table: Any, path: Path, **options: Any) -> None:
        if path.name == "test.parquet":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(table, path, **options)

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(DataError, match="No space left on device") as error:
        write(tmp_path / "small", contents(3))
    assert "\n" not in str(error.value)
    assert open_prepared(tmp_path / "small").hash == old
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_new_dataset_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    old = write(tmp_path / "small", contents())
    (tmp_path / "small" / "left-over").touch()
    new = write(tmp_path / "small", contents(3))
    assert new != old
    assert open_prepared(tmp_path / "small").hash == new
    assert not (tmp_path / "small" / "left-over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "small", contents())
    path = tmp_path / "small" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read .*prepare it again"):
        read_table(path)
    with pytest.raises(DataError, match=r"gone\.parquet: cannot be read"):
        read_table(path.with_name("gone.parquet"))


@pytest.mark.parametrize("damage", ["", "{", '{"name": "small"}', "[]"])
def test_a_damaged_schema_is_one_line(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "small", contents())
    (tmp_path / "small" / "schema.json").write_text(damage)
    with pytest.raises(DataError, match=r"schema\.json: not a schema") as error:
        open_prepared(tmp_path / "small")
    assert "\n" not in str(error.value)


def test_a_schema_says_what_went_in(tmp_path: Path) -> None:
    write(tmp_path / "small", contents())
    schema = json.loads((tmp_path / "small" / "schema.json").read_text())
    assert schema["splits"]["train"] == {
        "rows": 2, "search": True, "column": "", "code": 0, "atoms": [], "optimum_auc": None,
    }  # fmt: skip
    assert (schema["items"], schema["users"], schema["history_length"]) == (3, 2, 2)


def _add_one(lock: Path, number: Path) -> None:
    for _ in range(50):
        with exclusive(lock):
            number.write_text(str(int(number.read_text()) + 1))


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644)])
def test_the_umask_alone_decides_who_may_lock(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with exclusive(tmp_path / "lock"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == mode


def test_the_lock_lets_one_process_in_at_a_time(tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_add_one, args=(tmp_path / "lock", number)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert number.read_text() == "150"
