"""What the report calls environments and stages."""

from __future__ import annotations

from safetransfer.report.html import MISSING, NOT_PLANNED
from safetransfer.report.runs import Transfer

_PLACES = {
    "Walls": "walls",
    "Poles": "poles",
    "Humanoids": "people",
    "Mixed": "walls and poles",
    "Empty": "Empty",
}


def robot_and_place(env: str) -> tuple[str, str]:
    """The robot of an environment and the place it stands for, in words."""
    if _is_name(env):
        for obstacles, place in _PLACES.items():
            robot = env.removesuffix(obstacles)
            if robot not in ("", env):
                return robot, place
    return "agent", environment_name(env)


def is_hallway(env: str) -> bool:
    """Whether an environment is one of our hallways, and not any other."""
    return robot_and_place(env)[0] != "agent"


def environment_name(env: str) -> str:
    """An id without the module that registers it: `Deployment-v0`."""
    return env.rpartition(":")[2]


def _is_name(env: str) -> bool:
    """Whether it is a short name, as hallways have, and not an id."""
    return env.isalnum()


def place_name(env: str) -> str:
    return robot_and_place(env)[1]


def short_name(env: str) -> str:
    """The paper's name of an environment: P-Poles."""
    if _is_name(env):
        for obstacles in _PLACES:
            robot = env.removesuffix(obstacles)
            if robot not in ("", env):
                return f"{robot[0]}-{obstacles}"
    return environment_name(env)


def absent(transfer: Transfer, stage: str) -> str:
    """What stands where a stage has left nothing: not yet, or not part of this experiment."""
    return MISSING if transfer.planned(stage) else NOT_PLANNED


def stage_name(stage: str) -> str:
    way, _, env = stage.partition("-")
    names = {
        "start": "Learning to move in",
        "pretrain": "Pre-training",
        "finetune": "Fine-tuning in",
        "scratch": "From scratch in",
        "unconstrained": "Unconstrained in",
        "no_feedback": "Without last reward and cost in",
    }
    return f"{names[way]} {short_name(env)}".strip()
