"""Between our environments and the manners of other safe-RL libraries.

Safety-Gymnasium, and the libraries around it, step with six values: `observation, reward, cost,
terminated, truncated, info`. Gymnasium steps with five, and ours hold the cost in `info["cost"]`.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError


def five_values(result: Any, name: str) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """What `step` returned, of five values or six, as five with the cost in `info["cost"]`."""
    if isinstance(result, tuple) and len(result) == 5:
        return result
    if isinstance(result, tuple) and len(result) == 6:
        observation, reward, cost, terminated, truncated, info = result
        return observation, reward, terminated, truncated, {**info, "cost": cost}
    found = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
    raise SettingError(
        f"{name}: its step returns {found}; supported are five (observation, reward, terminated, "
        "truncated, info) and six, with the cost after the reward"
    )


def vector_cost(infos: dict[str, Any], key: str, ended: np.ndarray) -> np.ndarray | None:
    """The costs of a vector's step, float64 (N,), from its infos; None where they have none.

    Gymnasium's own vectors reset in the same step and then give the reset's info: the cost of
    the step that ended an episode is in `final_info`.
    """
    final = infos.get("final_info")
    last = final.get(key) if isinstance(final, dict) else None
    if key in infos:
        costs = np.array(infos[key], np.float64).reshape(ended.shape)
    elif last is not None and ended.all():
        costs = np.zeros(ended.shape)
    else:
        return None
    if last is not None:
        costs[ended] = np.asarray(last, np.float64)[ended]
    return costs


class FiveTuple(gymnasium.Wrapper):
    """An environment that steps with six values as an ordinary Gymnasium environment."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's, with its third value in `info["cost"]`."""
        return five_values(self.env.step(action), str(self.env))


class SixTuple(gymnasium.Wrapper):
    """An environment with `info["cost"]` in Safety-Gymnasium's manner."""

    def step(self, action: Any) -> tuple[Any, float, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """observation, reward, cost, terminated, truncated, info."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        cost = _cost(info, self.env)
        return observation, float(reward), cost, terminated, truncated, info


class SixTupleVector(gymnasium.vector.VectorWrapper):
    """A vector environment with `info["cost"]` (N,) in Safety-Gymnasium's manner.

    Beside `final_obs`, infos of ended episodes hold `final_observation`, its older name.
    """

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any, dict[str, Any]]:  # type: ignore[override]
        """observations, rewards, costs, terminated, truncated, infos, each over the N."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        costs = vector_cost(infos, "cost", np.asarray(terminated) | np.asarray(truncated))
        if costs is None:
            raise SettingError(f"{self.env}: its info has no 'cost'")
        if "final_obs" in infos:
            infos = {
                **infos,
                "final_observation": infos["final_obs"],
                "_final_observation": infos["_final_obs"],
            }
        return observations, rewards, costs, terminated, truncated, infos


class CostPenalty(gymnasium.Wrapper):
    """Reward minus `weight` times cost, for libraries that know no constraint.

    The reward without the penalty is in `info["reward"]`, the cost stays in `info["cost"]`.
    """

    def __init__(self, env: gymnasium.Env, weight: float):
        """Raises SettingError for a weight that is not a number of 0 or more."""
        super().__init__(env)
        if not (math.isfinite(weight) and weight >= 0):
            raise SettingError(f"the weight of the cost is {weight}; it must be 0 or greater")
        self.weight = weight

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment's, with the penalised reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        penalised = float(reward) - self.weight * _cost(info, self.env)
        return observation, penalised, terminated, truncated, {**info, "reward": float(reward)}


def safety_gymnasium_env(
    name: str, render_mode: str | None = None, **settings: Any
) -> gymnasium.Env:
    """One of our hallways, by short name or id, that steps with six values.

    `settings` are fields of HallwaySettings. Raises UnknownNameError for a name or a field.
    """
    from safetransfer.envs.hallway import HallwayEnv
    from safetransfer.envs.registration import parse_env_name

    robot, obstacles = parse_env_name(name)
    chosen = HallwaySettings.from_kwargs(robot=robot, obstacles=obstacles, **settings)
    return SixTuple(HallwayEnv(chosen, render_mode=render_mode))


def safety_gymnasium_vector(
    name: str, num_envs: int = 1, threads: int = 1, **settings: Any
) -> gymnasium.vector.VectorEnv:
    """`num_envs` of our hallways that step with six arrays; raises as `safety_gymnasium_env`."""
    from safetransfer.envs.registration import make_vector, parse_env_name

    robot, obstacles = parse_env_name(name)
    return SixTupleVector(
        make_vector(num_envs, threads, robot=robot, obstacles=obstacles, **settings)
    )


def _cost(info: dict[str, Any], env: gymnasium.Env) -> float:
    if "cost" not in info:
        raise SettingError(f"{env}: its info has no 'cost'")
    return float(info["cost"])
