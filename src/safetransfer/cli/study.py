"""``safetransfer study``: kept agents in worlds of more and less likeness."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from safetransfer.cli.arguments import add_carry, add_mocap, chosen_carry, chosen_mocap, positive


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    from safetransfer.experiments.plans import StudyPlan

    plan = StudyPlan(agents=("",))
    parser.add_argument(
        "--agent",
        metavar="AGENT",
        nargs="+",
        required=True,
        help="trained agents, each a seed: checkpoints or run directories",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="directory of the study; where it holds an unfinished one, that goes on",
    )
    parser.add_argument(
        "--env",
        metavar="NAME",
        default=plan.env,
        help=f"hallway that the agents move to (default: {plan.env})",
    )
    parser.add_argument(
        "--vary",
        metavar="SETTING",
        default=plan.vary,
        help="its setting that takes one value after another, such as people_speed of "
        f"PointHumanoids (default: {plan.vary})",
    )
    parser.add_argument(
        "--values",
        metavar="NUMBER",
        type=float,
        nargs="+",
        default=plan.values,
        help=f"the values (default: {' '.join(f'{v:g}' for v in plan.values)})",
    )
    parser.add_argument(
        "--finetune-epochs",
        metavar="INT",
        type=int,
        default=plan.finetune_epochs,
        help="epochs of fine-tuning at each value (default: 0, agents are met as they are)",
    )
    parser.add_argument(
        "--episodes",
        metavar="INT",
        type=positive,
        default=plan.episodes,
        help=f"episodes of an evaluation (default: {plan.episodes})",
    )
    add_carry(parser, plan.carry, replay=False)
    add_mocap(parser)


def run(arguments: argparse.Namespace) -> None:
    from safetransfer.experiments.plans import StudyPlan
    from safetransfer.experiments.study import run_study

    plan = StudyPlan(
        agents=tuple(arguments.agent),
        env=arguments.env,
        vary=arguments.vary,
        values=tuple(arguments.values),
        episodes=arguments.episodes,
        finetune_epochs=arguments.finetune_epochs,
        carry=chosen_carry(arguments),
        mocap=chosen_mocap(arguments),
    )
    print(run_study(arguments.out, plan, command=arguments.command_line))
