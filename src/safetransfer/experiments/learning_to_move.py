"""How an agent is trained where a transfer has its robot learn to move first."""

from __future__ import annotations

from typing import Any

from safetransfer.envs.naming import EnvSettings
from safetransfer.experiments.fine_tuning import robot_of
from safetransfer.experiments.plans import TransferPlan


def course_of(env: EnvSettings, preset: str) -> str | None:
    """Name of the hallway that the robot learns to move in; None where it needs none."""
    robot = robot_of(env)
    obstacles = robot and robot.learns_to_move_in.get(preset)
    return robot.name + obstacles if robot and obstacles else None


def learning_to_move_of(env: EnvSettings, preset: str) -> tuple[dict[str, Any], int]:
    """Settings that differ there, by section, and epochs, for who is trained by `preset`."""
    plan, robot = TransferPlan(), robot_of(env)
    own = robot.learning_to_move.get(preset, {}) if robot else {}
    sections = {name: dict(values) for name, values in own.items()}
    epochs = sections.get("train", {}).pop("epochs", plan.start_epochs)
    return {name: values for name, values in sections.items() if values}, epochs
