"""All settings of a run, and the presets. What a preset has otherwise for a robot is in the robot's
own module (`Robot.presets`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from safetransfer import settings_io
from safetransfer.agent.settings import AgentSettings
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.robots import make_robot
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError, UnknownNameError


def _f(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


# Settings that change how a run is carried out and not what is learned: a run may go on with
# others, and runs that differ in nothing else are seeds of one thing.
HOW_IT_IS_CARRIED_OUT = (
    "train.threads", "train.batch_parts", "train.device", "train.actor_device",
    "train.actor_backlog", "train.actor_chunk", "train.cuda_graphs", "train.checkpoint_minutes",
    "train.checkpoint_replay", "train.tensorboard",
)  # fmt: skip
# With another precision a run may go on, too: a CPU does not have all that a GPU has.
MAY_CHANGE = ("train.precision", *HOW_IT_IS_CARRIED_OUT)
LARGEST_SEED = 2**63 - 1


@dataclass
class TrainSettings:
    """Training on one machine: how much of what, and what is kept."""

    seed: int = _f(0, "seed of everything random")
    epochs: int = _f(10, "epochs to train for")
    epoch_updates: int = _f(500, "updates in an epoch")
    num_envs: int = _f(64, "hallways stepped together")
    collect_decisions: int = _f(16, "decisions per hallway between exchanges of weights and data")
    decisions_per_update: float = _f(128.0, "decisions collected per update, kept exactly")
    mode_episodes: float = _f(
        0.0, "share of the collected episodes in which the agent acts by its mode, unexplored"
    )
    learning_starts: int = _f(4000, "decisions collected before the first update")
    replay_size: int = _f(500_000, "decisions held by the replay")
    replay_stride: int = _f(4, "decisions between stored hidden states")
    replay_compact: bool = _f(
        False, "keep actions and hidden states in 16 bits, with an error of at most 1 / 65,534"
    )
    cost_window: int = _f(20_000, "environment steps over which the multiplier's cost is measured")
    actor_backlog: int = _f(
        100_000, "decisions that an actor of a cluster keeps until a checkpoint has them"
    )
    actor_chunk: int = _f(
        256,
        "decisions that an actor of a cluster sends at once, if it takes them within a second: of "
        "fewer the learner has more to receive",
    )
    threads: int = _f(2, "1: collect and learn in turn; 2 or more: overlap them")
    batch_parts: int = _f(
        2,
        "on a CPU, parts of a batch whose gradients are made one by one, or side by side with a "
        "thread that has nothing to collect",
    )
    device: Literal["auto", "cpu", "cuda"] = _f(
        "auto", "where the agent lives; 'auto': a GPU if any"
    )
    actor_device: Literal["auto", "cpu", "cuda"] = _f(
        "auto", "where the policy acts while experience is collected; 'auto': where the agent lives"
    )
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = _f(
        "auto", "of the products in an update; 'auto': tf32 on a GPU, float32 elsewhere"
    )
    cuda_graphs: Literal["auto", "on", "off"] = _f(
        "auto", "launch an update on a GPU as one CUDA graph; 'auto': where there is a GPU"
    )
    checkpoint_minutes: float = _f(1.0, "time between checkpoints (also one at each run's end)")
    checkpoint_replay: bool = _f(False, "write the replay into checkpoints: exact, but large")
    tensorboard: bool = _f(True, "write TensorBoard event files")

    def __post_init__(self) -> None:
        for name in (
            "epochs", "epoch_updates", "num_envs", "collect_decisions", "replay_size",
            "replay_stride", "cost_window", "threads", "learning_starts", "actor_backlog",
            "actor_chunk", "batch_parts",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise SettingError(f"train.{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise SettingError(f"train.seed is {self.seed}; it must be from 0 to {LARGEST_SEED}")
        if not 0.0 <= self.mode_episodes < 1.0:
            raise SettingError(f"train.mode_episodes is {self.mode_episodes}; it must be in [0, 1)")
        if not 0.0 < self.decisions_per_update < math.inf:
            raise SettingError(
                f"train.decisions_per_update is {self.decisions_per_update}; it must be above 0, "
                "and finite"
            )
        if self.learning_starts > self.replay_size:
            raise SettingError(
                f"train.learning_starts {self.learning_starts} is more than train.replay_size "
                f"{self.replay_size}: learning would never start"
            )


@dataclass
class Settings:
    """A run: the environment (a hallway, or any of Gymnasium's), the agent, the training."""

    env: HallwaySettings | GymSettings = field(default_factory=HallwaySettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


def laptop() -> Settings:
    """Two cores."""
    return Settings(
        env=HallwaySettings(start_anywhere=0.5, wall_variety=0.5),
        agent=AgentSettings(constraint_warmup=2000),
        train=TrainSettings(epochs=12),
    )


def paper() -> Settings:
    """Tables 2 and 3 of the paper."""
    agent = AgentSettings(
        cnn="nature",
        embedding=256,
        hidden=256,
        mlp=(400, 300),
        activation="selu",
        layer_norm=False,
        encoders="separate",
        gamma=0.99,
        gamma_cost=0.99,
        n_step=1,
        tau=0.005,
        tune_alpha=False,
        alpha=0.005,
        multiplier_signal="critic",
        normalise_objective=False,
        lr=3e-4,
        lr_encoder=3e-4,
        lr_end=1.0,
        batch_size=256,
        horizon=30,
    )
    train = TrainSettings(
        epochs=100,
        epoch_updates=4000,
        num_envs=60,  # on one machine, 60 hallways stand for the 60 actors
        replay_size=2_000_000,
        replay_stride=30,
        replay_compact=True,
        actor_backlog=100_000,
    )
    return Settings(agent=agent, train=train)


def smoke() -> Settings:
    """Seconds: to see that everything fits together, not to learn."""
    agent = AgentSettings(
        embedding=32, hidden=32, mlp=(32,), batch_size=8, horizon=8, constraint_warmup=5
    )
    train = TrainSettings(
        epochs=2,
        epoch_updates=10,
        num_envs=4,
        learning_starts=400,
        replay_size=8000,
        decisions_per_update=32,
        actor_chunk=1,
        tensorboard=False,
    )
    env = HallwaySettings(max_steps=120, start_anywhere=0.5)
    return Settings(env=env, agent=agent, train=train)


PRESETS: dict[str, Callable[[], Settings]] = {"laptop": laptop, "paper": paper, "smoke": smoke}


def preset(
    name: str, robot: str = HallwaySettings.robot, obstacles: str = HallwaySettings.obstacles
) -> Settings:
    """A preset's settings for a robot: the preset's own, with what the robot has otherwise over it,
    and over that what it has where it learns to move, if these are the obstacles there.

    UnknownNameError lists the known presets or robots.
    """
    model = make_robot(robot)
    for known in (name, *model.presets, *model.learning_to_move):
        if known not in PRESETS:
            raise UnknownNameError("preset", known, PRESETS)
    settings = settings_io.updated(PRESETS[name](), {"env": {"robot": robot}})
    settings = settings_io.updated(settings, model.presets.get(name, {}))
    if obstacles == model.learns_to_move_in.get(name):
        settings = settings_io.updated(settings, model.learning_to_move.get(name, {}))
    return settings_io.updated(settings, {"env": {"obstacles": obstacles}})
