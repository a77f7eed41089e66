"""The command line: ``safetransfer COMMAND``.

Each of ``COMMANDS`` is a module of two functions: ``add_options`` says what it takes, ``run`` does
it. Both import what they need when they are called, so that ``safetransfer --help`` answers at
once. What commands share is in ``arguments``, ``settings_flags`` and ``output``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import safetransfer
from safetransfer import settings_io
from safetransfer.cli import (
    bench,
    compare,
    evaluate,
    export,
    keep,
    mocap,
    report,
    study,
    train,
    transfer,
    watch,
)
from safetransfer.cli.arguments import Parser
from safetransfer.errors import SafeTransferError, SettingError, UnknownNameError

TUNE = "[options] [--SECTION.SETTING VALUE ...]"
GOES_ON = "The same command goes on from where it was last kept."


class CommandModule(Protocol):
    """``argv`` is the whole command line: which options there are can depend on others."""

    def add_options(self, parser: argparse.ArgumentParser, argv: Sequence[str]) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int | None: ...


class Command(NamedTuple):
    usage: str
    help: str
    module: CommandModule
    interrupted: str = "Nothing is kept of it."


COMMANDS = {
    "train": Command(
        f"--run DIR [--env NAME] {TUNE}", "train an agent in one environment", train, GOES_ON
    ),
    "transfer": Command(
        f"--out DIR {TUNE}",
        "learn in one environment, move to others, and count what it costs",
        transfer,
        GOES_ON,
    ),
    "study": Command(
        "--agent AGENT [AGENT ...] --out DIR [options]",
        "how alike must the two worlds be: agents in hallways of more and less likeness",
        study,
        GOES_ON,
    ),
    "evaluate": Command(
        "AGENT --env NAME [options]", "measure return, cost and length of an agent", evaluate
    ),
    "keep": Command(
        "RUN DIR [--stage NAME]",
        "keep trained agents, logs and configurations, without what only resuming needs",
        keep,
    ),
    "compare": Command(
        "RUN [RUN ...] --out DIR [--markdown]",
        "tables and curves of any number of runs, seeds taken together",
        compare,
    ),
    "export": Command(
        "AGENT --out FILE", "write an agent as one file that runs without safetransfer", export
    ),
    "report": Command("DIR [--out FILE | --markdown]", "write the page about a transfer", report),
    "watch": Command(
        "AGENT --env NAME (--out FILE | --viewer) [options]",
        "film an agent, or show it in MuJoCo's viewer",
        watch,
    ),
    "bench": Command(
        f"{{{','.join(bench.BENCHMARKS)}}} [--json]",
        "measure the speed of a part on this machine",
        bench,
    ),
    "mocap": Command(
        "{download DIR | preview CLIP --out FILE} [options]",
        "fetch motion-capture clips for the people to move by, or show one",
        mocap,
        GOES_ON,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 for input that cannot work, 130 for an interrupt."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv[0] if argv else ""
    command = COMMANDS.get(name)
    try:
        arguments = _parse(name, command, argv)
        arguments.command_line = shlex.join(["safetransfer", *argv])
        assert command is not None
        status = command.module.run(arguments) or 0
        sys.stdout.flush()  # what cannot be written is found out here, and not when Python ends
        return status
    except SafeTransferError as error:
        return _fail(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():  # and has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if error.errno is None:  # not of the operating system
            raise
        about = f"{error.filename}: " if error.filename else ""
        return _fail(f"{about}{error.strerror}")
    except KeyboardInterrupt:
        print(f"\nInterrupted. {command.interrupted if command else ''}", file=sys.stderr)
        return 130


def _reader_has_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more; other pipes may break, too."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no poll, no file of its own
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)
        return any(flags & select.POLLERR for _, flags in output.poll(0))
    return False


def _fail(message: str) -> int:
    print(f"safetransfer: {message}", file=sys.stderr)
    return 2


def _parse(name: str, command: Command | None, argv: Sequence[str]) -> argparse.Namespace:
    if command is None:
        parser = _overview()
        if name and not name.startswith("-"):
            raise UnknownNameError("command", name, COMMANDS)
        _, unknown = parser.parse_known_args(argv)
        if unknown:
            raise settings_io.unknown_flag(unknown[0], parser)
        parser.print_help()
        parser.exit(0 if argv else 2)
    parser = Parser(
        prog=f"safetransfer {name}",
        usage=f"safetransfer {name} {command.usage}",
        description=command.help,
        allow_abbrev=False,
    )
    command.module.add_options(parser, argv)
    arguments, unknown = parser.parse_known_args(argv[1:])
    if unknown:
        flag = next((text for text in unknown if text.startswith("-")), None)
        if flag is None:
            raise SettingError(f"{name}: there is no place for {' '.join(unknown)!r}")
        raise settings_io.unknown_flag(flag, parser)
    return arguments


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    parser = Parser(
        prog="safetransfer",
        usage="safetransfer COMMAND [options]",
        description=safetransfer.__doc__,
        epilog="commands (each has its own --help):\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=safetransfer.__version__)
    return parser
