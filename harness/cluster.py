"""Ray at the edges: connecting to a cluster, or starting one on this machine, and asking what it has."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ClusterError

CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Capacity:
    """What the cluster's nodes have: the most on one node, and the sum."""

    node_cpus: float
    node_gpus: float
    cpus: float
    gpus: float


@contextlib.contextmanager
def connected(
    address: str | None = None, *, cpus: int | None = None, checkout: Path | None = None
) -> Iterator[Capacity]:
    """Connect to the cluster at `address`, or `RAY_ADDRESS`, or start one on this machine; leave it afterwards.

    Args:
        address: `host:port` of a running cluster's head, or None.
        cpus: logical CPUs of a cluster that is started here; all of them by default.
        checkout: the folder that a remote cluster's workers need, shipped by Ray's `runtime_env`.

    Raises:
        ClusterError: the cluster cannot be reached, or runs another version of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or None
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address is None:
            # An explicit "local" never joins a cluster that happens to run here.
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            _check_reachable(address)
            ray.init(address, runtime_env=_shipped(checkout), **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(f"cluster {address or 'on this machine'}: {reason}") from None
    try:
        yield _capacity(ray.nodes())  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


def check_fits(capacity: Capacity, *, cpus: float, gpus: float) -> None:
    """Check that a trial's request can ever be met; Ray would wait for ever.

    Raises:
        ClusterError: no node has that much.
    """
    if cpus > capacity.node_cpus:
        raise ClusterError(
            f"a trial asks for {cpus:g} CPUs, the largest node has {capacity.node_cpus:g}; set threads lower"
        )
    if gpus > capacity.node_gpus:
        raise ClusterError(f"a trial asks for {gpus:g} GPUs, the largest node has {capacity.node_gpus:g}; set gpus: 0")


def _check_reachable(address: str) -> None:
    if address in ("auto", "local") or "://" in address:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"cluster {address!r}: an address looks like host:6379")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"cluster {address}: cannot be reached ({error.strerror or error}); is `ray start --head` running there?"
        ) from None


def _shipped(checkout: Path | None) -> dict[str, object]:
    if checkout is None:
        return {}
    return {"working_dir": str(checkout), "excludes": [".diffbench", ".venv", ".git", "*.parquet"]}


def _capacity(nodes: list[dict[str, dict[str, float]]]) -> Capacity:
    alive = [node["Resources"] for node in nodes if node.get("Alive")]
    cpus = [resources.get("CPU", 0.0) for resources in alive]
    gpus = [resources.get("GPU", 0.0) for resources in alive]
    return Capacity(max(cpus, default=0.0), max(gpus, default=0.0), sum(cpus), sum(gpus))
