"""The way to a GPU: the same losses there, the same batches in the same order, one script for all.

Without a GPU the first is skipped; the rest of the machinery is tested on the CPU.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from safetransfer import cli, settings_io
from safetransfer.agent.agent import Agent
from safetransfer.agent.networks import Shapes
from safetransfer.benchmarks import gpu
from safetransfer.benchmarks.learner import random_batch
from safetransfer.cli.settings_flags import chosen_settings
from safetransfer.errors import SettingError
from safetransfer.training import checkpoint
from safetransfer.training.batches import batches, one_ahead
from safetransfer.training.build import choose_device
from safetransfer.training.devices import acting_stream, choose_actor_device
from safetransfer.training.logs import read_rows
from safetransfer.training.loop import Run, train
from safetransfer.training.settings import preset

ROOT = Path(__file__).resolve().parents[1]
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use; there is none here"
)
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


# --- with a GPU ----------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("name", ["laptop", "paper"])
def test_the_same_batch_and_weights_give_the_same_losses_there(name):
    settings = preset(name)
    settings.agent.constraint_warmup = 0
    settings.agent.batch_size = 16
    result = gpu._agreement(name, settings, torch.device("cuda"))
    assert result["within_tolerance"], result["relative_difference"]


@needs_gpu
def test_updates_stay_together_on_both():
    shapes = Shapes((50, 50, 1), 12, 2)
    settings = preset("smoke").agent
    agents = {d: Agent(shapes, settings, device=d) for d in ("cpu", "cuda")}
    for seed in range(5):
        batch = random_batch(shapes, settings.horizon, settings.batch_size, settings.hidden, seed)
        noise = torch.randn(settings.horizon + 1, settings.batch_size, 2)
        losses = [gpu._losses(agent, batch, noise) for agent in agents.values()]
        assert max(gpu.relative_difference(*losses).values()) < 1e-2


@needs_gpu
@pytest.mark.parametrize("preset_name", ["smoke", "paper"])
def test_recorded_updates_are_those_launched_one_by_one(preset_name):
    shapes, settings = Shapes((50, 50, 1), 12, 2), preset(preset_name).agent
    settings.batch_size, settings.constraint_warmup = 8, 3  # two recordings: without cost, with
    settings.multiplier_init, settings.cost_limit, settings.multiplier_signal = 0.5, 0.0, "measured"
    agents = [Agent(shapes, settings, device="cuda", cuda_graphs=on) for on in (False, True)]
    for seed in range(6):
        batch = random_batch(shapes, settings.horizon, settings.batch_size, settings.hidden, seed)
        proprio = batch.obs["proprio"].flatten(0, 1).cuda()
        noise = torch.randn(settings.horizon + 1, settings.batch_size, 2)
        for agent in agents:
            agent.normaliser.update(proprio)  # in place: a recording sees it
        losses = [gpu._losses(agent, batch, noise) for agent in agents]
        assert max(gpu.relative_difference(*losses).values()) < 1e-3, (seed, losses)
    assert agents[0].multiplier.value == agents[1].multiplier.value != 0.5


@needs_gpu
@pytest.mark.parametrize("actor", ["cpu", "cuda"])
def test_a_run_there_goes_on_here(tmp_path, actor):
    settings = settings_io.updated(
        preset("smoke"), {"train": {"device": "cuda", "actor_device": actor}}
    )
    train(settings, tmp_path)
    here = settings_io.updated(settings, {"train": {"device": "cpu", "epochs": 3}})
    here.train.actor_device = "auto"
    train(here, tmp_path)
    assert [row["epoch"] for row in read_rows(tmp_path)] == [1, 2, 3]


@needs_gpu
def test_batches_arrive_there_as_they_are_here(tmp_path):
    run = warm_run(tmp_path)
    sizes = (4, 6)
    there = list(batches(run.replay, *sizes, np.random.default_rng(0), torch.device("cuda")))
    here = list(batches(run.replay, *sizes, np.random.default_rng(0), torch.device("cpu")))
    for a, b in zip(there, here, strict=True):
        assert all(
            x.is_cuda and torch.equal(x.cpu(), y)
            for x, y in zip(a.tensors(), b.tensors(), strict=True)
        )


@needs_gpu
@pytest.mark.parametrize("graphs", [False, True])
def test_an_agent_of_a_checkpoint_goes_on_there_with_the_same_noise(tmp_path, graphs):
    shapes, settings = Shapes((50, 50, 1), 12, 2), preset("smoke").agent
    settings.constraint_warmup = 0
    batch = random_batch(shapes, settings.horizon, settings.batch_size, settings.hidden).to("cuda")
    going_on, stopped, loaded = (
        Agent(shapes, settings, seed=seed, device="cuda", cuda_graphs=graphs) for seed in (0, 0, 1)
    )
    for _ in range(3):
        going_on.update(batch, 0.01)
        stopped.update(batch, 0.01)
    checkpoint.save(tmp_path / "agent.pt", stopped.state_dict())
    loaded.load_state_dict(checkpoint.load(tmp_path / "agent.pt"))
    for _ in range(3):
        here, there = (agent.update(batch, 0.01) for agent in (going_on, loaded))
        for name in gpu.LOSSES:
            assert there[name] == pytest.approx(here[name], rel=1e-3, abs=1e-5), name


# --- anywhere ------------------------------------------------------------------------------------


def warm_run(tmp_path) -> Run:
    settings = settings_io.updated(preset("smoke"), {"train": {"device": "cpu"}})
    run = Run(settings, tmp_path)
    while not run.replay_is_warm:
        run.replay.add(run.collector.collect(20))
    run.env.close()
    return run


def test_batches_are_the_samples_one_by_one(tmp_path):
    run = warm_run(tmp_path)
    rng = np.random.default_rng(0)
    made = list(batches(run.replay, 4, 5, np.random.default_rng(0), torch.device("cpu")))
    assert len(made) == 5
    for batch in made:
        expected = run.replay.sample(4, rng)
        assert all(map(torch.equal, batch.tensors(), expected.tensors()))


def test_one_ahead_makes_the_next_while_one_is_in_use_and_no_more():
    numbers, made, ready = iter(range(10)), [], threading.Semaphore(0)

    def make():
        made.append(next(numbers))
        ready.release()
        return made[-1]

    seen = []
    for value in one_ahead(make, 4):
        for _ in range(2 if not seen else 1):
            if len(seen) < 3:  # the next is made without being asked for
                assert ready.acquire(timeout=30)
        seen.append(value)
        assert made == list(range(min(len(seen) + 1, 4)))
    assert seen == [0, 1, 2, 3]
    assert list(one_ahead(make, 0)) == [] and len(made) == 4


def test_one_ahead_raises_an_error_in_its_place():
    values = iter([1, 2])
    seen = []
    with pytest.raises(RuntimeError, match="nothing is left"):
        for value in one_ahead(lambda: _next_or_fail(values), 4):
            seen.append(value)
    assert seen == [1, 2]


def _next_or_fail(values):
    value = next(values, None)
    if value is None:
        raise RuntimeError("nothing is left")
    return value


def test_noise_that_is_given_takes_the_place_of_the_agent_s_own():
    shapes, settings = Shapes((50, 50, 1), 3, 2), preset("smoke").agent
    batch = random_batch(shapes, settings.horizon, settings.batch_size, settings.hidden)
    drawn = torch.randn(
        settings.horizon + 1, settings.batch_size, 2, generator=torch.Generator().manual_seed(0)
    )
    own = Agent(shapes, settings, seed=0).update(batch, 0.01)
    assert Agent(shapes, settings, seed=0).update(batch, 0.01, drawn) == own
    other = Agent(shapes, settings, seed=0).update(batch, 0.01, -drawn)
    assert other["loss_pi"] != own["loss_pi"]


@needs_none
@pytest.mark.parametrize("name, value", [("cuda_graphs", "on"), ("precision", "tf32")])
def test_what_only_a_gpu_has_is_refused_without_one(tmp_path, name, value):
    settings = settings_io.updated(preset("smoke"), {"train": {name: value}})
    with pytest.raises(SettingError, match=rf"train\.{name} is '{value}'.* use 'auto'"):
        train(settings, tmp_path)


@needs_none
def test_a_gpu_is_chosen_where_there_is_one_and_named_where_it_is_asked_for_and_absent():
    assert choose_device("auto").type == "cpu"
    assert choose_actor_device("auto", torch.device("cpu")).type == "cpu"
    assert choose_actor_device("auto", torch.device("cuda")).type == "cuda"
    with pytest.raises(SettingError, match=r"train\.device is 'cuda'"):
        choose_device("cuda")
    with pytest.raises(SettingError, match=r"train\.actor_device is 'cuda'"):
        choose_actor_device("cuda", torch.device("cpu"))


def test_device_is_a_flag_of_its_own():
    argv = ["train", "--run", "x", "--device", "cpu", "--train.actor_device", "cpu"]
    arguments = cli._parse("train", cli.COMMANDS["train"], argv)
    settings = chosen_settings(arguments)
    assert (settings.train.device, settings.train.actor_device) == ("cpu", "cpu")


def test_a_run_may_go_on_by_another_name_of_its_device(tmp_path):
    settings = preset("smoke")
    settings.train.device = "cpu"
    train(settings, tmp_path)
    settings.train.device, settings.train.epochs = "auto", 3
    settings.train.actor_device = "cpu"
    train(settings, tmp_path)
    assert [row["epoch"] for row in read_rows(tmp_path)] == [1, 2, 3]


def test_acting_on_a_cpu_needs_no_stream():
    agent = Agent(Shapes(None, 3, 2), preset("smoke").agent)
    with acting_stream(agent.actor):
        action, _ = agent.actor.act(
            {"proprio": np.zeros((2, 3), np.float32)}, *np.zeros((2, 2), np.float32),
            agent.actor.initial_carry(2),
        )  # fmt: skip
    assert action.shape == (2, 2)


def test_the_script_does_everything_in_one_call():
    """On the CPU, small: agreement of the CPU with itself is exact, the rest has its figures."""
    process = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--quick"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    result = json.loads(process.stdout)
    assert result["device"] == "cpu" and result["quick"]
    for name in ("laptop", "paper"):
        agreement = result["agreement"][name]
        assert agreement["within_tolerance"] and max(agreement["relative_difference"].values()) == 0
        variants = result["learner"][name]
        assert max(variants["float32"]["relative_difference"].values()) == 0
        assert 0 < max(variants["bfloat16"]["relative_difference"].values()) < 0.5
        assert all(v["updates_per_s"] > 0 for v in variants.values())
        assert result["batches"][name]["sample_ms"] > 0
    assert result["asked"] == {"updates_per_s": 100.0, "reached": None}
    assert [(r["preset"], r["env"]) for r in result["training"]] == list(gpu.RUNS)
    for row in result["training"]:
        assert row["steps_per_s"] > 0 and row["updates_per_s"] > 0, row


def test_some_parts_of_some_presets_are_all_that_is_done():
    result = gpu.run("cpu", quick=True, parts=["batches"], presets=["paper"])
    assert result.keys() == {"quick", "device", "batches", "machine"}
    assert result["batches"]["paper"].keys() == {"sample_ms"}
    assert result["batches"].keys() == {"paper"}


def test_a_part_that_fails_is_said_and_the_rest_goes_on(monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: out of memory\nand so on")

    monkeypatch.setattr(gpu, "_batches", fail)
    monkeypatch.setattr(gpu, "_training", fail)
    monkeypatch.setattr(gpu, "CASES", {"paper": Shapes((50, 50, 1), 3, 2)})
    result = json.loads(json.dumps(gpu.run("cpu", quick=True)))
    error = {"error": "RuntimeError: CUDA error: out of memory"}
    assert result["batches"] == {"paper": error}
    assert all(error.items() <= row.items() for row in result["training"])
    assert result["learner"]["paper"]["float32"]["updates_per_s"] > 0
