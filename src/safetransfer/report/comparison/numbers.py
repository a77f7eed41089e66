"""The figures of a group: what its agents do, and what training them cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from safetransfer.report.comparison.groups import Group
from safetransfer.statistics import (
    Statistic,
    hierarchical_bootstrap,
    interquartile_mean,
    stratified_bootstrap,
    wilson_interval,
)

Interval = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A figure with its 95% intervals: over new episodes of these agents, and over new seeds too.

    Each is None where it cannot be had: the second needs two seeds.
    """

    value: float
    over_episodes: Interval | None = None
    over_seeds: Interval | None = None


@dataclass(frozen=True)
class Evaluated:
    """What a group's agents do in evaluation episodes, all seeds together.

    `within` is the share of episodes whose cost is at most the limit, `cost_rate` cost per
    environment step, `worst_cost` and `worst_return` the extremes of single episodes.
    """

    seeds: int
    episodes: int
    mean_return: Figure
    iqm_return: Figure
    mean_cost: Figure
    iqm_cost: Figure
    cost_rate: Figure
    within: Figure | None
    worst_cost: float
    worst_return: float


@dataclass(frozen=True)
class Trained:
    """What training a group's agents took, means over seeds.

    `regret` is all cost that training incurred; `cost_rate` is that per environment step (Ray et
    al. 2019, *Benchmarking Safe Exploration in Deep RL*, section 4).
    """

    seeds: int
    regret: Figure
    cost_rate: Figure
    env_steps: float
    epochs: tuple[int, ...]
    unfinished: int


def evaluated(group: Group) -> Evaluated | None:
    """None where no member has been evaluated."""
    episodes = [m.episodes for m in group.members if m.episodes is not None]
    return measured(episodes, group.cost_limit) if episodes else None


def measured(
    seeds: Sequence[Mapping[str, NDArray[np.float64]]], cost_limit: float | None
) -> Evaluated:
    """The figures of the evaluation episodes of one seed or more: of each an array (episodes,) of
    "return", "cost" and "length". `cost_limit` is per episode."""
    returns, costs, lengths = (
        np.concatenate([np.asarray(episodes[name], dtype=np.float64) for episodes in seeds])
        for name in ("return", "cost", "length")
    )
    owners = np.repeat(np.arange(len(seeds)), [len(episodes["cost"]) for episodes in seeds])
    within = None
    if cost_limit is not None:
        kept = costs <= cost_limit
        # Of all or none the bootstrap would claim to be certain.
        mixed = kept.any() and not kept.all()
        within = Figure(
            float(kept.mean()),
            wilson_interval(int(kept.sum()), kept.size),
            _over_seeds(kept.astype(float), owners, np.mean) if mixed else None,
        )
    return Evaluated(
        seeds=len(seeds),
        episodes=returns.size,
        mean_return=_figure(returns, owners, np.mean),
        iqm_return=_figure(returns, owners, interquartile_mean),
        mean_cost=_figure(costs, owners, np.mean),
        iqm_cost=_figure(costs, owners, interquartile_mean),
        cost_rate=_rate(costs, lengths, owners),
        within=within,
        worst_cost=float(costs.max()),
        worst_return=float(returns.min()),
    )


def _figure(values: NDArray[np.float64], owners: ArrayLike, statistic: Statistic) -> Figure:
    value, *ends = stratified_bootstrap(values, np.asarray(owners), statistic)
    return Figure(value, (ends[0], ends[1]), _over_seeds(values, owners, statistic))


def _over_seeds(
    values: NDArray[np.float64], owners: ArrayLike, statistic: Statistic
) -> Interval | None:
    if len(np.unique(owners)) < 2:
        return None
    _, low, high = hierarchical_bootstrap(values, np.asarray(owners), statistic)
    return low, high


def _rate(
    costs: NDArray[np.float64], lengths: NDArray[np.float64], owners: NDArray[np.int64]
) -> Figure:
    """Cost per step over all episodes: a ratio of sums, so episodes are resampled whole."""
    # Each episode is passed by its place, and the statistic looks up what belongs to it.
    places = np.arange(costs.size, dtype=np.float64)

    def rate(chosen: NDArray[np.float64], /, *, axis: int) -> NDArray[np.float64]:
        index = chosen.astype(np.int64)
        return costs[index].sum(axis=axis) / lengths[index].sum(axis=axis)

    return _figure(places, owners, rate)


def trained(group: Group) -> Trained | None:
    """None where no member was trained there."""
    runs = [(m.settings.get("train.epochs"), m.run) for m in group.members if m.run is not None]
    totals = [run.cost_total for _, run in runs]
    steps = [run.last("env_steps") for _, run in runs]
    known = [(t, s) for t, s in zip(totals, steps, strict=True) if t is not None and s]
    if not known:
        return None
    epochs = tuple(run.epochs for _, run in runs)
    return Trained(
        seeds=len(known),
        regret=over_runs([t for t, _ in known]),
        cost_rate=over_runs([t / s for t, s in known]),
        env_steps=float(np.mean([s for _, s in known])),
        epochs=epochs,
        unfinished=sum(run.epochs < int(planned or 0) for planned, run in runs),
    )


def over_runs(values: Sequence[float]) -> Figure:
    """The mean of one value per seed; there are no episodes in it."""
    mean, low, high = stratified_bootstrap(values)
    return Figure(mean, None, (low, high) if len(values) > 1 else None)
