"""Collecting experience: an actor's copy, stepped in a vector of environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from safetransfer.agent.agent import Actor
from safetransfer.replay import Chunk, Episode


class VectorEnv(Protocol):
    """What the collector needs of a vector environment: SAME_STEP autoreset, dict observations."""

    num_envs: int

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]: ...

    def step(self, action: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]: ...

    def get_state(self) -> dict[str, Any] | None:
        """Everything needed to go on exactly; None where that cannot be written down."""
        ...

    def set_state(self, state: Any) -> None: ...


class Collector:
    """Steps N environments with an actor, keeping its recurrent state and open episodes."""

    def __init__(
        self,
        env: VectorEnv,
        actor: Actor,
        seed: int,
        reward_scale: float,
        gamma: float,
        mode_episodes: float = 0.0,
    ):
        """
        Args:
            env: stepped by `collect`, and by nothing else.
            actor: acts; its weights may change between calls of `collect`.
            seed: of hallways and exploration.
            reward_scale, gamma: of the discounted returns that Q is held against.
            mode_episodes: share of the episodes in which the actor takes its mode throughout.
        """
        self.env, self.actor = env, actor
        self.mode_episodes = mode_episodes
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        self.reward_scale, self.gamma = reward_scale, gamma
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        """Begin an episode in every environment."""
        env, actor = self.env, self.actor
        n = env.num_envs
        self.obs, info = env.reset(seed=seed)
        self.carry = actor.initial_carry(n)
        self.last_reward = np.zeros(n, np.float32)
        self.last_cost = np.zeros(n, np.float32)
        # Of the open episodes:
        self.episode_return = np.zeros(n)
        self.episode_cost = np.zeros(n)
        self.discounted = np.zeros(n)
        self.discount = np.ones(n)
        self.steps = np.zeros(n, np.int64)
        self.full_start = np.array(info["full_start"], bool)
        self.first_obs = {k: v.copy() for k, v in self.obs.items()}
        self.first_action = np.zeros((n, 0), np.float32)
        self.fresh = np.ones(n, bool)  # no decision taken yet in this episode
        # Factors on the exploration noise, 0 in episodes by the mode.
        self.noise_scale = self._draw_noise_scale(n)

    def collect(self, decisions: int, act: Callable[..., Any] | None = None) -> Chunk:
        """Take `decisions` decisions in every environment; `act` replaces the actor (for tests)."""
        act = act or self.actor.act
        k, n = decisions, self.env.num_envs
        obs: dict[str, np.ndarray] = {
            name: np.empty((k, *value.shape), value.dtype) for name, value in self.obs.items()
        }
        last_reward, last_cost, reward, cost = np.empty((4, k, n), np.float32)
        terminated, done = np.zeros((2, k, n), bool)
        hidden = np.empty((k, *self.carry.shape), np.float32)
        action: np.ndarray | None = None
        final_obs: list[dict[str, np.ndarray]] = []
        episodes: list[Episode] = []
        env_steps = 0
        for t in range(k):
            for name, value in self.obs.items():
                obs[name][t] = value
            last_reward[t], last_cost[t], hidden[t] = self.last_reward, self.last_cost, self.carry
            state = (self.obs, self.last_reward, self.last_cost, self.carry)
            if self.mode_episodes:
                a, self.carry = act(*state, self.rng, self.noise_scale)
            else:
                a, self.carry = act(*state, self.rng)
            if action is None:
                action = np.empty((k, *a.shape), np.float32)
            action[t] = a
            self._note_first(a)
            self.obs, r, ended, cut, info = self.env.step(a)
            reward[t], cost[t] = r, info["cost"]
            terminated[t], done[t] = ended, ended | cut
            self.last_reward, self.last_cost = reward[t].copy(), cost[t].copy()
            self.episode_return += r
            self.episode_cost += info["cost"]
            self.discounted += self.discount * r * self.reward_scale
            self.discount *= self.gamma
            which = np.nonzero(done[t])[0]
            steps = np.array(info["steps"], np.int64)
            if len(which):
                final = info["final_info"]
                steps[which] = np.asarray(final["steps"])[which]
                final_obs.append({name: v[which].copy() for name, v in info["final_obs"].items()})
                episodes += [self._finish(int(i), int(steps[i])) for i in which]
                self._restart(which, info)
            else:
                final_obs.append({})
            before = self.steps
            env_steps += int((steps - before).sum())
            self.steps = steps
            self.steps[which] = 0
        assert action is not None
        return Chunk(
            obs=obs,
            last_reward=last_reward,
            last_cost=last_cost,
            hidden=hidden,
            action=action,
            reward=reward,
            cost=cost,
            terminated=terminated,
            done=done,
            env_steps=env_steps,
            final_obs=final_obs,
            episodes=episodes,
        )

    def _note_first(self, action: np.ndarray) -> None:
        if self.first_action.shape != action.shape:
            self.first_action = np.zeros_like(action)
        which = np.nonzero(self.fresh)[0]
        if len(which):
            for name, value in self.obs.items():
                self.first_obs[name][which] = value[which]
            self.first_action[which] = action[which]
            self.fresh[which] = False

    def _finish(self, i: int, steps: int) -> Episode:
        return Episode(
            episode_return=float(self.episode_return[i]),
            cost=float(self.episode_cost[i]),
            length=steps,
            full_start=bool(self.full_start[i]),
            discounted_return=float(self.discounted[i]),
            first_obs={name: value[i].copy() for name, value in self.first_obs.items()},
            first_action=self.first_action[i].copy(),
        )

    def _restart(self, which: np.ndarray, info: Mapping[str, Any]) -> None:
        self.carry[which] = 0.0
        self.last_reward[which] = self.last_cost[which] = 0.0
        self.episode_return[which] = self.episode_cost[which] = self.discounted[which] = 0.0
        self.discount[which] = 1.0
        self.full_start[which] = np.asarray(info["full_start"])[which]
        self.fresh[which] = True
        self.noise_scale[which] = self._draw_noise_scale(len(which))

    def _draw_noise_scale(self, n: int) -> np.ndarray:
        if not self.mode_episodes:  # draws nothing: the exploration's numbers stay what they are
            return np.ones(n, np.float32)
        return (self.rng.random(n) >= self.mode_episodes).astype(np.float32)

    _OPEN = (
        "carry", "last_reward", "last_cost", "episode_return", "episode_cost", "discounted",
        "discount", "steps", "full_start", "first_action", "fresh", "noise_scale",
    )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: open episodes, random state, the environment's own state."""
        return {
            "open": {name: getattr(self, name).copy() for name in self._OPEN},
            "obs": {name: np.array(value) for name, value in self.obs.items()},
            "first_obs": {name: value.copy() for name, value in self.first_obs.items()},
            "rng": self.rng,
            "env": self.env.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; where the environment's state is None, with new episodes."""
        if state["env"] is None:
            self.rng = state["rng"]
            self._begin(int(self.rng.integers(2**31)))
            return
        for name in self._OPEN:
            if name in state["open"]:  # `noise_scale` is younger than some checkpoints
                setattr(self, name, state["open"][name].copy())
        self.obs = {name: np.array(value) for name, value in state["obs"].items()}
        self.first_obs = {name: value.copy() for name, value in state["first_obs"].items()}
        self.rng = state["rng"]
        self.env.set_state(state["env"])
