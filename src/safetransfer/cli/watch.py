"""``safetransfer watch``: a film of an agent, or MuJoCo's viewer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from safetransfer.cli.arguments import (
    add_act_by,
    add_mocap,
    chosen_mocap,
    chosen_noise,
    positive,
    seed,
)
from safetransfer.cli.settings_flags import env_changes
from safetransfer.errors import SettingError

VIEWS = ("first", "behind", "both")


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("agent", metavar="AGENT", help="checkpoint or run directory")
    parser.add_argument(
        "--env",
        metavar="NAME",
        required=True,
        help="environment, such as PointPoles, or the id of any registered Gymnasium environment",
    )
    parser.add_argument("--out", metavar="FILE", help="film to write: .mp4 or .gif")
    parser.add_argument(
        "--viewer",
        action="store_true",
        help="open MuJoCo's viewer in place of a film, where there is a screen",
    )
    parser.add_argument(
        "--view",
        metavar="{" + ",".join(VIEWS) + "}",
        help="where the camera is (default: both)",
    )
    parser.add_argument(
        "--episodes", metavar="INT", type=positive, default=1, help="episodes to film (default: 1)"
    )
    parser.add_argument("--seed", metavar="INT", type=seed, default=0, help="seed (default: 0)")
    parser.add_argument(
        "--speed",
        metavar="FLOAT",
        type=float,
        help="seconds of the hallway in a second of the film (default: 2)",
    )
    add_act_by(parser)
    add_mocap(parser)


def run(arguments: argparse.Namespace) -> None:
    env_changes(arguments)  # refuses an unknown environment before anything is loaded
    clips = chosen_mocap(arguments)
    if bool(arguments.out) == arguments.viewer:
        raise SettingError("watch: give --out FILE for a film, or --viewer; one of the two")
    options = {"view": arguments.view, "speed": arguments.speed}
    for_films = {name: value for name, value in options.items() if value is not None}
    if arguments.viewer:
        from safetransfer.report.viewer import watch_live

        for name in for_films:
            raise SettingError(
                f"watch: --{name} is for films; in the viewer the camera is yours, and time real"
            )
        watch_live(
            arguments.agent,
            arguments.env,
            arguments.episodes,
            arguments.seed,
            mocap=clips,
            noise=chosen_noise(arguments),
        )
        return
    from safetransfer.report.film import film

    path = film(
        arguments.agent,
        arguments.env,
        arguments.out,
        episodes=arguments.episodes,
        seed=arguments.seed,
        mocap=clips,
        noise=chosen_noise(arguments),
        **for_films,
    )
    print(path)
