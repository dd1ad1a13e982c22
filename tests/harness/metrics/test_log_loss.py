import math

import numpy as np
import pytest
import sklearn.metrics

from harness.metrics.log_loss import CLIP, LogLossState, log_loss


def test_matches_scikit_learn():
    rng = np.random.default_rng(0)
    probability, label = rng.random(1_000), rng.random(1_000) < 0.4
    assert log_loss(probability, label) == pytest.approx(sklearn.metrics.log_loss(label, probability), rel=1e-12)


def test_by_hand():
    assert log_loss(np.array([0.5, 0.25]), np.array([1, 0])) == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)


def test_certain_and_wrong_is_clipped():
    assert log_loss(np.array([0.0, 1.0], dtype=np.float32), np.array([1, 0])) == pytest.approx(-math.log(CLIP))


def test_one_class_only_is_defined():
    assert log_loss(np.array([0.5, 0.5]), np.array([1, 1])) == pytest.approx(math.log(2))


def test_no_rows_is_not_defined():
    assert math.isnan(log_loss(np.array([]), np.array([])))


def test_merged_parts_equal_the_whole():
    rng = np.random.default_rng(1)
    probability, label = rng.random(999), rng.random(999) < 0.5
    merged = LogLossState()
    for part in np.array_split(np.arange(999), 4):
        state = LogLossState()
        state.update(probability[part], label[part])
        merged.merge(state)
    assert merged.rows == 999
    assert merged.value() == pytest.approx(log_loss(probability, label), rel=1e-14)


@pytest.mark.parametrize(
    ("probability", "label", "message"),
    [
        ([0.5, math.nan], [0, 1], "from 0 to 1"),
        ([0.5, 1.2], [0, 1], "sigmoid"),
        ([0.5], [0, 1], "one length"),
        ([0.5], [3], "labels must be 0 or 1"),
    ],
)
def test_bad_input_is_refused(probability, label, message):
    with pytest.raises(ValueError, match=message):
        log_loss(np.array(probability), np.array(label))
