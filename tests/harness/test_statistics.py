import itertools
import math

import numpy as np
import pytest
import scipy.stats

from harness.statistics import (
    SAMPLED_SIGN_FLIPS,
    agreement,
    bootstrap_interval,
    holm,
    paired_by_seed,
    paired_by_user,
    pooled_standard_error,
    relative_improvement,
    relative_improvements,
    sign_flip_p,
    summarize,
    user_standard_error,
)

TEN = [0.7311, 0.7320, 0.7305, 0.7331, 0.7298, 0.7316, 0.7322, 0.7309, 0.7313, 0.7318]


def test_summary_matches_scipy():
    summary = summarize(TEN, failed=1)
    low, high = scipy.stats.t.interval(0.95, 9, loc=np.mean(TEN), scale=scipy.stats.sem(TEN))
    assert (summary.n, summary.failed) == (10, 1)
    assert summary.mean == pytest.approx(np.mean(TEN))
    assert summary.deviation == pytest.approx(np.std(TEN, ddof=1))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))
    assert (summary.minimum, summary.maximum) == (0.7298, 0.7331)


def test_summary_by_hand():
    # 1, 2, 3: sd 1, t(0.975, 2) = 4.3027, half-width 4.3027 / sqrt(3) = 2.4841.
    summary = summarize([1.0, 2.0, 3.0])
    assert summary.deviation == 1.0
    assert summary.half_width == pytest.approx(2.4841, abs=1e-4)


def test_one_seed_has_a_mean_and_no_spread():
    summary = summarize([0.5])
    assert (summary.n, summary.mean, summary.minimum) == (1, 0.5, 0.5)
    assert math.isnan(summary.deviation)
    assert math.isnan(summary.half_width)


def test_equal_seeds_have_no_spread_in_spite_of_rounding():
    value = 1 / 2237  # ten times this, summed and divided by ten, is another number
    assert np.std([value] * 10) > 0
    summary = summarize([value] * 10)
    assert (summary.deviation, summary.half_width) == (0, 0)
    assert summary.mean == pytest.approx(value)


def test_no_seed_has_nothing():
    summary = summarize([], failed=10)
    assert (summary.n, summary.failed) == (0, 10)
    assert math.isnan(summary.mean)


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = [(s := summarize(rng.normal(1, 2, 10))).low <= 1 <= s.high for _ in range(2_000)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_ten_equal_signs_reach_the_floor_of_the_sign_flip_test():
    assert sign_flip_p(np.linspace(0.001, 0.01, 10)) == 2 / 1024
    assert sign_flip_p(-np.linspace(0.001, 0.01, 10)) == 2 / 1024


def test_sign_flips_by_hand():
    # 8 arrangements of 1, 2, 4 have sums ±7, ±5, ±3, ±1; |sum| of -1, 2, 4 is 5: four arrangements reach it.
    assert sign_flip_p([-1.0, 2.0, 4.0]) == 4 / 8
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert math.isnan(sign_flip_p([]))


def test_sign_flips_match_scipy():
    rng = np.random.default_rng(3)
    values = rng.normal(0.4, 1, 9)
    test = scipy.stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip_p(values) == pytest.approx(test.pvalue)


def test_equal_sums_count_in_spite_of_rounding():
    # Ten equal differences: an arrangement's sum depends on the number of signs alone, whatever the summation order.
    values = [0.1] * 9 + [-0.1]
    reached = sum(abs(sum(signs)) >= 8 for signs in itertools.product((1, -1), repeat=10))
    assert sign_flip_p(values) == reached / 1024


def test_many_pairs_are_sampled_and_repeatable():
    values = np.random.default_rng(0).normal(0.5, 1, 30)
    p = sign_flip_p(values, seed=4)
    assert p == sign_flip_p(values, seed=4)
    assert p == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_fourteen_pairs_are_counted_and_fifteen_sampled() -> None:
    assert sign_flip_p(np.ones(14)) == 2 / 2**14
    counted = sign_flip_p(np.ones(15)) * (SAMPLED_SIGN_FLIPS + 1)
    assert counted == pytest.approx(round(counted))
    assert counted / (SAMPLED_SIGN_FLIPS + 1) != 2 / 2**15


def test_sampled_sign_flips_never_give_zero() -> None:
    assert sign_flip_p(np.ones(40)) == 1 / (SAMPLED_SIGN_FLIPS + 1)


def test_paired_by_seed_uses_the_shared_seeds():
    values = {seed: value + 0.01 + 0.0001 * seed for seed, value in enumerate(TEN)}
    reference = dict(enumerate(TEN)) | {99: 0.1}
    del values[3]
    difference = paired_by_seed(values, reference)
    expected = [0.01 + 0.0001 * seed for seed in range(10) if seed != 3]
    low, high = scipy.stats.t.interval(0.95, 8, loc=np.mean(expected), scale=scipy.stats.sem(expected))
    assert (difference.pairs, difference.n) == ("seeds", 9)
    assert difference.mean == pytest.approx(np.mean(expected))
    assert (difference.low, difference.high) == (pytest.approx(low), pytest.approx(high))
    assert difference.p_value == 2 / 512
    assert difference.effect == pytest.approx(np.mean(expected) / np.std(expected, ddof=1))


def test_no_shared_seed_gives_no_difference():
    difference = paired_by_seed({1: 0.5}, {2: 0.5})
    assert difference.n == 0
    assert math.isnan(difference.mean)


def test_paired_by_user_averages_over_seeds_first():
    rng = np.random.default_rng(0)
    value, reference = rng.random((10, 500)) < 0.06, rng.random((8, 500)) < 0.04
    difference = paired_by_user(value, reference)
    by_user = value.mean(0) - reference.mean(0)
    assert (difference.pairs, difference.n) == ("users", 500)
    assert difference.mean == pytest.approx(by_user.mean())
    assert difference.p_value == pytest.approx(scipy.stats.ttest_rel(value.mean(0), reference.mean(0)).pvalue)
    assert difference.low < by_user.mean() < difference.high
    assert difference == paired_by_user(value, reference)


def test_the_effect_over_users_divides_by_their_deviation() -> None:
    # Users differ by 1, 2, 3: mean 2, standard deviation 1.
    difference = paired_by_user(np.array([[1.0, 3.0, 3.0], [1.0, 1.0, 3.0]]), np.zeros((1, 3)))
    assert (difference.mean, difference.effect) == (pytest.approx(2.0), pytest.approx(2.0))


def test_one_user_has_a_difference_and_no_interval() -> None:
    difference = paired_by_user(np.array([[1.0]]), np.array([[0.25]]))
    assert (difference.n, difference.mean) == (1, 0.75)
    assert all(math.isnan(x) for x in (difference.low, difference.high, difference.p_value, difference.effect))


def test_a_method_does_not_differ_from_itself():
    value = np.random.default_rng(0).random((3, 50))
    difference = paired_by_user(value, value)
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)
    assert math.isnan(difference.effect)


def test_other_users_cannot_be_paired():
    with pytest.raises(ValueError, match="5 and 6 test users"):
        paired_by_user(np.zeros((2, 5)), np.zeros((2, 6)))


def test_bootstrap_matches_scipy_and_the_normal_interval():
    values = np.random.default_rng(1).choice([0.0, 0.1, 1.0], size=800, p=[0.9, 0.06, 0.04])
    low, high = bootstrap_interval(values)
    other = scipy.stats.bootstrap((values,), np.mean, n_resamples=4_000, method="percentile", rng=2).confidence_interval
    error = values.std() / math.sqrt(800)
    assert (low, high) == (pytest.approx(other.low, abs=0.15 * error), pytest.approx(other.high, abs=0.15 * error))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_bootstrap_of_many_distinct_values_runs_in_blocks():
    values = np.random.default_rng(1).normal(0, 1, 5_000)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(5_000), rel=0.08)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_is_unknown():
    adjusted = holm([math.nan, 0.02, 0.03])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])


def test_standard_error_over_users_by_hand():
    # Users' means over two seeds: 0.5, 1, 0: sd 0.5, over sqrt(3).
    assert user_standard_error(np.array([[1, 1, 0], [0, 1, 0]])) == pytest.approx(0.5 / math.sqrt(3))
    assert math.isnan(user_standard_error(np.ones((3, 1))))


def test_the_notes_standard_error_of_beauty():
    # 2,237 users at Recall@5 = 0.043: one standard error is 0.0043.
    hits = np.zeros((1, 2237))
    hits[0, : round(0.043 * 2237)] = 1
    assert user_standard_error(hits) == pytest.approx(0.0043, abs=5e-5)


def test_errors_of_one_sample_are_not_averaged_away():
    assert pooled_standard_error([0.002] * 10) == pytest.approx(0.002)
    assert pooled_standard_error([3.0, math.nan, 4.0]) == pytest.approx(math.sqrt(12.5))
    assert math.isnan(pooled_standard_error([]))


def test_relative_improvement_gives_the_papers_cells():
    # CSDM, Table 1, ML-1M, cold and warm-a.
    assert relative_improvement(0.7443, 0.7313) == pytest.approx(5.62, abs=0.005)
    assert relative_improvement(0.7982, 0.7464) == pytest.approx(21.02, abs=0.005)
    assert relative_improvement(0.7313, 0.7313) == 0
    assert math.isnan(relative_improvement(0.6, 0.5))
    assert relative_improvement(0.45, 0.4) == pytest.approx(-50.0)  # of a baseline worse than chance
    assert relative_improvement(0.4, 0.6) == pytest.approx(-200.0)


def test_relative_improvement_is_taken_under_each_seed():
    result = relative_improvements({0: 0.75, 1: 0.7, 5: 0.9}, {0: 0.6, 1: 0.7, 2: 0.6})
    assert result == {0: pytest.approx(150.0), 1: 0.0}


def test_within_the_tolerance_is_reproduced():
    result = agreement(0.7313, summarize(TEN), 0.006)
    assert result.verdict == "reproduced"
    assert result.difference == pytest.approx(np.mean(TEN) - 0.7313)
    assert not result.unstable


def test_a_difference_of_exactly_the_tolerance_is_reproduced():
    assert agreement(0.730, summarize([0.736, 0.736]), 0.006).verdict == "reproduced"
    assert agreement(0.730, summarize([0.7361, 0.7361]), 0.006).verdict == "not reproduced"


def test_the_test_samples_error_makes_a_distant_cell_consistent():
    measured = summarize([0.050, 0.051, 0.049, 0.050])
    assert agreement(0.043, measured, 0.0043).verdict == "not reproduced"
    wide = agreement(0.043, measured, 0.0043, sampling_error=0.0045)
    assert wide.verdict == "consistent"
    half = math.hypot(measured.half_width, 1.959964 * 0.0045)
    assert (wide.low, wide.high) == (pytest.approx(0.05 - half), pytest.approx(0.05 + half))
    assert wide.error == pytest.approx(math.hypot(measured.deviation / 2, 0.0045))


def test_the_seeds_share_of_the_interval_is_students() -> None:
    """Of two seeds the quantile is 12.7, not the normal 1.96."""
    measured = summarize([0.0495, 0.0505])  # standard error 0.0005
    beyond_normal = agreement(0.0455, measured, 0.001)
    assert (beyond_normal.verdict, beyond_normal.error) == ("consistent", pytest.approx(0.0005))
    half = float(scipy.stats.t.ppf(0.975, 1)) * 0.0005
    assert (beyond_normal.low, beyond_normal.high) == (pytest.approx(0.05 - half), pytest.approx(0.05 + half))
    assert agreement(0.0430, measured, 0.001).verdict == "not reproduced"


def test_noise_does_not_pass_for_success():
    result = agreement(0.75, summarize([0.70, 0.80]), 0.006)
    assert result.verdict == "reproduced"
    assert result.unstable


def test_instability_is_of_single_seeds_not_of_their_mean() -> None:
    """The deviation counts: two seeds may have a wider interval than that, twenty a narrower one."""
    few, many = summarize([0.746, 0.754]), summarize([0.743, 0.757] * 10)
    assert few.deviation < 0.006 < few.half_width and not agreement(0.75, few, 0.006).unstable
    assert many.half_width < 0.006 < many.deviation and agreement(0.75, many, 0.006).unstable


def test_without_a_measurement():
    assert agreement(0.7, summarize([]), 0.006).verdict == "not run"
    assert agreement(0.7, summarize([], failed=10), 0.006).verdict == "failed"


def test_one_seed_is_judged_by_the_tolerance_and_the_test_sample():
    one = summarize([0.70])
    assert agreement(0.73, one, 0.006, sampling_error=0.006).verdict == "not reproduced"
    assert agreement(0.71, one, 0.006, sampling_error=0.006).verdict == "consistent"
    assert not agreement(0.71, one, 0.006).unstable


def test_one_seed_alone_is_judged_by_nothing_beyond_the_tolerance():
    one = summarize([46.0])
    assert agreement(45.0, one, 10.5).verdict == "reproduced"
    beyond = agreement(35.0, one, 10.5)
    assert (beyond.verdict, beyond.difference) == ("", 11.0)
    assert all(math.isnan(unknown) for unknown in (beyond.error, beyond.low, beyond.high))
