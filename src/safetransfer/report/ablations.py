"""The ablations of the paper's appendix C: no constraint (figures 6, 7), no feedback (figure 8)."""

from __future__ import annotations

from html import escape

from safetransfer.report import html
from safetransfer.report.chart import Chart, Line
from safetransfer.report.figures import over_seeds, single
from safetransfer.report.results_table import our_cell
from safetransfer.report.runs import Transfer
from safetransfer.report.words import robot_and_place, short_name


def ablations(transfer: Transfer) -> str:
    """Sections of the page on what was taken away; nothing where nothing was planned."""
    stages = transfer.ablation_stages
    unconstrained = [s.partition("-")[2] for s in stages if s.startswith("unconstrained")]
    sections = []
    if unconstrained:
        figure = {"Point": "Figure 6", "Doggo": "Figure 7"}.get(
            robot_and_place(transfer.source)[0], "Without the constraint"
        )
        sections.append(
            _section(
                f"{figure}: reward alone",
                "The same agent trained without the constraint, beside the constrained one in the "
                "same hallway; both began in the same way there.",
                "".join(_pictures(transfer, env) for env in unconstrained),
                _table(transfer, [(short_name(e), *_pair(transfer, e)) for e in unconstrained]),
            )
        )
    if any(s.startswith("no_feedback") for s in stages):
        rows = [(short_name(transfer.source), "pretrain", f"no_feedback-{transfer.source}")]
        rows += [
            (f"{short_name(env)}, zero-shot", f"zeroshot-{env}", f"no_feedback-zeroshot-{env}")
            for env in transfer.targets
        ]
        sections.append(
            _section(
                "Figure 8: without the last reward and cost",
                "The same agent trained without being told its last reward and cost.",
                "".join(f"<div>{chart.svg()}</div>" for chart in figure_8(transfer)),
                _table(transfer, rows, without="without feedback"),
            )
        )
    return "".join(sections)


def figure_6(transfer: Transfer, env: str) -> list[Chart]:
    """Return, cost and total cost in `env`, with the constraint and without it."""
    constrained, unconstrained = _pair(transfer, env)
    return _compared(
        transfer, f"{short_name(env)}: ", constrained, unconstrained, "constrained", "reward alone"
    )


def figure_8(transfer: Transfer) -> list[Chart]:
    """The same in the low-stakes hallway, with the last reward and cost and without them."""
    without = f"no_feedback-{transfer.source}"
    return _compared(transfer, "", "pretrain", without, "with feedback", "without")


def _pair(transfer: Transfer, env: str) -> tuple[str, str]:
    """The stages that trained from nothing in `env`, with the constraint and without it."""
    return ("pretrain" if env == transfer.source else f"scratch-{env}"), f"unconstrained-{env}"


def _compared(
    transfer: Transfer, prefix: str, first: str, second: str, first_label: str, second_label: str
) -> list[Chart]:
    def lines(key: str, smooth: bool = True) -> list[Line]:
        return [
            over_seeds(label, [single(run, key) for run in runs.values()], colour, smooth)
            for label, stage, colour in (
                (first_label, first, "series-1"),
                (second_label, second, "series-4"),
            )
            if (runs := transfer.stage_runs(stage))
        ]

    limit = transfer.cost_limit
    return [
        Chart(f"{prefix}return per episode", lines("return"), zero=True),
        Chart(
            f"{prefix}cost per episode (log scale)",
            lines("cost"),
            y_scale="log",
            limit=(limit, f"limit {limit:g}") if limit is not None else None,
        ),
        Chart(f"{prefix}total cost of training", lines("cost_total", smooth=False), zero=True),
    ]


def _pictures(transfer: Transfer, env: str) -> str:
    return "".join(f"<div>{chart.svg()}</div>" for chart in figure_6(transfer, env))


def _table(
    transfer: Transfer, rows: list[tuple[str, str, str]], without: str = "reward alone"
) -> str:
    """Rows of (label, the stage as it is, the stage without), evaluated after training."""
    head = (
        '<thead><tr><th rowspan="2" scope="col"></th><th colspan="2" scope="colgroup">Return</th>'
        '<th colspan="2" scope="colgroup">Cost per episode</th></tr><tr>'
        + f'<th scope="col">as it is</th><th scope="col">{escape(without)}</th>' * 2
        + "</tr></thead>"
    )
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(
            our_cell(transfer.evaluations.get(stage), key, html.MISSING, limit)
            for key, limit in (("return", None), ("cost", transfer.cost_limit))
            for stage in (first, second)
        )
        + "</tr>"
        for label, first, second in rows
    )
    return f'<div class="scroll"><table class="results">{head}<tbody>{body}</tbody></table></div>'


def _section(title: str, text: str, charts: str, table: str) -> str:
    return (
        f'<section><h2>{escape(title)}</h2><p>{escape(text)}</p><figure><div class="charts">'
        f"{charts}</div></figure>{table}</section>"
    )
