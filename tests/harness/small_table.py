"""A small checkout in a folder: search spaces of the doubles, one table, a generated dataset, an empty store."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.datasets.prepared import PreparedDataset, open_prepared
from harness.datasets.synthetic import write_small_interactions, write_small_sequences
from harness.methods import MethodCatalog
from harness.places import Places
from harness.record import TrialResult
from harness.request import Job, Request
from harness.schedule import Schedule
from harness.specs import Parameters, Selection, TrialSpec
from harness.store import Store
from harness.table_specs import TableSpec, find_table
from harness.trial import CHECKPOINT

TABLE = "doubles/table1"
SEQUENCES, INTERACTIONS = "small-sequences", "small-interactions"

LAST_ITEM: dict[str, Any] = {
    "published": [
        {"datasets": ["*"], "source": "chosen here", "parameters": {"learning_rate": 0.03, "maximum_epochs": 2}}
    ],
    "space": {"learning_rate": {"low": 1e-3, "high": 1.0, "log": True}, "size": {"choices": [2, 4, 8]}},
}
PLAIN: dict[str, Any] = {"space": {"learning_rate": {"choices": [0.1, 0.01]}}}
NEXT_ITEM_ROWS: tuple[dict[str, Any], ...] = ({"name": "Last", "method": "last_item"},)
COLD_START_ROWS: tuple[dict[str, Any], ...] = (
    {"name": "Bare", "method": "plain", "parameters": {"backbone": "item_factors"}},
    {"name": "Plain", "method": "plain", "parameters": {"new": 1.0}, "starts_from": "Bare"},
)


@dataclass(frozen=True)
class SmallTable:
    """The folder, and what the harness makes of it."""

    folder: Path
    dataset_name: str

    @property
    def places(self) -> Places:
        return Places(
            results=self.folder / "results",
            search_spaces=self.folder / "search_spaces",
            data=self.folder / "data",
            store=str(self.folder / "runs"),
            tensorboard=self.folder / "tensorboard",
        )

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that point the command line here."""
        return {
            "DIFFBENCH_HOME": str(self.folder),
            "DIFFBENCH_RESULTS": str(self.places.results),
            "DIFFBENCH_SEARCH_SPACES": str(self.places.search_spaces),
        }

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, pointed here."""
        return {name: value for name, value in os.environ.items() if not name.startswith("DIFFBENCH_")} | self.variables

    @property
    def catalog(self) -> MethodCatalog:
        return MethodCatalog(self.places.search_spaces)

    @property
    def store(self) -> Store:
        return Store(self.places.store)

    @property
    def dataset(self) -> PreparedDataset:
        return open_prepared(self.places.data / "prepared" / self.dataset_name)

    @property
    def spec(self) -> TableSpec:
        return find_table(TABLE, self.places.results)[0]

    def schedule(
        self,
        *,
        rows: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        selection: Selection = "tuned",
        overrides: Parameters | None = None,
        retry_failed: bool = False,
        store: Store | None = None,
    ) -> Schedule:
        table = self.spec
        request = Request(
            table=table,
            datasets={self.dataset_name: self.dataset},
            rows=tuple(rows if rows is not None else [row.name for row in table.rows if row.method]),
            seeds=tuple(seeds if seeds is not None else table.seeds),
            selection=selection,
            overrides=overrides or {},
            retry_failed=retry_failed,
        )
        return Schedule(request, self.catalog, store or self.store)

    def add_method(self, name: str, class_path: str, **keys: Any) -> None:
        content = {"name": name, "title": name, "class": class_path, "version": 1} | keys
        write_yaml(self.places.search_spaces / f"{name}.yaml", content)

    def write_table(self, **keys: Any) -> None:
        sequences = self.dataset_name == SEQUENCES
        content = {
            "title": "Doubles",
            "paper": "none",
            "kind": "cells",
            "task": "next_item" if sequences else "cold_start",
            "datasets": [self.dataset_name],
            "metrics": ["recall@5"] if sequences else ["cold/auc"],
            "seeds": [0, 1, 2],
            "search": {"trials": 4},
            "rows": list(NEXT_ITEM_ROWS if sequences else COLD_START_ROWS),
        }
        write_yaml(self.places.results / TABLE / "table.yaml", content | keys)


def small_next_item(folder: Path, **keys: Any) -> SmallTable:
    """Write a next-item table with one row, `Last`, and a method for each double."""
    small = SmallTable(folder, SEQUENCES)
    write_small_sequences(folder / "data" / "prepared" / SEQUENCES, users=100, items=20)
    small.add_method("last_item", "tests.doubles:LastItem", **LAST_ITEM)
    for name, class_name in {
        "raises": "Raises",
        "exits": "Exits",
        "nan_loss": "NanLoss",
        "nan_scores": "NanScores",
        "kills_itself": "KillsItself",
        "is_told_to_leave": "IsToldToLeave",
        "sleeps": "Sleeps",
        "reads_test_data": "ReadsTestData",
        "lacks_scores": "LacksScores",
    }.items():
        small.add_method(name, f"tests.doubles:{class_name}")
    small.write_table(**keys)
    return small


def small_cold_start(folder: Path, **keys: Any) -> SmallTable:
    """Write a cold-start table with two rows, of which `Plain` starts from `Bare`."""
    small = SmallTable(folder, INTERACTIONS)
    write_small_interactions(folder / "data" / "prepared" / INTERACTIONS)
    small.add_method("item_factors", "tests.doubles:ItemFactors")
    small.add_method("plain", "tests.doubles:Plain", **PLAIN)
    small.write_table(**keys)
    return small


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")


def made_result(spec: TrialSpec) -> TrialResult:
    """Return a finished result whose metrics follow from the spec by a formula, best at a learning rate of 0.1."""
    rate, size = float(str(spec.parameters.get("learning_rate", 0.1))), float(str(spec.parameters.get("size", 4)))
    value = 1.0 - 0.1 * abs(math.log10(rate) + 1.0) - 0.01 * abs(size - 4.0) + 0.0001 * spec.seed
    names = ("validation/recall@5", "validation/auc") if spec.purpose == "search" else ("test/recall@5",)
    return TrialResult(id=spec.id, spec=spec, status="finished", metrics=dict.fromkeys(names, value))


def play(
    schedule: Schedule,
    store: Store,
    result_of: Callable[[TrialSpec], TrialResult] = made_result,
    *,
    at_most: int | None = None,
    at_once: int = 1,
    shuffle_seed: int = 0,
) -> list[Job]:
    """Work a schedule off with made results, several jobs at once, which end in a shuffled order; return the jobs."""
    order = random.Random(shuffle_seed)
    done: list[Job] = []
    running: list[Job] = []
    while True:
        while len(running) < at_once and (at_most is None or len(done) + len(running) < at_most):
            job = schedule.next_job()
            if job is None:
                break
            running.append(job)
        if not running:
            return done
        job = running.pop(order.randrange(len(running)))
        done.append(job)
        schedule.finish(store.write(result_of(job.spec), {CHECKPOINT: b"state"} if job.keep_checkpoint else {}))
