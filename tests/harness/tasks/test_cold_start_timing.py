from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_interactions
from harness.tasks import load_task
from harness.tasks.cold_start_timing import Clock, ColdStartTiming, ColdStartTimingSettings, TimedRows
from harness.tasks.context import Component, Context
from trainables.base import ColdStartMethod, CtrBatch, ItemTable, RowSource, no_log
from trainables.cold_start.bare import BareBackbone
from trainables.cold_start.csdm import CSDM
from trainables.cold_start.meta_embedding import MetaEmbedding
from trainables.cold_start.mwuf import MWUF
from trainables.ctr.deepfm import DeepFM


class Counted:
    """A source of ten one-row batches whose label is their number."""

    items = ItemTable({})

    def __len__(self) -> int:
        return 10

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        for number in range(skip, 10):
            yield CtrBatch({}, torch.tensor([float(number)]))

    def distinct_items(self) -> Tensor:
        return torch.arange(3)

    def item_quarters(self, seed: int) -> tuple[RowSource, RowSource, RowSource, RowSource]:
        return Counted(), Counted(), Counted(), Counted()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless it is set."""
    hand = [0.0]
    monkeypatch.setattr("harness.tasks.cold_start_timing.time.perf_counter", lambda: hand[0])
    return hand


def timed(**settings: int) -> TimedRows:
    return TimedRows(Counted(), ColdStartTimingSettings(**settings))


def test_the_first_batches_are_yielded_and_those_after_the_warm_up_timed(now: list[float]) -> None:
    rows = timed(warm_up=2, batches=3)
    labels = []
    for batch in rows.batches(1):
        labels.append(float(batch.label_B))
        now[0] += 10.0 ** len(labels)
        rows.clock.steps += 4
    assert labels == [0, 1, 2, 3, 4]
    assert rows.clock.batch_seconds == [1e3, 1e4, 1e5]
    assert rows.clock.step_seconds == [250, 2500, 25000]


def test_a_pass_without_an_optimizer_step_does_not_count(now: list[float]) -> None:
    rows = timed(warm_up=0, batches=3)
    for _ in rows.batches(1):
        now[0] += 1
    assert rows.clock.batch_seconds == []


def test_quarters_are_timed_by_the_same_clock(now: list[float]) -> None:
    rows = timed(warm_up=1, batches=2)
    cold, warm, _, _ = rows.item_quarters(0)
    later = warm.batches(1)
    for _ in cold.batches(1):
        next(later)
        now[0] += 2
        rows.clock.steps += 1
    assert set(rows.clock.batch_seconds) == {2.0}
    assert len(rows) == 10
    assert rows.distinct_items().tolist() == [0, 1, 2]


def test_a_clock_counts_nothing_of_its_own() -> None:
    clock = Clock()
    clock.add(3.0, 2)
    clock.add(9.0, 0)
    assert (clock.batch_seconds, clock.step_seconds, clock.steps) == ([3.0], [1.5], 0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_small_interactions(tmp_path_factory.mktemp("prepared") / "small")


def times(dataset: PreparedDataset, method: type[ColdStartMethod], warm_up: int = 1, **parameters: Any) -> Any:
    context = Context(
        method=Component(method, {"batch_size": 64} | parameters),
        components={"backbone": Component(DeepFM, {"embedding_size": 4})},
        settings=ColdStartTimingSettings(batches=3, warm_up=warm_up),
        dataset=dataset,
        purpose="repeat",
        seed=0,
        start=None,
        log=no_log,
    )
    return ColdStartTiming().run(context).metrics


def test_a_method_that_trains_in_fit_is_timed_there(dataset: PreparedDataset) -> None:
    measured = times(dataset, CSDM, repetitions=4, stride=50)
    assert set(measured) == {f"test/{name}" for name in ColdStartTiming.metrics}
    assert measured["test/train/batch_ms"] == measured["test/fit/batch_ms"] > 0
    assert measured["test/fit/batch_ms"] == pytest.approx(4 * measured["test/fit/step_ms"])
    assert measured["test/pretrain/batch_ms"] == measured["test/pretrain/step_ms"]


def test_a_method_that_does_not_is_timed_in_pretraining(dataset: PreparedDataset) -> None:
    measured = times(dataset, BareBackbone)
    assert set(measured) == {"test/pretrain/batch_ms", "test/pretrain/step_ms", "test/train/batch_ms"}
    assert measured["test/train/batch_ms"] == measured["test/pretrain/batch_ms"] > 0


def test_times_are_medians_in_milliseconds(dataset: PreparedDataset, now: list[float]) -> None:
    """After the warm-up 1, 2 and 9 seconds with 1, 4 and 3 steps: 1, 0.5 and 3 seconds a step."""

    class Clockwork(BareBackbone):
        def pretrain(self, base: RowSource, **_: Any) -> None:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            for _, (seconds, steps) in zip(base.batches(64), [(50, 2), (1, 1), (2, 4), (9, 3)], strict=False):
                now[0] += seconds
                for _ in range(steps):
                    optimizer.step()

    measured = times(dataset, Clockwork)
    assert measured == {"test/pretrain/batch_ms": 2000, "test/pretrain/step_ms": 1000, "test/train/batch_ms": 2000}


def test_quarters_and_passes_that_only_gather_are_no_hindrance(dataset: PreparedDataset) -> None:
    assert times(dataset, MetaEmbedding)["test/fit/batch_ms"] > 0
    measured = times(dataset, MWUF)  # its batches take two steps each, and it first gathers users
    assert measured["test/fit/batch_ms"] == pytest.approx(2 * measured["test/fit/step_ms"])


def test_batches_that_end_within_the_warm_up_are_said(dataset: PreparedDataset) -> None:
    with pytest.raises(ValueError, match="pretrain: the batches end within the warm-up; set warm_up lower"):
        times(dataset, BareBackbone, warm_up=1000)


def test_a_method_without_torchs_optimizers_is_said(dataset: PreparedDataset) -> None:
    class Still(BareBackbone):
        def pretrain(self, base: RowSource, **_: Any) -> None:
            list(base.batches(64))

    with pytest.raises(ValueError, match="no optimizer step was seen"):
        times(dataset, Still)


def test_the_task_is_found_by_its_name() -> None:
    assert isinstance(load_task("cold_start_timing"), ColdStartTiming)
    assert load_task("cold_start_timing").name != load_task("cold_start").name
