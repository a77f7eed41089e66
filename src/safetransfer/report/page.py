"""The report of a transfer: one HTML page that needs nothing beside itself, no network either."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import safetransfer
from safetransfer.report import html
from safetransfer.report.figures import diagnostics, figure_4
from safetransfer.report.html import MISSING, NOT_PLANNED, number, times
from safetransfer.report.paper import CITATION, TABLE_1, Result
from safetransfer.report.runs import (
    Estimate,
    Evaluation,
    Run,
    Transfer,
    described,
    read_transfer,
    regret,
)
from safetransfer.report.stylesheet import CSS

# Bigger films would make the page slow to open and to send; they stay beside it.
_MAX_FILM_BYTES = 8_000_000

_ROBOTS = ("Point", "Doggo")
_PLACES = {"Walls": "walls", "Poles": "poles", "Humanoids": "people"}


def write_report(transfer_dir: str | Path, out: str | Path | None = None) -> Path:
    """Writes the report of a transfer directory, finished or not, and returns where it is.

    `out` defaults to report.html in that directory. RunFileError if the directory holds no transfer
    or a file in it cannot be read.
    """
    transfer = read_transfer(transfer_dir)
    path = Path(out) if out is not None else transfer.root / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    # A browser that reloads the page while a run goes on must never find half of it.
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(render(transfer), encoding="utf-8")
    os.replace(temporary, path)
    return path


def render(transfer: Transfer) -> str:
    """The page as HTML."""
    robot, place = _split(transfer.source)
    places = " and ".join(_place(target) for target in transfer.targets) or "nowhere yet"
    title = f"Safe transfer: {robot} from {place} to {places}"
    parts = [
        _introduction(transfer, title),
        _headline(transfer),
        _results(transfer),
        *(_curves(transfer, target) for target in transfer.targets),
        _films(transfer),
        _inside(transfer),
        _provenance(transfer),
        _configuration(transfer),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        + "\n".join(part for part in parts if part)
        + f"<footer>Written by safetransfer {escape(safetransfer.__version__)} from the logs of "
        f"the runs. The paper: {CITATION}.</footer></main></body></html>\n"
    )


# --- Names --------------------------------------------------------------------------------------


def _split(env: str) -> tuple[str, str]:
    """The robot of an environment and the place it stands for, in words."""
    for robot in _ROBOTS:
        if env.startswith(robot):
            obstacles = env.removeprefix(robot)
            return robot, _PLACES.get(obstacles, obstacles or env)
    return "the agent", env


def _place(env: str) -> str:
    return _split(env)[1]


def _short(env: str) -> str:
    """The paper's name of an environment: P-Poles."""
    for robot in _ROBOTS:
        if env.startswith(robot):
            return f"{robot[0]}-{env.removeprefix(robot)}"
    return env


def _missing(transfer: Transfer, stage: str) -> str:
    """What stands where a stage has left nothing: not yet, or not part of this experiment."""
    return MISSING if transfer.planned(stage) else NOT_PLANNED


# --- Top of the page ----------------------------------------------------------------------------


def _introduction(transfer: Transfer, title: str) -> str:
    place = _place(transfer.source)
    targets = " or ".join(_place(target) for target in transfer.targets)
    limit = transfer.cost_limit
    allowance = f" of {limit:g} per episode" if limit is not None else ""
    return (
        f"<header><h1>{escape(title)}</h1>"
        "<p>A robot that learns by trial and error has to err somewhere. <em>Safe transfer</em> "
        "lets it "
        f"err where that is cheap: it first learns to cross a hallway of {escape(place)}, seeing "
        "only "
        "through its own camera and under a limit on how much it may bump into things, and only "
        "then "
        f"moves to a hallway of {escape(targets)}, where every touch counts. This page shows what "
        "that "
        "move cost, against learning there from nothing.</p>"
        "<p><strong>Return</strong> is reward for moving forward: about 1,000 for the whole "
        "hallway. "
        "<strong>Cost</strong> is 1 for each step in contact with an obstacle; a person counts "
        "once per "
        f"episode. The agent is trained to keep cost within a limit{allowance}. <strong>Total cost"
        "</strong> is everything ever incurred in a deployment hallway while training there: the "
        "paper "
        "calls it regret.</p></header>"
    )


def _headline(transfer: Transfer) -> str:
    items = "".join(f"<li>{_finding(transfer, target)}</li>" for target in transfer.targets)
    return f'<div class="headline"><ul>{items}</ul></div>' if items else ""


def _finding(transfer: Transfer, target: str) -> str:
    """What the move to one environment cost, in a sentence or two computed from the logs."""
    robot, place = (escape(word) for word in _split(target))
    paid = regret(transfer, target)
    known = _performance(transfer, target)
    if paid.ratio is None or paid.moved is None or paid.scratch is None:
        if not known:
            return f"Moving the trained {robot} to {place}: {MISSING}"
        cost = (
            f" Fine-tuning there has cost <strong>{number(paid.moved)}</strong> in total."
            if paid.moved is not None
            else ""
        )
        return (
            f"The trained {robot}, moved to {place}: {' '.join(known)}{cost} <small>Learning there "
            f"from scratch, to compare with: {_missing(transfer, 'scratch')}.</small>"
        )
    if paid.ratio == math.inf:
        verdict = "cost <strong>nothing at all</strong>"
    elif paid.ratio >= 1:
        verdict = f"cost <strong>{times(paid.ratio)} times less</strong> than learning there"
    else:
        verdict = f"cost <strong>{times(1 / paid.ratio)} times more</strong> than learning there"
    notes = [] if paid.finished else ["So far: these runs have not finished."]
    notes += known
    if paid.scratch_same_steps is not None and paid.moved_steps is not None:
        notes.append(
            f"After the {number(paid.moved_steps)} steps that fine-tuning took there, learning "
            f"from scratch had cost {number(paid.scratch_same_steps)}."
        )
    return (
        f"Moving the trained {robot} to {place} {verdict}: a total cost of {number(paid.moved)} "
        f"against {number(paid.scratch)} from scratch. <small>{' '.join(notes)}</small>"
    )


def _performance(transfer: Transfer, target: str) -> list[str]:
    ways = {"zeroshot": "Zero-shot", "finetune": "Fine-tuned", "scratch": "From scratch"}
    known = []
    for way, label in ways.items():
        evaluation = transfer.evaluations.get(f"{way}-{target}")
        if evaluation and {"return", "cost"} <= evaluation.measures.keys():
            gained, cost = (evaluation.measures[key].mean for key in ("return", "cost"))
            known.append(f"{label}: return {number(gained)} at cost {number(cost)} per episode.")
    return known


# --- Table 1 ------------------------------------------------------------------------------------


def _results(transfer: Transfer) -> str:
    groups = [
        _group(transfer, transfer.source, [(("Pre-trained", "there"), "pretrain", None)], True)
    ]
    for target in transfer.targets:
        paper = TABLE_1.get(target)
        ways = [
            (
                ("Zero-shot", "moved, not trained there"),
                f"zeroshot-{target}",
                paper and paper.zeroshot,
            ),
            (("Safe transfer", "moved and fine-tuned"), f"finetune-{target}", None),
            (("From scratch", "learned there"), f"scratch-{target}", paper and paper.scratch),
        ]
        groups.append(_group(transfer, target, ways, False))
    head = (
        '<thead><tr><th rowspan="2" scope="col">Agent</th>'
        '<th colspan="2" scope="colgroup">Return</th>'
        '<th colspan="2" scope="colgroup">Cost per episode</th>'
        '<th rowspan="2" scope="col">Total cost<br>of training there</th></tr>'
        '<tr><th scope="col">paper</th><th scope="col">ours</th>'
        '<th scope="col">paper</th><th scope="col">ours</th></tr></thead>'
    )
    return (
        "<section><h2>Table 1: how well, and at what cost</h2>"
        f'<div class="scroll"><table class="results">{head}{"".join(groups)}</table></div>'
        f'<p class="note">{_table_note(transfer)}</p></section>'
    )


# How an agent came to be, in a word and in a few; its stage; what the paper prints for it.
_Way = tuple[tuple[str, str], str, Result | None]


def _group(transfer: Transfer, env: str, ways: list[_Way], low_stakes: bool) -> str:
    stakes = " (low stakes)" if low_stakes else ""
    rows = [
        f'<tr><th scope="rowgroup" colspan="6">{escape(_short(env))}{stakes}</th></tr>',
        *(_result_row(transfer, label, stage, paper) for label, stage, paper in ways),
    ]
    return f"<tbody>{''.join(rows)}</tbody>"


def _result_row(
    transfer: Transfer, label: tuple[str, str], stage: str, paper: Result | None
) -> str:
    evaluation = transfer.evaluations.get(stage)
    missing = _missing(transfer, stage)
    cells = [
        f'<th scope="row">{label[0]} <small>{label[1]}</small></th>',
        _paper_cell(paper.episode_return if paper else None),
        _our_cell(evaluation, "return", missing),
        _paper_cell(paper.cost if paper else None),
        _our_cell(evaluation, "cost", missing, transfer.cost_limit),
        f'<td class="total">{_total(transfer, stage)}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _paper_cell(value: float | None) -> str:
    return f'<td class="paper">{"–" if value is None else f"{value:,g}"}</td>'


def _our_cell(
    evaluation: Evaluation | None, key: str, missing: str, limit: float | None = None
) -> str:
    estimate = evaluation.measures.get(key) if evaluation else None
    if estimate is None:
        return f"<td>{missing}</td>"
    over = limit is not None and estimate.mean > limit
    text = _with_interval(estimate)
    return f'<td class="over">▲&nbsp;{text}</td>' if over else f"<td>{text}</td>"


def _with_interval(estimate: Estimate) -> str:
    text = number(estimate.mean)
    if estimate.interval is not None:
        low, high = (number(end, like=estimate.mean) for end in estimate.interval)
        text += f" <small>[{low}, {high}]</small>"
    return text


def _total(transfer: Transfer, stage: str) -> str:
    """Total cost of a stage's training, its range over seeds, and how far it has come."""
    if stage.startswith("zeroshot"):
        return "0" if stage in transfer.evaluations else MISSING
    runs = transfer.stage_runs(stage)
    totals = [run.cost_total for run in runs.values() if run.cost_total is not None]
    if not totals:
        return _missing(transfer, stage)
    text = number(sum(totals) / len(totals))
    notes = []
    if len(totals) > 1:
        notes.append(f"{number(min(totals))} to {number(max(totals))} over {len(totals)} seeds")
    if not transfer.finished(stage):
        notes.append("unfinished")
    return text + (f" <small>{', '.join(notes)}</small>" if notes else "")


def _table_note(transfer: Transfer) -> str:
    evaluations = transfer.evaluations.values()
    notes = ["Ours: the mean over evaluation episodes"]
    counts = sorted({evaluation.episodes for evaluation in evaluations})
    if counts:
        span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        notes[0] += f" ({span} of them in each row)"
    notes[0] += (
        " and its 95% percentile bootstrap interval, resampled within each training seed"
        f" ({len(transfer.seeds)} seed{'s' * (len(transfer.seeds) > 1)})."
    )
    if transfer.cost_limit is not None:
        notes.append(f"▲ marks a cost above the limit of {transfer.cost_limit:g} per episode.")
    notes.append("Total cost is that of all the training there, exploration included.")
    notes.append(
        "The paper prints no intervals and no figures after fine-tuning; its hallways differ from "
        "ours "
        "in size and in number of obstacles, which it does not give."
    )
    return escape(" ".join(notes))


# --- Curves and films ---------------------------------------------------------------------------


def _curves(transfer: Transfer, target: str) -> str:
    charts = "".join(f"<div>{chart.svg()}</div>" for chart in figure_4(transfer, target))
    several = "the band spans the seeds" if len(transfer.seeds) > 1 else "one seed"
    return (
        f"<section><h2>Figure 4: moving to {escape(_place(target))}</h2>"
        f'<figure><div class="charts">{charts}</div><figcaption>Safe transfer trains among '
        f"{escape(_place(transfer.source))} up to the dotted line, and in {escape(_short(target))} "
        "from "
        f"there on; from scratch trains in {escape(_short(target))} alone. Thick: smoothed; thin: "
        "as "
        f"logged, while exploring; {several}. Total cost counts {escape(_short(target))} alone; "
        "the "
        "dashed line is what pre-training had cost where it is "
        "cheap.</figcaption></figure></section>"
    )


def _films(transfer: Transfer) -> str:
    films = transfer.films()
    if not films:
        return f"<section><h2>Films</h2><p>{MISSING}</p></section>"
    order = {"pretrain": 0, "zeroshot": 1, "before": 1, "finetune": 2, "after": 2, "scratch": 3}
    targets = {target: rank for rank, target in enumerate(transfer.targets)}

    def rank(path: Path) -> tuple[int, int, str]:
        way, _, env = path.stem.partition("-")
        return targets.get(env, -1), order.get(way, 9), path.stem

    shown = [_film(path) for path in sorted(films, key=rank)]
    return (
        "<section><h2>Films: before and after</h2><p>Seen from behind, through the robot’s own "
        "eyes, "
        "and as the agent itself sees: a picture of distances. The frame turns red while something "
        "is "
        f'touched.</p><div class="films">{"".join(shown)}</div></section>'
    )


def _film(path: Path) -> str:
    captions = {
        "pretrain": "after pre-training",
        "zeroshot": "before: just moved there, no training there",
        "before": "before: just moved there, no training there",
        "finetune": "after fine-tuning there",
        "after": "after fine-tuning there",
        "scratch": "learned there from scratch",
    }
    way, _, env = path.stem.partition("-")
    parts = [_short(env) if env else "", captions[way]] if way in captions else [path.stem]
    caption = ", ".join(part for part in parts if part)
    if path.stat().st_size > _MAX_FILM_BYTES:
        caption += f": too big to keep here, see films/{path.name}"
        return f"<figure><figcaption>{escape(caption)}.</figcaption></figure>"
    return html.film(path, caption)


def _inside(transfer: Transfer) -> str:
    blocks = []
    for stage in transfer.stages:
        if transfer.stage_runs(stage):
            charts = "".join(f"<div>{chart.svg()}</div>" for chart in diagnostics(transfer, stage))
            blocks.append(f'<h3>{escape(_stage(stage))}</h3><div class="charts">{charts}</div>')
    note = (
        '<p class="note">β is the price of one unit of cost in units of reward: it rises while '
        "cost is "
        "above the limit and falls below it. Q measured is the discounted reward that followed; "
        "a predicted Q far above it is the critics fooling themselves.</p>"
    )
    body = note + "".join(blocks) if blocks else f"<p>{MISSING}</p>"
    return f"<section><h2>Inside the training</h2>{html.details('Show the curves', body)}</section>"


def _stage(stage: str) -> str:
    way, _, env = stage.partition("-")
    names = {"pretrain": "Pre-training", "finetune": "Fine-tuning in", "scratch": "From scratch in"}
    return f"{names[way]} {_short(env)}".strip()


# --- What was run -------------------------------------------------------------------------------


def _provenance(transfer: Transfer) -> str:
    machines: list[str] = []
    rows, commands = [], []
    for stage in transfer.stages:
        runs = transfer.stage_runs(stage)
        if not runs and not transfer.planned(stage):
            continue
        for seed in transfer.seeds:
            run = runs.get(seed)
            if run is None:
                rows.append([escape(_stage(stage)), str(seed), MISSING, "", "", "", "", ""])
                continue
            machine = _machine(run.config)
            if machine not in machines:
                machines.append(machine)
            wall = run.last("wall_s")
            rows.append(
                [
                    escape(_stage(stage)),
                    str(seed),
                    _epochs(run, transfer.planned_epochs(stage)),
                    _count(run.last("env_steps")),
                    _count(run.last("updates")),
                    f"{wall / 60:.1f}" if wall is not None else "–",
                    escape(described(run.config.get("mocap")) or "–"),
                    chr(ord("A") + machines.index(machine)),
                ]
            )
            command = run.config.get("command")
            text = shlex.join(command) if isinstance(command, list) else described(command)
            if text and text not in commands:
                commands.append(text)
    header = ["Stage", "Seed", "Epochs", "Steps", "Updates", "Minutes", "Motions", "Machine"]
    listed = "".join(
        f"<li><strong>{chr(ord('A') + i)}</strong>: {escape(machine)}</li>"
        for i, machine in enumerate(machines)
    )
    blocks = [html.table(header, rows), f'<ul class="note">{listed}</ul>' if listed else ""]
    if commands:
        blocks.append(f"<h3>Commands</h3><pre>{escape(chr(10).join(commands))}</pre>")
    evaluated = {e.mocap for e in transfer.evaluations.values() if e.mocap}
    if evaluated:
        motions = escape("; ".join(sorted(evaluated)))
        blocks.append(f'<p class="note">People’s motions in the evaluations: {motions}.</p>')
    sources = {
        "agent": "Instead of pre-training, this kept agent was taken",
        "reference": "From-scratch runs that were not run here were copied from",
        "carry": "Carried over from the trained agent, with all that comes before it",
    }
    for key, label in sources.items():
        if value := described(transfer.plan.get(key)):
            blocks.append(f'<p class="note">{label}: {escape(value)}.</p>')
    return f"<section><h2>What was run, and on what</h2>{''.join(blocks)}</section>"


def _epochs(run: Run, planned: int | None) -> str:
    unfinished = planned is not None and run.epochs < planned
    return f"{run.epochs} of {planned}" if unfinished else str(run.epochs)


def _machine(config: Mapping[str, Any]) -> str:
    machine, versions = config.get("machine"), described(config.get("versions"))
    if isinstance(machine, Mapping) and {"cores", "cpu"} <= machine.keys():
        parts = [f"{machine['cores']} × {machine['cpu']}"]
        if machine.get("memory_gib"):
            parts.append(f"{machine['memory_gib']} GiB")
        rest = {k: v for k, v in machine.items() if k not in ("cores", "cpu", "memory_gib")}
        parts += [described(value) for value in rest.values() if value]
        text = ", ".join(parts)
    else:
        text = described(machine) or "not recorded"
    return f"{text}; {versions}" if versions else text


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _configuration(transfer: Transfer) -> str:
    blocks = [html.details("transfer.json", html.json_block(dict(transfer.plan)))]
    for (stage, seed), run in transfer.runs.items():
        if run.config:
            title = f"{_stage(stage)}, seed {seed}: config.json"
            blocks.append(html.details(title, html.json_block(dict(run.config))))
    return f"<section><h2>Configuration</h2>{''.join(blocks)}</section>"
