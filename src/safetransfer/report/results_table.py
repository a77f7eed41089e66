"""Table 1 of the paper with ours beside it."""

from __future__ import annotations

from html import escape

from safetransfer.report.html import MISSING, number
from safetransfer.report.paper import TABLE_1, Result
from safetransfer.report.runs import Estimate, Evaluation, Transfer
from safetransfer.report.words import absent, short_name


def results_table(transfer: Transfer) -> str:
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
    if _paper_has_any(transfer):
        head = (
            '<thead><tr><th rowspan="2" scope="col">Agent</th><th colspan="2" '
            'scope="colgroup">Return</th><th colspan="2" scope="colgroup">Cost per episode</th><th '
            'rowspan="2" scope="col">Total cost<br>of training there</th></tr><tr><th '
            'scope="col">paper</th><th scope="col">ours</th><th scope="col">paper</th><th '
            'scope="col">ours</th></tr></thead>'
        )
        title = "Table 1: how well, and at what cost"
    else:
        head = (
            '<thead><tr><th scope="col">Agent</th><th scope="col">Return</th><th scope="col">Cost '
            'per episode</th><th scope="col">Total cost<br>of training there</th></tr></thead>'
        )
        title = "How well, and at what cost"
    return (
        f'<section><h2>{title}</h2><div class="scroll"><table '
        f'class="results">{head}{"".join(groups)}</table></div><p '
        f'class="note">{_table_note(transfer)}</p></section>'
    )


# How an agent came to be, in a word and in a few; its stage; what the paper prints for it.
_Way = tuple[tuple[str, str], str, Result | None]


def _group(transfer: Transfer, env: str, ways: list[_Way], low_stakes: bool) -> str:
    stakes = " (low stakes)" if low_stakes else ""
    columns = 6 if _paper_has_any(transfer) else 4
    rows = [
        f'<tr><th scope="rowgroup" colspan="{columns}">{escape(short_name(env))}{stakes}</th></tr>',
        *(_result_row(transfer, label, stage, paper) for label, stage, paper in ways),
    ]
    return f"<tbody>{''.join(rows)}</tbody>"


def _result_row(
    transfer: Transfer, label: tuple[str, str], stage: str, paper: Result | None
) -> str:
    evaluation = transfer.evaluations.get(stage)
    missing = absent(transfer, stage)
    cells = [
        f'<th scope="row">{label[0]} <small>{label[1]}</small></th>',
        _paper_cell(paper.episode_return if paper else None),
        our_cell(evaluation, "return", missing),
        _paper_cell(paper.cost if paper else None),
        our_cell(evaluation, "cost", missing, transfer.cost_limit),
        f'<td class="total">{_total(transfer, stage)}</td>',
    ]
    if not _paper_has_any(transfer):
        cells = [cell for cell in cells if not cell.startswith(_PAPER)]
    return f"<tr>{''.join(cells)}</tr>"


_PAPER = '<td class="paper">'


def _paper_has_any(transfer: Transfer) -> bool:
    """Whether the paper prints figures for any of these environments."""
    return any(target in TABLE_1 for target in transfer.targets)


def _paper_cell(value: float | None) -> str:
    return f"{_PAPER}{'–' if value is None else f'{value:,g}'}</td>"


def our_cell(
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
        return absent(transfer, stage)
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
    numbers = sorted({evaluation.seeds for evaluation in evaluations}) or [len(transfer.seeds)]
    seeds = numbers[-1]
    span = f"{seeds}" if len(numbers) == 1 else f"{numbers[0]} to {seeds}"
    notes[0] += (
        f" and its 95% percentile bootstrap interval, over {span} training seeds and the episodes "
        "within each."
        if seeds > 1
        else " and its 95% percentile bootstrap interval, over the episodes of one training seed."
    )
    if transfer.cost_limit is not None:
        notes.append(f"▲ marks a cost above the limit of {transfer.cost_limit:g} per episode.")
    notes.append("Total cost is that of all the training there, exploration included.")
    if _paper_has_any(transfer):
        notes.append(
            "The paper prints no intervals and no figures after fine-tuning; its hallways differ "
            "from ours in size and in number of obstacles, which it does not give."
        )
    return escape(" ".join(notes))
