from __future__ import annotations

import pytest

from harness.capacity import Capacity, Node, check_fits, check_workers_fit, needs_of_streamed
from harness.errors import ClusterError

MIXED = Capacity((Node(64), Node(8, 1)))


def test_cpus_and_gpus_have_to_be_on_one_node() -> None:
    check_fits(MIXED, cpus=64, gpus=0)
    check_fits(MIXED, cpus=8, gpus=1)
    expected = "a trial asks for 16 CPUs beside 1 GPUs, the largest node with so many has 8; set threads lower"
    with pytest.raises(ClusterError, match=expected):
        check_fits(MIXED, cpus=16, gpus=1)
    with pytest.raises(ClusterError, match="a trial asks for 2 GPUs, the largest node has 1; set gpus: 0"):
        check_fits(MIXED, cpus=1, gpus=2)


def test_workers_have_to_find_room_on_nodes_and_not_in_their_sum() -> None:
    three = Capacity((Node(7), Node(7), Node(7)))
    check_workers_fit(three, workers=3, threads=4, gpus=0)
    expected = "4 workers with 4 threads each find no room side by side: the nodes have 7, 7, 7; set workers or"
    with pytest.raises(ClusterError, match=expected):
        check_workers_fit(three, workers=4, threads=4, gpus=0)
    with pytest.raises(ClusterError, match=r"9 threads and 1 GPUs each .* nodes have 64 and 0, 8 and 1"):
        check_workers_fit(MIXED, workers=1, threads=9, gpus=1)


def test_as_many_trials_run_at_a_time_as_find_room() -> None:
    """Of 21 CPUs five times four would be 20, but each of three nodes has room for one."""
    three = Capacity((Node(7), Node(7), Node(7)))
    assert three.times([Node(4)]) == 3
    assert three.times(needs_of_streamed(1, 4, 0)) == 3
    assert three.times(needs_of_streamed(2, 3, 0)) == 3, "two workers on each node, and one CPU left to read"
    assert three.times([Node(1)]) == 21
    assert three.times([Node(8)]) == 0


def test_what_needs_no_gpu_leaves_the_nodes_that_have_one() -> None:
    nodes = Capacity((Node(2, 2), Node(2)))
    assert nodes.holds([Node(1), Node(1), Node(1, 1), Node(1, 1)])
    assert not nodes.holds([Node(1), Node(1), Node(1), Node(1, 1), Node(1, 1)])


@pytest.mark.parametrize(("share", "trials"), [(0.1, 10), (0.3, 3), (1 / 3, 3), (0.25, 4)])
def test_shares_of_a_gpu_add_up(share: float, trials: int) -> None:
    assert Capacity((Node(20, 1),)).times([Node(1, share)]) == trials
