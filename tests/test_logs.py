"""A run's log: what is written can be read, by people, JSON readers and TensorBoard."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from safetransfer.training.logs import RunLog, read_rows
from safetransfer.training.machine import describe_machine, summary, versions
from safetransfer.training.progress import Progress


def row(epoch: int, **more) -> dict:
    return {"epoch": epoch, "env_steps": 100 * epoch, "return": 1.5 * epoch, **more}


def test_rows_are_json_lines_with_null_for_what_is_not_finite(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.write(row(1, q=np.float32(0.5), n=np.int64(3), z=torch.tensor(2.0)))
        log.write(row(2, q=float("nan"), n=float("inf"), m=np.float64("nan")))

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert first == {"epoch": 1, "env_steps": 100, "return": 1.5, "q": 0.5, "n": 3, "z": 2.0}
    assert (second["q"], second["n"], second["m"]) == (None, None, None)


def test_rows_can_be_read_while_the_run_goes_on(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.write(row(1))
        assert read_rows(tmp_path) == [row(1)]


def test_a_resumed_log_agrees_with_its_checkpoint(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        for epoch in (1, 2, 3, 4):
            log.write(row(epoch))
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"epoch": 5, "env_st')  # a kill in the middle of a line
    assert [r["epoch"] for r in read_rows(tmp_path)] == [1, 2, 3, 4]
    with RunLog(tmp_path, resume_epoch=2, tensorboard=False) as log:
        assert log.rows == [row(1), row(2)]
        log.write(row(3, again=1))
    assert read_rows(tmp_path) == [row(1), row(2), row(3, again=1)]


def test_a_run_that_starts_anew_starts_its_log_anew(tmp_path):
    for _ in range(2):
        with RunLog(tmp_path, tensorboard=False) as log:
            log.write(row(1))
    assert read_rows(tmp_path) == [row(1)]
    assert read_rows(tmp_path / "nowhere") == []


def test_tensorboard_shows_the_same_numbers_also_after_a_resume(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with RunLog(tmp_path) as log:
        for epoch in (1, 2, 3):
            log.write(row(epoch, q=None, name="x"))
    with RunLog(tmp_path, resume_epoch=1) as log:
        log.write(row(2, q=0.25))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"run/env_steps", "run/return", "run/q"}
    assert [(e.step, e.value) for e in events.Scalars("run/return")] == [(1, 1.5), (2, 3.0)]


def shown(is_terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
    with Progress(4, "PointWalls", console=console) as progress:
        progress.update(row(1, cost=None, multiplier=0.5, entropy=float("nan"), updates=20_000))
        progress.message("a [message]")
        progress.update(row(2, cost=3.25, steps_per_s=1234.5))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_progress_without_a_terminal_is_a_plain_line_for_each_epoch():
    first, message, second = shown(is_terminal=False).splitlines()
    assert first.startswith(
        "PointWalls  epoch 1/4  env steps 100  updates 20,000  return 2  cost -"
    )
    assert "multiplier 0.500" in first and "entropy -" in first and "left" in first
    assert message == "a [message]"
    assert "cost 3.2" in second and "steps/s 1,23" in second
    assert "\x1b" not in first


def test_progress_on_a_terminal_is_redrawn_in_place():
    text = shown(is_terminal=True)
    assert "\x1b[2K" in text and "a [message]" in text and "2/4" in text


def test_the_machine_is_described_without_naming_it():
    machine = describe_machine()
    assert machine["cores"] >= 1 and machine["cpu"]
    assert torch.__version__.startswith(versions()["torch"])  # "+cu130" is not in all
    import getpass
    import platform

    text = summary() + json.dumps(machine)
    assert platform.node() not in text and f" {getpass.getuser()} " not in text
    assert "/home" not in text
