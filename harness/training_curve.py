"""What a trial's record says of its training: how the validation metric went, and how long it took.

Only tasks that log `train/loss` and their primary metric at each validation have it. A task that does not validate each
epoch logs its loss once an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.record import INFERENCE, TEST_INFERENCE, Curve, TrialResult

LOSS = "train/loss"
TIMES = ("epoch_s", "training_s", INFERENCE)
"""Seconds of an epoch's training, of all training with its validation, and of ranking the validation split once; an
epoch's and a ranking's are medians."""
BEST = ("best_validation", "best_epoch", "best_s")
"""The best value of the validation metric, its epoch, and the seconds since the trial's start when it was known."""


@dataclass(frozen=True)
class TrainingCurve:
    """The validation metric while a trial trained: the epoch, the seconds since its start, and the value."""

    epochs: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


def training_curve(result: TrialResult, metric: str) -> TrainingCurve | None:
    """Return how a validation metric went, at each epoch that was validated; None of a trial that did not train."""
    losses, validations = result.curves.get(LOSS), result.curves.get(metric)
    if losses is None or validations is None:
        return None
    if result.spec.parameters.get("validate_every", 1) == 1:
        epochs = tuple(range(1, len(validations.steps) + 1))
    else:
        epoch_at = {step: epoch for epoch, step in enumerate(losses.steps, start=1)}
        epochs = tuple(epoch_at[step] for step in validations.steps)
    return TrainingCurve(epochs, tuple(validations.seconds), tuple(validations.values))


def training_metrics(result: TrialResult, metric: str) -> dict[str, float]:
    """Return `BEST` and, where losses are logged once an epoch, `TIMES` as metrics of the trial's test.

    Nothing of a trial that did not train.
    """
    curve = training_curve(result, metric)
    if curve is None or not curve.values:
        return {}
    losses, validations = result.curves[LOSS], result.curves[metric]
    best = int(np.argmax(curve.values))
    measured = {
        "best_validation": curve.values[best],
        "best_epoch": float(curve.epochs[best]),
        "best_s": curve.seconds[best],
    }
    if len(losses.steps) == curve.epochs[-1]:
        measured |= {
            "epoch_s": float(np.median(_epoch_seconds(losses, validations))),
            "training_s": curve.seconds[-1],
            INFERENCE: float(np.median(_validation_seconds(losses, validations))),
        }
    return {f"test/{name}": value for name, value in measured.items()}


def inference_time(result: TrialResult) -> dict[str, float]:
    """Return the seconds of ranking the test split as a metric of the trial; nothing of one that did not log them."""
    curve = result.curves.get(TEST_INFERENCE)
    return {} if curve is None else {TEST_INFERENCE: curve.values[-1]}


def _epoch_seconds(losses: Curve, validations: Curve) -> list[float]:
    """Return each epoch's seconds without the validation before it.

    The first has the model's start in it, and is left out where there are others.
    """
    before = _by_step(validations)
    ended = [before.get(step, second) for step, second in zip(losses.steps, losses.seconds, strict=True)]
    seconds = [end - begin for begin, end in zip([0.0, *ended], losses.seconds, strict=False)]
    return seconds[1:] or seconds


def _validation_seconds(losses: Curve, validations: Curve) -> list[float]:
    trained = _by_step(losses)
    return [end - trained[step] for step, end in zip(validations.steps, validations.seconds, strict=True)]


def _by_step(curve: Curve) -> Mapping[int, float]:
    return dict(zip(curve.steps, curve.seconds, strict=True))
