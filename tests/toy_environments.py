"""Small environments whose every number is known, registered under names that tests give."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

LENGTH = 5  # steps until an episode terminates
ACTIONS = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
VECTOR = Box(-np.inf, np.inf, (2,), np.float64)
IMAGE = Box(0, 255, (20, 24, 3), np.uint8)
BOTH = Dict({"eye": IMAGE, "a": VECTOR, "b": Box(0, 9, (1,), np.int64)})


class Counting(gymnasium.Env):
    """Counts its steps t. The reward is t, the cost 10 t; a vector holds (t, t / 2)."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self, observations=VECTOR, actions=ACTIONS, length=LENGTH, cost="cost", render_mode=None
    ):
        self.observation_space, self.action_space = observations, actions
        self.length, self.cost, self.render_mode = length, cost, render_mode
        self.t = 0
        self.actions: list[np.ndarray] = []

    def observation(self) -> Any:
        makers = {
            "a": lambda: np.array([self.t, self.t / 2]),
            "b": lambda: np.array([7]),
            "eye": lambda: np.full(IMAGE.shape, self.t, np.uint8),
        }
        if isinstance(self.observation_space, Dict):
            return {key: makers[key]() for key in self.observation_space.spaces}
        return makers["eye" if self.observation_space.dtype == np.uint8 else "a"]()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.actions.append(action)
        self.t += 1
        info = {} if self.cost is None else {self.cost: 10.0 * self.t}
        return self.observation(), float(self.t), self.t >= self.length, False, info

    def render(self):
        return np.full((20, 30, 3), 8 * self.t, np.uint8)


class SixValues(Counting):
    """In Safety-Gymnasium's manner."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, info.pop("cost"), terminated, truncated, info


class CountingVector(gymnasium.vector.VectorEnv):
    """`Counting` as a vector of its own: the environments end one after another."""

    def __init__(self, num_envs=1, mode=AutoresetMode.SAME_STEP, max_episode_steps=None):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space, self.single_action_space = VECTOR, ACTIONS
        self.observation_space = batch_space(VECTOR, num_envs)
        self.action_space = batch_space(ACTIONS, num_envs)
        self.t = np.zeros(num_envs, int)

    def observation(self):
        return np.stack([self.t, self.t / 2], -1)

    def reset(self, *, seed=None, options=None):
        self.t = np.zeros(self.num_envs, int)
        return self.observation(), {}

    def step(self, actions):
        self.t += 1
        reward, cost = self.t * 1.0, self.t * 10.0
        ended = self.t >= LENGTH + np.arange(self.num_envs)
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended):
            final[i] = self.observation()[i]
        self.t[ended] = 0
        info = {"cost": cost} | ({"final_obs": final, "_final_obs": ended} if ended.any() else {})
        return self.observation(), reward, ended, np.zeros_like(ended), info


def register(name: str, entry: Any = Counting, steps: int | None = 100, **kwargs: Any) -> str:
    """Register `entry` under a name of the tests' own; returns the id."""
    env_id = f"toys/{name}-v0"
    gymnasium.registry.pop(env_id, None)
    vector = kwargs.pop("vector", None)
    gymnasium.register(
        env_id, entry, max_episode_steps=steps, vector_entry_point=vector, kwargs=kwargs
    )
    return env_id


UNSUPPORTED = {
    "discrete actions": ({"actions": Discrete(3)}, "Discrete, not continuous"),
    "unbounded actions": ({"actions": Box(-np.inf, np.inf, (2,))}, "no finite bounds"),
    "whole actions": ({"actions": Box(0, 3, (2,), np.int64)}, "int64"),
    "matrix of actions": ({"actions": Box(-1, 1, (2, 2))}, r"shape \(2, 2\)"),
    "empty range": ({"actions": Box(0.0, 0.0, (1,))}, "not below its upper"),
    "two images": ({"observations": Dict({"left": IMAGE, "right": IMAGE})}, "both images"),
    "float image": ({"observations": Box(0.0, 1.0, (20, 24, 3))}, "float32 of shape"),
    "grey image without channels": ({"observations": Box(0, 255, (20, 24), np.uint8)}, "uint8"),
    "channels first": ({"observations": Box(0, 255, (3, 20, 24), np.uint8)}, "not last"),
    "nested": ({"observations": Dict({"in": Dict({"a": VECTOR})})}, "nested Dict"),
    "discrete part": ({"observations": Dict({"a": VECTOR, "n": Discrete(3)})}, "'n' is Discrete"),
    "tuple": ({"observations": Tuple((VECTOR, VECTOR))}, "Tuple"),
    "discrete": ({"observations": Discrete(5)}, "Discrete"),
    "no cost": ({"cost": None}, "no 'cost'"),
    "another key": ({"cost": "danger"}, r"no 'cost'.*it has danger.*--env.cost_key"),
}


class Blank(Counting):
    """Any observation space, always its zeros."""

    def observation(self) -> Any:
        return np.zeros(self.observation_space.shape, self.observation_space.dtype)


class Dark(Counting):
    """Has no pictures."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def render(self):
        return None
