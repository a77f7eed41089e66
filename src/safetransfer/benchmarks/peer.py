"""Our training against Stable-Baselines3's SAC: the same hallways, the same cores, in turn.

What is made equal: the hallways and their settings, stepped together by one call; decisions
between updates; transitions in an update (384: our 32 sequences of 12); a NatureCNN of the same
output and heads of the same layers; float32, the CPU, the same cores. What is not: ours has a GRU,
a third critic, a multiplier and layer norm, and runs the policy's state through them; SB3 learns
from single transitions, whose two observations it holds and encodes apart, 768 pictures to our 416,
and cannot collect and learn at once. Speed is measured, not how well either learns.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
import time
from typing import Any

import numpy as np
import torch

from safetransfer import settings_io
from safetransfer.errors import SettingError
from safetransfer.training.loop import train
from safetransfer.training.machine import cores, describe_machine, versions
from safetransfer.training.settings import Settings, preset

PACKAGE = "stable_baselines3"
COST_WEIGHT = 1.0
"""SB3 knows no constraint: its reward is less this much times the cost."""


def run(updates: int = 96, rounds: int = 3, preset_name: str = "laptop") -> dict[str, Any]:
    """Train Point among walls, `updates` of each that are timed in each of `rounds` turns.

    Ours runs twice: as the preset has it, and with the NatureCNN that SB3 has. Each turn begins
    anew with an empty replay, and what precedes the timed updates (filling the replay, a first
    part of the updates) is not counted. Medians over the turns.

    Returns {"ours" | "ours_nature_cnn" | "stable_baselines3": {"steps_per_s" (environment steps,
    while learning), "transitions_per_s" (learned from), "updates_per_s", "parameters", "threads"},
    "ratio": {"steps", "transitions"} (of ours_nature_cnn over stable_baselines3), "equal" (what
    is the same in both), "machine"}.

    Raises:
        SettingError: Stable-Baselines3 is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise SettingError(
            "the peer is Stable-Baselines3's SAC, which is not installed: "
            "pip install 'stable-baselines3>=2.9'"
        )
    settings = preset(preset_name)
    nature = settings_io.updated(settings, {"agent": {"cnn": "nature"}})
    sides = {
        "ours": lambda: _ours(settings, updates),
        "ours_nature_cnn": lambda: _ours(nature, updates),
        PACKAGE: lambda: _theirs(settings, updates),
    }
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    threads = torch.get_num_threads()
    try:
        for _ in range(rounds):
            for name, side in sides.items():
                turns[name].append(side())
    finally:
        torch.set_num_threads(threads)
    result: dict[str, Any] = {
        name: {key: float(np.median([t[key] for t in turn])) for key in turn[0]}
        for name, turn in turns.items()
    }
    ours, theirs = result["ours_nature_cnn"], result[PACKAGE]
    result["ratio"] = {
        "steps": ours["steps_per_s"] / theirs["steps_per_s"],
        "transitions": ours["transitions_per_s"] / theirs["transitions_per_s"],
    }
    result["equal"] = _equal(settings)
    sb3 = {"stable-baselines3": importlib.metadata.version("stable-baselines3")}
    return result | {"machine": describe_machine() | versions() | sb3}


def _equal(settings: Settings) -> dict[str, Any]:
    t, a = settings.train, settings.agent
    return {
        "environment": settings.env.name,
        "hallways": t.num_envs,
        "steps_per_decision": settings.env.action_repeat,
        "decisions_per_update": t.decisions_per_update,
        "transitions_per_update": a.batch_size * a.horizon,
        "heads": list(a.mlp),
        "embedding": a.embedding,
        "cores": cores(),
    }


def _ours(settings: Settings, updates: int) -> dict[str, float]:
    """One turn of our training; the first of its two epochs is not counted."""
    timed = settings_io.updated(
        settings,
        {"train": {"epochs": 2, "epoch_updates": updates, "tensorboard": False, "device": "cpu"}},
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        train(timed, directory, title="ours", on_row=rows.append)
    a = timed.agent
    return {
        "steps_per_s": rows[-1]["steps_per_s"],
        "transitions_per_s": rows[-1]["updates_per_s"] * a.batch_size * a.horizon,
        "updates_per_s": rows[-1]["updates_per_s"],
        "threads": timed.train.threads,
        "parameters": _our_parameters(timed),
    }


def _our_parameters(settings: Settings) -> int:
    from safetransfer.training.build import make_agent, make_env, shapes_of

    env = make_env(settings.env, 1)
    agent = make_agent(settings, shapes_of(env), torch.device("cpu"))
    env.close()
    return agent.parameter_counts()["Total"]


def _theirs(settings: Settings, updates: int) -> dict[str, float]:
    """One turn of SB3's SAC, which collects and learns one after the other.

    PyTorch has one thread or all cores, whichever was faster in the updates that are not counted:
    on a shared machine threads that wait for each other can cost more than they bring.
    """
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    from safetransfer.benchmarks.sb3_vector import HallwaySB3
    from safetransfer.training.build import make_env

    t, a = settings.train, settings.agent
    hallways = make_env(settings.env, t.num_envs, threads=cores())
    per_rollout = max(1, round(t.collect_decisions * t.num_envs / t.decisions_per_update))
    model = SAC(
        "MultiInputPolicy",
        HallwaySB3(hallways, COST_WEIGHT),  # type: ignore[arg-type]
        learning_rate=a.lr,
        buffer_size=t.learning_starts + 4 * t.num_envs * t.collect_decisions,  # two frames a step
        learning_starts=t.learning_starts,
        batch_size=a.batch_size * a.horizon,
        tau=a.tau,
        gamma=a.gamma,
        train_freq=t.collect_decisions,
        gradient_steps=per_rollout,
        ent_coef="auto",
        policy_kwargs={
            "net_arch": list(a.mlp),
            "features_extractor_kwargs": {"cnn_output_dim": a.embedding},
            "share_features_extractor": True,  # one encoder, as ours; SB3's default is two
        },
        seed=t.seed,
        device="cpu",
    )

    class Watch(BaseCallback):
        """When each rollout began, after how many steps and updates."""

        def __init__(self) -> None:
            super().__init__()
            self.marks: list[tuple[float, int, int]] = []
            self.trials: dict[int, list[float]] = {1: [], cores(): []}

        def _on_rollout_start(self) -> None:
            self.marks.append((time.perf_counter(), model.num_timesteps, model._n_updates))
            if self.marks[-2:-1] and 0 < self.marks[-2][2] < updates:
                took = self.marks[-1][0] - self.marks[-2][0]
                self.trials[torch.get_num_threads()].append(took)
            torch.set_num_threads(
                min(self.trials, key=lambda n: len(self.trials[n]))
                if model._n_updates < updates
                else min(self.trials, key=lambda n: min(self.trials[n], default=np.inf))
            )

        def _on_step(self) -> bool:
            return model._n_updates < 2 * updates

    watch = Watch()
    model.learn(total_timesteps=10**9, callback=watch)
    hallways.close()
    begun = next(mark for mark in watch.marks if mark[2] >= updates)
    ended = watch.marks[-1]
    seconds, decisions, made = (late - early for early, late in zip(begun, ended, strict=True))
    return {
        "steps_per_s": decisions * settings.env.action_repeat / seconds,
        "transitions_per_s": made * a.batch_size * a.horizon / seconds,
        "updates_per_s": made / seconds,
        "threads": torch.get_num_threads(),
        "parameters": sum(
            {
                id(p): p.numel() for p in (*model.actor.parameters(), *model.critic.parameters())
            }.values()
        ),
    }
