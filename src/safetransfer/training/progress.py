"""What a run shows while it trains: a live panel on a terminal, elsewhere a line per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text


class Progress:
    """Shows the rows of a run (keys as in ``log.jsonl``) on standard error.

    Use as a context manager. ``start_epoch`` is where a resumed run goes on; the time left is
    estimated from the epochs of this process only.
    """

    def __init__(
        self,
        total_epochs: int,
        title: str,
        start_epoch: int = 0,
        console: Console | None = None,
    ):
        self.total_epochs, self.title, self.start_epoch = total_epochs, title, start_epoch
        self.console = console or Console(stderr=True, highlight=False)
        self._started = self._updated = time.monotonic()
        self._epoch = start_epoch
        self._row: Mapping[str, Any] = {}
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("epoch"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[clock]}"),
            console=self.console,
        )
        self._task = self._bar.add_task(title, total=total_epochs, clock="")
        self._live: Live | None = None

    def go_on_from(self, epoch: int) -> None:
        """Say that `epoch` epochs were done before this process began."""
        self.start_epoch = self._epoch = epoch

    def __enter__(self) -> Progress:
        self._started = self._updated = time.monotonic()
        if self.console.is_terminal:
            # Once a second is enough for a clock, and takes nothing from training.
            self._live = Live(
                get_renderable=self._panel, console=self.console, refresh_per_second=1
            )
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, row: Mapping[str, Any]) -> None:
        """Shows ``row``; its ``epoch`` counts the epochs that are done."""
        self._row, self._epoch, self._updated = row, int(row["epoch"]), time.monotonic()
        if self._live is None:
            self.console.print(Text(self._plain_line()), soft_wrap=True)
        else:
            self._live.refresh()

    def message(self, text: str) -> None:
        """Prints a line above the panel."""
        # As a Text: markup=False would reach the panel, too.
        self.console.print(Text(text), soft_wrap=True)

    def _clock(self) -> str:
        now, done = time.monotonic(), self._epoch - self.start_epoch
        clock = f"{_duration(now - self._started)} elapsed"
        if done > 0:
            each = (self._updated - self._started) / done
            left = each * (self.total_epochs - self._epoch) - (now - self._updated)
            clock += f", {_duration(max(0.0, left))} left"
        return clock

    def _figures(self) -> list[tuple[str, str]]:
        row = self._row
        return [
            ("env steps", _count(row.get("env_steps"))),
            ("updates", _count(row.get("updates"))),
            ("return", _number(row.get("return"), 0)),
            ("cost", _number(row.get("cost"), 1)),
            ("total cost", _count(row.get("cost_total"))),
            ("multiplier", _number(row.get("multiplier"), 3)),
            ("entropy", _number(row.get("entropy"), 2)),
            ("steps/s", _count(row.get("steps_per_s"))),
        ]

    def _panel(self) -> Group:
        table, figures = Table.grid(padding=(0, 3)), self._figures()
        for _ in range(4):
            table.add_column(no_wrap=True)
        for start in range(0, len(figures), 4):
            row = figures[start : start + 4]
            table.add_row(*(Text.assemble((name, "dim"), f" {value}") for name, value in row))
        self._bar.update(self._task, completed=self._epoch, clock=self._clock())
        return Group(self._bar, table)

    def _plain_line(self) -> str:
        figures = "  ".join(f"{name} {value}" for name, value in self._figures())
        epoch = f"{self._epoch}/{self.total_epochs}"
        return f"{self.title}  epoch {epoch}  {figures}  {self._clock()}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _count(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:,.0f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
