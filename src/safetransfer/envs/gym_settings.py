"""Settings of an environment that is not ours: any that is registered with Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from safetransfer.errors import SettingError


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass(frozen=True)
class GymSettings:
    """A registered Gymnasium environment. What it may be like is said in `envs.spaces`."""

    id: str = field(metadata=_help("id of the environment, such as Pendulum-v1 or module:Name-v0"))
    kwargs: dict[str, Any] = field(
        default_factory=dict, metadata=_help("arguments of the environment, as a JSON object")
    )
    cost_key: str | None = field(
        default="cost",
        metadata=_help("where info holds the cost of a step (none: the environment has no cost)"),
    )
    max_steps: int | None = field(
        default=None,
        metadata=_help(
            "environment steps after which an episode is truncated (none: as registered)"
        ),
    )
    action_repeat: int = field(
        default=1, metadata=_help("environment steps for which one action is held")
    )
    vector: Literal["auto", "sync", "async"] = field(
        default="auto",
        metadata=_help(
            "how environments are stepped together: 'sync' one after another, 'async' each in a "
            "process of its own, 'auto' as the environment's own vector where it has one that "
            "fits, else 'sync'"
        ),
    )

    mocap: ClassVar[None] = None
    """No people, no clips; see `HallwaySettings.mocap`."""
    indifferent: ClassVar[tuple[str, ...]] = ("vector",)
    """Settings that a run may go on with in another way: the experience is the same."""

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise SettingError("env.id is empty; it must be the id of a registered environment")
        if self.cost_key == "":
            raise SettingError("env.cost_key is empty; it must be a key of info, or none")
        if self.action_repeat < 1:
            raise SettingError(f"env.action_repeat is {self.action_repeat}; it must be 1 or more")
        if self.max_steps is not None and self.max_steps < 1:
            raise SettingError(f"env.max_steps is {self.max_steps}; it must be 1 or more")

    @property
    def name(self) -> str:
        """Name of this environment in logs and reports: its id."""
        return self.id

    def with_mocap(self, folder: str | None) -> GymSettings:
        """The same: clips move the people of our hallways only."""
        return self

    def for_evaluation(self) -> GymSettings:
        """The same: nothing in these settings is for training only."""
        return self

    def kept(self) -> Mapping[str, Any]:
        """How agents.json describes the environment of a kept agent."""
        return {"robot": None, "env": self.id}
