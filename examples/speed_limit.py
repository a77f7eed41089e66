"""Gymnasium's Pendulum with a limit on its speed: an environment from the registry, with a cost.

`Pendulum-v1` has no cost, so a wrapper gives it one: 1 for a step after which the pendulum turns
faster than the limit. `LightPendulum-v0` is the low-stakes one, with weak gravity;
`HeavyPendulum-v0` the high-stakes one. `safetransfer train --env speed_limit:LightPendulum-v0`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

SPEED = 6.0  # radians per second; the pendulum's own limit is 8


class SpeedLimit(gymnasium.Wrapper):
    """Adds `info["cost"]`: 1 where the pendulum is faster than `limit`, 0 elsewhere."""

    def __init__(self, env: gymnasium.Env, limit: float):
        super().__init__(env)
        self.limit = limit

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        speed = abs(float(observation[2]))
        return observation, reward, terminated, truncated, {**info, "cost": speed > self.limit}


def make(gravity: float, limit: float = SPEED, render_mode: str | None = None) -> gymnasium.Env:
    """A Pendulum under `gravity` (m/s^2) whose speed beyond `limit` (rad/s) costs."""
    env = gymnasium.make("Pendulum-v1", g=gravity, render_mode=render_mode)
    return SpeedLimit(env, limit)


gymnasium.register("LightPendulum-v0", make, max_episode_steps=200, kwargs={"gravity": 5.0})
gymnasium.register("HeavyPendulum-v0", make, max_episode_steps=200, kwargs={"gravity": 10.0})
