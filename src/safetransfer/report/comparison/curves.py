"""Learning curves of the groups: a chart of each measure for each environment, and its numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safetransfer.report.chart import Chart, Curve, Line
from safetransfer.report.comparison.groups import Group
from safetransfer.report.comparison.members import Member
from safetransfer.report.runs import Run
from safetransfer.report.words import short_name

COLOURS = ("series-1", "series-2", "series-3", "series-4")
PER_CHART = 2 * len(COLOURS)
"""More curves than solid and dashed ones in each colour cannot be told apart."""

_MEASURES = (
    ("return", "Return per episode", "higher is better"),
    ("cost", "Cost per episode (log scale)", "lower is better"),
    ("cost_total", "Total cost of training", "lower is better"),
)


@dataclass(frozen=True)
class Figure:
    """A chart, the name of its files, and where its numbers come from."""

    name: str
    chart: Chart
    groups: Sequence[Group]
    measure: str

    def csv(self) -> str:
        """What is drawn: a row per point of each mean (with the least and greatest over seeds) and
        of each run, {group, label, line, env_steps, value, low, high}."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["group", "label", "line", "env_steps", "value", "low", "high"])
        for group, line in zip(self.groups, self.chart.lines, strict=True):
            low, high = line.band or (line.y, line.y)
            for point in zip(line.x, line.y, low, high, strict=True):
                writer.writerow([group.letter, group.label, "mean", *map(_plain, point)])
            for member, run in _trained(group):
                x, y = _curve(run, self.measure)
                for at, value in zip(x, y, strict=True):
                    name = f"seed {member.seed}"
                    writer.writerow(
                        [group.letter, group.label, name, _plain(at), _plain(value), "", ""]
                    )
        return out.getvalue()


def _plain(value: float) -> str:
    return f"{value:.10g}" if np.isfinite(value) else ""


def look(index: int) -> tuple[str, bool]:
    """Colour of the curve `index` of a chart, and whether it is dashed."""
    return COLOURS[index % len(COLOURS)], index % PER_CHART >= len(COLOURS)


def figures(groups: Sequence[Group]) -> list[Figure]:
    """Return, cost and total cost against environment steps, for each environment trained in."""
    found: list[Figure] = []
    for env in dict.fromkeys(g.env for g in groups):
        here = [g for g in groups if g.env == env and _trained(g)]
        for first in range(0, len(here), PER_CHART):
            part = here[first : first + PER_CHART]
            suffix = f"-{first // PER_CHART + 1}" if len(here) > PER_CHART else ""
            for measure, title, note in _MEASURES:
                name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{measure}-{env}{suffix}")
                chart = Chart(
                    f"{title}, {short_name(env)}",
                    [_line(group, measure, k) for k, group in enumerate(part)],
                    x_label="environment steps",
                    y_scale="log" if measure == "cost" else "linear",
                    zero=True,
                    limit=_limit(part) if measure == "cost" else None,
                    note=note,
                )
                found.append(Figure(name, chart, part, measure))
    return found


def curve_index(groups: Sequence[Group], group: Group) -> int | None:
    """Which curve of its charts a group has; None where it was not trained."""
    if not _trained(group):
        return None
    return [g.letter for g in groups if g.env == group.env and _trained(g)].index(group.letter)


def _trained(group: Group) -> list[tuple[Member, Run]]:
    return [(m, m.run) for m in group.members if m.run is not None]


def _limit(groups: Sequence[Group]) -> tuple[float, str] | None:
    limits = {g.cost_limit for g in groups}
    limit = limits.pop() if len(limits) == 1 else None
    return None if limit is None else (limit, f"limit {limit:g}")


def _curve(run: Run, measure: str) -> tuple[Curve, Curve]:
    """Against steps taken; a total begins at nothing."""
    x, y = run.column("env_steps"), run.column(measure)
    if measure == "cost_total":
        x, y = np.append(0.0, x), np.append(0.0, y)
    return x, y


def _line(group: Group, measure: str, index: int) -> Line:
    """The mean over seeds, epoch by epoch as far as all have come, and the range as a band.

    Seeds of one thing take nearly the same steps in an epoch; the mean stands at their mean.
    """
    colour, dashed = look(index)
    curves = [_curve(run, measure) for _, run in _trained(group)]
    epochs = min(len(x) for x, _ in curves)
    x = np.mean([x[:epochs] for x, _ in curves], axis=0)
    y = np.array([y[:epochs] for _, y in curves])
    several = len(curves) > 1
    return Line(
        _legend(group),
        x,
        y.mean(axis=0),
        colour,
        dashed,
        band=(y.min(axis=0), y.max(axis=0)) if several else None,
        faint=curves if several else (),
    )


def _legend(group: Group) -> str:
    """The label where there is room for it under a chart's title, else only the letter's start."""
    text = f"{group.letter} {group.label}"
    return text if len(text) <= _ROOM else text[: _ROOM - 1] + "…"


_ROOM = 54  # characters in the width of a chart
