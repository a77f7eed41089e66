"""The curves of a transfer: the paper's figure 4, and what training looked like inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safetransfer.report.chart import Chart, Curve, Line
from safetransfer.report.runs import Run, Transfer
from safetransfer.statistics import moving_mean

# A curve is smoothed over one part in so many of its stage, enough to read a trend through noise.
_SMOOTHING = 12


def figure_4(transfer: Transfer, target: str) -> list[Chart]:
    """Return, cost per episode and total cost against epochs, moved there against learned there.

    Pre-training comes before the switch, fine-tuning after it; the total counts the deployment
    environment alone, where pre-training has cost nothing.
    """
    pretrain = transfer.stage_runs("pretrain")
    tuned = transfer.stage_runs(f"finetune-{target}")
    scratch = transfer.stage_runs(f"scratch-{target}")
    lengths = {seed: _length(run) for seed, run in pretrain.items()}
    switch_at = max([transfer.planned_epochs("pretrain") or 0, *lengths.values()])
    compared = bool(scratch) or transfer.planned(f"scratch-{target}")
    switch = (float(switch_at), "moved") if switch_at else None
    limit = transfer.cost_limit

    def per_episode(key: str) -> list[Line]:
        moved = [
            _joined(pretrain.get(seed), tuned.get(seed), key, switch_at)
            for seed in transfer.seeds
            if seed in pretrain or seed in tuned
        ]
        learned = [single(run, key) for run in scratch.values()]
        lines = [over_seeds("safe transfer", moved, "series-1")]
        return [*lines, over_seeds("from scratch", learned, "series-2")] if compared else lines

    in_deployment = [_totals(run, switch_at) for run in tuned.values()]
    if not in_deployment and pretrain:
        in_deployment = [_nothing_until(switch_at)]
    totals = [over_seeds("safe transfer", in_deployment, "series-1", smooth=False)]
    if compared:
        learned = [_totals(run, 0) for run in scratch.values()]
        totals.append(over_seeds("from scratch", learned, "series-2", smooth=False))
    spent_before = [_totals(run, 0, lead_in=False) for run in pretrain.values()]
    if spent_before:
        label = "before, in the low-stakes environment"
        line = over_seeds(label, spent_before, "series-1", smooth=False)
        totals.append(Line(label, line.x, line.y, "series-1", dashed=True))
    return [
        Chart(
            "Return per episode",
            per_episode("return"),
            switch=switch,
            zero=True,
            note="higher is better",
        ),
        Chart(
            "Cost per episode (log scale)",
            per_episode("cost"),
            y_scale="log",
            switch=switch,
            limit=(limit, f"limit {limit:g}") if limit is not None else None,
            note="lower is better",
        ),
        Chart("Total cost in deployment", totals, switch=switch, zero=True, note="lower is better"),
    ]


def diagnostics(transfer: Transfer, stage: str) -> list[Chart]:
    """Inside one stage's training: multiplier, entropy, and predicted against measured Q."""
    runs = transfer.stage_runs(stage)

    def curve(label: str, key: str, colour: str) -> Line:
        curves = [single(run, key) for run in runs.values()]
        return over_seeds(label, curves, colour)

    return [
        Chart("Lagrange multiplier β", [curve("β", "multiplier", "series-1")], zero=True),
        Chart("Policy entropy (nats)", [curve("entropy", "entropy", "series-3")]),
        Chart(
            "Q at the start of an episode",
            [
                curve("predicted", "q_start", "series-1"),
                curve("measured", "q_measured", "series-2"),
            ],
        ),
    ]


# --- Curves from runs ---------------------------------------------------------------------------

# One seed's curve: x (points,), y (points,), and the index at which each of its stages begins.
_Seed = tuple[Curve, Curve, list[int]]


def _length(run: Run) -> int:
    """Epochs from the first logged to the last."""
    return int(run.rows[-1]["epoch"] - run.rows[0]["epoch"]) + 1


def _epochs(run: Run, offset: int) -> Curve:
    """Epochs counted from 1 whatever the run's own numbering, moved right by `offset`."""
    epochs = run.column("epoch")
    return epochs - epochs[0] + 1 + offset


def _joined(before: Run | None, after: Run | None, key: str, switch_at: int) -> _Seed:
    """One logged figure over pre-training and then fine-tuning; either may be missing."""
    x: list[Curve] = []
    y: list[Curve] = []
    starts: list[int] = []
    for run, offset in ((before, 0), (after, switch_at)):
        if run is not None:
            starts.append(sum(len(part) for part in x))
            x.append(_epochs(run, offset))
            y.append(run.column(key))
    return np.concatenate([np.zeros(0), *x]), np.concatenate([np.zeros(0), *y]), starts


def single(run: Run, key: str) -> _Seed:
    """One logged figure of one run, for `over_seeds`."""
    return _joined(None, run, key, 0)


def _totals(run: Run, offset: int, lead_in: bool = True) -> _Seed:
    """Total cost, beginning with 0 where the run begins or, with a lead-in, all the way before."""
    origin = [0.0, float(offset)] if lead_in and offset else [float(offset)]
    x = np.concatenate([origin, _epochs(run, offset)])
    y = np.concatenate([np.zeros(len(origin)), run.column("cost_total")])
    return x, y, [0]


def _nothing_until(epoch: int) -> _Seed:
    return np.array([0.0, float(epoch)]), np.zeros(2), [0]


def over_seeds(label: str, curves: Sequence[_Seed], colour: str, smooth: bool = True) -> Line:
    """The mean over seeds where all of them have a figure; their range is the band."""
    if not curves:
        return Line(label, np.zeros(0), np.zeros(0), colour)
    smoothed = [(x, _smooth(y, starts) if smooth else y) for x, y, starts in curves]
    # The mean stops with the shortest seed: a mean whose members change jumps for no reason.
    x = smoothed[0][0]
    for other, _ in smoothed[1:]:
        x = np.intersect1d(x, other)
    stacked = np.array([y[np.isin(at, x)] for at, y in smoothed])
    several = len(curves) > 1
    band = (stacked.min(axis=0), stacked.max(axis=0)) if several else None
    faint = [(at, y) for at, y, _ in curves] if smooth or several else []
    return Line(label, x, stacked.mean(axis=0), colour, band=band, faint=faint)


def _smooth(y: Curve, starts: Sequence[int]) -> Curve:
    """Moving mean within each stage, never across the switch."""
    parts = np.split(y, starts[1:])
    return np.concatenate([moving_mean(part, len(part) // _SMOOTHING) for part in parts])
