"""``safetransfer mocap``: motion-capture clips, fetched or shown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from safetransfer.cli.arguments import add_mocap, chosen_mocap, positive
from safetransfer.errors import SettingError, UnknownNameError


def add_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("action", metavar="{download,preview}", help="fetch clips, or show one")
    parser.add_argument(
        "what", metavar="DIR|CLIP", help="folder for the clips, goes on if begun; or clip to show"
    )
    fetching = parser.add_argument_group("download")
    fetching.add_argument(
        "--trials",
        metavar="NAME",
        nargs="+",
        help="clips to fetch, such as 02_01 (default: those whose content is known)",
    )
    fetching.add_argument("--base-url", metavar="URL", help="a mirror of the database")
    fetching.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="take files whose content is not what it was when this program was written",
    )
    showing = parser.add_argument_group("preview")
    showing.add_argument(
        "--out", metavar="FILE", help="a film (.mp4 or .gif) or a strip of stills (.png)"
    )
    showing.add_argument(
        "--stills", metavar="INT", type=positive, default=8, help="stills in a strip (default: 8)"
    )
    add_mocap(showing)


def run(arguments: argparse.Namespace) -> None:
    if arguments.action == "preview":
        if not arguments.out:
            raise SettingError("mocap preview: --out FILE says where the film or strip goes")
        from safetransfer.report.clip_preview import preview_clip

        clips = chosen_mocap(arguments)
        print(preview_clip(arguments.what, arguments.out, clips, arguments.stills))
        return
    if arguments.action != "download":
        raise UnknownNameError("action", arguments.action, ["download", "preview"])
    from safetransfer.envs.mocap.download import BASE_URL, DEFAULT_TRIALS, download

    paths = download(
        arguments.what,
        arguments.trials or DEFAULT_TRIALS,
        base_url=arguments.base_url or BASE_URL,
        verify=arguments.verify,
    )
    print(f"{len(paths)} files in {arguments.what}; use them with --mocap")
