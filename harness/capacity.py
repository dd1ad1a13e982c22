"""What the nodes of a cluster have, and what trials find room on them side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import ClusterError

ROUNDING = 1e-6
"""Shares of a GPU such as a tenth are no binary fractions; ten of them are one."""


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs: what a node has, or what a process needs, all of it on one node."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Capacity:
    """What the cluster's nodes have."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> float:
        """The CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """The GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def most_cpus(self, gpus: float) -> float:
        """Return the CPUs of the largest node among those with so many GPUs, 0 where there is none."""
        return max((node.cpus for node in self.nodes if node.gpus + ROUNDING >= gpus), default=0.0)

    def holds(self, needs: Iterable[Node]) -> bool:
        """Tell whether all this finds room at a time: the largest first, each on the first node that has room left.

        Nodes without GPUs come first, so that what needs none leaves them to others.
        """
        left = sorted(([node.gpus, node.cpus] for node in self.nodes), key=tuple)
        for need in sorted(needs, key=lambda need: (need.gpus, need.cpus), reverse=True):
            for room in left:
                if room[0] + ROUNDING >= need.gpus and room[1] + ROUNDING >= need.cpus:
                    room[0] -= need.gpus
                    room[1] -= need.cpus
                    break
            else:
                return False
        return True

    def times(self, needs: Sequence[Node]) -> int:
        """Return how often all this finds room side by side."""
        fits, too_often = 0, int(self.cpus / sum(need.cpus for need in needs) + ROUNDING) + 1
        while too_often - fits > 1:
            middle = (fits + too_often) // 2
            if self.holds([*needs] * middle):
                fits = middle
            else:
                too_often = middle
        return fits


@dataclass(frozen=True)
class Slots:
    """How many trials run at a time, at most, and the CPUs that each reserves, at least."""

    trials: int
    cpus: float


def machine(cpus: int | None = None) -> Capacity:
    """Return what a cluster that is started here would have, with so many logical CPUs or all of them."""
    import torch

    return Capacity((Node(float(cpus or os.cpu_count() or 1), float(torch.cuda.device_count())),))


def needs_of_streamed(workers: int, threads: float, gpus: float) -> list[Node]:
    """Return what a streamed trial needs: a place for every worker, and a CPU that reads for them."""
    return [*[Node(threads, gpus)] * workers, Node(1)]


def check_fits(capacity: Capacity, *, cpus: float, gpus: float) -> None:
    """Check that a trial's request can ever be met; Ray would wait for ever.

    Raises:
        ClusterError: no node has that much.
    """
    most_gpus = max((node.gpus for node in capacity.nodes), default=0.0)
    if gpus > most_gpus:
        raise ClusterError(f"a trial asks for {gpus:g} GPUs, the largest node has {most_gpus:g}; set gpus: 0")
    most = capacity.most_cpus(gpus)
    if cpus > most:
        beside = f" beside {gpus:g} GPUs" if gpus else ""
        largest = "the largest node with so many" if gpus else "the largest node"
        raise ClusterError(f"a trial asks for {cpus:g} CPUs{beside}, {largest} has {most:g}; set threads lower")


def check_workers_fit(capacity: Capacity, workers: int, threads: int, gpus: float) -> None:
    """Check that a trial's workers, each with so many threads and GPUs, can ever run side by side.

    Raises:
        ClusterError: the nodes have too few CPUs or GPUs, all together or each of them.
    """
    if workers * threads > capacity.cpus:
        raise ClusterError(
            f"{workers} workers with {threads} threads each ask for {workers * threads} CPUs, the cluster has"
            f" {capacity.cpus:g}; set workers or threads lower, or --cpus higher"
        )
    if workers * gpus > capacity.gpus:
        raise ClusterError(
            f"{workers} workers with {gpus:g} GPUs each ask for {workers * gpus:g} GPUs, the cluster has"
            f" {capacity.gpus:g}; set workers or gpus lower"
        )
    if not capacity.holds([Node(threads, gpus)] * workers):
        each = f"{threads} threads" + (f" and {gpus:g} GPUs" if gpus else "")
        have = ", ".join(f"{node.cpus:g}" + (f" and {node.gpus:g}" if gpus else "") for node in capacity.nodes)
        raise ClusterError(
            f"{workers} workers with {each} each find no room side by side: the nodes have {have}; set workers or"
            " threads lower"
        )
