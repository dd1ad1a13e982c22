"""Ray at the edges: connecting to a cluster, or starting one on this machine, and asking what it has."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.capacity import Capacity, Node
from harness.errors import ClusterError
from harness.quick_imports import quick_imports

CONNECT_SECONDS = 5.0

# Set before Ray starts: it counts no usage, takes `gpus: 0` at its word, and starts no workers that Tune cannot use.
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_raylet_start_wait_time_s": "120",  # on a busy machine thirty are not enough
    # Ray's own processes of a streamed trial exceed its limit of idle ones, so that those which read would be ended
    # after a second of rest and started anew for every section of an epoch.
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
}

# Of processes that train, read by glibc as they start. A batch's tensors of megabytes would otherwise go back to the
# system when they are freed, and be mapped again, a page of 4 KiB and a fault at a time, for the next batch.
ALLOCATION = {
    "GLIBC_TUNABLES": ":".join(
        (
            "glibc.malloc.hugetlb=1",  # ask for huge pages
            "glibc.malloc.mmap_max=0",  # large tensors too come from what was freed
            f"glibc.malloc.trim_threshold={2**40}",
            f"glibc.malloc.top_pad={2**26}",
        )
    )
}

_STAYS = (".git", ".venv", ".diffbench", ".mypy_cache", ".pytest_cache", ".ruff_cache")
"""What of a checkout no worker needs."""

_NEEDED_LATER = ("pandas", "scipy.stats", "matplotlib.figure")


@contextlib.contextmanager
def connected(
    address: str | None = None,
    *,
    cpus: int | None = None,
    checkout: Path | None = None,
    object_store_bytes: int | None = None,
    imports_ahead: bool = True,
) -> Iterator[Capacity]:
    """Connect to the cluster at `address`, or `RAY_ADDRESS`, or start one on this machine; leave it afterwards.

    Args:
        address: `host:port` of a running cluster's head, or None.
        cpus: logical CPUs of a cluster that is started here; all of them by default.
        checkout: the folder that a remote cluster's workers need, shipped by Ray's `runtime_env`.
        object_store_bytes: for work on data, without trials: the shared memory of a cluster that is started here.
        imports_ahead: workers import what a trial needs as they start, and keep the memory that they have once had.
            Not for work on data, nor for streamed trials: most processes that Ray Train and Ray Data start beside
            their workers need neither.

    Raises:
        ClusterError: the cluster cannot be reached, or runs another version of Ray or Python.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_ENVIRONMENT.items()})
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        _check_reachable(address)
    with quick_imports():
        import ray

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    workers = _prepared_workers() if imports_ahead else {}
    meanwhile: Any = _imported_meanwhile() if object_store_bytes is None else contextlib.nullcontext()
    try:
        with quick_imports(), meanwhile:
            if address is None:
                # An explicit "local" never joins a cluster that happens to run here.
                here: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": object_store_bytes}
                ray.init("local", include_dashboard=False, runtime_env=workers, **here, **quiet)
            else:
                ray.init(address, runtime_env=workers | _shipped(checkout), **quiet)
    except Exception as error:  # Ray says with a bare one that its processes did not start in time
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(f"cluster {address or 'on this machine'}: {reason}{_remedy(address)}") from None
    try:
        yield _capacity(ray.nodes())  # type: ignore[no-untyped-call]
    finally:
        if address is None:
            # Ray stops it after the server that it talks to, and then waits a second for it.
            node: Any = ray._private.worker._global_node
            node.kill_monitor(check_alive=False)
        ray.shutdown()


@contextlib.contextmanager
def _imported_meanwhile() -> Iterator[None]:
    """Import what a sweep and its table need later, in another thread: while Ray starts, this process only waits.

    Nothing of Ray's is among it: two threads must not import modules that import each other.
    """
    importing = threading.Thread(target=lambda: [importlib.import_module(name) for name in _NEEDED_LATER])
    importing.start()
    try:
        yield
    finally:
        importing.join()


def _prepared_workers() -> dict[str, Any]:
    """Return the runtime environment of processes that train."""
    return {
        "worker_process_setup_hook": f"{__name__}.{prepare_worker.__name__}",
        "env_vars": {name: os.environ.get(name, value) for name, value in ALLOCATION.items()},
    }


def prepare_worker() -> None:
    """Import what trials need, in a worker process that has just started."""
    with quick_imports():
        import ray.tune  # noqa: F401

        import harness.trial  # noqa: F401


def _check_reachable(address: str) -> None:
    if address.startswith("ray://"):
        # Ray's client runs Tune elsewhere, in a copy that knows nothing of this process's schedule.
        raise ClusterError(
            f"cluster {address}: a client's address; run on a node of the cluster with `--address auto`, or give its"
            " head as host:6379"
        )
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
    if checkout is None or not (checkout / "pyproject.toml").is_file():  # installed without one: nodes have it too
        return {}
    return {"working_dir": str(checkout), "excludes": [*_STAYS, "*.parquet", "*.svg", "*.png"]}


def _remedy(address: str | None) -> str:
    """Return what to do: without Ray here, or where a cluster may ask for a token, which Ray offers to no named one."""
    if address is None:
        return "; try again, or do without Ray: `diffbench run --serial`"
    if address == "auto" or "RAY_AUTH_MODE" in os.environ:
        return ""
    return "; if it asks for a token, set RAY_AUTH_MODE=token"


def _capacity(nodes: list[dict[str, dict[str, float]]]) -> Capacity:
    alive = [node["Resources"] for node in nodes if node.get("Alive")]
    return Capacity(tuple(Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in alive))
