import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from harness.metrics.auc import auc
from harness.metrics.curves import precision_recall_points, roc_points


def rows(n=4_000, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.3
    return np.round(rng.standard_normal(n) + label, 2).astype(np.float32), label


def test_a_small_roc_curve_by_hand():
    points = roc_points(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]))
    np.testing.assert_array_equal(points, np.array([[0, 0, 0.5, 1], [0, 0.5, 1, 1]], dtype=np.float32))


def test_a_small_precision_recall_curve_by_hand():
    points = precision_recall_points(np.array([0.9, 0.5, 0.4, 0.1]), np.array([1, 0, 1, 0]))
    np.testing.assert_allclose(points, [[0, 0.5, 1], [1, 1, 2 / 3]], rtol=1e-6)


def test_roc_points_lie_on_scikit_learns_curve():
    score, label = rows()
    points = roc_points(score, label)
    false_rate, true_rate, _ = roc_curve(label, score, drop_intermediate=False)
    exact = set(zip(false_rate.astype(np.float32), true_rate.astype(np.float32), strict=True))
    assert points.dtype == np.float32
    assert points.shape[1] <= 201
    assert set(zip(*points, strict=True)) <= exact
    assert points[:, 0].tolist() == [0, 0]
    assert points[:, -1].tolist() == [1, 1]


def test_the_area_under_the_thinned_roc_curve_is_the_auc():
    score, label = rows()
    false_rate, true_rate = roc_points(score, label)
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(auc(score, label), abs=2e-4)


def test_precision_recall_points_lie_on_scikit_learns_curve():
    score, label = rows()
    points = precision_recall_points(score, label)
    precision, recall, _ = precision_recall_curve(label, score)
    exact = set(zip(recall.astype(np.float32), precision.astype(np.float32), strict=True))
    assert points.shape[1] <= 201
    assert set(zip(*points, strict=True)) <= exact
    assert points[0, 0] == 0
    assert points[0, -1] == 1


@pytest.mark.parametrize("label", [[], [1, 1], [0, 0]])
def test_no_roc_curve_without_both_classes(label):
    assert roc_points(np.arange(float(len(label))), np.array(label)).shape == (2, 0)


def test_no_precision_recall_curve_without_positives():
    assert precision_recall_points(np.array([0.1, 0.2]), np.array([0, 0])).shape == (2, 0)
    assert precision_recall_points(np.array([0.1, 0.2]), np.array([1, 1])).shape == (2, 3)


def test_one_point_is_no_curve():
    with pytest.raises(ValueError, match="at least 2 points"):
        roc_points(*rows(), points=1)
