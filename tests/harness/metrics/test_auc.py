import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.metrics.auc import AucState, auc, auc_standard_error


def rows(n, *, levels=None, seed=0, share=0.3):
    rng = np.random.default_rng(seed)
    label = rng.random(n) < share
    score = rng.standard_normal(n) + label
    if levels:
        score = np.round(score * levels) / levels
    return score.astype(np.float32), label


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("levels", [None, 100, 2])
def test_matches_scikit_learn_with_and_without_ties(share, levels):
    score, label = rows(5_000, levels=levels, share=share)
    assert auc(score, label) == pytest.approx(roc_auc_score(label, score), abs=1e-14)


def test_by_hand():
    # Pairs (positive, negative): (0.8, 0.2) won, (0.8, 0.5) won, (0.5, 0.2) won, (0.5, 0.5) half: 3.5 of 4.
    score, label = np.array([0.2, 0.5, 0.5, 0.8]), np.array([0, 0, 1, 1])
    assert auc(score, label) == 0.875
    assert auc(-score, label) == 0.125


def test_all_scores_equal_is_one_half():
    assert auc(np.zeros(7), np.array([1, 0, 0, 1, 0, 0, 0])) == 0.5


def test_zero_and_minus_zero_are_one_score():
    assert auc(np.array([0.0, -0.0], dtype=np.float32), np.array([1, 0])) == 0.5


def test_infinite_scores_are_ordered():
    assert auc(np.array([np.inf, 1.0, -np.inf]), np.array([1, 0, 0])) == 1.0


@pytest.mark.parametrize("label", [[1, 1, 1], [0, 0, 0]])
def test_one_class_only_is_not_defined(label):
    assert math.isnan(auc(np.arange(3.0), np.array(label)))
    assert math.isnan(auc_standard_error(np.arange(3.0), np.array(label)))


def test_no_rows_is_not_defined():
    assert math.isnan(auc(np.array([]), np.array([])))
    assert math.isnan(AucState().value())


def test_row_order_changes_no_bit():
    score, label = rows(3_000, levels=20)
    order = np.random.default_rng(1).permutation(len(score))
    assert auc(score[order], label[order]) == auc(score, label)


@pytest.mark.parametrize(
    ("score", "label", "message"),
    [
        ([0.1, np.nan], [0, 1], "1 of 2 scores are NaN"),
        ([0.1, 0.2], [0, 2], "labels must be 0 or 1"),
        ([0.1, 0.2], [0, np.nan], "labels must be 0 or 1"),
        ([0.1, 0.2], [0, 1, 1], "one length"),
    ],
)
def test_bad_input_is_refused_in_one_line(score, label, message):
    with pytest.raises(ValueError, match=message) as error:
        auc(np.array(score), np.array(label))
    assert "\n" not in str(error.value)


def test_merged_states_equal_all_rows_at_once():
    score, label = rows(4_001, levels=50)
    states = []
    for part in np.array_split(np.arange(len(score)), 7):
        state = AucState()
        for batch in np.array_split(part, 3):
            state.update(score[batch], label[batch])
        states.append(state)
    merged = AucState()
    for state in reversed(states):
        merged.merge(state)
    assert merged.value() == auc(score, label)


def test_a_merge_leaves_the_other_state_alone():
    one, other = AucState(), AucState()
    one.update(np.array([3.0, 1.0]), np.array([1, 0]))
    other.update(np.array([1.0, 2.0]), np.array([1, 0]))
    one.merge(other)
    assert other.value() == 0.0
    assert one.value() == (1 + 1 + 0.5 + 0) / 4


def delong_by_double_loop(score, label):
    positive, negative = score[label == 1], score[label == 0]
    won = np.array([[1.0 if p > q else 0.5 if p == q else 0.0 for q in negative] for p in positive])
    return math.sqrt(won.mean(1).var(ddof=1) / len(positive) + won.mean(0).var(ddof=1) / len(negative))


@pytest.mark.parametrize("levels", [None, 3])
def test_standard_error_matches_a_double_loop(levels):
    score, label = rows(200, levels=levels)
    assert auc_standard_error(score, label) == pytest.approx(delong_by_double_loop(score, label), rel=1e-12)


def test_standard_error_is_the_spread_of_fresh_samples():
    values, errors = [], []
    for seed in range(300):
        score, label = rows(400, seed=seed)
        values.append(auc(score, label))
        errors.append(auc_standard_error(score, label))
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)


def test_standard_error_needs_two_rows_of_each_class():
    assert math.isnan(auc_standard_error(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1])))
