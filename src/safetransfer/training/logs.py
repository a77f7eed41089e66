"""The log of a run: a JSON object per epoch in ``log.jsonl``, and the same for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE_NAME = "log.jsonl"


class RunLog:
    """Appends the rows of a run to ``run_dir/log.jsonl`` and to ``run_dir/tensorboard``.

    ``resume_epoch`` is the epoch of the checkpoint that the run goes on from (None: it starts
    anew); rows after it, and a line that a kill tore, are dropped, so that the log and the
    checkpoint agree. Write a row before saving the checkpoint of its epoch: a row that is missing
    cannot be made again, one too many is dropped.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        resume_epoch: int | None = None,
        tensorboard: bool = True,
    ):
        self.path = Path(run_dir) / FILE_NAME
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [] if resume_epoch is None else read_rows(self.path)
        self.rows: list[dict[str, Any]] = [r for r in kept if r["epoch"] <= (resume_epoch or 0)]
        temporary = self.path.with_name(f".{FILE_NAME}.tmp")
        temporary.write_text("".join(map(_line, self.rows)), encoding="utf-8")
        temporary.replace(self.path)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close())
        self._board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            purge = None if resume_epoch is None else resume_epoch + 1
            self._board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=purge)

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds one row, which needs an ``epoch``; a number that is not finite becomes null."""
        plain = {key: _json_value(value) for key, value in row.items()}
        self.rows.append(plain)
        self._file.write(_line(plain))
        self._file.flush()
        os.fsync(self._file.fileno())  # a checkpoint must not outlive the row that was before it
        if self._board is not None:
            for key, value in plain.items():
                if isinstance(value, (int, float)) and key != "epoch":
                    self._board.add_scalar(f"run/{key}", value, plain["epoch"])

    def close(self) -> None:
        # What a full disk refused was reported by write; closing must not hide that report.
        with contextlib.suppress(OSError):
            self._file.close()
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a log (the file, or its run directory), up to a line that was torn by a kill."""
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            break
        rows.append(row)
    return rows


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _json_value(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
