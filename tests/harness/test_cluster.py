from __future__ import annotations

import os
import platform
import resource
from typing import Any

import pytest
import ray
import torch

from harness.cluster import connected
from harness.errors import ClusterError


def test_processes_that_do_not_start_in_time_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: Any, **keys: Any) -> None:
        raise Exception("The current node timed out during startup.\nThe GCS may be overloaded.")  # as Ray raises it

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", late)
    expected = r"^cluster on this machine: The current node timed out .* overloaded\.; try again, or .* --serial`$"
    with pytest.raises(ClusterError, match=expected), connected(object_store_bytes=1):
        pass


def test_the_address_of_a_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    expected = r"^cluster ray://head:10001: a client's address; run on a node of the cluster with `--address auto`, or"
    with pytest.raises(ClusterError, match=expected), connected():
        pass


@pytest.mark.starts_ray
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory as it is told")
def test_processes_that_train_keep_the_memory_of_large_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)

    def faults_of_second_use() -> int:
        """Return how many pages of a tensor the system hands out anew when one of its size has just been freed."""
        torch.zeros(64, 2**18)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(64, 2**18)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with connected(cpus=1):
        assert ray.get(ray.remote(faults_of_second_use).remote()) < 100, "64 MiB have 16,384 pages"


@pytest.mark.starts_ray
def test_a_setting_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    own = "glibc.malloc.hugetlb=0"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("GLIBC_TUNABLES", own)
    with connected(cpus=1):
        assert ray.get(ray.remote(lambda: os.environ["GLIBC_TUNABLES"]).remote()) == own
