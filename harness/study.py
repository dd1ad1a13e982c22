"""One search for one method's parameters on one dataset: Optuna proposes, rounds make it repeatable.

A study asks for its next `parallel` trials from a sampler that is seeded by (study, round) and was told all earlier
trials in order. So a study that is built again, from the results in a store, goes on as if nothing had happened.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from harness.record import TrialResult
from harness.seeding import derive_seed
from harness.specs import Choices, Dimension, Parameters, Search, TrialSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Asked:
    """A point of the space that the study asked for, and what came of it."""

    parameters: Parameters
    spec: TrialSpec
    value: float | None = None
    told: bool = False


@dataclass
class Study:
    """A search over `space`, maximizing `metric`.

    `key` identifies the study in its seeds; `first` is tried first (the published parameters); `make_spec` turns
    sampled parameters into a trial.
    """

    key: str
    space: Mapping[str, Dimension]
    settings: Search
    metric: str
    first: Parameters
    make_spec: Callable[[Parameters], TrialSpec]
    asked: list[Asked] = field(default_factory=list)

    @property
    def budget(self) -> int:
        """The number of trials: the settings', or the number of points when the space has fewer."""
        points = self._points()
        return min(self.settings.trials, len(points)) if points is not None else self.settings.trials

    @property
    def distinct(self) -> int:
        """The number of different trials asked for so far."""
        return len({asked.spec.id for asked in self.asked})

    @property
    def failed(self) -> int:
        """The number of trials told so far that have no value, as they failed."""
        return sum(asked.told and asked.value is None for asked in self.asked)

    @property
    def finished(self) -> bool:
        """Whether every trial of the budget has been told."""
        return len(self.asked) >= self.budget and all(asked.told for asked in self.asked)

    @property
    def best(self) -> Asked | None:
        """The trial with the highest value, the earliest of equals; None when all failed."""
        valued = [asked for asked in self.asked if asked.value is not None]
        return max(valued, key=lambda asked: asked.value or 0.0) if valued else None

    def pending(self) -> list[TrialSpec]:
        """Return the trials of the current round that wait for a result, opening the next round when there are none."""
        waiting = [asked.spec for asked in self.asked if not asked.told]
        if not waiting and len(self.asked) < self.budget:
            self._open_round()
            waiting = [asked.spec for asked in self.asked if not asked.told]
        return waiting

    def tell(self, result: TrialResult) -> None:
        """Take a finished or failed trial's result."""
        for asked in self.asked:
            if asked.spec.id == result.id and not asked.told:
                asked.told = True
                asked.value = result.metrics.get(self.metric) if result.status == "finished" else None

    def _open_round(self) -> None:
        count = min(self.settings.parallel, self.budget - len(self.asked))
        points = self._points()
        if points is not None and len(points) <= self.settings.trials:
            chosen = points[len(self.asked) : len(self.asked) + count]
        else:
            chosen = self._sampled(count)
        for parameters in chosen:
            self.asked.append(Asked(parameters, self.make_spec(parameters)))

    def _sampled(self, count: int) -> list[Parameters]:
        """Ask Optuna for a round; the very first point of the study is the published one, where the space has it."""
        chosen = [dict(self.first)] if not self.asked and self._contains_first() else []
        sampler = optuna.samplers.TPESampler(
            seed=derive_seed(self.settings.seed, self.key, len(self.asked)) % 2**32, constant_liar=count > 1
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        distributions = {name: _distribution(dimension) for name, dimension in self.space.items()}
        study.add_trials([_as_optuna(asked, distributions) for asked in self.asked])
        while len(chosen) < count:
            chosen.append(study.ask(distributions).params)
        return chosen

    def _contains_first(self) -> bool:
        if set(self.first) != set(self.space):
            return False
        return all(_contains(dimension, self.first[name]) for name, dimension in self.space.items())

    def _points(self) -> list[Parameters] | None:
        """Return all points of a space of choices, the published one first; None for a space with ranges."""
        axes = []
        for dimension in self.space.values():
            if not isinstance(dimension, Choices):
                return None
            axes.append(dimension.choices)
        if math.prod(len(axis) for axis in axes) > self.settings.trials:
            return None
        points: list[Parameters] = [dict(zip(self.space, values, strict=True)) for values in itertools.product(*axes)]
        return sorted(points, key=lambda point: point != self.first)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _contains(dimension: Dimension, value: object) -> bool:
    if isinstance(dimension, Choices):
        return value in dimension.choices
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return dimension.low <= value <= dimension.high and (not dimension.whole or float(value).is_integer())


def _as_optuna(asked: Asked, distributions: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        params=dict(asked.parameters),
        distributions=distributions,
        value=asked.value,
        state=optuna.trial.TrialState.COMPLETE if asked.value is not None else optuna.trial.TrialState.FAIL,
    )
