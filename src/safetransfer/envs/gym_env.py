"""Any registered Gymnasium environment as a vector environment that collectors can step."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from safetransfer.envs.adapters import five_values, vector_cost
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.naming import find_spec
from safetransfer.envs.spaces import ActionScale, ObservationLayout
from safetransfer.errors import SafeTransferError, SettingError, TrainingError


class AgentView(gymnasium.Wrapper):
    """One environment as the agent sees it: `camera` and `proprio`, actions in [-1, 1].

    A step holds the action for `action_repeat` environment steps, fewer where the episode ends;
    `info` is {"cost": sum over them, "steps": environment steps of the episode so far}.
    """

    def __init__(self, env: gymnasium.Env, settings: GymSettings, max_steps: int):
        super().__init__(env)
        self.settings, self.max_steps = settings, max_steps
        self.layout = ObservationLayout(env.observation_space, settings.id)
        self.scale = ActionScale(env.action_space, settings.id)
        self.observation_space, self.action_space = self.layout.space, self.scale.space
        self.signature = {**self.layout.signature, "actions": self.scale.signature}
        self.steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.steps = 0
        observation, _ = self.env.reset(seed=seed, options=options)
        return self.layout.encode(observation), {"cost": 0.0, "steps": 0}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        scaled = self.scale(action)
        reward = cost = 0.0
        for _ in range(self.settings.action_repeat):
            observation, r, terminated, truncated, info = five_values(
                self.env.step(scaled), self.settings.id
            )
            reward += float(r)
            cost += cost_of(info, self.settings)
            self.steps += 1
            truncated = bool(truncated) or (self.steps >= self.max_steps and not terminated)
            if terminated or truncated:
                break
        shown = {"cost": cost, "steps": self.steps}
        return self.layout.encode(observation), reward, bool(terminated), truncated, shown


class GymVectorEnv:
    """`num_envs` of a registered environment, in the manner of `HallwayVectorEnv`.

    Observations are `camera` uint8 (N, H, W, C), where there is one, and `proprio` float32 (N, P),
    of which P can be 0. Ended episodes begin anew in the same step; `info` has arrays "cost",
    "steps" and "full_start" and, where episodes ended, "final_obs" and "final_info".

    What is inside such an environment cannot be written down, so `get_state` is None: a run that
    goes on begins new episodes.
    """

    mocap: ClassVar[None] = None

    def __init__(self, settings: GymSettings, num_envs: int):
        """Raises SettingError, by name, for an environment that agents cannot live in: its spaces,
        its cost, its step or its making; UnknownNameError where there is none of the id."""
        spec = find_spec(settings.id)
        self.settings, self.num_envs = settings, num_envs
        self._steps = np.zeros(num_envs, np.int64)
        with _named(settings, "making it failed"):
            self._native = _own_vector(spec, settings, num_envs)
            self._env = self._native or _vector_of_singles(spec, settings, num_envs)
        try:
            self._describe()
            self._try_out()
        except BaseException:
            self.close()
            raise

    def _describe(self) -> None:
        env, name = self._env, self.settings.id
        if self._native is None:  # views have encoded and scaled already
            self._layout = self._scale = None
            self.signature: dict[str, str] = env.get_attr("signature")[0]  # type: ignore[attr-defined]
            space = env.single_observation_space
            self.single_action_space = env.single_action_space
        else:
            self._layout = ObservationLayout(env.single_observation_space, name)
            self._scale = ActionScale(env.single_action_space, name)
            self.signature = {**self._layout.signature, "actions": self._scale.signature}
            space, self.single_action_space = self._layout.space, self._scale.space
        assert isinstance(space, gymnasium.spaces.Dict)
        assert isinstance(self.single_action_space, gymnasium.spaces.Box)
        self._actions = self.single_action_space.shape[0]
        spaces = dict(space.spaces)
        spaces.setdefault("proprio", gymnasium.spaces.Box(-np.inf, np.inf, (0,), np.float32))
        self.single_observation_space = gymnasium.spaces.Dict(spaces)

    def _try_out(self) -> None:
        """A step before training, so that what cannot work is refused before it starts."""
        with _named(self.settings, "its first step failed"):
            self.reset(seed=0)
            self.step(np.zeros((self.num_envs, self._actions), np.float32))

    # --- the collector's interface ---------------------------------------------------------------

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode in each; environment i is seeded by the i-th draw of SeedSequence."""
        seeds: Any = None
        if seed is not None:
            # 31 bits: what environments do with larger seeds differs.
            drawn = np.random.SeedSequence(seed).generate_state(self.num_envs) >> 1
            seeds = [int(s) for s in drawn]
        observation, _ = self._env.reset(seed=seeds)
        self._steps[:] = 0
        return self._encoded(observation), self._info(np.zeros(self.num_envs))

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Actions (N, A) in [-1, 1].

        Raises TrainingError where they, or what comes back, are not finite, and for negative costs.
        """
        if not np.isfinite(action).all():
            raise TrainingError(
                "the agent's action is not a finite number: its training has come apart. Rewards "
                "and costs that are very large do that; agent.reward_scale and agent.cost_scale "
                "bring them to around 1"
            )
        scaled = action if self._scale is None else self._scale(action)
        observation, reward, terminated, truncated, info = five_values(
            self._env.step(scaled), self.settings.id
        )
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        reward, ended = np.array(reward, np.float64), terminated | truncated
        if self._native is None:
            cost, self._steps = info["cost"].copy(), info["steps"].astype(np.int64)
        else:
            cost = self._native_cost(info, ended)
            self._steps += 1
        seen = self._encoded(observation)
        out = self._info(cost)
        if ended.any():
            steps = self._steps.copy()
            if self._native is None:
                cost[ended] = info["final_info"]["cost"][ended]
                steps[ended] = info["final_info"]["steps"][ended]
            else:
                self._steps[ended] = 0
                out["steps"] = self._steps.copy()
            out["cost"] = cost
            out["final_obs"] = self._final(info, seen, ended)
            out["final_info"] = {"cost": cost.copy(), "steps": steps}
        self._check_finite(seen, reward, cost)
        return seen, reward, terminated, truncated, out

    def get_state(self) -> None:
        """None: an environment of somebody else's cannot be written down."""
        return None

    def set_state(self, state: None) -> None:
        """Nothing to go on from; the caller begins new episodes."""

    def close(self) -> None:
        self._env.close()

    @property
    def max_steps(self) -> int:
        """Environment steps after which an episode is truncated."""
        return episode_steps(self.settings)

    # --- inside ----------------------------------------------------------------------------------

    def _native_cost(self, info: dict[str, Any], ended: np.ndarray) -> np.ndarray:
        if self.settings.cost_key is None:
            return np.zeros(self.num_envs)
        cost = vector_cost(info, self.settings.cost_key, ended)
        if cost is None:
            raise _no_cost(self.settings, info)
        return cost

    def _encoded(self, observation: Any) -> dict[str, np.ndarray]:
        if self._layout is not None:
            observation = self._layout.encode(observation, (self.num_envs,))
        empty = np.zeros((self.num_envs, 0), np.float32)
        return {"proprio": empty, **observation}

    def _final(
        self, info: dict[str, Any], seen: dict[str, np.ndarray], ended: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The observations in which episodes ended, valid in the rows `ended`."""
        final = info["final_obs"]
        if not (isinstance(final, np.ndarray) and final.dtype == object):
            return self._encoded(final)  # batched already
        out = {key: value.copy() for key, value in seen.items()}
        for i in np.flatnonzero(ended):
            row = final[i] if self._layout is None else self._layout.encode(final[i])
            for key, value in row.items():
                out[key][i] = value
        return out

    def _info(self, cost: np.ndarray) -> dict[str, Any]:
        everyone = np.ones(self.num_envs, bool)
        return {"cost": cost, "steps": self._steps.copy(), "full_start": everyone}

    def _check_finite(
        self, seen: dict[str, np.ndarray], reward: np.ndarray, cost: np.ndarray
    ) -> None:
        for what, values in (("observation", seen["proprio"]), ("reward", reward), ("cost", cost)):
            if not np.isfinite(values).all():
                raise TrainingError(f"{self.settings.id}: its {what} is not a finite number")
        if (cost < 0.0).any():
            raise TrainingError(
                f"{self.settings.id}: its cost is {cost.min():g}, and costs may not be negative. "
                "What it should be paid for belongs in the reward"
            )


def cost_of(info: dict[str, Any], settings: GymSettings) -> float:
    """The cost of a step; SettingError where its info has none."""
    if settings.cost_key is None:
        return 0.0
    if settings.cost_key not in info:
        raise _no_cost(settings, info)
    return float(info[settings.cost_key])


def _no_cost(settings: GymSettings, info: dict[str, Any]) -> SettingError:
    keys = ", ".join(key for key in map(str, info) if not key.startswith("_")) or "nothing"
    return SettingError(
        f"{settings.id}: its info has no {settings.cost_key!r}, a step's cost (it has {keys}). "
        "Name its key with --env.cost_key, or give --env.cost_key none where nothing costs"
    )


def episode_steps(settings: GymSettings, spec: EnvSpec | None = None) -> int:
    """Environment steps after which an episode is truncated: the setting, or as registered."""
    limit = settings.max_steps or (spec or find_spec(settings.id)).max_episode_steps
    if limit is None:
        raise SettingError(
            f"{settings.id} is registered without a limit of steps, and an episode of it might "
            "never end; give one with --env.max_steps"
        )
    return limit


def has_pictures(settings: Any) -> bool:
    """Whether an environment of these settings can be filmed: hallways can, others may."""
    if not isinstance(settings, GymSettings):
        return True
    with _named(settings, "making it failed"):
        env = gymnasium.make(
            find_spec(settings.id), max_episode_steps=-1, disable_env_checker=True,
            **settings.kwargs,
        )  # fmt: skip
        modes = env.metadata.get("render_modes") or []
        env.close()
    return "rgb_array" in modes


def make_single(settings: GymSettings, render_mode: str | None = None) -> AgentView:
    """One environment as the agent sees it; raises as GymVectorEnv."""
    spec = find_spec(settings.id)
    with _named(settings, "making it failed"):
        return _single(spec, settings, render_mode)()


def _single(
    spec: EnvSpec, settings: GymSettings, render_mode: str | None = None
) -> Callable[[], AgentView]:
    steps = episode_steps(settings, spec)
    kwargs = dict(settings.kwargs)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode

    def make() -> AgentView:
        # Its limit of steps and its checker expect five values; the view takes six as well.
        env = gymnasium.make(spec, max_episode_steps=-1, disable_env_checker=True, **kwargs)
        return AgentView(env, settings, steps)

    return make


def _vector_of_singles(spec: EnvSpec, settings: GymSettings, num_envs: int) -> VectorEnv:
    if spec.entry_point is None:
        raise SettingError(
            f"{settings.id} has only a vector of its own, which does not reset in the same step, "
            "or takes neither env.max_steps nor env.action_repeat"
        )
    maker = _single(spec, settings)
    if settings.vector == "async":
        makers = [_undisturbed(maker)] * num_envs
        return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    return SyncVectorEnv([maker] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def _undisturbed(maker: Callable[[], gymnasium.Env]) -> Callable[[], gymnasium.Env]:
    """`maker`, which has a worker ignore a terminal's Ctrl-C: that reaches workers as well, and the
    run, which stops for it, needs them until its checkpoint is written."""
    here = os.getpid()  # one is made here, too, to be looked at

    def make() -> gymnasium.Env:
        if os.getpid() != here:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return maker()

    return make


def _own_vector(spec: EnvSpec, settings: GymSettings, num_envs: int) -> VectorEnv | None:
    """The environment's own vector, where it has one that keeps time as collectors do."""
    plain = settings.action_repeat == 1 and settings.max_steps is None
    if spec.vector_entry_point is None or settings.vector != "auto" or not plain:
        return None
    if spec.additional_wrappers:  # Gymnasium has no vector of these
        return None
    episode_steps(settings, spec)
    env = gymnasium.make_vec(
        spec, num_envs, vectorization_mode="vector_entry_point", **settings.kwargs
    )
    if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
        env.close()
        return None
    return env


@contextlib.contextmanager
def _named(settings: GymSettings, what: str) -> Iterator[None]:
    """Turns whatever an environment raises into an error with its name."""
    try:
        yield
    except SafeTransferError:
        raise
    except Exception as error:
        raise SettingError(f"{settings.id}: {what} ({type(error).__name__}: {error})") from error
