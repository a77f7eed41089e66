"""How an agent is trained after a move: as every robot is, or as its own asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.naming import EnvSettings
from safetransfer.envs.robots import make_robot
from safetransfer.envs.robots.base import Robot
from safetransfer.experiments.plans import TransferPlan


def robot_of(env: EnvSettings) -> Robot | None:
    """The robot of a hallway; None of another environment."""
    return None if isinstance(env, GymSettings) else make_robot(env.robot)


def fine_tuning_of(env: EnvSettings, preset: str = "laptop") -> tuple[dict[str, Any], int]:
    """Settings that differ after a move, by section, and epochs, for who trained by `preset`."""
    plan, robot = TransferPlan(), robot_of(env)
    if robot is None:
        return plan.finetune, plan.finetune_epochs
    epochs = robot.fine_tuning_epochs.get(preset, plan.finetune_epochs)
    return merged(plan.finetune, robot.fine_tuning.get(preset, {})), epochs


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` in it, section by section."""
    return dict(base) | {
        name: merged(base[name], value) if isinstance(value, Mapping) and name in base else value
        for name, value in changes.items()
    }
