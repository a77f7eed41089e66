"""The bootstrap against normal theory, and what stratification and smoothing must do."""

from __future__ import annotations

import numpy as np
import pytest

from safetransfer.statistics import (
    bootstrap_mean,
    hierarchical_bootstrap,
    interquartile_mean,
    moving_mean,
    stratified_bootstrap,
    summary,
    wilson_interval,
)


def test_interval_agrees_with_normal_theory():
    values = np.random.default_rng(1).normal(900.0, 120.0, 400)
    mean, low, high = bootstrap_mean(values, resamples=8000)
    half = 1.959964 * values.std() / np.sqrt(values.size)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.06 * half)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(400):
        _, low, high = bootstrap_mean(rng.normal(5.0, 3.0, 60), seed=trial, resamples=400)
        covered += low <= 5.0 <= high
    assert 0.91 <= covered / 400 <= 0.97


def test_strata_take_the_spread_between_seeds_out_of_the_interval():
    rng = np.random.default_rng(3)
    seeds = np.repeat([0, 1, 2], 40)
    values = rng.normal(0.0, 10.0, 120) + np.array([0.0, 300.0, 600.0])[seeds]
    within = np.mean([values[seeds == s].var() for s in range(3)])
    _, low, high = bootstrap_mean(values, strata=seeds, resamples=8000)
    half = 1.959964 * np.sqrt(within / values.size)
    assert (high - low) / 2 == pytest.approx(half, rel=0.06)
    _, low, high = bootstrap_mean(values)
    assert (high - low) / 2 > 10 * half


def test_every_stratum_keeps_its_weight():
    # One value per seed leaves nothing to resample; all 0 and all 9 in unequal numbers neither.
    assert bootstrap_mean([1.0, 5.0], strata=["a", "b"]) == (3.0, 3.0, 3.0)
    assert bootstrap_mean([0, 0, 0, 9], strata=[0, 0, 0, 1]) == (2.25, 2.25, 2.25)


def test_same_seed_same_interval_and_another_seed_another():
    values = np.random.default_rng(4).gamma(1.0, 5.0, 50)
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    assert bootstrap_mean(values, seed=7) != bootstrap_mean(values, seed=8)


def test_equal_values_give_an_interval_of_no_width():
    assert bootstrap_mean([0.1] * 7) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    assert bootstrap_mean([42.0]) == (42.0, 42.0, 42.0)


@pytest.mark.parametrize(
    ("values", "strata", "complaint"),
    [
        ([], None, "no values"),
        ([1.0, float("nan")], None, "finite"),
        ([1.0, 2.0], [0], "strata"),
    ],
)
def test_what_cannot_be_averaged_is_refused(values, strata, complaint):
    with pytest.raises(ValueError, match=complaint):
        bootstrap_mean(values, strata)


def test_summary_is_what_evaluate_prints():
    mean, low, high = bootstrap_mean([1.0, 2.0, 6.0])
    assert summary([1.0, 2.0, 6.0]) == {"mean": mean, "ci95": [low, high]}


def test_moving_mean_keeps_straight_lines_and_gaps():
    line = 3.0 * np.arange(12) + 1.0
    np.testing.assert_allclose(moving_mean(line, 5), line)
    assert moving_mean([0.0, 3.0, 0.0, 3.0, 0.0], 3).tolist() == [0.0, 1.0, 2.0, 1.0, 0.0]
    with_gap = moving_mean([1.0, np.nan, 3.0], 3)
    assert np.isnan(with_gap[1]) and with_gap[[0, 2]].tolist() == [1.0, 3.0]


def test_the_stratified_bootstrap_of_a_mean_is_that_of_bootstrap_mean():
    rng = np.random.default_rng(5)
    values, seeds = rng.gamma(2.0, 3.0, 90), np.repeat([0, 1, 2], 30)
    ours = stratified_bootstrap(values, seeds, resamples=4000)
    theirs = bootstrap_mean(values, seeds, resamples=4000)
    width = theirs[2] - theirs[1]
    assert ours[0] == pytest.approx(theirs[0])
    assert ours[1:] == pytest.approx(theirs[1:], abs=0.06 * width)


def test_two_stages_have_the_variance_that_theory_gives_them():
    # Davison & Hinkley, section 3.8: seeds, then episodes, each with replacement.
    rng = np.random.default_rng(6)
    a, b = 8, 25
    values = rng.normal(0.0, 4.0, (a, b)) + rng.normal(0.0, 2.0, (a, 1))
    between = values.mean(axis=1).var()
    variance = (between + values.var(axis=1).mean() / b) / a
    seeds = np.repeat(np.arange(a), b)
    mean, low, high = hierarchical_bootstrap(values.ravel(), seeds, resamples=8000)
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.959964 * np.sqrt(variance), rel=0.06)


def test_two_stages_cover_the_mean_over_seeds_where_one_stage_does_not():
    rng = np.random.default_rng(7)
    seeds = np.repeat(np.arange(10), 12)
    covered = {hierarchical_bootstrap: 0, stratified_bootstrap: 0}
    trials = 200
    for trial in range(trials):
        values = 5.0 + rng.normal(0.0, 2.0, 10)[seeds] + rng.normal(0.0, 2.0, seeds.size)
        for interval in covered:
            _, low, high = interval(values, seeds, seed=trial, resamples=300)
            covered[interval] += low <= 5.0 <= high
    assert 0.87 <= covered[hierarchical_bootstrap] / trials <= 0.98
    assert covered[stratified_bootstrap] / trials < 0.6


def test_two_stages_of_one_seed_are_one_stage_and_of_equal_values_no_width():
    values = np.random.default_rng(8).normal(size=40)
    one = hierarchical_bootstrap(values, [0] * 40, resamples=4000)
    assert one[1:] == pytest.approx(bootstrap_mean(values, resamples=4000)[1:], abs=0.03)
    assert hierarchical_bootstrap([0.1] * 6, [0, 0, 0, 1, 1, 1]) == (pytest.approx(0.1),) * 3
    assert hierarchical_bootstrap(values, [0] * 40) == hierarchical_bootstrap(values, [0] * 40)


def test_other_statistics_are_resampled_too():
    values = np.arange(1.0, 9.0)  # its middle half is 3, 4, 5, 6
    assert interquartile_mean(values) == 4.5
    assert interquartile_mean(np.array([1.0, 2.0, 60.0])) == 21.0  # nothing to leave out yet
    spoilt = np.append(np.full(99, 10.0), 1e6)
    middle, low, high = stratified_bootstrap(spoilt, statistic=interquartile_mean)
    assert (middle, low, high) == (10.0, 10.0, 10.0)
    worst, low, high = hierarchical_bootstrap(values, [0, 0, 0, 0, 1, 1, 1, 1], statistic=np.max)
    assert worst == 8.0 and low < 8.0 and high == 8.0


@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [
        (0, 10, (0.0, 0.2775)),  # Brown, Cai & DasGupta's form, worked by hand: z^2 / (n + z^2)
        (10, 10, (0.7225, 1.0)),
        (15, 20, (0.5313, 0.8881)),
    ],
)
def test_wilson_interval_of_a_share(successes, trials, interval):
    assert wilson_interval(successes, trials) == pytest.approx(interval, abs=5e-5)


@pytest.mark.parametrize("share", [(1, 0), (3, 2), (-1, 5)])
def test_no_share_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        wilson_interval(*share)


@pytest.mark.parametrize(
    ("values", "groups", "complaint"),
    [([], [], "no values"), ([1.0, np.nan], [0, 0], "finite"), ([1.0, 2.0], [0], "1 strata")],
)
def test_two_stages_refuse_what_cannot_be_resampled(values, groups, complaint):
    with pytest.raises(ValueError, match=complaint):
        hierarchical_bootstrap(values, groups)


def test_two_stages_take_seeds_with_unequal_numbers_of_episodes():
    # A resample holds the first seed twice, either once, or the second twice: 0, 6.75 or 9.
    values, seeds = [0.0, 9.0, 9.0, 9.0], [0, 1, 1, 1]
    mean, low, high = hierarchical_bootstrap(values, seeds)
    assert (mean, low, high) == (6.75, 0.0, 9.0)
