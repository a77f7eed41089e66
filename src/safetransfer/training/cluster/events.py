"""What happened to a run on a cluster, in words: on the console, and in ``events.jsonl``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE_NAME = "events.jsonl"


class Events:
    """Appends events to the run's file; a run that goes on keeps those before."""

    def __init__(self, run_dir: Path, say: Callable[[str], None]):
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path, self.say = run_dir / FILE_NAME, say

    def __call__(self, event: str, text: str, **details: Any) -> None:
        """`event` is a short name for programs, `text` a sentence for people."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, "text": text, **details})
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.say(text)


def read_events(run_dir: str | Path) -> list[dict[str, Any]]:
    """All events of a run, up to a line that a kill tore."""
    path = Path(run_dir) / FILE_NAME
    events: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events
