"""A clock that goes on in another process."""

from __future__ import annotations

import time

import pytest

from harness.trial_clock import TrialClock


def test_it_goes_on_from_what_it_read() -> None:
    first = TrialClock()
    time.sleep(0.05)
    read = first.state()
    assert read["wall_seconds"] >= 0.05
    assert 0 <= read["cpu_seconds"] < 60

    other = TrialClock()
    other.load({"wall_seconds": 100.0, "cpu_seconds": 50.0})
    assert other.wall_seconds == pytest.approx(100, abs=5)
    assert other.cpu_seconds == pytest.approx(50, abs=5)
    assert other.wall_seconds > 100


def test_work_of_the_processor_is_told_from_waiting() -> None:
    clock = TrialClock()
    time.sleep(0.2)
    waited = clock.state()
    assert waited["cpu_seconds"] < 0.5 * waited["wall_seconds"]
