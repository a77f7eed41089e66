"""Evaluating a kept agent: returns, costs and lengths over whole episodes of fresh hallways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safetransfer import settings_io
from safetransfer.agent.agent import Actor, Agent, acting_state
from safetransfer.agent.networks import Shapes
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.naming import EnvSettings, settings_for
from safetransfer.errors import CheckpointError, SafeTransferError, SettingError
from safetransfer.statistics import bootstrap_mean
from safetransfer.training import checkpoint
from safetransfer.training.build import (
    make_env,
    require_equal_spaces,
    shapes_of,
    shapes_of_checkpoint,
)
from safetransfer.training.machine import cores
from safetransfer.training.settings import Settings

# Far from the seeds of training, which users count from zero.
EVALUATION_SEED = 1_000_003


class Policy:
    """A trained agent, ready to act: what evaluations and films need.

    `noise` is the share of its exploration that it acts with: 0 by its mode, 1 by samples as in
    training.
    """

    def __init__(self, actor: Actor, settings: Settings, noise: float | None = None):
        """`noise`: None takes what the agent's settings say."""
        self.actor, self.settings = actor, settings
        self.noise = settings.agent.trained_noise if noise is None else noise

    def initial_carry(self, n: int) -> np.ndarray:
        """Hidden states at the start of n episodes, (n, hidden)."""
        return self.actor.initial_carry(n)

    def act(
        self,
        obs: Mapping[str, np.ndarray],
        last_reward: np.ndarray,
        last_cost: np.ndarray,
        carry: np.ndarray,
        rng: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions (n, A) in [-1, 1] and the next carry; see `Actor.act`.

        `rng` makes the noise; by the mode there is none to make.
        """
        if not self.noise:
            return self.actor.act(obs, last_reward, last_cost, carry)
        if rng is None:
            raise SettingError("a policy that acts by samples needs an rng")
        scale = np.full(len(carry), self.noise, np.float32)
        return self.actor.act(obs, last_reward, last_cost, carry, rng, scale)


def load_policy(path: str | Path, noise: float | None = None) -> Policy:
    """The policy in a checkpoint (a file, or a run directory that holds one); `noise` as there.

    Raises:
        CheckpointError: it cannot be read, or is not one of a training run.
    """
    payload = checkpoint.load(path)
    try:
        settings = settings_io.from_dict(Settings, payload["settings"])
        agent = Agent(shapes_of_checkpoint(payload), settings.agent)
        agent.load_state_dict(acting_state(payload["agent"]), carry="policy")
    except KeyError as error:
        raise CheckpointError(
            f"{path} is not the checkpoint of a training run: it has no {error}"
        ) from error
    except SafeTransferError:
        raise
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: its content does not fit ({error})") from error
    return Policy(agent.actor, settings, noise)


def environment_settings(policy: Policy, env_name: str, **changes: Any) -> EnvSettings:
    """The environment `env_name`, otherwise as the one that the policy was trained in, without
    what is for training only: a hallway's episodes all begin at the start line, among walls as
    they are. `changes` are settings; `mocap` is nothing to what has no people.

    Raises CheckpointError where the policy drives another robot.
    """
    trained = policy.settings.env
    env = settings_for(env_name, trained).for_evaluation()
    ours, theirs = trained.kept()["robot"], env.kept()["robot"]
    if ours and theirs and ours != theirs:
        raise CheckpointError(
            f"the agent drives {ours}, {env_name} has {theirs}: an agent moves between hallways, "
            "not between robots"
        )
    if "mocap" in changes:
        env = env.with_mocap(changes.pop("mocap"))
    return settings_io.updated(env, changes, "env")


def check_shapes(policy: Policy, there: Shapes, name: str) -> None:
    """Raise CheckpointError where the agent's inputs or actions are not those of an environment."""
    require_equal_spaces(policy.actor.networks.shapes, there, name)


def evaluate(
    policy: Policy,
    env_settings: EnvSettings,
    episodes: int = 100,
    seed: int = EVALUATION_SEED,
    num_envs: int = 25,
    threads: int = 1,
) -> dict[str, list[float]]:
    """Run `episodes` episodes; lists of "return", "cost" and "length" (environment steps).

    Each of the environments contributes a number of episodes fixed beforehand: taking whichever
    end first would favour short ones.
    """
    if episodes < 1:
        raise SettingError(f"episodes is {episodes}; it must be 1 or more")
    n = min(num_envs, episodes)
    quota = np.full(n, episodes // n)
    quota[: episodes % n] += 1
    env = make_env(env_settings, n, threads)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    results: list[list[tuple[float, float, int]]] = [[] for _ in range(n)]
    try:
        obs, _ = env.reset(seed=seed)
        check_shapes(policy, shapes_of(env), env_settings.name)
        carry = policy.initial_carry(n)
        last_reward, last_cost = np.zeros((2, n), np.float32)
        episode_return, episode_cost = np.zeros((2, n))
        while any(len(r) < q for r, q in zip(results, quota, strict=True)):
            action, carry = policy.act(obs, last_reward, last_cost, carry, rng)
            obs, reward, terminated, truncated, info = env.step(action)
            last_reward, last_cost = reward.astype(np.float32), info["cost"].astype(np.float32)
            episode_return += reward
            episode_cost += info["cost"]
            ended = np.nonzero(terminated | truncated)[0]
            for i in ended:
                if len(results[i]) < quota[i]:
                    steps = int(info["final_info"]["steps"][i])
                    results[i].append((float(episode_return[i]), float(episode_cost[i]), steps))
                episode_return[i] = episode_cost[i] = last_reward[i] = last_cost[i] = 0.0
                carry[i] = 0.0
            if len(ended) and isinstance(env, HallwayVectorEnv):
                env.rest(np.array([len(r) >= q for r, q in zip(results, quota, strict=True)]))
    finally:
        env.close()
    flat = [e for r in results for e in r]
    return {
        "return": [e[0] for e in flat],
        "cost": [e[1] for e in flat],
        "length": [float(e[2]) for e in flat],
    }


def summary(env_name: str, per_episode: Mapping[str, list[float]]) -> dict[str, Any]:
    """Means with 95% bootstrap intervals over episodes."""
    out: dict[str, Any] = {"env": env_name, "episodes": len(per_episode["return"])}
    for name in ("return", "cost", "length"):
        mean, low, high = bootstrap_mean(per_episode[name])
        out[name] = {"mean": mean, "ci95": [low, high]}
    return out


def evaluate_checkpoint(
    path: str | Path,
    env_name: str,
    episodes: int = 100,
    seed: int = EVALUATION_SEED,
    *,
    noise: float | None = None,
    mocap: str | None = None,
    threads: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a kept agent in an environment; `summary` with every episode beside it, and how it
    acted.

    `noise` is the share of its exploration that it acts with, from 0 (by its mode) to 1; None: as
    its settings say. `mocap` is the folder of clips that people move by; `threads` (default: all
    cores) step the hallways, with the same result for any number. `changes` are settings of the
    environment that are not as they were in training.
    """
    torch.set_num_threads(1)
    policy = load_policy(path, noise)
    # The clips are this machine's, wherever the agent was trained.
    env_settings = environment_settings(policy, env_name, mocap=mocap, **(changes or {}))
    per_episode = evaluate(
        policy,
        env_settings,
        episodes,
        seed,
        threads=threads or cores(),
    )
    return summary(env_settings.name, per_episode) | {
        "per_episode": per_episode,
        "seed": seed,
        "agent": Path(path).name,
        "act_by": "sample" if policy.noise else "mode",
        "act_noise": policy.noise,
        "mocap": describe_people(env_settings),
    }


def keep_evaluation(path: str | Path, result: Mapping[str, Any]) -> Path:
    """Write what `evaluate_checkpoint` returned beside its agent: evaluations/ENV.json there."""
    name = re.sub(r"[^\w.-]+", "-", str(result["env"]))
    file = checkpoint.locate(path).parent / "evaluations" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    settings_io.write_json(file, result)
    return file


def describe_people(env_settings: EnvSettings) -> dict[str, Any] | None:
    """What clips the people of a hallway move by; None where there are no people."""
    env = make_env(env_settings, 1)
    try:
        return env.mocap
    finally:
        env.close()
