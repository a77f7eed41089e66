"""Actors over Ray against the one-machine collector, on the same cores; nothing is learned."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safetransfer import settings_io
from safetransfer.training.build import choose_device, make_agent, make_env, shapes_of
from safetransfer.training.cluster.connection import connected
from safetransfer.training.cluster.train import spec_of
from safetransfer.training.collector import Collector
from safetransfer.training.machine import cores, describe_machine, versions
from safetransfer.training.settings import Settings, preset

HALLWAYS = 64  # in all, of either


def run(seconds: float = 20.0, actors: int = 2, rounds: int = 2) -> dict[str, Any]:
    """Point among walls by the `laptop` preset, `rounds` times in turn.

    The one-machine collector has all cores: hallways on a thread of each, its policy on a thread of
    each as well, or on one where that is faster. The actors' figure is of what the learner
    has taken in, which they share the cores with.

    Returns {"one_machine_steps_per_s", "actors_steps_per_s" (medians), "ratio", "actors",
    "hallways", "rounds": [[one machine, actors]], "machine"}.
    """
    train = {
        "num_envs": HALLWAYS,
        "learning_starts": 100_000,
        "replay_size": 200_000,
        "checkpoint_minutes": 1e6,
        "tensorboard": False,
        "device": "cpu",
    }
    settings = settings_io.updated(preset("laptop"), {"train": train})
    found = []
    with connected(None, actors):
        for _ in range(rounds):
            one = max(_one_machine(settings, seconds / 2, k) for k in {1, cores()})
            found.append([one, _over_ray(settings, seconds, actors)])
    one, ray = (float(np.median(column)) for column in zip(*found, strict=True))
    return {
        "one_machine_steps_per_s": one,
        "actors_steps_per_s": ray,
        "ratio": ray / one,
        "actors": actors,
        "hallways": HALLWAYS,
        "rounds": found,
        "machine": describe_machine() | versions(),
    }


def _one_machine(settings: Settings, seconds: float, policy_threads: int) -> float:
    """Environment steps per second, after a warm-up of a tenth."""
    t, a = settings.train, settings.agent
    before = torch.get_num_threads()
    torch.set_num_threads(policy_threads)
    env = make_env(settings.env, t.num_envs, threads=cores())
    try:
        actor = make_agent(settings, shapes_of(env), choose_device("cpu")).actor
        collector = Collector(env, actor.requires_grad_(False), 0, a.reward_scale, a.gamma)
        warm = time.monotonic() + seconds / 10
        while time.monotonic() < warm:
            collector.collect(t.collect_decisions)
        steps, started = 0, time.monotonic()
        while time.monotonic() < started + seconds:
            steps += collector.collect(t.collect_decisions).env_steps
        return steps / (time.monotonic() - started)
    finally:
        env.close()
        torch.set_num_threads(before)


def _over_ray(settings: Settings, seconds: float, actors: int) -> float:
    from safetransfer.benchmarks.actors import collect_over_ray

    with tempfile.TemporaryDirectory() as directory:
        row = collect_over_ray(spec_of(settings, Path(directory), actors), seconds)
    return float(row["steps_per_s"])
