"""Means with the uncertainty that belongs to them.

Every figure that the project prints over episodes comes with a percentile bootstrap interval (Efron
& Tibshirani, *An Introduction to the Bootstrap*, chapter 13), resampled within strata so that each
training seed keeps its weight (Agarwal et al. 2021, *Deep RL at the Edge of the Statistical
Precipice*).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
