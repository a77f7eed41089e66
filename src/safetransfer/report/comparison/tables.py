"""The figures of all groups as tables: HTML, Markdown, LaTeX for people, CSV for programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

from safetransfer.report.comparison.groups import Group
from safetransfer.report.comparison.numbers import Evaluated, Figure, Trained
from safetransfer.report.html import number
from safetransfer.report.words import short_name


@dataclass(frozen=True)
class Entry:
    """A group with its figures."""

    group: Group
    evaluated: Evaluated | None
    trained: Trained | None


@dataclass(frozen=True)
class Cell:
    """A figure as text, what stands below it, and whether it breaks the limit."""

    text: str
    notes: tuple[str, ...] = ()
    alarm: bool = False


Column = tuple[str, Callable[[Entry], Cell]]
_NONE = Cell("–")


@dataclass(frozen=True)
class Table:
    """Columns over the entries that have them, a block of rows for each environment."""

    title: str
    columns: Sequence[Column]
    entries: Sequence[Entry]

    def blocks(self) -> list[tuple[str, list[tuple[Entry, list[Cell]]]]]:
        """(environment, its rows) in order."""
        blocks: dict[str, list[tuple[Entry, list[Cell]]]] = {}
        for entry in self.entries:
            cells = [make(entry) for _, make in self.columns]
            blocks.setdefault(short_name(entry.group.env), []).append((entry, cells))
        return list(blocks.items())


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Evaluation and training; a table without rows is left out."""
    made = [
        Table("Evaluation", _EVALUATION, [e for e in entries if e.evaluated]),
        Table("Training", _TRAINING, [e for e in entries if e.trained]),
    ]
    return [table for table in made if table.entries]


# --- Cells --------------------------------------------------------------------------------------


def _figure(figure: Figure | None, scale: float = 1.0, unit: str = "") -> Cell:
    if figure is None:
        return _NONE
    value = scale * figure.value

    def ends(interval: tuple[float, float]) -> str:
        # As many decimals as the figure has, but at least those that tell the ends apart.
        like = min(abs(value), max(abs(scale * end) for end in interval)) or None
        return ", ".join(number(scale * end, like=like) for end in interval)

    notes = []
    if figure.over_episodes is not None:
        notes.append(f"[{ends(figure.over_episodes)}]")
    if figure.over_seeds is not None:
        notes.append(f"{{{ends(figure.over_seeds)}}}")
    return Cell(number(value) + unit, tuple(notes))


def single(value: float) -> str:
    """One episode's figure: a count stays one."""
    return f"{value:,.0f}" if value.is_integer() else number(value)


def _mean_cost(entry: Entry) -> Cell:
    assert entry.evaluated is not None
    figure, limit = entry.evaluated.mean_cost, entry.group.cost_limit
    cell = _figure(figure)
    return Cell(cell.text, cell.notes, alarm=limit is not None and figure.value > limit)


def _evaluation(make: Callable[[Evaluated], Cell]) -> Callable[[Entry], Cell]:
    return lambda entry: make(entry.evaluated) if entry.evaluated else _NONE


def _training(make: Callable[[Trained], Cell]) -> Callable[[Entry], Cell]:
    return lambda entry: make(entry.trained) if entry.trained else _NONE


def _epochs(found: Trained) -> Cell:
    low, high = min(found.epochs), max(found.epochs)
    notes = (f"{found.unfinished} unfinished",) if found.unfinished else ()
    return Cell(str(low) if low == high else f"{low} to {high}", notes)


_EVALUATION: Sequence[Column] = (
    ("Seeds", _evaluation(lambda e: Cell(str(e.seeds), (f"{e.episodes:,} episodes",)))),
    ("Return", _evaluation(lambda e: _figure(e.mean_return))),
    ("Return, IQM", _evaluation(lambda e: _figure(e.iqm_return))),
    ("Cost", _mean_cost),
    ("Cost, IQM", _evaluation(lambda e: _figure(e.iqm_cost))),
    ("Cost per 1000 steps", _evaluation(lambda e: _figure(e.cost_rate, 1000.0))),
    ("Within the limit", _evaluation(lambda e: _figure(e.within, 100.0, "%"))),
    ("Worst cost", _evaluation(lambda e: Cell(single(e.worst_cost)))),
    ("Worst return", _evaluation(lambda e: Cell(number(e.worst_return)))),
)
_TRAINING: Sequence[Column] = (
    ("Seeds", _training(lambda t: Cell(str(t.seeds)))),
    ("Epochs", _training(_epochs)),
    ("Steps", _training(lambda t: Cell(number(t.env_steps)))),
    ("Total cost (regret)", _training(lambda t: _figure(t.regret))),
    ("Cost per 1000 steps", _training(lambda t: _figure(t.cost_rate, 1000.0))),
)


# --- For people ---------------------------------------------------------------------------------


def as_html(table: Table, chip: Callable[[Group], str]) -> str:
    """A <table>; `chip` gives the mark of a group's colour in the curves."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name, _ in table.columns)
    bodies = []
    for env, rows in table.blocks():
        lines = [
            f'<tr><th scope="rowgroup" colspan="{len(table.columns) + 1}">{escape(env)}</th></tr>'
        ]
        for entry, cells in rows:
            group = entry.group
            label = ", ".join(escape(part).replace(" ", "&nbsp;") for part in group.parts)
            name = f"{chip(group)}<b>{group.letter}</b> {label}"
            lines.append(f'<tr><th scope="row">{name}</th>{"".join(map(_html_cell, cells))}</tr>')
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    return (
        '<div class="scroll"><table class="results"><thead><tr><th scope="col">Agent</th>'
        f"{head}</tr></thead>{''.join(bodies)}</table></div>"
    )


def _html_cell(cell: Cell) -> str:
    notes = "".join(f"<small>{escape(note)}</small>" for note in cell.notes)
    return (
        f'<td class="over">▲&nbsp;{escape(cell.text)}{notes}</td>'
        if cell.alarm
        else f"<td>{escape(cell.text)}{notes}</td>"
    )


def as_markdown(table: Table) -> str:
    """A Markdown table under a heading."""
    lines = [
        f"### {table.title}",
        "",
        f"| Agent | {' | '.join(name for name, _ in table.columns)} |",
        f"|---|{'---:|' * len(table.columns)}",
    ]
    for env, rows in table.blocks():
        for entry, cells in rows:
            name = f"**{env}** {entry.group.label}".replace("|", "\\|")
            shown = [("▲ " if c.alarm else "") + " ".join([c.text, *c.notes]) for c in cells]
            lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "▲": r"$\blacktriangle$",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def _latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda m: _LATEX[m[0]], text)


def as_latex(table: Table) -> str:
    """A LaTeX tabular, for a document that loads booktabs and amssymb."""
    columns = len(table.columns) + 1
    head = " & ".join(["Agent", *(_latex(name) for name, _ in table.columns)])
    lines = [
        f"% {table.title}",
        rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        r"\toprule",
        head + r" \\",
    ]
    for env, rows in table.blocks():
        lines += [r"\midrule", rf"\multicolumn{{{columns}}}{{l}}{{\textbf{{{_latex(env)}}}}} \\"]
        for entry, cells in rows:
            texts = [("▲ " if c.alarm else "") + c.text for c in cells]
            lines.append(" & ".join(map(_latex, [entry.group.label, *texts])) + r" \\")
            depth = max(len(c.notes) for c in cells)
            for k in range(depth):
                notes = [c.notes[k] if k < len(c.notes) else "" for c in cells]
                small = [rf"{{\scriptsize {_latex(note)}}}" if note else "" for note in notes]
                lines.append(" & ".join(["", *small]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


# --- For programs -------------------------------------------------------------------------------


def as_csv(entries: Iterable[Entry]) -> str:
    """A row per group with every figure in full; an interval's ends as <figure>.<which>.low/high.

    Empty where a figure cannot be had.
    """
    rows = [
        {
            "letter": entry.group.letter,
            "environment": entry.group.env,
            "way": entry.group.way,
            "label": entry.group.label,
            **_flat("evaluation", entry.evaluated, Evaluated),
            **_flat("training", entry.trained, Trained),
        }
        for entry in entries
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(prefix: str, figures: Evaluated | Trained | None, kind: type[Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for field in fields(kind):
        name = f"{prefix}.{field.name}"
        value = None if figures is None else getattr(figures, field.name)
        if "Figure" in str(field.type):
            flat[name] = None if value is None else value.value
            for which in ("over_episodes", "over_seeds"):
                ends = None if value is None else getattr(value, which)
                for end, at in (("low", 0), ("high", 1)):
                    flat[f"{name}.{which}.{end}"] = None if ends is None else ends[at]
        else:
            flat[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return flat
