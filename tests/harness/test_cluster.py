from __future__ import annotations

from typing import Any

import pytest
import ray

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
