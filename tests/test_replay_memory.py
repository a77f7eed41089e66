"""The memory that the replay says it needs is what it takes; beyond the machine's it is refused."""

import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from safetransfer import settings_io
from safetransfer.agent.networks import Shapes
from safetransfer.errors import SettingError
from safetransfer.replay import Chunk, SequenceReplay
from safetransfer.replay.memory import check_memory, replay_bytes, replay_parts
from safetransfer.training import machine
from safetransfer.training.loop import train
from safetransfer.training.settings import preset

POINT, DOGGO = Shapes((50, 50, 1), 12, 2), Shapes((50, 50, 1), 48, 12)


def replay_of(shapes, name="paper", capacity=None):
    s = preset(name)
    return SequenceReplay(
        shapes, capacity or s.train.replay_size, s.train.num_envs, s.agent.hidden,
        s.agent.horizon, s.train.replay_stride, s.train.replay_compact,
    )  # fmt: skip


def chunk_of(shapes, k, n, hidden):
    return Chunk(
        obs={
            "camera": np.full((k, n, *shapes.camera), 7, np.uint8),
            "proprio": np.ones((k, n, shapes.proprio), np.float32),
        },
        last_reward=np.ones((k, n), np.float32),
        last_cost=np.ones((k, n), np.float32),
        hidden=np.full((k, n, hidden), 0.5, np.float32),
        action=np.full((k, n, shapes.actions), 0.5, np.float32),
        reward=np.ones((k, n), np.float32),
        cost=np.ones((k, n), np.float32),
        terminated=np.zeros((k, n), bool),
        done=np.zeros((k, n), bool),
        env_steps=k * n,
        final_obs=[{}] * k,
    )


@pytest.mark.parametrize("shapes", [POINT, DOGGO], ids=["Point", "Doggo"])
def test_two_million_steps_of_the_paper_s_camera_take_at_most_5_5_gb_with_everything(shapes):
    replay = replay_of(shapes)  # zeroed pages take no memory until they are written
    assert 2_000_000 - 2000 <= replay.size * replay.num_envs <= 2_000_000
    assert replay.obs["camera"].nbytes == replay.size * replay.num_envs * 2500  # one copy, 8 bits
    assert replay.nbytes <= 5.5e9


@pytest.mark.parametrize("name", ["laptop", "paper", "smoke"])
@pytest.mark.parametrize("shapes", [POINT, DOGGO, Shapes(None, 5, 1)], ids=str)
def test_parts_add_up_to_what_the_arrays_hold(name, shapes):
    s = preset(name)
    replay = replay_of(shapes, name)
    arguments = (s.agent.hidden, s.train.replay_stride, s.train.replay_compact)
    parts = replay_parts(shapes, replay.size * replay.num_envs, *arguments)
    held = replay.nbytes - replay.head.nbytes
    assert sum(parts.values()) == held
    assert parts["hidden states"] == replay.hidden.nbytes
    assert parts["proprioception"] == replay.obs["proprio"].nbytes
    assert parts["actions"] == replay.action.nbytes
    assert held <= replay_bytes(shapes, s.train.replay_size, *arguments) <= 1.01 * held


def resident():
    """Bytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def growth():
    """Bytes that this process grows by filling a replay, bytes that the replay says it holds, and
    those of the frames of the chunk that it is filled with."""
    chunk = chunk_of(DOGGO, 16, 60, preset("paper").agent.hidden)
    before = resident()
    replay = replay_of(DOGGO, capacity=50_000)
    while len(replay) < replay.size * replay.num_envs:
        replay.add(chunk)
    return resident() - before, replay.nbytes, chunk.obs["camera"].nbytes


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_full_replay_grows_the_process_by_what_it_says():
    # In a process of its own: one that ran other tests gives memory back meanwhile.
    code = "import test_replay_memory as t; print(*t.growth())"
    here = Path(__file__).parent
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=here, check=True, capture_output=True, text=True
    )
    grown, said, frames = map(int, found.stdout.split())
    # The small arrays may lie in memory that the process had left over.
    assert 0.9 * said < grown < 1.03 * said + 2 * frames


def test_sampling_copies_frames_once():
    replay = replay_of(POINT, capacity=20_000)
    replay.add(chunk_of(POINT, 300, 60, preset("paper").agent.hidden))
    rng = np.random.default_rng(0)
    replay.sample(64, rng)
    tracemalloc.start()  # sees numpy's memory, and not the batch's own, which is PyTorch's
    batch = replay.sample(64, rng)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    frames = batch.obs["camera"]
    assert frames.nbytes > 4e6 and (frames == 7).all()
    assert peak < 0.1 * frames.nbytes


def test_beyond_memory_the_run_is_refused_and_told_what_needs_how_much(tmp_path, monkeypatch):
    of_4_gib = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}
    real = os.sysconf
    monkeypatch.setattr(machine.os, "sysconf", lambda name: of_4_gib.get(name) or real(name))
    settings = settings_io.updated(
        preset("paper", "Doggo"), {"train": {"replay_compact": False, "device": "cpu"}}
    )
    with pytest.raises(SettingError) as error:
        train(settings, tmp_path / "run")
    message = str(error.value)
    total = float(re.search(r"needs (\d+\.\d+) GiB", message)[1])
    parts = {
        name: float(re.search(rf"{name} (\d+\.\d+)", message)[1])
        for name in ("frames", "proprioception", "actions", "hidden states", "costs and ends")
    }
    assert sum(parts.values()) == pytest.approx(total, abs=0.1)
    assert parts["frames"] == pytest.approx(2e6 * 2500 / 2**30, abs=0.01)
    assert parts["proprioception"] == pytest.approx(2e6 * 48 * 4 / 2**30, abs=0.01)
    assert "4.0 GiB" in message and "train.replay_compact true" in message
    fits = int(re.search(r"train\.replay_size (\d+) or less", message)[1])
    check_memory(DOGGO, fits, 256, 30, False, 4.0)  # what it says does fit
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_where_hidden_states_are_much_of_it_fewer_of_them_are_offered():
    wide = (Shapes(None, 12, 2), 10_000_000, 1024, 2)
    with pytest.raises(SettingError, match=r"train\.replay_stride \(now 2\)") as error:
        check_memory(*wide, True, 8.0)
    assert "picture" not in str(error.value) and "replay_compact" not in str(error.value)
    check_memory(*wide, True, None)  # a system that does not say how much it has
