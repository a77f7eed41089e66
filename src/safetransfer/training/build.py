"""From settings to the parts of a run: environment, shapes, agent, device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch

from safetransfer import settings_io
from safetransfer.agent.agent import Agent
from safetransfer.agent.networks import Shapes
from safetransfer.agent.precision import choose_precision
from safetransfer.agent.settings import network_differences
from safetransfer.envs.gym_env import GymVectorEnv
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.naming import EnvSettings
from safetransfer.envs.spaces import signature_of, space_differences
from safetransfer.errors import CheckpointError, SettingError
from safetransfer.training.settings import Settings


def make_env(
    settings: EnvSettings, num_envs: int, threads: int = 1
) -> HallwayVectorEnv | GymVectorEnv:
    """A vector of environments in SAME_STEP autoreset, as collectors need it.

    Raises SettingError and UnknownNameError for an environment that agents cannot live in.
    """
    if isinstance(settings, GymSettings):
        return GymVectorEnv(settings, num_envs)
    return HallwayVectorEnv(
        settings,
        num_envs=num_envs,
        threads=threads,
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )


def shapes_of(env: Any) -> Shapes:
    """Shapes of a vector environment's observations and actions."""
    space = env.single_observation_space
    return Shapes(
        camera=tuple(space["camera"].shape) if "camera" in space.spaces else None,
        proprio=space["proprio"].shape[0],
        actions=env.single_action_space.shape[0],
    )


def shapes_of_checkpoint(payload: Mapping[str, Any]) -> Shapes:
    """Shapes of what the agent of a checkpoint was trained with; KeyError where it says none."""
    shapes = payload["shapes"]
    camera = shapes["camera"]
    return Shapes(tuple(camera) if camera else None, shapes["proprio"], shapes["actions"])


def require_equal_spaces(trained: Shapes, there: Shapes, name: str) -> None:
    """Raise CheckpointError where an agent's inputs or actions are not those of environment
    `name`."""
    if trained != there:
        raise CheckpointError(
            f"the agent was trained with {_in_words(trained)}; {name} has {_in_words(there)}. An "
            "agent moves between environments of equal spaces"
        )


def _in_words(shapes: Shapes) -> str:
    camera = "no" if shapes.camera is None else "a " + " x ".join(map(str, shapes.camera))
    return f"{camera} picture, {shapes.proprio} other inputs and {shapes.actions} actions"


def require_start(start: Mapping[str, Any], path: object, settings: Settings, carry: str) -> None:
    """Raise CheckpointError where a run of `settings` could not begin from what a checkpoint,
    `start`, has at `path`: by networks of other shapes, or without what is carried over."""
    ours = settings_io.to_dict(settings.agent)
    different = network_differences(start.get("settings", {}).get("agent", {}), ours)
    if different:
        raise CheckpointError(
            f"{path} was trained with another {', '.join(different)}; --config with its "
            "config.json takes its settings"
        )
    if carry == "replay" and start.get("replay") is None:
        raise CheckpointError(
            f"{path} holds no replay to carry over; it is kept with train.checkpoint_replay"
        )


def check_equal_spaces(settings: Sequence[EnvSettings]) -> None:
    """Raise SettingError where an agent could not move from the first environment to the rest."""
    first, *others = (signature(s) for s in settings)
    for there, other in zip(settings[1:], others, strict=True):
        different = space_differences(first, other)
        if different:
            raise SettingError(
                f"an agent cannot move from {settings[0].name} to {there.name}, whose spaces are "
                f"not equal: {'; '.join(different)}"
            )


def signature(settings: EnvSettings) -> dict[str, str]:
    """An environment's own spaces in words, equal where an agent can move."""
    env = make_env(settings, 1)
    try:
        if isinstance(env, GymVectorEnv):
            return env.signature
        return signature_of(env.single_observation_space, env.single_action_space, settings.name)
    finally:
        env.close()


def make_agent(settings: Settings, shapes: Shapes, device: str | torch.device) -> Agent:
    """A fresh agent, seeded by the run's seed.

    Raises:
        SettingError: CUDA graphs or TF32 are asked for without a GPU.
    """
    device = torch.device(device)
    t, gpu = settings.train, device.type == "cuda"
    for name, value in (("cuda_graphs", "on"), ("precision", "tf32")):
        if getattr(t, name) == value and not gpu:
            raise SettingError(
                f"train.{name} is {value!r}, but the agent lives on the CPU; use 'auto'"
            )
    return Agent(
        shapes,
        settings.agent,
        seed=settings.train.seed,
        device=device,
        steps_per_decision=settings.env.action_repeat,
        precision=choose_precision(t.precision, device),
        cuda_graphs=gpu and t.cuda_graphs != "off",
        batch_parts=1 if gpu else t.batch_parts,
    )


def choose_device(name: str, setting: str = "train.device") -> torch.device:
    """'auto' is a GPU where there is one; SettingError where a GPU is asked for and absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError(f"{setting} is 'cuda', but PyTorch finds no GPU; use 'auto' or 'cpu'")
    return torch.device(name)
