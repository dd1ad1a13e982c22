"""Three nodes on one machine, each with an object store of its own, prepare what one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from harness.datasets.large.description import ColdStart
from harness.datasets.large.preparation import prepare_large
from harness.datasets.large.sizes import Sizes
from harness.datasets.large.tasks import ray_for_data
from tests.harness.datasets.small_ads import small_ads, write_small_ads

pytestmark = pytest.mark.starts_ray

SIZES = Sizes(block_bytes=9_000, item_ranges=4, user_ranges=3, value_ranges=2)


@pytest.fixture
def three_nodes() -> Iterator[Cluster]:
    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**node)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_three_nodes_prepare_what_one_does(tmp_path: Path, three_nodes: Cluster) -> None:
    raw = write_small_ads(tmp_path / "raw")
    dataset = small_ads(ColdStart(hot_above=60, block=10))
    ray.init(three_nodes.address, logging_level="ERROR", log_to_driver=False)
    assert sum(node["Alive"] for node in ray.nodes()) == 3
    of_three = prepare_large(tmp_path / "three", dataset, raw, lambda line: None, sizes=SIZES)
    ray.shutdown()
    three_nodes.shutdown()
    with ray_for_data(None, 80 << 20):
        of_one = prepare_large(tmp_path / "one", dataset, raw, lambda line: None)
    assert of_three.schema == of_one.schema
