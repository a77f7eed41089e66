"""The figure, tables and page of a study: what agents do against how alike the worlds are."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import safetransfer
from safetransfer import settings_io
from safetransfer.report.chart import HEIGHT, WIDTH, Chart, Line
from safetransfer.report.comparison.members import read_episodes
from safetransfer.report.comparison.numbers import Evaluated, Figure, measured, over_runs
from safetransfer.report.comparison.tables import single
from safetransfer.report.html import number, table
from safetransfer.report.runs import RunFileError, motions, read_run
from safetransfer.report.stylesheet import CSS
from safetransfer.report.words import short_name

PAGE, PLAN = "study.html", "study.json"
_WAYS = {"zeroshot": "zero-shot", "finetuned": "fine-tuned"}
_COLOURS = {"zeroshot": "series-2", "finetuned": "series-1"}

_WHAT = {
    "likeness": "likeness: share of walls that stand, poles in place of the others",
    "people": "people in the hallway",
    "people_speed": "speed of people, in that of their clips",
}


@dataclass(frozen=True)
class Point:
    """What all agents together do at one value, in one way; `regret` is of fine-tuning there."""

    value: float
    way: str
    agents: int
    evaluated: Evaluated
    regret: Figure | None


@dataclass(frozen=True)
class Study:
    """A study directory, finished or not."""

    root: Path
    plan: Mapping[str, Any]
    points: tuple[Point, ...]
    cost_limit: float | None
    motions: str

    @property
    def vary(self) -> str:
        return str(self.plan["vary"])

    def along(self, way: str) -> list[Point]:
        return [point for point in self.points if point.way == way]


def read_study(root: str | Path) -> Study:
    """Reads what `safetransfer study` wrote; RunFileError where that is not to be found."""
    root = Path(root)
    if not (root / PLAN).is_file():
        raise RunFileError(f"{root}: no {PLAN} here; name a directory of `safetransfer study`")
    plan = settings_io.read_file(root / PLAN)
    vary, values, agents = plan.get("vary"), plan.get("values"), plan.get("agents")
    if not (isinstance(vary, str) and isinstance(values, list) and isinstance(agents, list)):
        raise RunFileError(
            f"{root / PLAN}: 'vary', 'values' and 'agents' must say what was planned"
        )
    try:
        values = sorted(float(value) for value in values)
    except (TypeError, ValueError):
        raise RunFileError(f"{root / PLAN}: 'values' must be numbers") from None
    points: list[Point] = []
    limits: set[float] = set()
    people: set[str] = set()
    for way in _WAYS:
        for value in values:
            folders = [root / f"agent-{k}" / f"{vary}-{value:g}" for k in range(len(agents))]
            files = [folder / f"{way}.json" for folder in folders]
            documents = [(f, settings_io.read_file(f)) for f in files if f.is_file()]
            if not documents:
                continue
            for file, document in documents:
                given = document.get("cost_limit")
                if given is not None and not isinstance(given, (int, float)):
                    raise RunFileError(f"{file}: 'cost_limit' must be a number")
            limits |= {d["cost_limit"] for _, d in documents if "cost_limit" in d}
            people |= {motions(d.get("mocap")) for _, d in documents}
            limit = documents[0][1].get("cost_limit")
            figures = measured([read_episodes(d, f) for f, d in documents], limit)
            totals = [_total(folder / "finetune") for folder in folders]
            known = [total for total in totals if total is not None]
            regret = over_runs(known) if way == "finetuned" and known else None
            points.append(Point(value, way, len(documents), figures, regret))
    limit = limits.pop() if len(limits) == 1 else None
    return Study(root, plan, tuple(points), limit, "; ".join(sorted(people - {""})))


def _total(run_dir: Path) -> float | None:
    run = read_run(run_dir)
    return None if run is None else run.cost_total


def write_study(root: str | Path) -> Path:
    """Writes study.html, study.svg, results.json and results.csv of a study; returns the page."""
    study = read_study(root)
    files = {
        "results.json": json.dumps(_document(study), indent=1) + "\n",
        "results.csv": _csv(study),
        "study.svg": figure(study),
        PAGE: _page(study),
    }
    for name, text in files.items():
        temporary = study.root / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, study.root / name)
    return study.root / PAGE


# --- Figure -------------------------------------------------------------------------------------


def charts(study: Study) -> list[Chart]:
    """Return, cost and, where agents were fine-tuned, its total cost, against the value."""
    label = _WHAT.get(study.vary, study.vary)
    limit = study.cost_limit
    ways = [way for way in _WAYS if study.along(way)]
    alone = f", {_WAYS[ways[0]]}" if len(ways) == 1 else ""  # a single curve has no legend
    made = [
        Chart(
            f"Return per episode{alone}",
            [_line(study, way, "mean_return") for way in ways],
            x_label=label,
            zero=True,
            note="higher is better",
        ),
        Chart(
            f"Cost per episode{alone} (log scale)",
            [_line(study, way, "mean_cost") for way in ways],
            x_label=label,
            y_scale="log",
            zero=True,
            limit=None if limit is None else (limit, f"limit {limit:g}"),
            note="lower is better",
        ),
    ]
    tuned = [point for point in study.along("finetuned") if point.regret is not None]
    if tuned:
        figures = [point.regret for point in tuned if point.regret is not None]
        x = np.array([point.value for point in tuned])
        line = _drawn("fine-tuning", x, figures, "series-1")
        made.append(Chart("Total cost of fine-tuning (regret)", [line], x_label=label, zero=True))
    return made


def _line(study: Study, way: str, measure: str) -> Line:
    points = study.along(way)
    figures = [getattr(point.evaluated, measure) for point in points]
    x = np.array([point.value for point in points])
    return _drawn(_WAYS[way], x, figures, _COLOURS[way])


def _drawn(label: str, x: np.ndarray, figures: Sequence[Figure], colour: str) -> Line:
    """The band is the interval over seeds where there are several, else over episodes."""
    y = np.array([figure.value for figure in figures])
    ends = [f.over_seeds or f.over_episodes or (np.nan, np.nan) for f in figures]
    low, high = np.array(ends, dtype=np.float64).T
    return Line(label, x, y, colour, band=(low, high), marks=True)


def figure(study: Study) -> str:
    """All charts beside each other as one SVG."""
    made = charts(study)
    parts = []
    for k, chart in enumerate(made):
        place = f'<svg x="{k * (WIDTH + 20)}" y="0" width="{WIDTH}" height="{HEIGHT}" '
        parts.append(re.sub("^<svg ", place, chart.svg()))
    width = len(made) * (WIDTH + 20) - 20
    ground = f'<rect width="{width}" height="{HEIGHT}" fill="var(--surface, #fff)"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}">{ground}{"".join(parts)}</svg>\n'
    )


# --- Numbers ------------------------------------------------------------------------------------

_FIGURES = ("mean_return", "iqm_return", "mean_cost", "iqm_cost", "cost_rate", "within")


def _rows(study: Study) -> list[dict[str, Any]]:
    """A row per value and way, every figure with the ends of its intervals."""
    rows = []
    for point in study.points:
        row: dict[str, Any] = {
            study.vary: point.value,
            "way": _WAYS[point.way],
            "agents": point.agents,
            "episodes": point.evaluated.episodes,
        }
        shown = {name: getattr(point.evaluated, name) for name in _FIGURES}
        for name, found in {**shown, "regret": point.regret}.items():
            row[name] = None if found is None else found.value
            for which in ("over_episodes", "over_seeds"):
                ends = None if found is None else getattr(found, which)
                row[f"{name}.{which}.low"], row[f"{name}.{which}.high"] = ends or (None, None)
        row["worst_cost"] = point.evaluated.worst_cost
        row["worst_return"] = point.evaluated.worst_return
        rows.append(row)
    return rows


def _document(study: Study) -> dict[str, Any]:
    return {"plan": dict(study.plan), "cost_limit": study.cost_limit, "rows": _rows(study)}


def _csv(study: Study) -> str:
    rows = _rows(study)
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


# --- Page ---------------------------------------------------------------------------------------


def _page(study: Study) -> str:
    title = "How alike must the two worlds be?"
    env = short_name(str(study.plan.get("env", "")))
    agents = len(study.plan["agents"])
    shown = "".join(f"<div>{chart.svg()}</div>" for chart in charts(study))
    band = "seeds and episodes" if agents > 1 else "episodes"
    people = f" People’s motions: {study.motions}." if study.motions else ""
    command = study.plan.get("command")
    said = f"<pre>{escape(str(command))}</pre>" if command else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{CSS}</style></head><body><main>"
        f"<header><h1>{title}</h1><p>{_introduction(study)}</p></header>"
        f"<section><h2>{escape(env)}, against {escape(study.vary)}</h2><figure>"
        f'<div class="charts">{shown}</div><figcaption>Means over the evaluation episodes of '
        f"{agents} agent{'s' * (agents > 1)}; the band is the 95% percentile bootstrap interval "
        f"over {band}.{escape(people)}</figcaption></figure></section>"
        f"<section><h2>The numbers</h2>{_table(study)}"
        '<p class="note">[brackets]: 95% over episodes, of these agents. {braces}: 95% over agents '
        "and episodes; with two or three agents it is too narrow. In full: results.csv.</p>"
        f"{said}</section>"
        f"<footer>Written by safetransfer {escape(safetransfer.__version__)}.</footer>"
        "</main></body></html>\n"
    )


def _introduction(study: Study) -> str:
    if study.vary == "likeness":
        return (
            "Agents that were trained among walls meet a hallway in which only a share of the "
            "walls stand and poles have the place of the others: at 1 it is the hallway that they "
            "know, at 0 one of poles alone."
        )
    what = _WHAT.get(study.vary, study.vary)
    return (
        f"Trained agents meet one hallway after another that differ in one thing: {escape(what)}."
    )


def _table(study: Study) -> str:
    heads = [study.vary, "", "Return", "Cost", "Within the limit", "Worst cost", "Total cost"]
    rows = []
    for point in study.points:
        found = point.evaluated
        rows.append(
            [
                f"{point.value:g}",
                _WAYS[point.way],
                _cell(found.mean_return),
                _cell(found.mean_cost),
                _cell(found.within, 100.0, "%"),
                single(found.worst_cost),
                _cell(point.regret) if point.way == "finetuned" else "0",
            ]
        )
    return table([escape(head) for head in heads], rows)


def _cell(figure: Figure | None, scale: float = 1.0, unit: str = "") -> str:
    if figure is None:
        return "–"
    value = scale * figure.value
    text = number(value) + unit
    for ends, (left, right) in (
        (figure.over_episodes, ("[", "]")),
        (figure.over_seeds, ("{", "}")),
    ):
        if ends is not None:
            like = value or max(map(abs, ends)) * scale or None
            inner = ", ".join(number(scale * end, like=like) for end in ends)
            text += f"<small>{left}{inner}{right}</small>"
    return text
