"""What a transfer or a study is to do, checked before any of it is begun."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from safetransfer import settings_io
from safetransfer.agent.settings import CARRY
from safetransfer.envs.naming import canonical, is_hallway
from safetransfer.envs.registration import parse_env_name
from safetransfer.envs.settings import COURSES, HallwaySettings
from safetransfer.errors import SettingError, UnknownNameError

ABLATIONS: dict[str, dict[str, Any]] = {
    "unconstrained": {"agent": {"constraint": "off"}},
    "no_feedback": {"agent": {"feedback": False}},
}
"""Appendix C of the paper: figures 6 and 7, and figure 8. What each changes in the settings."""


@dataclass
class TransferPlan:
    """What is moved where, for how long, and with how much of the agent."""

    env: str = "PointWalls"
    to: tuple[str, ...] = ("PointPoles", "PointHumanoids")
    seeds: tuple[int, ...] = (0,)
    pretrain_epochs: int = 10
    finetune_epochs: int = 3
    # Where a robot that must learn to move first does so; its agent is what pre-training begins
    # from. None: pre-training begins from nothing.
    start_in: str | None = None
    start_epochs: int = 10
    # Settings that differ there.
    start: dict[str, Any] = field(default_factory=dict)
    carry: str = "weights"
    scratch: bool = True
    # Names of ABLATIONS: "unconstrained" trains in every hallway, "no_feedback" in the first one.
    ablations: tuple[str, ...] = ()
    episodes: int = 100
    films: bool = True
    # A kept pre-trained agent, in place of pre-training; pretrain_epochs are then its own.
    agent: str | None = None
    # Another transfer directory whose from-scratch runs are shown where this one has none.
    reference: str | None = None
    # Settings that differ in fine-tuning. A first multiplier of 1 makes the carried-over agent
    # cautious while it is new there; it falls by itself where that was not needed.
    # It knows what costs, so the constraint has no warm-up. Experience is what costs there, so
    # more is learned from less of it, in hallways few enough that each is crossed to its end.
    finetune: dict[str, Any] = field(
        default_factory=lambda: {
            "agent": {"multiplier_init": 1.0, "constraint_warmup": 0},
            "train": {"decisions_per_update": 16.0, "num_envs": 16},
        }
    )

    def __post_init__(self) -> None:
        self.env, self.to = canonical(self.env), tuple(canonical(name) for name in self.to)
        self.to = tuple(dict.fromkeys(self.to))  # asked for twice is asked for
        self.seeds = tuple(dict.fromkeys(self.seeds))
        self.ablations = tuple(dict.fromkeys(self.ablations))
        if self.start_in is not None:
            self.start_in = canonical(self.start_in)
        hallways = [name for name in self.places if is_hallway(name)]
        robots = {parse_env_name(name)[0] for name in hallways}
        if len(robots) > 1:
            raise SettingError(
                "an agent moves between hallways, not between robots: got "
                f"{', '.join(sorted(robots))}"
            )
        if self.carry not in CARRY:
            raise UnknownNameError("carry", self.carry, CARRY)
        for name in self.ablations:
            if name not in ABLATIONS:
                raise UnknownNameError("ablation", name, ABLATIONS)
        if not self.to or not self.seeds:
            raise SettingError(
                "a transfer needs one deployment hallway or more, and a seed or more"
            )
        for name in ("start_epochs", "pretrain_epochs", "finetune_epochs", "episodes"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    @property
    def places(self) -> tuple[str, ...]:
        """Every environment of it, the first one learned in first."""
        return (*([self.start_in] if self.start_in else []), self.env, *self.to)


@dataclass
class StudyPlan:
    """Which agents go where; `vary` is a number among the settings of the hallway `env`."""

    agents: tuple[str, ...]
    env: str = "PointMixed"
    vary: str = "likeness"
    values: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    episodes: int = 100
    # Epochs of fine-tuning at each value; 0: the agents are met as they are, and that is all.
    finetune_epochs: int = 0
    carry: str = "weights"
    mocap: str | None = None

    def __post_init__(self) -> None:
        self.agents, self.values = tuple(self.agents), tuple(sorted(set(self.values)))
        if not self.agents or not self.values:
            raise SettingError("a study needs one agent or more, and one value or more")
        if self.episodes < 1 or self.finetune_epochs < 0:
            raise SettingError(
                "a study needs episodes of 1 or more, and finetune_epochs not below 0"
            )
        if self.carry not in CARRY or self.carry == "replay":
            raise UnknownNameError("carry", self.carry, [c for c in CARRY if c != "replay"])
        numbers = [f.name for f in dataclasses.fields(HallwaySettings) if f.type in _NUMBERS]
        if self.vary not in numbers:
            raise UnknownNameError("number among the hallway's settings", self.vary, numbers)
        robot, obstacles = parse_env_name(self.env)
        where = next((c for names, c in _WHERE if self.vary in names), COURSES)
        if obstacles not in where:
            raise SettingError(
                f"{self.vary} changes nothing in {self.env}; --env names a hallway in which it "
                f"does: {' or '.join(robot + course for course in where)}"
            )
        for value in self.values:  # refused now rather than after the others have run
            settings_io.updated(
                HallwaySettings(robot=robot, obstacles=obstacles), self.changes(value), "env"
            )

    def changes(self, value: float) -> dict[str, Any]:
        """The hallway's setting at a value; a count is a whole number."""
        return {self.vary: int(value) if float(value).is_integer() and self._counts else value}

    @property
    def _counts(self) -> bool:
        return type(getattr(HallwaySettings(), self.vary)) is int


_NUMBERS = ("int", "float")
_WALLS, _POLES = ("Walls", "Mixed"), ("Poles", "Mixed")
# In which courses settings of obstacles do something; the others do everywhere.
_WHERE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("people", "people_speed"), ("Humanoids",)),
    (("likeness",), ("Mixed",)),
    (("poles", "pole_radius"), _POLES),
    (("walls", "wall_thickness", "wall_cover_min", "wall_cover_max", "wall_jitter"), _WALLS),
    (("wall_variety",), ("Walls",)),
    (("pole_gap",), ("Walls", *_POLES)),
)

__all__ = ["ABLATIONS", "StudyPlan", "TransferPlan"]
