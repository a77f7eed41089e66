"""Our vector of hallways as Stable-Baselines3's own kind of vector, in its favour.

SB3 takes single environments and steps them one by one; here it steps all of them by one call, and
gets pictures with the channel first, which it would otherwise transpose at each step.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from safetransfer.envs.hallway import HallwayVectorEnv


class HallwaySB3(VecEnv):
    """`hallways` (in SAME_STEP autoreset), whose rewards are less `cost_weight` times the cost."""

    def __init__(self, hallways: HallwayVectorEnv, cost_weight: float = 0.0):
        self.hallways, self.cost_weight = hallways, cost_weight
        self.seed_of_reset: int | None = None
        spaces = dict(hallways.single_observation_space.spaces)  # type: ignore[attr-defined]
        height, width, channels = spaces["camera"].shape
        spaces["camera"] = gymnasium.spaces.Box(0, 255, (channels, height, width), np.uint8)
        super().__init__(
            hallways.num_envs, gymnasium.spaces.Dict(spaces), hallways.single_action_space
        )

    def reset(self) -> Any:
        """Begin an episode in each hallway: observations, arrays over the N."""
        observation, _ = self.hallways.reset(seed=self.seed_of_reset)
        self.seed_of_reset = None
        return _channels_first(observation)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seeds the next reset; the hallways derive theirs from the one."""
        self.seed_of_reset = seed
        return [seed] * self.num_envs

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, penalised rewards (N,), dones (N,), and a dict for each hallway."""
        observation, reward, terminated, truncated, info = self.hallways.step(self.actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{"cost": cost} for cost in info["cost"].tolist()]
        if done.any():
            last = _channels_first(info["final_obs"])
            for i in np.flatnonzero(done).tolist():
                infos[i]["terminal_observation"] = {name: v[i] for name, v in last.items()}
                infos[i]["TimeLimit.truncated"] = bool(truncated[i])
        penalised = reward - self.cost_weight * info["cost"]
        return _channels_first(observation), penalised.astype(np.float32), done, infos

    def close(self) -> None:
        self.hallways.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        value = getattr(self.hallways, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("hallways stepped together share their attributes")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("hallways stepped together have no methods of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def _channels_first(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    camera = observation["camera"]
    if camera.shape[-1] == 1:  # only the shape changes
        first = camera.reshape(len(camera), 1, *camera.shape[1:3])
    else:
        first = np.ascontiguousarray(camera.transpose(0, 3, 1, 2))
    return {"camera": first, "proprio": observation["proprio"]}
