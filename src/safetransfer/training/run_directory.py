"""The directory of a run: its configuration, and whether a command may go on with it.

``config.json`` holds {"settings", "command", "machine", "versions"}; beside it lie
``checkpoint.pt``, ``log.jsonl`` and ``tensorboard/``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetransfer import settings_io
from safetransfer.errors import SettingError
from safetransfer.training.machine import describe_machine, versions

CONFIG_NAME = "config.json"

MAY_CHANGE = (
    "train.epochs",
    "train.threads",
    "train.device",
    "train.checkpoint_minutes",
    "train.checkpoint_replay",
    "train.tensorboard",
)
"""What may differ when a run goes on: it does not change what an epoch of it learns."""


def open_run(
    run_dir: str | os.PathLike[str], settings: Any, command: str | None = None, **more: Any
) -> Path:
    """Makes the directory, or checks that it may go on, and writes ``config.json`` with ``more``.

    Raises SettingError, listing the settings that differ, if it holds a run of other settings.
    """
    run_dir = Path(run_dir)
    if run_dir.exists() and not run_dir.is_dir():
        raise SettingError(f"{run_dir} is a file, not a run directory")
    _check_same(run_dir, settings_io.to_dict(settings))
    run_dir.mkdir(parents=True, exist_ok=True)
    config = {
        "settings": settings_io.to_dict(settings),
        "command": command,
        "machine": describe_machine(),
        "versions": versions(),
        **more,
    }
    settings_io.write_json(run_dir / CONFIG_NAME, config)
    return run_dir


def _check_same(run_dir: Path, settings: dict[str, Any]) -> None:
    path = run_dir / CONFIG_NAME
    if not path.exists():
        return
    # Through JSON, so that what was written and what is asked for are of the same types.
    asked = json.loads(json.dumps(settings))
    found = [
        line
        for line in settings_io.differences(settings_io.read_file(path), asked)
        if line.split(":")[0] not in MAY_CHANGE
    ]
    if found:
        raise SettingError(
            f"{run_dir} holds a run with other settings; name another directory, or remove it to "
            "start anew. Different (there -> asked for):\n  " + "\n  ".join(found)
        )
