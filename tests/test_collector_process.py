"""The collector in a process of its own: the same experience, and what accidents do to it."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from safetransfer import settings_io
from safetransfer.errors import TrainingError, UnknownNameError
from safetransfer.training import checkpoint
from safetransfer.training.collecting import InTurn
from safetransfer.training.collector_process import InProcess
from safetransfer.training.loop import Run, train
from safetransfer.training.settings import preset


def smoke(**changes):
    nested: dict = {}
    for name, value in changes.items():
        section, field = name.split("__")
        nested.setdefault(section, {})[field] = value
    return settings_io.updated(preset("smoke"), nested)


def test_it_gives_what_collecting_in_turn_gives_also_after_new_weights_and_a_stored_state():
    settings = smoke(train__threads=2)
    here, there = InTurn(settings), InProcess(settings)
    other = InTurn(smoke(train__seed=1)).actor  # other weights
    try:
        assert there.shapes == here.shapes
        state = None
        for step in range(3):
            if step == 1:
                here.renew(other)
                there.renew(other)
                state = there.state_dict()
            if step == 2:
                here.load_state_dict(state)
                there.load_state_dict(state)
            chunks = []
            for collecting in (here, there):
                collecting.start(5)
                chunks.append(collecting.finish()[0])
            for name in ("action", "reward", "cost", "hidden", "done"):
                np.testing.assert_array_equal(*(getattr(chunk, name) for chunk in chunks), name)
            np.testing.assert_array_equal(*(chunk.obs["camera"] for chunk in chunks))
    finally:
        there.close()
        here.close()
    assert there.process.poll() == 0


def test_errors_of_ours_come_through_as_themselves():
    settings = smoke(train__threads=2)
    object.__setattr__(settings.env, "obstacles", "Holes")
    with pytest.raises(UnknownNameError, match="Humanoids"):
        InProcess(settings)


def test_a_killed_collector_stops_the_run_with_the_last_checkpoint_named(tmp_path):
    settings = smoke(train__threads=2)
    train(settings, tmp_path)
    settings.train.epochs = 50
    run = Run(settings, tmp_path)
    killed = []

    def kill(row):
        if not killed:
            killed.append(row["epoch"])
            os.kill(run.collecting.process.pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"signal 9 .*last good checkpoint is .*checkpoint\.pt"):
        run.go("killed", kill)
    settings.train.epochs = killed[0] + 1
    assert train(settings, tmp_path)["epoch"] == killed[0] + 1  # and the same command goes on


def test_it_ends_when_the_learner_is_killed(tmp_path):
    program = (
        "import sys; from pathlib import Path; from safetransfer.training.loop import Run;"
        "from safetransfer.training.settings import preset;"
        "s = preset('smoke'); s.train.threads = 2; run = Run(s, Path(sys.argv[1]));"
        "run.collecting.start(3000); print(run.collecting.process.pid, flush=True);"
        "import time; time.sleep(600)"
    )
    learner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert learner.stdout is not None
    child = int(learner.stdout.readline())
    learner.kill()
    learner.wait()
    # It is in the middle of collecting, and hears of it at the next chunk at the latest.
    give_up = time.monotonic() + 60
    while _alive(child):
        assert time.monotonic() < give_up, "the collector outlived its learner"
        time.sleep(0.05)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_interrupt_of_the_whole_group_is_left_to_the_learner(tmp_path):
    """As Ctrl-C does it: the signal reaches both processes, and nothing is lost."""
    settings = smoke(train__threads=2, train__epochs=200)
    settings_io.write_json(tmp_path / "settings.json", settings_io.to_dict(settings))
    command = [
        sys.executable, "-m", "safetransfer", "train", "--preset", "smoke", "--run",
        str(tmp_path / "run"), "--config", str(tmp_path / "settings.json"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    give_up = time.monotonic() + 120
    log = tmp_path / "run" / "log.jsonl"
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert checkpoint.load(tmp_path / "run")["counters"]["epoch"] >= 1
