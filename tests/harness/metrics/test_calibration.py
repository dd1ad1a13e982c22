from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from harness.metrics.calibration import expected_calibration_error, reliability


def test_by_hand() -> None:
    probability = np.array([0.1, 0.2, 0.6, 0.8])
    label = np.array([0, 1, 1, 1])
    expected = [[0.15, 0.7], [0.5, 1.0], [2, 2]]
    for by in ("equal_width", "equal_rows"):
        np.testing.assert_allclose(reliability(probability, label, bins=2, by=by), expected)
    assert expected_calibration_error(probability, label, bins=2) == pytest.approx(0.5 * 0.35 + 0.5 * 0.3)


def test_edges_belong_to_the_bin_below() -> None:
    given = reliability(np.array([0.0, 0.5, 1.0]), np.array([0, 1, 1]), bins=2, by="equal_width")
    np.testing.assert_allclose(given, [[0.25, 1.0], [0.5, 1.0], [2, 1]])


def test_bins_of_equal_width_against_scikit_learn() -> None:
    random = np.random.default_rng(0)
    probability = random.random(5000)
    label = (random.random(5000) < probability**2).astype(np.float64)
    mean, share, rows = reliability(probability, label, bins=10, by="equal_width")
    share_known, mean_known = calibration_curve(label, probability, n_bins=10)
    np.testing.assert_allclose(mean, mean_known)
    np.testing.assert_allclose(share, share_known)
    assert rows.sum() == 5000


def test_bins_of_equal_rows_against_sorted_parts() -> None:
    random = np.random.default_rng(1)
    probability = random.permutation(np.linspace(0.001, 0.05, 1000))
    label = (random.random(1000) < 0.03).astype(np.float64)
    order = np.argsort(probability)
    parts = np.array_split(order, 20)
    mean, share, rows = reliability(probability, label)
    np.testing.assert_allclose(mean, [probability[part].mean() for part in parts])
    np.testing.assert_allclose(share, [label[part].mean() for part in parts])
    assert set(rows) == {50}
    expected = np.mean([abs(probability[part].mean() - label[part].mean()) for part in parts])
    assert expected_calibration_error(probability, label) == pytest.approx(expected)


def test_a_constant_prediction_is_one_bin() -> None:
    label = np.array([1, 0, 0, 0])
    np.testing.assert_allclose(reliability(np.full(4, 0.3), label), [[0.3], [0.25], [4]])
    assert expected_calibration_error(np.full(4, 0.3), label) == pytest.approx(0.05)


def test_the_true_probabilities_are_calibrated() -> None:
    random = np.random.default_rng(2)
    probability = random.random(200_000)
    label = (random.random(200_000) < probability).astype(np.float64)
    assert expected_calibration_error(probability, label) < 0.01
    assert expected_calibration_error(probability**2, label) > 0.1


def test_no_rows() -> None:
    assert reliability(np.empty(0), np.empty(0)).shape == (3, 0)
    assert math.isnan(expected_calibration_error(np.empty(0), np.empty(0)))


@pytest.mark.parametrize(
    ("probability", "label", "bins", "message"),
    [
        ([0.5], [1.0, 0.0], 2, "one length"),
        ([1.5], [1.0], 2, "sigmoid"),
        ([math.nan], [1.0], 2, "sigmoid"),
        ([0.5], [0.5], 2, "labels must be 0 or 1"),
        ([0.5], [1.0], 0, "at least one"),
    ],
)
def test_what_cannot_be_measured(probability: list[float], label: list[float], bins: int, message: str) -> None:
    values: Any = np.array(probability), np.array(label)
    with pytest.raises(ValueError, match=message):
        reliability(*values, bins)
