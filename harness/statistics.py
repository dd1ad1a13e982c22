"""What a leaderboard has to say about its numbers: intervals, paired differences, RelaImpr, verdicts.

Two uncertainties are kept apart throughout: that of training (seeds) and that of the test sample (users or rows).

Legend: S seeds, U test users, N paired values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
EXACT_SIGN_FLIPS = 14
"""Up to this many pairs every arrangement of signs is tried (2^14 = 16,384); above it, `SAMPLED_SIGN_FLIPS`."""
SAMPLED_SIGN_FLIPS = 20_000
RESAMPLES = 2_000

Values = NDArray[np.float64]
Verdict = Literal["reproduced", "consistent", "not reproduced", "failed", "not run", "no data", ""]


@dataclass(frozen=True)
class Summary:
    """One cell over its seeds: `deviation` divides by n-1; `low` and `high` are the 95 % t-interval of the mean.

    What the number of seeds does not allow is NaN. `failed` counts seeds whose trial failed; they are in no figure.
    """

    n: int
    failed: int
    mean: float
    deviation: float
    low: float
    high: float
    minimum: float
    maximum: float

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2


def summarize(values: Sequence[float] | Values, failed: int = 0) -> Summary:
    """Return the summary of one value a seed."""
    values_S = np.asarray(values, dtype=np.float64)
    n = len(values_S)
    if n == 0:
        return Summary(0, failed, *[math.nan] * 6)
    mean, half = _mean_and_half_width(values_S)
    deviation = _deviation(values_S)
    return Summary(n, failed, mean, deviation, mean - half, mean + half, float(values_S.min()), float(values_S.max()))


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its 95 % interval, p-value and effect size.

    `effect` is the mean over the standard deviation of the differences (Cohen's d of paired data). `pairs` says
    what was paired: seeds, or users after averaging over seeds.
    """

    pairs: Literal["seeds", "users"]
    n: int
    mean: float
    low: float
    high: float
    p_value: float
    effect: float


def paired_by_seed(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """Compare two methods that share backbone and data order under a seed; seeds that only one has are left out.

    The interval is Student's, the p-value that of `sign_flip_p`: with ten seeds it cannot fall below 2/1024.
    """
    seeds = sorted(values.keys() & reference.keys())
    difference_N = np.array([values[seed] - reference[seed] for seed in seeds], dtype=np.float64)
    if not seeds:
        return Difference("seeds", 0, *[math.nan] * 5)
    mean, half = _mean_and_half_width(difference_N)
    p_value = sign_flip_p(difference_N)
    return Difference("seeds", len(seeds), mean, mean - half, mean + half, p_value, _effect(difference_N))


def paired_by_user(value_SU: NDArray[Any], reference_SU: NDArray[Any], *, seed: int = 0) -> Difference:
    """Compare two methods on the same test users, each user's value being its mean over the method's seeds.

    The interval is a bootstrap over users (percentiles of `RESAMPLES` resamples), the p-value Student's paired t,
    which holds its level best among the usual tests (Urbano, Lima & Hanjalic, SIGIR 2019).

    Args:
        value_SU: the metric by seed and user.
        reference_SU: the same of the reference; the number of seeds may differ.
        seed: of the bootstrap.

    Raises:
        ValueError: the numbers of users differ.
    """
    from scipy import stats  # not above: loading it takes the second by which a sweep starts earlier

    if value_SU.shape[1] != reference_SU.shape[1]:
        raise ValueError(f"{value_SU.shape[1]} and {reference_SU.shape[1]} test users cannot be paired")
    difference_U = value_SU.mean(axis=0, dtype=np.float64) - reference_SU.mean(axis=0, dtype=np.float64)
    users = len(difference_U)
    if users < 2:
        return Difference("users", users, float(difference_U.mean()) if users else math.nan, *[math.nan] * 4)
    low, high = bootstrap_interval(difference_U, seed=seed)
    p_value = float(stats.ttest_1samp(difference_U, 0.0).pvalue) if difference_U.any() else 1.0
    return Difference("users", users, float(difference_U.mean()), low, high, p_value, _effect(difference_U))


def bootstrap_interval(value_U: Values, *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean over users."""
    generator = np.random.default_rng(seed)
    users = len(value_U)
    # A resample is a draw of counts: users with equal values are one class, and most users' difference is 0.
    distinct_K, count_K = np.unique(value_U, return_counts=True)
    block = max(1, 4_000_000 // len(distinct_K))
    means = [
        generator.multinomial(users, count_K / users, size=min(block, RESAMPLES - start)) @ distinct_K / users
        for start in range(0, RESAMPLES, block)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def sign_flip_p(difference_N: Sequence[float] | Values, *, seed: int = 0) -> float:
    """Return the two-sided p-value of the sign-flip test that paired differences are symmetric about 0.

    Exact up to `EXACT_SIGN_FLIPS` pairs, so that its smallest value is 2 / 2^N; above it, from random arrangements
    with the observed one counted among them. NaN without pairs.
    """
    values_N = np.asarray(difference_N, dtype=np.float64)
    n = len(values_N)
    if n == 0:
        return math.nan
    # Sums that are equal in exact arithmetic may differ in their last bits.
    threshold = abs(values_N.sum()) - 1e-12 * np.abs(values_N).sum()
    if n <= EXACT_SIGN_FLIPS:
        sign_KN = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        return float(np.mean(np.abs(sign_KN @ values_N) >= threshold))
    generator = np.random.default_rng(seed)
    sign_KN = generator.choice((1.0, -1.0), size=(SAMPLED_SIGN_FLIPS, n))
    extreme = int(np.sum(np.abs(sign_KN @ values_N) >= threshold))
    return (extreme + 1) / (SAMPLED_SIGN_FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values (Holm 1979), in the order given; NaN stays and is not counted."""
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for place, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - place)))
        adjusted[index] = largest
    return adjusted


def user_standard_error(value_SU: NDArray[Any]) -> float:
    """Return the standard error, over test users, of a metric that is a mean over users and seeds.

    It is what a bootstrap over users converges to. NaN with fewer than two users.
    """
    value_U = value_SU.mean(axis=0, dtype=np.float64)
    return _deviation(value_U) / math.sqrt(len(value_U)) if len(value_U) else math.nan


def pooled_standard_error(errors: Sequence[float]) -> float:
    """Return the root mean square of the seeds' standard errors over test rows (DeLong's, for AUC).

    All seeds are judged on the same rows, so averaging over seeds does not average this error away.
    """
    known = [error for error in errors if not math.isnan(error)]
    return math.sqrt(sum(error**2 for error in known) / len(known)) if known else math.nan


def relative_improvement(auc: float, baseline: float) -> float:
    """Return RelaImpr in percent (CSDM, eq. 14); NaN where the baseline's AUC is 0.5."""
    return ((auc - 0.5) / (baseline - 0.5) - 1) * 100 if baseline != 0.5 else math.nan


def relative_improvements(auc: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """Return RelaImpr by seed, each against the baseline of the same seed; seeds that only one has are left out."""
    return {seed: relative_improvement(auc[seed], baseline[seed]) for seed in sorted(auc.keys() & baseline.keys())}


@dataclass(frozen=True)
class Agreement:
    """A measured cell against its published one.

    `error` combines the standard errors of seeds and test sample; `low` and `high` are the 95 % interval of the
    measured mean under both. Without a sampling error, or with one seed, it holds what is known, and is NaN where
    that is nothing. `unstable` says that the seeds spread more than the tolerance, so that agreement may be luck.
    """

    difference: float
    error: float
    low: float
    high: float
    verdict: Verdict
    unstable: bool


def agreement(published: float, measured: Summary, tolerance: float, sampling_error: float = math.nan) -> Agreement:
    """Judge a measured cell: `reproduced` within the tolerance, else `consistent` within the combined interval.

    The interval's half-width is the root of the summed squares of the seeds' (Student) and the test sample's
    (normal), each with its own quantile. One seed without a sampling error has no interval, and beyond the tolerance
    no verdict. `tolerance` and `sampling_error` are in the metric's units.
    """
    from scipy import stats  # not above: loading it takes the second by which a sweep starts earlier

    difference = measured.mean - published
    seeds_error = measured.deviation / math.sqrt(measured.n) if measured.n > 1 else 0.0
    seeds_half = measured.half_width if measured.n > 1 else 0.0
    rows_error = 0.0 if math.isnan(sampling_error) else sampling_error
    half = math.hypot(seeds_half, stats.norm.ppf((1 + CONFIDENCE) / 2) * rows_error)
    error = math.hypot(seeds_error, rows_error)
    if measured.n < 2 and math.isnan(sampling_error):
        half = error = math.nan
    verdict: Verdict
    # A difference of exactly the tolerance counts as within it, whatever the last bit of a subtraction says.
    if measured.n == 0:
        verdict = "failed" if measured.failed else "not run"
    elif abs(difference) <= tolerance * (1 + 1e-9):
        verdict = "reproduced"
    elif math.isnan(half):
        verdict = ""
    else:
        verdict = "consistent" if abs(difference) <= half else "not reproduced"
    unstable = measured.n > 1 and measured.deviation > tolerance
    return Agreement(difference, error, measured.mean - half, measured.mean + half, verdict, unstable)


def _mean_and_half_width(values_N: Values) -> tuple[float, float]:
    """Return the mean and half of Student's interval; NaN for the latter with a single value."""
    from scipy import stats  # not above: loading it takes the second by which a sweep starts earlier

    n = len(values_N)
    mean = float(values_N.mean())
    if n < 2:
        return mean, math.nan
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return mean, quantile * _deviation(values_N) / math.sqrt(n)


def _deviation(values_N: Values) -> float:
    """Return the standard deviation; NaN of a single value, 0 of equal ones, whose mean may be rounded."""
    if len(values_N) < 2:
        return math.nan
    return float(values_N.std(ddof=1)) if np.ptp(values_N) else 0.0


def _effect(difference_N: Values) -> float:
    deviation = _deviation(difference_N)
    return float(difference_N.mean()) / deviation if deviation else math.nan
