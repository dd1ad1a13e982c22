"""A training that takes a checkpoint after every batch, is killed with one of them, and goes on from it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.record import Curve
from harness.trial_checkpoints import TrialCheckpoints
from harness.trial_clock import TrialClock
from trainables.base import ColdStartMethod, CtrMethod, Log


class Killed(BaseException):
    """Stands for the process's end: nothing catches it."""


@dataclass(frozen=True)
class Training:
    """What a process left: the method's state, its curves, the rows that were seen, and the checkpoints it took."""

    state: dict[str, Tensor]
    curves: dict[str, list[float]]
    rows: int
    checkpoints: list[bytes]


def trained(
    build: Callable[[], CtrMethod | ColdStartMethod],
    train: Callable[[CtrMethod | ColdStartMethod, Log], object],
    *,
    resumed: bytes | None = None,
    killed_at: int | None = None,
) -> Training:
    """Build a method and train it, until the checkpoint of this number if one is given."""
    taken: list[bytes] = []
    curves: dict[str, Curve] = defaultdict(Curve)

    def write(content: bytes) -> None:
        taken.append(content)
        if len(taken) == killed_at:
            raise Killed

    def log(name: str, value: float, step: int) -> None:
        curves[name].steps.append(step)
        curves[name].values.append(value)
        curves[name].seconds.append(0.0)

    torch.manual_seed(0)
    method = build()
    method.checkpoints = checkpoints = TrialCheckpoints(write, seconds=0, resumed=resumed)
    checkpoints.follow(method, curves, TrialClock())
    torch.manual_seed(1 if resumed is None else 2)  # what is gone on from brings its own random numbers
    with contextlib.suppress(Killed):
        train(method, log)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    values = {name: curve.values for name, curve in curves.items() if not name.endswith("rows_per_second")}
    return Training(state, values, checkpoints.rows, taken)


def check_that_it_goes_on(
    build: Callable[[], CtrMethod | ColdStartMethod],
    train: Callable[[CtrMethod | ColdStartMethod, Log], object],
    *,
    batches: int,
    rows: int,
) -> None:
    """Kill a training at each of its checkpoints, and compare what goes on from there with one that is not killed."""
    whole = trained(build, train)
    assert (len(whole.checkpoints), whole.rows) == (batches, rows)
    for place in range(1, batches + 1):
        killed = trained(build, train, killed_at=place)
        found = trained(build, train, resumed=killed.checkpoints[-1])
        assert len(found.checkpoints) == batches - place, "what was behind is not done again"
        assert (found.rows, found.curves) == (whole.rows, whole.curves)
        assert found.state.keys() == whole.state.keys()
        assert all(torch.equal(value, whole.state[name]) for name, value in found.state.items())
