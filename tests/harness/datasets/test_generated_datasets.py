"""Datasets that are generated when they are asked for, in the size that their name tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.datasets import catalog
from harness.datasets.large.synthesis.names import GeneratedDataset
from harness.errors import DataError, InputError
from harness.methods import MethodCatalog
from harness.places import Places, places
from harness.tablerun import Options, open_run

pytestmark = pytest.mark.starts_ray

NAME = "taobao-ctr-synthetic-20k-world-10k"
OTHERS = [("taobao", ""), ("taobao", "-0k"), ("taobao", "-5"), ("ml-1m", "-1m")]


@pytest.mark.parametrize(
    ("name", "rows", "world", "folder"),
    [
        ("taobao-synthetic-1m", 1_000_000, 1_000_000, "taobao-synthetic-1m"),
        ("taobao-ctr-synthetic-300k-world-100k", 300_000, 100_000, "taobao-synthetic-300k-world-100k"),
        ("taobao-ctr-synthetic-all", 26_557_961, 26_557_961, "taobao-synthetic-all"),
        ("cikm-synthetic-all-world-2m", 62_428_486, 2_000_000, "cikm-synthetic-all-world-2m"),
    ],
)
def test_a_name_tells_the_size(name: str, rows: int, world: int, folder: str) -> None:
    dataset = catalog.find(name)
    assert isinstance(dataset, GeneratedDataset)
    assert (dataset.name, dataset.generated_rows, dataset.world_rows, dataset.folder) == (name, rows, world, folder)
    official = catalog.find(name.partition("-synthetic-")[0])
    assert isinstance(official, type(dataset).__base__)
    assert (dataset.protocol, dataset.stands_for) == (official.protocol, official.folder)  # type: ignore[union-attr]
    assert not dataset.facts and not dataset.tried and name not in catalog.dataset_names()


@pytest.mark.parametrize(
    "name", ["taobao-synthetic", "taobao-synthetic-0k", "taobao-synthetic-5", "ml-1m-synthetic-1m"]
)
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown dataset '{name}'"):
        catalog.find(name)


def test_it_is_generated_where_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)
    assert catalog.status(NAME, tmp_path) == "can be downloaded"
    said: list[str] = []
    prepared = catalog.prepare(NAME, tmp_path, progress=said.append)
    assert said[0] == f"{NAME}: generating 20,000 rows in {tmp_path / 'raw' / 'taobao-synthetic-20k-world-10k'}"
    schema = prepared.schema
    assert schema.name == NAME and schema.facts["rows"] == 20_000 and schema.synthetic
    assert schema.note == "synthetic: 20,000 generated rows in a world of 10,000, seed 0, not taobao itself"
    assert (schema.users, schema.items) == (430, 319)
    assert 0.6 < (schema.splits["time_test"].optimum_auc or 0) < 0.85
    assert catalog.status(NAME, tmp_path) == "prepared" and catalog.verify(NAME, tmp_path) == []
    again: list[str] = []
    assert catalog.prepare(NAME, tmp_path, progress=again.append).hash == prepared.hash
    assert not [line for line in again if "generating" in line]
    other = NAME.replace("20k", "30k")
    with pytest.raises(DataError, match=f"not the files of {other}, or not whole; delete it"):
        catalog.prepare(other, tmp_path, tmp_path / "raw" / "taobao-synthetic-20k-world-10k")


def test_it_takes_the_parameters_of_what_it_stands_in_for() -> None:
    method = MethodCatalog(places().search_spaces).find("csdm")
    assert method.published_for("taobao-synthetic-1m") == method.published_for("taobao")
    assert method.published_for("taobao-synthetic-1m") != method.published_for("ml-1m")


def test_many_rows_are_generated_where_their_dataset_is_named_only(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "synthetic" / "large"
    folder.mkdir(parents=True)
    (folder / "table.yaml").write_text(
        "title: x\npaper: x\nkind: cells\ntask: ctr\ndatasets: [taobao-ctr-synthetic-4m]\nmetrics: [auc]\nseeds: [0]\n"
        "rows: [{name: FM, method: supervised, parameters: {backbone: fm}}]\n"
    )
    here = Places(tmp_path / "results", places().search_spaces, tmp_path / "data", str(tmp_path / "runs"), tmp_path)
    with pytest.raises(DataError, match=r"takes minutes; run `diffbench data prepare taobao-ctr-synthetic-4m`"):
        open_run(Options("synthetic/large"), here, lambda line: None)
