"""From settings to the parts of a run: environment, shapes, agent, device."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch

from safetransfer.agent.agent import Agent
from safetransfer.agent.networks import Shapes
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError
from safetransfer.training.settings import Settings


def make_env(settings: HallwaySettings, num_envs: int, threads: int = 1) -> HallwayVectorEnv:
    """A vector of hallways in SAME_STEP autoreset, as collectors need it."""
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
        camera=tuple(space["camera"].shape),
        proprio=space["proprio"].shape[0],
        actions=env.single_action_space.shape[0],
    )


def make_agent(settings: Settings, shapes: Shapes, device: torch.device) -> Agent:
    """A fresh agent, seeded by the run's seed."""
    return Agent(
        shapes,
        settings.agent,
        seed=settings.train.seed,
        device=device,
        steps_per_decision=settings.env.action_repeat,
    )


def choose_device(name: str) -> torch.device:
    """'auto' is a GPU where there is one; SettingError where a GPU is asked for and absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("train.device is 'cuda', but PyTorch finds no GPU; use 'auto' or 'cpu'")
    return torch.device(name)
