"""A sweep over three nodes on one host, of which one is removed while it works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cluster import connected
from harness.schedule import Schedule
from harness.store import RECORD
from harness.sweep import run_sweep
from tests.harness.small_table import SmallTable, small_next_item

pytestmark = pytest.mark.starts_ray

TRIALS = 10


@pytest.fixture
def small(tmp_path: Path) -> SmallTable:
    row = {"name": "Sleeps", "method": "sleeps", "parameters": {"seconds": 1.0, "maximum_epochs": 1}}
    small = small_next_item(tmp_path, rows=[row], seeds=list(range(TRIALS)))
    small.add_method("sleeps", "tests.doubles:Sleeps", published=[{"datasets": ["*"], "source": "chosen here"}])
    return small


@pytest.fixture
def three_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[object, object]]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster, cluster.add_node(num_cpus=1)
    finally:
        cluster.shutdown()


def written(small: SmallTable) -> dict[str, int]:
    """Return the finished trials with the time at which each was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (small.folder / "runs").glob(f"*/{RECORD}")}


def test_a_removed_node_costs_only_the_trials_that_it_was_running(small: SmallTable, three_nodes) -> None:
    cluster, last = three_nodes
    schedule = small.schedule(selection="published")
    before: dict[str, int] = {}

    def remove_when_at_work(schedule: Schedule) -> None:
        if len(schedule.finished) >= 4 and not before:
            before.update(written(small))
            cluster.remove_node(last, allow_graceful=False)

    with connected(cluster.address) as capacity:
        assert (capacity.most_cpus(0), capacity.cpus) == (1, 3)
        run_sweep(schedule, small.places, capacity, remove_when_at_work)

    assert len(before) >= 4
    assert schedule.done
    assert [result.error for _, result in schedule.finished.values()] == [""] * TRIALS
    after = written(small)
    assert len(after) == TRIALS
    assert {name: after[name] for name in before} == before, "a finished trial was run again"
