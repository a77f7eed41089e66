"""Table 1 of the paper with ours beside it, as Markdown, for READMEs and notes."""

from __future__ import annotations

from safetransfer.report.html import number
from safetransfer.report.paper import TABLE_1
from safetransfer.report.runs import Estimate, Transfer, regret
from safetransfer.report.words import short_name

_HEAD = (
    "| | Return, paper | Return, ours | Cost per episode, paper | Cost per episode, ours "
    "| Total cost of training there, ours |\n|---|---:|---:|---:|---:|---:|"
)


_OWN_HEAD = "| | Return | Cost per episode | Total cost of training there |\n|---|---:|---:|---:|"


def markdown_table(transfer: Transfer) -> str:
    """A row per way of getting an agent; then, per environment, what moving there cost in all."""
    known = any(env in TABLE_1 for env in transfer.targets)
    lines = [
        _HEAD if known else _OWN_HEAD,
        _row(transfer, f"{short_name(transfer.source)}, pre-trained", "pretrain"),
        *_ablation_rows(transfer, transfer.source),
    ]
    sentences = []
    for env in transfer.targets:
        name, paper = short_name(env), TABLE_1.get(env)
        for label, stage, printed in (
            ("zero-shot", f"zeroshot-{env}", paper and paper.zeroshot),
            ("safe transfer (fine-tuned)", f"finetune-{env}", None),
            ("from scratch", f"scratch-{env}", paper and paper.scratch),
        ):
            shown = (printed.episode_return, printed.cost) if printed else (None, None)
            lines.append(_row(transfer, f"**{name}** {label}", stage, *shown))
        lines += _ablation_rows(transfer, env)
        cost = regret(transfer, env)
        if cost.moved is not None and cost.scratch:
            share = 100.0 * cost.moved / cost.scratch
            text = f"{name}: safe transfer cost {share:.1f}% of what learning there cost"
            others = []
            if cost.scratch_same_steps and cost.moved_steps is not None:
                same = 100.0 * cost.moved / cost.scratch_same_steps
                steps = number(cost.moved_steps)
                others.append(f"{same:.1f}% of what it had cost after the same {steps} steps")
            if cost.scratch_until_good:
                same = 100.0 * cost.moved / cost.scratch_until_good
                others.append(f"{same:.1f}% of what it had cost until it was as good")
            text += f" ({', '.join(others)})" if others else ""
            sentences.append(text + ".")
    evaluations = transfer.evaluations.values()
    episodes = sorted({e.episodes for e in evaluations})
    seeds = len(transfer.seeds)
    sentences.append(
        f"{seeds} seed{'s' * (seeds > 1)}; each row is of "
        f"{' to '.join(map(str, episodes)) or 'no'} evaluation episodes; "
        "means, with 95% bootstrap intervals over "
        + ("seeds and episodes." if seeds > 1 else "episodes.")
    )
    return "\n".join(lines) + "\n\n" + " ".join(sentences)


def _ablation_rows(transfer: Transfer, env: str) -> list[str]:
    """Of the planned ablations that were trained in `env`."""
    labels = {"unconstrained": "reward alone", "no_feedback": "without last reward and cost"}
    return [
        _row(transfer, f"{short_name(env)}, {label}", f"{ablation}-{env}")
        for ablation, label in labels.items()
        if f"{ablation}-{env}" in transfer.ablation_stages
    ]


def _row(
    transfer: Transfer,
    label: str,
    stage: str,
    paper_return: float | None = None,
    paper_cost: float | None = None,
) -> str:
    evaluation = transfer.evaluations.get(stage)
    if evaluation and evaluation.seeds < len(transfer.seeds):
        label += f" ({evaluation.seeds} seed{'s' * (evaluation.seeds > 1)})"
    measures = evaluation.measures if evaluation else {}
    totals = [r.cost_total for r in transfer.stage_runs(stage).values() if r.cost_total is not None]
    total = number(sum(totals) / len(totals)) if totals else "–"
    if stage.startswith("zeroshot") and evaluation:
        total = "0"
    gained, cost = _ours(measures.get("return")), _ours(measures.get("cost"))
    if any(env in TABLE_1 for env in transfer.targets):
        gained = f"{_printed(paper_return)} | {gained}"
        cost = f"{_printed(paper_cost)} | {cost}"
    cells = [label, gained, cost, total]
    return f"| {' | '.join(cells)} |"


def _printed(value: float | None) -> str:
    return "–" if value is None else f"{value:,g}"


def _ours(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not run"
    if estimate.interval is None:
        return number(estimate.mean)
    low, high = (number(end, like=estimate.mean) for end in estimate.interval)
    return f"{number(estimate.mean)} ({low} to {high})"
