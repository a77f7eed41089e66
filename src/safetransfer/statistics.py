"""Means with the uncertainty that belongs to them.

Every figure that the project prints over episodes comes with a percentile bootstrap interval (Efron
& Tibshirani, *An Introduction to the Bootstrap*, chapter 13), resampled within strata so that each
training seed keeps its weight (Agarwal et al. 2021, *Deep RL at the Edge of the Statistical
Precipice*). Such an interval speaks of these agents; `hierarchical_bootstrap` speaks of the method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Resampled indices held at once: bounds the memory at 8 MB however many episodes there are.
_CHUNK = 1_000_000


def bootstrap_mean(
    values: ArrayLike,
    strata: Sequence[Any] | NDArray[Any] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Mean of `values` (n,) and its percentile bootstrap interval: (mean, low, high).

    `strata` (n,) labels the group of each value, such as the training seed of an episode; values
    are drawn with replacement within their own group, so the interval speaks of new episodes of the
    same agents, not of new agents. One value gives an interval of no width. The same arguments
    always give the same interval. ValueError for no values, for values that are not finite, or for
    labels that do not match them.
    """
    data, labels = _checked(values, strata, resamples, confidence)
    # Sums of resampled deviations, not of values: equal values then give an interval of exactly no
    # width instead of one of rounding noise.
    mean = float(data.mean())
    deviation = data - mean
    rng = np.random.default_rng(seed)
    sums = np.zeros(resamples)
    for label in np.unique(labels):
        group = deviation[labels == label]
        rows = max(1, _CHUNK // group.size)
        for start in range(0, resamples, rows):
            stop = min(start + rows, resamples)
            draws = rng.integers(0, group.size, size=(stop - start, group.size))
            sums[start:stop] += group[draws].sum(axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(mean + sums / data.size, [tail, 100.0 - tail])
    return mean, float(low), float(high)


def _checked(
    values: ArrayLike,
    strata: Sequence[Any] | NDArray[Any] | None,
    resamples: int,
    confidence: float,
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Values and their labels as arrays (n,), or ValueError."""
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise ValueError("no values to average")
    if not np.isfinite(data).all():
        raise ValueError("values to average must be finite")
    labels = np.zeros(data.size, dtype=np.int64) if strata is None else np.asarray(strata).ravel()
    if labels.size != data.size:
        raise ValueError(f"{data.size} values but {labels.size} strata labels")
    if resamples < 1 or not 0.0 < confidence < 1.0:
        raise ValueError("resamples must be at least 1 and confidence between 0 and 1")
    return data, labels


class Statistic(Protocol):
    """A figure of values (..., n) along an axis, such as `numpy.mean`."""

    def __call__(self, values: NDArray[np.float64], /, *, axis: int) -> Any: ...


def stratified_bootstrap(
    values: ArrayLike,
    strata: Sequence[Any] | NDArray[Any] | None = None,
    statistic: Statistic = np.mean,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """As `bootstrap_mean`, for any `statistic` of the values: (statistic, low, high)."""
    data, labels = _checked(values, strata, resamples, confidence)
    groups = [data[labels == label] for label in np.unique(labels)]
    rng = np.random.default_rng(seed)

    def resampled(rows: int) -> NDArray[np.float64]:
        drawn = [g[rng.integers(0, g.size, size=(rows, g.size))] for g in groups]
        return np.concatenate(drawn, axis=1)

    return _percentile_interval(np.concatenate(groups), statistic, resampled, resamples, confidence)


def hierarchical_bootstrap(
    values: ArrayLike,
    groups: Sequence[Any] | NDArray[Any],
    statistic: Statistic = np.mean,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """A statistic of `values` (n,) and its two-stage percentile interval: (statistic, low, high).

    `groups` (n,) labels each value, such as the training seed of an episode. Each resample first
    draws as many groups as there are, with replacement, and then within each drawn group as many
    values as it has, with replacement: the interval speaks of new agents trained in the same way.
    (Davison & Hinkley 1997, *Bootstrap Methods and their Application*, section 3.8; that runs, not
    episodes, are what has to be resampled: Agarwal et al. 2021, section 4.)

    Of a groups of b values, with group means m_i and variances v_i (divisor b), the resampled mean
    has variance [mean((m_i - m)^2) + mean(v_i) / b] / a: a little too much for the episodes, which
    it counts twice, and (a - 1) / a of what is right for the seeds. With two or three seeds the
    interval is too narrow, with one it says nothing about seeds. Same arguments, same interval.
    ValueError as for `bootstrap_mean`.
    """
    data, labels = _checked(values, groups, resamples, confidence)
    members = [data[labels == label] for label in np.unique(labels)]
    rng = np.random.default_rng(seed)
    size = members[0].size
    equal = all(member.size == size for member in members)
    stacked = np.stack(members) if equal else np.zeros((0, 0))

    def resampled(rows: int) -> NDArray[np.float64]:
        if not equal:  # resamples differ in length, so they are drawn one by one
            chosen = rng.integers(0, len(members), size=len(members))
            drawn = [members[i][rng.integers(0, members[i].size, members[i].size)] for i in chosen]
            return np.concatenate(drawn)[None]
        chosen = rng.integers(0, len(members), size=(rows, len(members), 1))
        within = rng.integers(0, size, size=(rows, len(members), size))
        return stacked[chosen, within].reshape(rows, -1)

    pooled = np.concatenate(members)
    return _percentile_interval(pooled, statistic, resampled, resamples, confidence)


def _percentile_interval(
    values: NDArray[np.float64],
    statistic: Statistic,
    resampled: Callable[[int], NDArray[np.float64]],
    resamples: int,
    confidence: float,
) -> tuple[float, float, float]:
    """`resampled(rows)` gives up to that many resamples, one a row."""
    estimate = float(statistic(values, axis=-1))
    if values.min() == values.max():  # rounding noise is no width
        return estimate, estimate, estimate
    figures: list[float] = []
    rows = max(1, _CHUNK // values.size)
    while len(figures) < resamples:
        drawn = resampled(min(rows, resamples - len(figures)))
        figures += np.asarray(statistic(drawn, axis=-1)).tolist()
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(figures, [tail, 100.0 - tail])
    return estimate, float(low), float(high)


def interquartile_mean(values: NDArray[np.float64], /, *, axis: int = -1) -> Any:
    """Mean of the middle half of values (..., n): at either end n // 4 of them are left out.

    Less moved by a few bad episodes than the mean, and less uncertain than the median (Agarwal et
    al. 2021, section 4.2). For safety it is the tail that matters: read the mean and the worst too.
    """
    data = np.sort(np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1), axis=-1)
    size = data.shape[-1]
    if size == 0:
        raise ValueError("no values to average")
    return data[..., size // 4 : size - size // 4].mean(axis=-1)


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share (Brown, Cai & DasGupta 2001), 95% unless z says otherwise.

    Unlike a bootstrap's it has a width where all or none succeeded: 100 of 100 is 96.3% to 100%.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a share")
    share = successes / trials
    scale = 1.0 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return low, high


def summary(
    values: ArrayLike, strata: Sequence[Any] | NDArray[Any] | None = None, seed: int = 0
) -> dict[str, Any]:
    """`bootstrap_mean` as `evaluate --json` prints it: {"mean": m, "ci95": [low, high]}."""
    mean, low, high = bootstrap_mean(values, strata, seed)
    return {"mean": mean, "ci95": [low, high]}


def moving_mean(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Centred moving mean of `values` (n,) over `window` entries, fewer at the ends; skips NaN.

    Stays NaN where the value itself is NaN, so a smoothed curve has the gaps of the raw one.
    """
    data = np.asarray(values, dtype=np.float64)
    if window <= 1 or data.size == 0:
        return data.copy()
    known = np.isfinite(data)
    half = window // 2
    total = np.concatenate([[0.0], np.cumsum(np.where(known, data, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(data.size)
    # The window shrinks on both sides alike near an end, so that a rising curve is not bent there.
    reach = np.minimum(half, np.minimum(index, data.size - 1 - index))
    first, last = index - reach, index + reach + 1
    means = (total[last] - total[first]) / np.maximum(count[last] - count[first], 1)
    return np.where(known, means, np.nan)
