"""Where a decision's time goes while experience is collected: physics, camera, policy, the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from safetransfer.benchmarks.spy import Spy
from safetransfer.envs.naming import settings_for
from safetransfer.envs.registration import parse_env_name
from safetransfer.replay import SequenceReplay
from safetransfer.training.build import make_agent, make_env, shapes_of
from safetransfer.training.collector import Collector
from safetransfer.training.machine import describe_machine, versions
from safetransfer.training.settings import Settings, preset

NAMES = ("PointWalls", "PointHumanoids", "DoggoWalls")
WATCHED = {
    "batch": {"step": "physics"},
    "camera": {"depth_image": "camera"},
    "course": {"advance": "people", "fill_slots": "slots"},
}
"""By attribute of the environment, its methods and the part that their time counts for."""

CLOCK = time.process_time
"""Processor time: all is done by one thread, and what else the machine does counts for less."""


def run(
    windows: int = 9, names: Sequence[str] = NAMES, preset_name: str = "laptop"
) -> dict[str, Any]:
    """Collect with a fresh agent of each robot's preset, on one thread, and store in a replay.

    A window is one exchange of training, `train.collect_decisions` of every hallway. Whole windows
    and windows in which the parts are timed take turns; figures are medians.

    Returns {name: {"decisions_per_s", "steps_per_s" (environment steps), "us_per_decision": {part:
    microseconds of processor time}}, "machine"}. The parts: "physics", "camera", "people" (moving
    them), "slots" (choosing what physics sees), "environment" (the rest of a step: actions,
    rewards, costs, resets), "policy" (normalising, networks, sampling), "bookkeeping" (the rest of
    collecting: copies into the chunk, episodes) and "replay" (storing the chunk).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result: dict[str, Any] = {
            name: _measure(_settings(name, preset_name), windows) for name in names
        }
    finally:
        torch.set_num_threads(threads)
    return result | {"machine": describe_machine() | versions()}


def _settings(name: str, preset_name: str) -> Settings:
    settings = preset(preset_name, parse_env_name(name)[0])
    settings.env = settings_for(name, settings.env)
    return settings


def _measure(settings: Settings, windows: int) -> dict[str, Any]:
    t, a = settings.train, settings.agent
    env = make_env(settings.env, t.num_envs)
    shapes = shapes_of(env)
    agent = make_agent(settings, shapes, torch.device("cpu"))
    # Small enough to have been written to everywhere, as a replay of a run that has begun has.
    chunk_decisions = t.num_envs * t.collect_decisions
    capacity = max(4 * chunk_decisions, 2 * t.num_envs * (a.horizon + 1 + t.replay_stride))
    replay = SequenceReplay(
        shapes, capacity, t.num_envs, a.hidden, a.horizon, t.replay_stride, t.replay_compact
    )
    collector = Collector(env, agent.actor, t.seed, a.reward_scale, a.gamma)
    env_steps = 0

    def window() -> float:
        nonlocal env_steps
        begun = CLOCK()
        chunk = collector.collect(t.collect_decisions)
        replay.add(chunk)
        env_steps += chunk.env_steps
        return CLOCK() - begun

    while len(replay) < replay.size * t.num_envs:
        window()
    env_steps = 0
    whole, parts = [], []
    for _ in range(windows):
        whole.append(window())
        parts.append(_parts(collector, replay, t.collect_decisions))
    steps_per_window = env_steps / windows
    env.close()
    seconds = float(np.median(whole))
    scale = 1e6 / chunk_decisions
    return {
        "decisions_per_s": round(chunk_decisions / seconds),
        "steps_per_s": round(steps_per_window / seconds),
        "us_per_decision": {
            part: round(scale * float(np.median([row[part] for row in parts])), 2)
            for part in parts[0]
        },
    }


def _parts(collector: Collector, replay: SequenceReplay, decisions: int) -> dict[str, float]:
    """Seconds of each part in one window."""
    env: Any = collector.env
    actor: Any = collector.actor
    spent = {part: 0.0 for methods in WATCHED.values() for part in methods.values()}
    outer: dict[str, float] = {"step": 0.0, "policy": 0.0}
    kept = {name: getattr(env, name) for name in WATCHED}
    try:
        for name, methods in WATCHED.items():
            setattr(env, name, Spy(kept[name], timed=methods, seconds=spent, clock=CLOCK))
        collector.env = Spy(env, timed={"step": "step"}, seconds=outer, clock=CLOCK)  # type: ignore[assignment]
        collector.actor = Spy(actor, timed={"act": "policy"}, seconds=outer, clock=CLOCK)  # type: ignore[assignment]
        begun = CLOCK()
        chunk = collector.collect(decisions)
        total = CLOCK() - begun
    finally:
        collector.env, collector.actor = env, actor
        for name, target in kept.items():
            setattr(env, name, target)
    begun = CLOCK()
    replay.add(chunk)
    stored = CLOCK() - begun
    return spent | {
        "environment": outer["step"] - sum(spent.values()),
        "policy": outer["policy"],
        "bookkeeping": total - outer["step"] - outer["policy"],
        "replay": stored,
    }
