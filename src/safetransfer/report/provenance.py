"""What was run, on what, and with which settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from safetransfer.report import html
from safetransfer.report.differences import differences
from safetransfer.report.html import MISSING
from safetransfer.report.runs import Run, Transfer, described, motions
from safetransfer.report.words import stage_name


def provenance(transfer: Transfer) -> str:
    machines: list[str] = []
    rows, commands = [], []
    for stage in transfer.stages:
        runs = transfer.stage_runs(stage)
        if not runs and not transfer.planned(stage):
            continue
        for seed in transfer.seeds:
            run = runs.get(seed)
            if run is None:
                rows.append([escape(stage_name(stage)), str(seed), MISSING, "", "", "", "", ""])
                continue
            used = []
            for machine in _machines(run.config):
                if machine not in machines:
                    machines.append(machine)
                used.append(chr(ord("A") + machines.index(machine)))
            wall = run.last("wall_s")
            rows.append(
                [
                    escape(stage_name(stage)),
                    str(seed),
                    _epochs(run, transfer.planned_epochs(stage)),
                    _count(run.last("env_steps")),
                    _count(run.last("updates")),
                    f"{wall / 60:.1f}" if wall is not None else "–",
                    escape(motions(run.config.get("mocap")) or "–"),
                    ", then ".join(used),
                ]
            )
            command: Any = run.config.get("command")
            words = isinstance(command, list) and all(isinstance(word, str) for word in command)
            text = shlex.join(command) if words else described(command)
            if text and text not in commands:
                commands.append(text)
    header = ["Stage", "Seed", "Epochs", "Steps", "Updates", "Minutes", "Motions", "Machine"]
    listed = "".join(
        f"<li><strong>{chr(ord('A') + i)}</strong>: {escape(machine)}</li>"
        for i, machine in enumerate(machines)
    )
    blocks = [html.table(header, rows), f'<ul class="note">{listed}</ul>' if listed else ""]
    for what, where in differences(transfer).items():
        blocks.append(
            f'<p class="note"><strong>With other settings than planned</strong>: '
            f"{escape('; '.join(where))}. {escape(what)}.</p>"
        )
    if commands:
        blocks.append(f"<h3>Commands</h3><pre>{escape(chr(10).join(commands))}</pre>")
    evaluated = {e.mocap for e in transfer.evaluations.values() if e.mocap}
    if evaluated:
        names = escape("; ".join(sorted(evaluated)))
        blocks.append(f'<p class="note">People’s motions in the evaluations: {names}.</p>')
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


def _machines(config: Mapping[str, Any]) -> list[str]:
    """The machines of a run, in the order in which it was made on them."""
    earlier = [then for then in config.get("earlier", []) if isinstance(then, Mapping)]
    return [_machine(there) for there in (*earlier, config)]


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


def configuration(transfer: Transfer) -> str:
    blocks = [html.details("transfer.json", html.json_block(dict(transfer.plan)), printed=False)]
    for (stage, seed), run in transfer.runs.items():
        if run.config:
            title = f"{stage_name(stage)}, seed {seed}: config.json"
            blocks.append(html.details(title, html.json_block(dict(run.config)), printed=False))
    return f"<section><h2>Configuration</h2>{''.join(blocks)}</section>"
