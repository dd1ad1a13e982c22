"""Every PreferDiff folder from `run` to its table and picture: its own rows, made small, on small generated data."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.datasets import catalog, item_text
from harness.datasets.encoder import Encoded
from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.synthetic import write_small_sequences
from harness.errors import DataError
from harness.figures import figure_name
from harness.line_trials import known_parameters
from harness.measured import read_measured
from harness.methods import MethodCatalog
from harness.places import Places, places
from harness.running import open_table, plan_table, run_table
from harness.table_rows import Row
from harness.table_specs import TableSpec, find_table
from harness.tablerun import Options

RESULTS = Path(__file__).parents[2] / "results"
TABLES = sorted(f"preferdiff/{path.parent.name}" for path in RESULTS.glob("preferdiff/*/table.yaml"))
NEEDS_PACKAGES = {"tiger": ("faiss", "transformers"), "t_sne": ("sklearn",)}
SMALL: dict[str, Any] = {
    "size": 8,
    "maximum_epochs": 2,
    "diffusion_steps": 40,
    "ddim_steps": 3,
    "layers": 1,
    "head_size": 4,
    "feed_forward_size": 8,
    "codebook_size": 8,
    "beams": 3,
    "pretraining_epochs": 1,
}
SMALL_AXES: dict[str, list[float]] = {
    "size": [4, 8],
    "ddim_steps": [1, 3],
    "guidance": [0, 2],
    "balance": [0.2, 1],
    "negative_samples": [1, 255],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """An empty checkout with the real search spaces, and an encoder of text that knows letters alone."""

    def by_letters(sentences: Sequence[str], name: str, pooling: str) -> Encoded:
        counts = [[sentence.count(letter) for letter in "aeionst1"] for sentence in sentences]
        return Encoded(np.array(counts, dtype=np.float32), "f" * 64)

    monkeypatch.setattr(item_text, "encode", by_letters)
    return Places(
        results=tmp_path / "results",
        search_spaces=places().search_spaces,
        data=tmp_path / "data",
        store=str(tmp_path / "runs"),
        tensorboard=tmp_path / "tensorboard",
    )


def generate(name: str, here: Places, items: int) -> None:
    names = ("soap", "lotion", "brush", "comb", "stone", "tin", "sponge")
    described = [
        ItemDescription(f"{names[item % 7]} {item}", (f"brand {item % 5}", names[item % 3])) for item in range(items)
    ]
    folder = here.data / "prepared" / name
    version = catalog.find(name).version
    write_small_sequences(folder, users=60, items=items, history_length=6, described_items=described, version=version)


def reduced(name: str, here: Places) -> TableSpec:
    """Write a table's folder with one dataset, one seed and small models, and all the data that it asks for."""
    spec, folder = find_table(name, RESULTS)
    content = yaml.safe_load((folder / "table.yaml").read_text(encoding="utf-8"))
    dataset = content["datasets"][0]
    content["datasets"] = [dataset]
    generate(dataset, here, items=30)
    for number, pretraining in enumerate(sorted({one for row in spec.rows for one in row.pretrained_on})):
        if pretraining != dataset:
            generate(pretraining, here, items=21 + number)
    if spec.axis is not None and spec.axis.parameter in SMALL_AXES:
        content["axis"]["values"] = SMALL_AXES[spec.axis.parameter]
    if spec.kind != "statistics":
        content["seeds"] = [0]
        content["threads"] = 1
        for written, row in zip(content["rows"], spec.written_rows, strict=True):
            if row.method is not None:
                written["parameters"] = small_parameters(row, spec)
    target = here.results / name
    target.mkdir(parents=True)
    (target / "table.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    small = find_table(name, here.results)[0]
    if (folder / "published.csv").exists():
        copy_published(folder / "published.csv", target / "published.csv", small)
    return small


def copy_published(source: Path, target: Path, spec: TableSpec) -> None:
    with source.open(encoding="utf-8", newline="") as stream:
        header, *lines = csv.reader(stream)
    rows = {row.name for row in spec.rows}
    with target.open("w", encoding="utf-8", newline="") as stream:
        kept = [line for line in lines if line[0] in spec.datasets and line[1] in rows]
        csv.writer(stream).writerows([header, *kept])


def small_parameters(row: Row, spec: TableSpec) -> dict[str, Any]:
    """Return a row's own parameters, with small values for those that it knows and does not set for its own sake."""
    known = known_parameters(row, MethodCatalog(places().search_spaces), spec.task)
    small = {name: value for name, value in SMALL.items() if name in known}
    if spec.axis is not None:
        small.pop(spec.axis.parameter, None)
    if row.evaluates:
        return small | {name: min(value, 3) for name, value in row.parameters.items() if isinstance(value, int)}
    own = {name: value for name, value in row.parameters.items() if name != "size"}
    # All datasets have descriptions here; the published text source of some is another one.
    return small | own | ({"text_source": "descriptions"} if "text_source" in known else {})


def skip_without_packages(spec: TableSpec) -> None:
    wanted = {row.method for row in spec.rows if row.method} | {spec.drawing}
    for needed in sorted(wanted & NEEDS_PACKAGES.keys()):
        for package in NEEDS_PACKAGES[needed]:
            pytest.importorskip(package, reason=f"{needed} needs it")


@pytest.mark.parametrize("name", TABLES)
def test_a_reduced_form_of_every_table_runs(name: str, here: Places) -> None:
    skip_without_packages(find_table(name, RESULTS)[0])
    spec, said = reduced(name, here), list[str]()
    options = Options(name, published=True)
    assert plan_table(options, here, said.append, cpus=2).row_count > 0 or not any(row.method for row in spec.rows)
    _, failures = run_table(options, here, said.append, address=None, cpus=None, serial=True)
    assert (failures, said) == (0, [])
    measured = read_measured(here.results / name / "measured.parquet")
    expected = {row.name for row in spec.rows if row.method} if spec.kind != "statistics" else {"counted"}
    assert {record.row for record in measured} == expected
    for record in measured:
        assert record.error == ""
        assert all(f"test/{metric}" in record.metrics for metric in spec.metrics)
    written = {path.name for path in (here.results / name).iterdir()}
    assert {"table.md", f"{figure_name(spec)}.png", f"{figure_name(spec)}.svg"} <= written
    table = open_table(name, here)
    assert {row for (_, row), status in table.status.items() if status == "not run"} == {
        row.name for row in spec.rows if row.method is None and spec.kind != "statistics"
    }


@pytest.mark.parametrize("name", ["preferdiff/figure7", "preferdiff/figure12", "preferdiff/table19"])
def test_guidance_and_steps_are_evaluated_on_one_checkpoint(name: str, here: Places) -> None:
    rows = [row.name for row in reduced(name, here).written_rows if row.name.startswith("PreferDiff")]
    options = Options(name, published=True, methods=",".join(rows))
    run_table(options, here, lambda line: None, address=None, cpus=None, serial=True)
    by_row = {record.row: record for record in read_measured(here.results / name / "measured.parquet")}
    trained = by_row.pop("PreferDiff as trained")
    evaluated = [record for row, record in by_row.items() if row.startswith("PreferDiff")]
    assert len(evaluated) >= 2
    assert trained.metrics["epochs"] == 2
    assert all("epochs" not in record.metrics for record in evaluated)
    assert len({record.metrics["validation/ndcg@10"] for record in (trained, *evaluated)}) > 1


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_data_says_what_is_missing(name: str, here: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)
    monkeypatch.setattr("harness.datasets.download.fetch_and_unpack", refuse)
    monkeypatch.setattr("harness.datasets.movielens_1m.fetch_and_unpack", refuse)
    elsewhere = Places(RESULTS, here.search_spaces, here.data, here.store, here.tensorboard)
    without = "no network; or run without .*: name the others with --datasets"
    with pytest.raises(
        DataError, match=f"^({name}: no dataset has data; .*put .* into|no network$|{without}$)"
    ) as error:
        plan_table(Options(name), elsewhere, lambda line: None, cpus=2)
    assert "\n" not in str(error.value)


def refuse(*arguments: object, **named: object) -> None:
    raise DataError("no network")
