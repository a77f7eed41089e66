"""The comparison's files: a page, its tables in three more forms, and its curves with numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import safetransfer
from safetransfer.report.chart import colour
from safetransfer.report.comparison.curves import Figure, curve_index, figures, look
from safetransfer.report.comparison.groups import Group, group_members
from safetransfer.report.comparison.members import find_members
from safetransfer.report.comparison.numbers import evaluated, trained
from safetransfer.report.comparison.tables import (
    Entry,
    as_csv,
    as_html,
    as_latex,
    as_markdown,
    tables,
)
from safetransfer.report.html import table
from safetransfer.report.stylesheet import CSS
from safetransfer.report.words import short_name

PAGE = "compare.html"

_DRAWN = ".drawn"  # lists the files of `curves` that a comparison wrote
INTERVALS = (
    "[brackets]: 95% percentile bootstrap over episodes, resampled within each seed, so for these "
    "agents. {braces}: 95% percentile bootstrap over seeds and then over episodes within each, so "
    "for other seeds of the same settings; with two or three seeds it is too narrow."
)
DEFINITIONS = (
    "IQM: mean of the middle half of the episodes. Within the limit: share of episodes that cost "
    "at most the limit; its brackets are Wilson's interval. Total cost: all that training there "
    "cost, exploration included (the paper’s regret)."
)


def write_comparison(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Compares what is in the directories `runs`, and returns the page.

    Writes into directory `out`: compare.html (by itself complete), compare.md, compare.tex (for
    booktabs and amssymb), compare.csv (every figure in full), and curves/NAME.svg with what each
    draws in curves/NAME.csv. RunFileError where there is nothing to compare or a file cannot be
    read.
    """
    groups = group_members(find_members(runs))
    entries = [Entry(group, evaluated(group), trained(group)) for group in groups]
    drawn = figures(groups)
    out = Path(out)
    curves = out / "curves"
    curves.mkdir(parents=True, exist_ok=True)
    _forget_drawn(curves)
    names = [f"{figure.name}{kind}" for figure in drawn for kind in (".svg", ".csv")]
    _write(curves / _DRAWN, "\n".join(names) + "\n")  # first: an interrupted one leaves its list
    for figure in drawn:
        _write(curves / f"{figure.name}.svg", figure.chart.svg())
        _write(curves / f"{figure.name}.csv", figure.csv())
    made = tables(entries)
    notes = f"{INTERVALS} {DEFINITIONS}"
    _write(out / "compare.md", "\n\n".join([*map(as_markdown, made), notes]) + "\n")
    _write(out / "compare.tex", "\n\n".join(map(as_latex, made)) + "\n")
    _write(out / "compare.csv", as_csv(entries))
    _write(out / PAGE, _page(entries, drawn))
    return out / PAGE


def _forget_drawn(curves: Path) -> None:
    """Remove what an earlier comparison drew there, and nothing else."""
    listed = curves / _DRAWN
    for name in listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else ():
        if Path(name).name == name:
            (curves / name).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


# --- The page -----------------------------------------------------------------------------------


def _page(entries: Sequence[Entry], drawn: Sequence[Figure]) -> str:
    groups = [entry.group for entry in entries]
    seeds = sum(len(group.members) for group in groups)
    title = f"Comparison: {', '.join(dict.fromkeys(short_name(g.env) for g in groups))}"
    head = (
        f"<header><h1>{escape(title)}</h1><p>What was trained or evaluated with the same settings "
        f"counts as seeds of one thing: {seeds} of them in {len(groups)} rows, each row named by "
        "what sets it apart from the others in its environment.</p></header>"
    )

    def chip(group: Group) -> str:
        index = curve_index(groups, group)
        if index is None:
            return '<span class="chip"></span>'
        ink, dashed = look(index)
        kind = "dashed" if dashed else "solid"
        return f'<span class="chip" style="border-top: 3px {kind} {colour(ink)}"></span>'

    sections = []
    for made in tables(entries):
        notes = [INTERVALS, DEFINITIONS, "▲: above the limit."]
        if made.title == "Training":
            notes = ["{Braces}: 95% percentile bootstrap over seeds, of which there are few."]
        shown = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
        sections.append(f"<section><h2>{made.title}</h2>{as_html(made, chip)}{shown}</section>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{CSS}{_CSS}</style></head><body><main>"
        + "\n".join([head, *sections, _curves(drawn), _settings(groups), _sources(groups)])
        + f"<footer>Written by safetransfer {escape(safetransfer.__version__)} from the logs and "
        "evaluations of the runs.</footer></main></body></html>\n"
    )


_CSS = """
.chip { display: inline-block; width: 18px; margin-right: 8px; vertical-align: middle; }
.results th[scope=row] { min-width: 11em; }
.results th, .results td { padding: 6px 8px; }
.results td small { white-space: nowrap; }
"""


def _curves(drawn: Sequence[Figure]) -> str:
    if not drawn:
        return ""
    blocks = []
    for env in dict.fromkeys(figure.groups[0].env for figure in drawn):
        charts = [f"<div>{f.chart.svg()}</div>" for f in drawn if f.groups[0].env == env]
        blocks.append(
            f'<h3>{escape(short_name(env))}</h3><div class="charts">{"".join(charts)}</div>'
        )
    note = (
        "As logged in training, while exploring. With several seeds the thick line is their mean, "
        "as far as all have come, and the band spans them. The numbers are in curves/*.csv."
    )
    return (
        f"<section><h2>Learning curves</h2><figure>{''.join(blocks)}"
        f"<figcaption>{note}</figcaption></figure></section>"
    )


def _settings(groups: Sequence[Group]) -> str:
    """What sets the agents of an environment apart, setting by setting."""
    blocks = []
    for env in dict.fromkeys(g.env for g in groups):
        here = [g for g in groups if g.env == env and g.differs]
        names = list(dict.fromkeys(name for g in here for name in g.differs))
        rows = [
            [f"<code>{escape(name)}</code>", *(escape(g.differs.get(name, "")) for g in here)]
            for name in names
        ]
        if rows:
            heads = ["Setting", *(g.letter for g in here)]
            blocks.append(f"<h3>{escape(short_name(env))}</h3>{table(heads, rows)}")
    body = "".join(blocks) or '<p class="note">Nothing but the way they were trained.</p>'
    return f"<section><h2>What differs</h2>{body}</section>"


def _sources(groups: Sequence[Group]) -> str:
    rows = [
        [
            group.letter,
            escape(group.title),
            str(member.seed),
            f"<code>{escape(str(member.path))}</code>",
            str(member.run.epochs) if member.run else "–",
            str(member.episodes["cost"].size) if member.episodes else "not evaluated",
        ]
        for group in groups
        for member in group.members
    ]
    heads = ["", "Agent", "Seed", "From", "Epochs", "Evaluation episodes"]
    return f"<section><h2>What was compared</h2>{table(heads, rows)}</section>"
