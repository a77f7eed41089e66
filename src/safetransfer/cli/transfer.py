"""``safetransfer transfer``: the experiment of learning in one environment and moving to others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from safetransfer import settings_io
from safetransfer.cli.arguments import (
    add_backend,
    add_carry,
    backend_for_stages,
    chosen_carry,
    positive,
    seed,
)
from safetransfer.cli.settings_flags import (
    add_settings,
    chosen_settings,
    say_if_never_constrained,
)
from safetransfer.errors import SettingError

_PLANS_OWN = {  # settings that the plan gives, and by what
    "train.seed": "--seeds",
    "env.robot": "--from, --to and --start-in",
    "env.obstacles": "--from, --to and --start-in",
    "env.id": "--from, --to and --start-in",
}


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    from safetransfer.experiments.plans import TransferPlan

    plan = TransferPlan()
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="directory of the experiment; where it holds an unfinished one, that goes on",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="NAME",
        default=plan.env,
        help=f"environment to learn in first (default: {plan.env})",
    )
    parser.add_argument(
        "--start-in",
        metavar="NAME",
        help="environment to learn to move in before that, 'none' for none (default: what the "
        "robot has for the preset, such as DoggoEmpty)",
    )
    parser.add_argument(
        "--start-epochs",
        metavar="INT",
        type=positive,
        help="epochs of learning to move (default: what the robot has for the preset, or "
        f"{plan.start_epochs})",
    )
    parser.add_argument(
        "--start-with",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="settings that are otherwise while it learns to move, such as agent.horizon=16 "
        "(besides what the robot has for the preset)",
    )
    parser.add_argument(
        "--to",
        metavar="NAME",
        nargs="+",
        help="environments to move to (default: Poles and Humanoids of the same robot)",
    )
    parser.add_argument(
        "--seeds",
        metavar="INT",
        type=seed,
        nargs="+",
        default=plan.seeds,
        help="seeds, each a repetition (default: 0)",
    )
    parser.add_argument(
        "--agent", metavar="AGENT", help="a trained agent to move, instead of training one first"
    )
    parser.add_argument(
        "--pretrain-epochs",
        metavar="INT",
        type=positive,
        help="epochs in the first environment (default: --train.epochs)",
    )
    parser.add_argument(
        "--finetune-epochs",
        metavar="INT",
        type=positive,
        help=f"epochs after the move (default: what the robot has for the preset, as 10 for "
        f"Doggo, or {plan.finetune_epochs}; all of pre-training's where those are fewer)",
    )
    parser.add_argument(
        "--finetune-with",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="settings that are otherwise after the move, such as agent.lr=1e-4 "
        "(besides agent.multiplier_init=1 agent.constraint_warmup=0 train.decisions_per_update=16 "
        "train.num_envs=16, or what the robot has for the preset)",
    )
    parser.add_argument(
        "--no-scratch",
        dest="scratch",
        action="store_false",
        help="leave out training from nothing in the environments moved to",
    )
    parser.add_argument(
        "--ablations",
        metavar="NAME",
        nargs="+",
        default=(),
        help="also train what the paper takes away: unconstrained (no cost in the objective, in "
        "every environment), no_feedback (no last reward and cost, in the first one)",
    )
    parser.add_argument(
        "--reference",
        metavar="DIR",
        help="another transfer, whose training from nothing the report shows beside this one",
    )
    parser.add_argument(
        "--episodes",
        metavar="INT",
        type=positive,
        default=plan.episodes,
        help=f"episodes of an evaluation (default: {plan.episodes})",
    )
    parser.add_argument(
        "--no-films", dest="films", action="store_false", help="leave out the films"
    )
    add_carry(parser, plan.carry)
    add_backend(parser)
    add_settings(parser, argv, "--from")


def run(arguments: argparse.Namespace) -> None:
    from safetransfer.envs.settings import HallwaySettings
    from safetransfer.experiments.fine_tuning import fine_tuning_of, merged
    from safetransfer.experiments.learning_to_move import course_of, learning_to_move_of
    from safetransfer.experiments.plans import TransferPlan
    from safetransfer.experiments.transfer import run_transfer

    for name, instead in _PLANS_OWN.items():
        if name in settings_io.given_flags(arguments):
            raise SettingError(f"transfer does not take --{name}; use {instead}")
    settings = chosen_settings(arguments, arguments.source)
    pretrain = arguments.pretrain_epochs or settings.train.epochs
    if not arguments.to and not isinstance(settings.env, HallwaySettings):
        raise SettingError(
            f"transfer --from {settings.env.name} needs --to: the environments to move to"
        )
    to = arguments.to or [settings.env.robot + place for place in ("Poles", "Humanoids")]
    tuning, epochs = fine_tuning_of(settings.env, arguments.preset)
    start_in = arguments.start_in
    if start_in is None and not arguments.agent:
        course = course_of(settings.env, arguments.preset)
        start_in = course if course != settings.env.name else None  # it learns there as it is
    elif start_in == "none":
        start_in = None
    if start_in is None and (arguments.start_with or arguments.start_epochs):
        flag = "--start-with" if arguments.start_with else "--start-epochs"
        raise SettingError(
            f"{flag} is for learning to move before pre-training, and there is none here; "
            "--start-in says where"
        )
    if not arguments.agent:
        say_if_never_constrained(settings, pretrain)
    start, start_epochs = learning_to_move_of(settings.env, arguments.preset)
    start = merged(start, _assignments(settings, arguments.start_with, "--start-with"))
    plan = TransferPlan(
        env=arguments.source,
        to=tuple(to),
        seeds=tuple(arguments.seeds),
        pretrain_epochs=pretrain,
        start_in=start_in,
        start_epochs=arguments.start_epochs or start_epochs,
        start=start if start_in is not None else {},
        finetune_epochs=arguments.finetune_epochs or min(epochs, pretrain),
        carry=chosen_carry(arguments),
        scratch=arguments.scratch,
        ablations=tuple(arguments.ablations),
        episodes=arguments.episodes,
        films=arguments.films,
        agent=arguments.agent,
        reference=arguments.reference,
        finetune=merged(tuning, _assignments(settings, arguments.finetune_with, "--finetune-with")),
    )
    command, backend = arguments.command_line, backend_for_stages(arguments)
    print(run_transfer(arguments.out, plan, settings, command=command, backend=backend))


def _assignments(settings: Any, texts: Sequence[str], flag: str) -> dict[str, Any]:
    """The settings in texts as "agent.lr=1e-4", given with a flag such as --start-with."""
    given = {}
    own = _PLANS_OWN | {"train.epochs": flag.replace("-with", "-epochs")}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"{flag} {text}: expected NAME=VALUE")
        if name in own:
            raise SettingError(f"{flag} does not take {name}; use {own[name]}")
        given[name] = value
    return settings_io.parse_changes(settings, given)
