"""The bootstrap against normal theory, and what stratification and smoothing must do."""

from __future__ import annotations

import numpy as np
import pytest

from safetransfer.report.statistics import bootstrap_mean, moving_mean, summary


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
