"""Keeping trained agents: weights, log and configuration, without what only resuming needs.

Kept files name no folder of the machine they were made on: which clips people moved by is in
config.json under "mocap", where those clips lay is left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetransfer import settings_io
from safetransfer.agent.agent import acting_state
from safetransfer.agent.networks import policy_weights
from safetransfer.errors import CheckpointError, SettingError
from safetransfer.training import checkpoint, logs
from safetransfer.training.run_directory import CONFIG, require_room
from safetransfer.training.run_directory import TRANSFER as PLAN
from safetransfer.training.settings import MAY_CHANGE, Settings
from safetransfer.training.stages import STAGE_OF

AGENTS = "agents.json"
_KEPT = ("networks", "normaliser", "q_target", "log_alpha", "multiplier", "updates")
_FREE = ("settings.train.epochs", *(f"settings.{name}" for name in MAY_CHANGE))
_KEPT_TO_ACT = ("networks", "normaliser", "updates")


def keep(source: str | Path, destination: str | Path, stage: str = "pretrained") -> list[Path]:
    """Keep a run, or a whole transfer, at `destination`; list its agents in agents.json.

    A kept agent can act and be fine-tuned; optimisers, open episodes and replay are left out. Of a
    transfer are kept the plan, every log, configuration, evaluation and agent; of agents that were
    not pre-trained, the critics are left out as well: they act, and carry over at most a policy.

    Args:
        source: directory of a run or of a transfer.
        destination: where to; agents.json is in the directory above it.
        stage: what a run's agent is, one of `stages.STAGES`.

    Returns:
        The directories of the kept agents.

    Raises:
        CheckpointError: a run has no checkpoint that can be read.
        SettingError: the agents.json there is not a list of agents, both are one directory, or
            something else is kept there already.
    """
    source, destination = Path(source), Path(destination)
    if source.resolve() == destination.resolve():
        raise SettingError(f"{source} cannot be kept at {destination}: that is where it is")
    if not (source / PLAN).exists():
        _require_same_run(source / CONFIG, destination, CONFIG)
        _keep_agent(source, destination, destination.parent, stage)
        return [destination]
    _require_same_run(source / PLAN, destination, PLAN)
    plan = settings_io.read_file(source / PLAN)
    _forget_clips(plan)
    for name in ("agent", "reference", "command"):
        plan[name] = _without_folders(plan.get(name))
    agents = []
    for run_dir in sorted(p.parent for p in source.glob(f"seed-*/*/{CONFIG}")):
        to = destination / run_dir.relative_to(source)
        what = STAGE_OF.get(run_dir.name.partition("-")[0])
        if what and (run_dir / checkpoint.FILE_NAME).exists():
            _keep_agent(run_dir, to, destination.parent, what, to_act=what != "pretrained")
            agents.append(to)
        else:
            _keep_log(run_dir, to)
    for evaluation in sorted(source.glob("seed-*/evaluations/*.json")):
        to = destination / evaluation.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(evaluation, to)
    settings_io.write_json(destination / PLAN, plan)
    return agents


def _require_same_run(source: Path, destination: Path, name: str) -> None:
    """Raise SettingError where something else than an earlier state of the same run, or the same
    transfer, is kept at the destination."""
    require_room(destination, name)
    there = destination / name
    if not (source.exists() and there.exists()):
        return
    ours, theirs = settings_io.read_file(source), settings_io.read_file(there)
    for document, path in ((ours, source), (theirs, there)):
        try:
            _forget_clips(document)
        except (KeyError, TypeError):
            raise SettingError(f"{path} does not say which settings it is of") from None
        document["settings"] = settings_io.with_defaults(Settings, document["settings"])
    names = ("settings", "init", "env", "start", "start_in", "finetune", "carry")
    kept, new = ({n: d[n] for n in names if n in d} for d in (theirs, ours))
    different = [line for line in settings_io.differences(kept, new) if not line.startswith(_FREE)]
    if different:
        raise SettingError(
            f"{destination} holds another {'transfer' if name == PLAN else 'agent'}: "
            f"{'; '.join(different[:3])}"
            f"{' and more' if len(different) > 3 else ''}. Remove it first, or name another "
            "directory"
        )


def _forget_clips(document: dict[str, Any]) -> None:
    """Leave out where clips lay, of environments that have people."""
    env = document["settings"]["env"]
    if "mocap" in env:
        env["mocap"] = None


def _without_folders(text: str | None) -> str | None:
    """A command, or a path, with absolute paths cut down to their last names."""
    return text and re.sub(r"(?<![^\s='\"])/(?:[^\s'\"/]+/)*([^\s'\"/]*)", r"\1", text)


def _keep_log(run_dir: Path, destination: Path) -> dict[str, Any]:
    """Copy log and configuration; returns the configuration."""
    config = settings_io.read_file(run_dir / CONFIG)
    _forget_clips(config)
    config["command"] = _without_folders(config.get("command"))
    destination.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run_dir / logs.FILE_NAME, destination / logs.FILE_NAME)
    settings_io.write_json(destination / CONFIG, config)
    return config


def _keep_agent(
    run_dir: Path, destination: Path, listed_in: Path, stage: str, to_act: bool = False
) -> None:
    payload = checkpoint.load(run_dir)
    try:
        state = acting_state(payload["agent"]) if to_act else payload["agent"]
        agent = {name: state[name] for name in (_KEPT_TO_ACT if to_act else _KEPT)}
        if to_act:
            agent["networks"] = policy_weights(agent["networks"])
        else:  # what not every agent has
            agent |= {name: state[name] for name in ("averaged", "core_target") if state.get(name)}
        kept = {name: payload[name] for name in ("settings", "shapes", "counters")}
    except KeyError as error:
        raise CheckpointError(f"{run_dir} is not a training run: it has no {error}") from error
    settings = settings_io.from_dict(Settings, kept["settings"])
    settings.env = settings.env.with_mocap(None)
    kept["settings"] = settings_io.to_dict(settings)
    config = _keep_log(run_dir, destination)
    checkpoint.save(destination / checkpoint.FILE_NAME, kept | {"agent": agent})
    env = settings.env.kept()
    entry = {
        "robot": env["robot"],
        "stage": stage,
        "env": env["env"],
        "seed": kept["settings"]["train"]["seed"],
        "path": destination.relative_to(listed_in).as_posix(),
        "wall_minutes": round(kept["counters"]["wall_s"] / 60.0, 1),
        "command": config.get("command"),
    }
    _list(listed_in / AGENTS, entry)


def _list(index: Path, entry: Mapping[str, Any]) -> None:
    """Add an entry to a list of agents, in place of an earlier one of the same path."""
    try:
        entries = json.loads(index.read_text()) if index.exists() else []
        others = [e for e in entries if e["path"] != entry["path"]]
    except (ValueError, TypeError, KeyError):
        raise SettingError(f"{index} should hold a list of agents, each with its path") from None
    partial = index.with_name(f".{index.name}.part")
    everything = sorted([*others, dict(entry)], key=lambda e: e["path"])
    partial.write_text(json.dumps(everything, indent=1) + "\n")
    partial.replace(index)
