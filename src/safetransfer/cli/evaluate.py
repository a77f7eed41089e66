"""``safetransfer evaluate``: return, cost and length of an agent's episodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from safetransfer.cli.arguments import (
    add_act_by,
    add_mocap,
    chosen_mocap,
    chosen_noise,
    positive,
    seed,
)
from safetransfer.cli.output import add_json, measure_and_print
from safetransfer.cli.settings_flags import add_env_settings, env_changes
from safetransfer.errors import SettingError


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("agent", metavar="AGENT", help="checkpoint or run directory")
    parser.add_argument(
        "--env",
        metavar="NAME",
        required=True,
        help="environment, such as PointPoles, or the id of any registered Gymnasium environment",
    )
    parser.add_argument(
        "--episodes",
        metavar="INT",
        type=positive,
        default=50,
        help="episodes from the start line (default: 50)",
    )
    parser.add_argument(
        "--seed",
        metavar="INT",
        type=seed,
        help="seed of the hallways (default: one that no training uses)",
    )
    add_act_by(parser)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="also keep the episodes in the agent's directory, where `compare` finds them",
    )
    add_mocap(parser)
    add_json(parser)
    add_env_settings(parser, argv)


def run(arguments: argparse.Namespace) -> None:
    changes = env_changes(arguments)
    clips = chosen_mocap(arguments)
    if changes and arguments.keep:
        raise SettingError(
            f"--keep is for {arguments.env} as it is, for compare to read; with --env.* it is "
            "another environment: redirect --json to a file of your own"
        )

    def measure() -> dict[str, Any]:
        from safetransfer.training.evaluate import (
            EVALUATION_SEED,
            evaluate_checkpoint,
            keep_evaluation,
        )

        seed = EVALUATION_SEED if arguments.seed is None else arguments.seed
        result = evaluate_checkpoint(
            arguments.agent,
            arguments.env,
            arguments.episodes,
            seed,
            noise=chosen_noise(arguments),
            mocap=clips,
            changes=changes,
        )
        if arguments.keep:
            print(keep_evaluation(arguments.agent, result))
        return result

    measure_and_print(arguments, measure)
