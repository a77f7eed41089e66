"""The directory of a run: is the run that is there this one, and what is recorded of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetransfer import settings_io
from safetransfer.errors import SettingError
from safetransfer.training import checkpoint, logs
from safetransfer.training.machine import describe_machine, versions
from safetransfer.training.settings import MAY_CHANGE, Settings

CONFIG, TRANSFER, STUDY = "config.json", "transfer.json", "study.json"
_HELD = {
    CONFIG: "a run",
    checkpoint.FILE_NAME: "a run",
    TRANSFER: "a transfer",
    STUDY: "a study",
}

# What may have been sent into a run's directory before it began: output, and hidden files.
_OF_THE_SHELL = re.compile(r"^\.|\.(log|out|err|txt)$")

# How long to train (the learning rates then fall towards the new end) and how to go about it may
# change; what is trained may not.
# Where clips lie may change, too: which ones they are, `require_same_people` tells by their digest.
_MAY_CHANGE = ("train.epochs", "agent.act_by", "agent.act_noise", "env.mocap", *MAY_CHANGE)


def open_directory(run_dir: Path, settings: Settings) -> dict[str, Any] | None:
    """The checkpoint of the run in `run_dir`, if it has one.

    SettingError for another run's. One that ended before its first checkpoint left nothing to go on
    with: the next run begins there.
    """
    now = settings_io.to_dict(settings)
    config, path = run_dir / CONFIG, run_dir / checkpoint.FILE_NAME
    saved = checkpoint.load(path) if path.exists() else None
    if saved is not None:
        # They are the checkpoint's own where config.json has been lost.
        document = settings_io.read_file(config) if config.exists() else saved
        before = settings_io.with_defaults(Settings, document.get("settings", {}))
        for name in settings.env.indifferent:
            now["env"][name] = before.get("env", {}).get(name)
        different = [
            line
            for line in settings_io.differences(before, now)
            if not line.startswith(_MAY_CHANGE)
        ]
        if different:
            raise SettingError(
                f"{run_dir} holds a run with other settings: {'; '.join(different)}. "
                "Give the run's own settings to go on with it, or another directory"
            )
    return saved


def require_same_start(run_dir: Path, init: str | Path, carry: str) -> None:
    """Raise SettingError where a run that goes on did not begin from `init`, in that way."""
    config = run_dir / CONFIG
    if not config.exists():
        return
    before, start = settings_io.read_file(config).get("init"), _start(init, carry)
    if before != start:
        raise SettingError(
            f"{run_dir} holds a run that began from {_in_words(before)}, not from "
            f"{_in_words(start)}. Give the run's own --init and --carry, or none, to go on with "
            "it; another directory begins anew"
        )


def require_same_people(where: Path, before: Any, now: Any) -> None:
    """Raise SettingError where people would move by other clips than before.

    `before` and `now` are records of clips as config.json has them ("mocap"), None without people.
    `where` is what goes on, for the message.
    """
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return
    if any(before.get(name) != now.get(name) for name in ("source", "sha256")):
        raise SettingError(
            f"the people of {where} move by {_clips_in_words(before)}, and would now move by "
            f"{_clips_in_words(now)}. Give the same clips to go on with it (--mocap, or "
            "SAFETRANSFER_MOCAP; the folder may be another one), or another directory"
        )


def _clips_in_words(record: Mapping[str, Any]) -> str:
    if not record.get("sha256"):
        return f"{record.get('source')} motions"
    count = "1 clip" if record.get("clips") == 1 else f"{record.get('clips')} clips"
    return f"{count} of '{record.get('folder')}' (sha256 {str(record['sha256'])[:8]})"


def _start(init: str | Path | None, carry: str) -> dict[str, str] | None:
    return None if init is None else {"checkpoint": Path(init).name, "carry": carry}


def _in_words(start: Any) -> str:
    if not isinstance(start, Mapping):
        return "nothing"
    return f"{start.get('checkpoint')} (its {start.get('carry')})"


def require_room(directory: Path, own: str) -> None:
    """Raise SettingError where what has a file named `own` (CONFIG, TRANSFER or STUDY) would be
    written into a file, or over something of another kind."""
    if directory.exists() and not directory.is_dir():
        raise SettingError(f"{directory} is a file; {_HELD[own]} needs a directory")
    for name, what in _HELD.items():
        if what != _HELD[own] and (directory / name).exists():
            raise SettingError(f"{directory} holds {what} already; name another directory")


def require_own_directory(run_dir: Path) -> None:
    """Raise SettingError where a new run's files would come among others."""
    if run_dir.exists() and not run_dir.is_dir():
        raise SettingError(f"{run_dir} is a file; a run needs a directory")
    names = [entry.name for entry in run_dir.iterdir()] if run_dir.exists() else []
    if CONFIG in names or checkpoint.FILE_NAME in names:
        return
    others = sorted(name for name in names if not _OF_THE_SHELL.search(name))
    if others:
        raise SettingError(
            f"{run_dir} is not empty, and no run's directory: it holds {', '.join(others[:3])}"
            f"{' and more' if len(others) > 3 else ''}. Name a new directory"
        )


def is_finished(run_dir: Path, epochs: int) -> bool:
    """Whether the run in `run_dir` is through its `epochs`, and its checkpoint, too: a log can be
    ahead of it where a run was killed in between."""
    rows, path = logs.read_rows(run_dir), run_dir / checkpoint.FILE_NAME
    if not rows or rows[-1]["epoch"] < epochs or not path.exists():
        return False
    return int(checkpoint.load(path)["counters"]["epoch"]) >= epochs


def write_config(
    run_dir: Path,
    settings: Settings,
    mocap: Any,
    command: str | None,
    init: str | Path | None,
    carry: str,
    updates: int | None,
) -> None:
    """Record the run; who goes on with one leaves what was recorded of its beginning.

    `updates` are those of the checkpoint from which the run goes on, None where it begins. Where it
    goes on on another machine, or with other versions, "earlier" holds the ones before, each with
    the updates at which the next took over.

    Raises SettingError where a run that has no checkpoint yet began from another agent, and where
    the people of one that goes on would move by other clips.
    """
    path = run_dir / CONFIG
    start = _start(init, carry)
    here = {"machine": describe_machine(), "versions": versions()}
    earlier: list[dict[str, Any]] = []
    if path.exists():
        before = settings_io.read_file(path)
        if updates is not None:
            require_same_people(run_dir, before.get("mocap"), mocap)
            command, start = before.get("command", command), before.get("init", start)
            earlier = list(before.get("earlier", []))
            there = {name: before[name] for name in here if name in before}
            if there and there != here:
                earlier.append({"updates": updates, **there})
        elif before.get("init") != start:
            raise SettingError(
                f"{run_dir} holds a run that began from {_in_words(before.get('init'))}, not from "
                f"{_in_words(start)}. Give the run's own --init and --carry, or another directory"
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    document = {
        "settings": settings_io.to_dict(settings),
        "command": command,
        "init": start,
        **here,
        "mocap": mocap,
    }
    if earlier:
        document["earlier"] = earlier
    settings_io.write_json(path, document)
