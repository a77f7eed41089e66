"""Environment steps per second on one thread, against MuJoCo's bare stepping of the same model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from mujoco.batch import Batch

from safetransfer.benchmarks.spy import Spy
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.registration import env_names, parse_env_name
from safetransfer.envs.settings import HallwaySettings
from safetransfer.training.machine import describe_machine, versions

_STATE = ("qpos", "qvel", "qacc_warmstart", "ctrl", "mocap_pos", "mocap_quat")


def run(
    num_envs: int = 64, windows: int = 9, steps: int = 25, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Step every registered environment, or those named, with the camera on, action_repeat 1.

    Robots start anywhere and drive about at random. In turn with each window of `steps` calls of
    `env.step`, MuJoCo alone steps the same model from the very states and with the controls that
    the environment went through ("bare"). Medians over the windows.

    Returns {name: {"steps_per_s", "bare_steps_per_s", "cost_over_bare", "us_per_step": {part: us}},
    "machine"}. The parts, timed in windows of their own: "physics", "camera", "people" (moving
    them), "slots" (choosing what physics sees) and "rest" (actions, reward, cost, resets, Python).
    """
    result: dict[str, Any] = {
        name: _measure(name, num_envs, windows, steps) for name in names or env_names()
    }
    result["machine"] = describe_machine() | versions()
    return result


def _measure(name: str, num_envs: int, windows: int, steps: int) -> dict[str, Any]:
    robot, obstacles = parse_env_name(name)
    settings = HallwaySettings(robot=robot, obstacles=obstacles, start_anywhere=1.0)
    env = HallwayVectorEnv(settings, num_envs=num_envs)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    _drive(env, _actions(env, rng, 40))
    bare = _Bare(env)

    whole, alone = [], []
    for _ in range(windows):
        before, actions = env.get_state(), _actions(env, rng, steps)
        whole.append(_drive(env, actions))
        env.set_state(before)
        bare.record(actions)
        alone.append(bare.replay())
    calls = num_envs * steps
    ours, theirs = float(np.median(whole)) / calls, float(np.median(alone)) / calls
    return {
        "steps_per_s": round(1 / ours),
        "bare_steps_per_s": round(1 / theirs),
        "cost_over_bare": round(float(np.median(np.divide(whole, alone))), 2),
        "us_per_step": _parts(env, rng, max(3, windows // 2), steps),
    }


def _actions(env: HallwayVectorEnv, rng: np.random.Generator, steps: int) -> np.ndarray:
    """Random actions (steps, N, A) that tend forward."""
    assert env.action_space.shape is not None
    actions = rng.uniform(-1.0, 1.0, (steps, *env.action_space.shape)).astype(np.float32)
    actions[..., 0] = np.clip(actions[..., 0] + 0.3, -1.0, 1.0)
    return actions


def _drive(env: HallwayVectorEnv, actions: np.ndarray) -> float:
    """Seconds that env.step takes for all of the actions."""
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return time.perf_counter() - start


class _Bare:
    """Replays what an environment's simulations went through, with nothing but MuJoCo."""

    def __init__(self, env: HallwayVectorEnv):
        self.env, self.batch = env, env.batch
        self.twin = Batch(env.model, env.num_envs, 1)
        self.states = {key: self.twin.bind(key) for key in _STATE}
        for key in ("sensordata", "qpos"):
            self.twin.bind(key)
        if env.batch.expanded("geom_size") is not None:
            self.size = self.twin.expand("geom_size")
        self.substeps = env.robot.substeps // env.robot.slices
        self.records: list[dict[str, np.ndarray]] = []

    def record(self, actions: np.ndarray) -> None:
        """Run the environment and keep the states before each of its steps."""
        self.records = []
        self.env.batch = Spy(self.batch, before={"step": self._keep})
        _drive(self.env, actions)
        self.env.batch = self.batch

    def _keep(self) -> None:
        kept = {key: self.batch.bind(key).copy() for key in _STATE}
        size = self.batch.expanded("geom_size")
        if size is not None:
            kept["size"] = size.copy()
        self.records.append(kept)

    def replay(self) -> float:
        """Seconds that MuJoCo takes for the recorded steps."""
        seconds = 0.0
        for record in self.records:
            for key, value in record.items():
                if key == "size":
                    self.size[:] = value
                else:
                    self.states[key][:] = value
            start = time.perf_counter()
            self.twin.step(nstep=self.substeps)
            seconds += time.perf_counter() - start
        return seconds


def _parts(
    env: HallwayVectorEnv, rng: np.random.Generator, windows: int, steps: int
) -> dict[str, float]:
    """Microseconds of one hallway's step that each part takes."""
    watched = {
        "batch": {"step": "physics"},
        "camera": {"depth_image": "camera"},
        "course": {"advance": "people", "fill_slots": "slots"},
    }
    rows = []
    kept = {name: getattr(env, name) for name in watched}
    for _ in range(windows):
        seconds: dict[str, float] = {}
        for name, methods in watched.items():
            setattr(env, name, Spy(kept[name], timed=methods, seconds=seconds))
        total = _drive(env, _actions(env, rng, steps))
        for name, target in kept.items():
            setattr(env, name, target)
        seconds["rest"] = total - sum(seconds.values())
        rows.append(seconds)
    scale = 1e6 / (env.num_envs * steps)
    return {
        part: round(scale * float(np.median([row[part] for row in rows])), 2) for part in rows[0]
    }
