"""The report of a transfer: one HTML page that needs nothing beside itself, no network either."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path

import safetransfer
from safetransfer.envs.naming import directory_name
from safetransfer.errors import SettingError
from safetransfer.report import html
from safetransfer.report.ablations import ablations
from safetransfer.report.figures import diagnostics, figure_4
from safetransfer.report.html import MISSING, number, times
from safetransfer.report.paper import CITATION
from safetransfer.report.provenance import configuration, provenance
from safetransfer.report.results_table import results_table
from safetransfer.report.runs import AS_GOOD, Transfer, read_transfer, regret
from safetransfer.report.stylesheet import CSS
from safetransfer.report.words import (
    absent,
    is_hallway,
    place_name,
    robot_and_place,
    short_name,
    stage_name,
)

# Bigger films would make the page slow to open and to send; they stay beside it.
_MAX_FILM_BYTES = 8_000_000


def write_report(transfer_dir: str | Path, out: str | Path | None = None) -> Path:
    """Writes the report of a transfer directory, finished or not, and returns where it is.

    `out` defaults to report.html in that directory. RunFileError if the directory holds no transfer
    or a file in it cannot be read.
    """
    transfer = read_transfer(transfer_dir)
    path = Path(out) if out is not None else transfer.root / "report.html"
    if path.is_dir():
        raise SettingError(f"{path} is a directory; name a file for the page")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A browser that reloads the page while a run goes on must never find half of it.
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(render(transfer), encoding="utf-8")
    os.replace(temporary, path)
    return path


def render(transfer: Transfer) -> str:
    """The page as HTML."""
    robot, place = robot_and_place(transfer.source)
    places = " and ".join(place_name(target) for target in transfer.targets) or "nowhere yet"
    title = f"Safe transfer: {robot} from {place} to {places}"
    parts = [
        _introduction(transfer, title),
        _headline(transfer),
        results_table(transfer),
        *(_curves(transfer, target) for target in transfer.targets),
        ablations(transfer),
        _films(transfer),
        _inside(transfer),
        provenance(transfer),
        configuration(transfer),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, '
        f'initial-scale=1"><title>{escape(title)}</title><style>{CSS}</style></head><body><main>'
        + "\n".join(part for part in parts if part)
        + f"<footer>Written by safetransfer {escape(safetransfer.__version__)} from the logs of "
        f"the runs. The paper: {CITATION}.</footer></main></body></html>\n"
    )


# --- Top of the page ----------------------------------------------------------------------------


def _introduction(transfer: Transfer, title: str) -> str:
    place = place_name(transfer.source)
    targets = " or ".join(place_name(target) for target in transfer.targets)
    limit = transfer.cost_limit
    allowance = f" of {limit:g} per episode" if limit is not None else ""
    if not all(map(is_hallway, (transfer.source, *transfer.targets))):
        return _general_introduction(title, place, targets, allowance)
    return (
        f"<header><h1>{escape(title)}</h1><p>A robot that learns by trial and error has to err "
        "somewhere. <em>Safe transfer</em> lets it err where that is cheap: it first learns to "
        f"cross a hallway of {escape(place)}, seeing only through its own camera and under a "
        "limit on how much it may bump into things, and only then moves to a hallway of "
        f"{escape(targets)}, where every touch counts. This page shows what that move cost, "
        "against learning there from nothing.</p><p><strong>Return</strong> is reward for moving "
        "forward: about 1,000 for the whole hallway. <strong>Cost</strong> is 1 for each step in "
        "contact with an obstacle; a person counts once per episode. The agent is trained to "
        f"keep cost within a limit{allowance}. <strong>Total cost</strong> is everything ever "
        "incurred in a deployment hallway while training there: the paper calls it "
        "regret.</p></header>"
    )


def _general_introduction(title: str, place: str, targets: str, allowance: str) -> str:
    """As the introduction, of environments whose reward and cost are not ours."""
    return (
        f"<header><h1>{escape(title)}</h1><p>An agent that learns by trial and error has to err "
        "somewhere. <em>Safe transfer</em> lets it err where that is cheap: it first learns in "
        f"{escape(place)}, under a limit on cost, and only then moves to {escape(targets)}, where "
        "cost counts. This page shows what that move cost, against learning there from nothing."
        "</p><p><strong>Return</strong> and <strong>cost</strong> are sums over an episode, as "
        f"these environments give them; the agent is trained to keep cost within a limit{allowance}"
        ". <strong>Total cost</strong> is everything ever incurred in a deployment environment "
        "while training there: the paper calls it regret.</p></header>"
    )


def _headline(transfer: Transfer) -> str:
    items = "".join(f"<li>{_finding(transfer, target)}</li>" for target in transfer.targets)
    return f'<div class="headline"><ul>{items}</ul></div>' if items else ""


def _finding(transfer: Transfer, target: str) -> str:
    """What the move to one environment cost, in a sentence or two computed from the logs."""
    robot, place = (escape(word) for word in robot_and_place(target))
    paid = regret(transfer, target)
    known = _performance(transfer, target)
    if paid.moved is None or paid.scratch is None:
        if not known:
            return f"Moving the trained {robot} to {place}: {MISSING}"
        cost = (
            f" Fine-tuning there has cost <strong>{number(paid.moved)}</strong> in total."
            if paid.moved is not None
            else ""
        )
        return (
            f"The trained {robot}, moved to {place}: {' '.join(known)}{cost} <small>Learning "
            f"there from scratch, to compare with: {absent(transfer, 'scratch')}.</small>"
        )
    if paid.ratio is None:
        verdict = "cost <strong>nothing</strong>, and learning there nothing either"
    elif paid.ratio == math.inf:
        verdict = "cost <strong>nothing at all</strong>"
    elif paid.ratio == 0:
        verdict = "cost <strong>something, where learning there cost nothing</strong>"
    elif "1.0" in (times(paid.ratio), times(1 / paid.ratio)):
        verdict = "cost <strong>about as much</strong> as learning there"
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
    if paid.scratch_until_good is not None:
        notes.append(
            f"Until it was as good as fine-tuning’s last epoch ({100 * AS_GOOD:.0f}% of its "
            "return, at a cost within the limit or no higher than its own), it had cost "
            f"{number(paid.scratch_until_good)}."
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


# --- Curves and films ---------------------------------------------------------------------------


def _curves(transfer: Transfer, target: str) -> str:
    charts = "".join(f"<div>{chart.svg()}</div>" for chart in figure_4(transfer, target))
    several = "the band spans the seeds" if len(transfer.seeds) > 1 else "one seed"
    there = escape(short_name(target))
    caption = (
        f"Safe transfer trains in {escape(short_name(transfer.source))} up to the dotted line "
        f"and in {there} from there on; from scratch trains in {there} alone. Thick: smoothed; "
        f"thin: as logged, while exploring; {several}. An epoch is a number of updates: how many "
        f"steps each stage took stands below. Total cost counts {there} alone; the dashed line is "
        "what pre-training had cost where it is cheap."
    )
    return (
        f"<section><h2>Figure 4: moving to {escape(place_name(target))}</h2><figure>"
        f'<div class="charts">{charts}</div><figcaption>{caption}</figcaption></figure></section>'
    )


def _films(transfer: Transfer) -> str:
    films = transfer.films()
    if not films and transfer.plan.get("films") is False:
        return ""
    if not films:
        return f"<section><h2>Films</h2><p>{MISSING}</p></section>"
    order = {"pretrain": 0, "zeroshot": 1, "before": 1, "finetune": 2, "after": 2, "scratch": 3}
    targets = {directory_name(target): rank for rank, target in enumerate(transfer.targets)}
    names = {directory_name(target): target for target in transfer.targets}

    def rank(path: Path) -> tuple[int, int, str]:
        way, _, env = path.stem.partition("-")
        return targets.get(env, -1), order.get(way, 9), path.stem

    shown = [_film(path, names) for path in sorted(films, key=rank)]
    if not all(map(is_hallway, transfer.targets)):
        return (
            "<section><h2>Films: before and after</h2><p>As the environment draws itself.</p>"
            f'<div class="films">{"".join(shown)}</div></section>'
        )
    return (
        "<section><h2>Films: before and after</h2><p>Seen from behind, through the robot’s own "
        "eyes, and as the agent itself sees: a picture of distances. The frame turns red while "
        f'something is touched.</p><div class="films">{"".join(shown)}</div></section>'
    )


def _film(path: Path, names: Mapping[str, str]) -> str:
    captions = {
        "pretrain": "after pre-training",
        "zeroshot": "before: just moved there, no training there",
        "before": "before: just moved there, no training there",
        "finetune": "after fine-tuning there",
        "after": "after fine-tuning there",
        "scratch": "learned there from scratch",
    }
    way, _, env = path.stem.partition("-")
    parts = (
        [short_name(names.get(env, env)) if env else "", captions[way]]
        if way in captions
        else [path.stem]
    )
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
            blocks.append(f'<h3>{escape(stage_name(stage))}</h3><div class="charts">{charts}</div>')
    note = (
        '<p class="note">β is what a unit of cost weighs against reward in the policy’s '
        "objective: it rises while cost is above the limit and falls below it. Q measured is the "
        "discounted reward that followed; a prediction far above it is the critics fooling "
        "themselves.</p>"
    )
    body = note + "".join(blocks) if blocks else f"<p>{MISSING}</p>"
    return f"<section><h2>Inside the training</h2>{html.details('Show the curves', body)}</section>"
