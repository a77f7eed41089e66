"""Keeping a trained agent: its weights, log and configuration, without what only resuming needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetransfer import settings_io
from safetransfer.errors import CheckpointError, SettingError
from safetransfer.training import checkpoint, logs

AGENTS = "agents.json"
_KEPT = ("networks", "normaliser", "q_target", "log_alpha", "multiplier", "updates")


def keep(run_dir: str | Path, destination: str | Path, stage: str) -> dict[str, Any]:
    """Copy a run's agent to `destination` and list it in agents.json of the directory above.

    The copy can act and be fine-tuned; optimisers, open episodes and replay are left out.

    Args:
        run_dir: a finished or stopped run.
        destination: the agent's directory, such as results/point-walls.
        stage: "pretrained", "finetuned", "scratch", "unconstrained" or "no_feedback".

    Returns:
        The agent's entry in agents.json.

    Raises:
        CheckpointError: the run has no checkpoint.
        SettingError: the agents.json there is not a list.
    """
    run_dir, destination = Path(run_dir), Path(destination)
    payload = checkpoint.load(run_dir)
    try:
        agent = {name: payload["agent"][name] for name in _KEPT}
        kept = {name: payload[name] for name in ("settings", "shapes", "counters")}
    except KeyError as error:
        raise CheckpointError(f"{run_dir} is not a training run: it has no {error}") from error
    # Where the clips lay is of that machine; config.json says which clips they were.
    config = settings_io.read_file(run_dir / "config.json")
    kept["settings"]["env"]["mocap"] = config["settings"]["env"]["mocap"] = None
    destination.mkdir(parents=True, exist_ok=True)
    checkpoint.save(destination / checkpoint.FILE_NAME, kept | {"agent": agent})
    shutil.copyfile(run_dir / logs.FILE_NAME, destination / logs.FILE_NAME)
    settings_io.write_json(destination / "config.json", config)
    settings = kept["settings"]
    entry = {
        "robot": settings["env"]["robot"],
        "stage": stage,
        "env": settings["env"]["robot"] + settings["env"]["obstacles"],
        "seed": settings["train"]["seed"],
        "path": destination.name,
        "wall_minutes": round(kept["counters"]["wall_s"] / 60.0, 1),
        "command": config.get("command"),
    }
    index = destination.parent / AGENTS
    entries = json.loads(index.read_text()) if index.exists() else []
    if not isinstance(entries, list):
        raise SettingError(f"{index} should hold a list of agents")
    entries = [e for e in entries if e.get("path") != entry["path"]] + [entry]
    index.write_text(json.dumps(sorted(entries, key=lambda e: e["path"]), indent=1) + "\n")
    return entry
