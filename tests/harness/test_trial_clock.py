"""A clock that goes on in another process."""

from __future__ import annotations

import time

import pytest

from harness.trial_clock import TrialClock


def test_it_goes_on_from_what_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"wall": 7.0, "cpu": 3.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "process_time", lambda: now["cpu"])
    first = TrialClock()
    now |= {"wall": 57.0, "cpu": 23.0}
    read = first.state()
    assert read == {"wall_seconds": 50.0, "cpu_seconds": 20.0}

    now |= {"wall": 1000.0, "cpu": 0.0}  # another process, whose clocks begin elsewhere
    other = TrialClock()
    assert (other.wall_seconds, other.cpu_seconds) == (0, 0)
    now |= {"wall": 1010.0, "cpu": 5.0}  # it does again what the first one did
    other.load(read)
    now |= {"wall": 1011.0, "cpu": 7.0}
    assert (other.wall_seconds, other.cpu_seconds) == (51, 22)
