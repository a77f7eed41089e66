"""The command line: ``safetransfer COMMAND``.

Each command is a pair of functions: one adds its options to a parser, one runs it. What a command
needs is imported when it runs, so that ``safetransfer --help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import safetransfer
from safetransfer import settings_io
from safetransfer.errors import SafeTransferError, SettingError, UnknownNameError

BENCHMARKS = ("camera", "env", "learner", "train")
VIEWS = ("first", "behind", "both")
GOES_ON = "The same command goes on from where it was last kept."


class Command(NamedTuple):
    usage: str
    help: str
    add_options: Callable[[argparse.ArgumentParser, Sequence[str]], None]
    run: Callable[[argparse.Namespace], int | None]
    interrupted: str = "Nothing is kept of it."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 for input that cannot work, 130 for an interrupt."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv[0] if argv else ""
    command = COMMANDS.get(name)
    try:
        arguments = _parse(name, command, argv)
        arguments.command_line = shlex.join(["safetransfer", *argv])
        assert command is not None
        return command.run(arguments) or 0
    except SafeTransferError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno is None:  # not of the operating system
            raise
        about = f"{error.filename}: " if error.filename else ""
        return _fail(f"{about}{error.strerror}")
    except KeyboardInterrupt:
        print(f"\nInterrupted. {command.interrupted if command else ''}", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(f"safetransfer: {message}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are errors like any other."""

    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{message} (see: {self.prog} --help)")


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
    parser = _Parser(
        prog=f"safetransfer {name}",
        usage=f"safetransfer {name} {command.usage}",
        description=command.help,
        allow_abbrev=False,
    )
    command.add_options(parser, argv)
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
    parser = _Parser(
        prog="safetransfer",
        usage="safetransfer COMMAND [options]",
        description=safetransfer.__doc__,
        epilog="commands (each has its own --help):\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=safetransfer.__version__)
    return parser


# ---------------------------------------------------------------- settings shared by commands


def _add_settings(
    parser: argparse.ArgumentParser, argv: Sequence[str], env_option: str = "--env"
) -> None:
    """Options of the settings; `env_option` is the one that names the environment."""
    from safetransfer.training.settings import PRESETS

    parser.add_argument(
        "--preset",
        default="laptop",
        metavar="{" + ",".join(PRESETS) + "}",
        help="where the settings start from; some differ by robot. --help shows the defaults of "
        f"the preset, and of {env_option}'s robot, that stand beside it (default: laptop)",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="JSON or TOML file of settings that go over the preset's, such as a run's config.json",
    )
    _add_mocap(parser)
    peek = _Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", default="laptop")
    peek.add_argument("--config")
    peek.add_argument("--env.robot", dest="robot")
    peek.add_argument(env_option, dest="env")
    seen, _ = peek.parse_known_args(argv)
    settings_io.add_flags(parser, _start(seen.preset, seen.config, seen.robot, seen.env))


def _named_env(argv: Sequence[str]) -> str | None:
    """The environment that a command line names: its settings are those that can be given."""
    peek = _Parser(add_help=False, allow_abbrev=False)
    peek.add_argument("--env")
    return peek.parse_known_args(argv)[0].env


def _configured(path: str | None) -> dict[str, Any]:
    return settings_io.read_settings(path) if path else {}


def _robot(flag: str | None, env_name: str | None, configured: dict[str, Any]) -> str:
    """The robot whose presets count: of the flag, the named environment, the file, or the first."""
    from safetransfer.envs.naming import is_hallway
    from safetransfer.envs.registration import parse_env_name
    from safetransfer.envs.settings import HallwaySettings

    if flag:
        return flag
    if env_name and is_hallway(env_name):
        return parse_env_name(env_name)[0]
    env = configured.get("env")
    robot = env.get("robot") if isinstance(env, dict) else None
    return robot if isinstance(robot, str) else HallwaySettings.robot


def _start(preset_name: str, config: str | None, robot: str | None, env_name: str | None) -> Any:
    """The robot's preset, file, named environment: the later goes over the earlier."""
    from safetransfer.training.settings import preset

    configured = _configured(config)
    settings = preset(preset_name, _robot(robot, env_name, configured))
    settings = settings_io.updated(settings, configured)
    if env_name:
        from safetransfer.envs.naming import settings_for

        settings = dataclasses.replace(settings, env=settings_for(env_name, settings.env))
    return settings


def _settings(arguments: argparse.Namespace, env_name: str | None = None) -> Any:
    """The robot's preset, file, named environment, flags: the later goes over the earlier."""
    robot = settings_io.given_flags(arguments).get("env.robot")
    start = _start(arguments.preset, arguments.config, robot, env_name)
    settings = settings_io.apply_flags(start, arguments)
    clips = _mocap(arguments, settings.env.mocap)
    return dataclasses.replace(settings, env=settings.env.with_mocap(clips))


def _add_mocap(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--mocap",
        metavar="DIR",
        help="folder of ASF/AMC or BVH clips that people move by "
        "(default: $SAFETRANSFER_MOCAP, else built-in motions; 'none': those in any case)",
    )


def _mocap(arguments: argparse.Namespace, setting: str | None = None) -> str | None:
    from safetransfer.envs.mocap.folder import mocap_folder

    if arguments.mocap == "none":
        return None
    folder = mocap_folder(arguments.mocap or setting)
    if folder is None:
        return None
    if not folder.is_dir():
        raise SettingError(f"the folder of motion-capture clips {folder} does not exist")
    return str(folder)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, alone on standard output"
    )


def _measure(arguments: argparse.Namespace, measure: Callable[[], dict[str, Any]]) -> None:
    """Runs ``measure`` with everything that it prints on standard error, then prints its result."""
    with contextlib.redirect_stdout(sys.stderr):
        result = measure()
    print(json.dumps(result, indent=2) if arguments.json else _readable(result))


def _readable(result: dict[str, Any], indent: str = "") -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, dict) and set(value) == {"mean", "ci95"}:
            low, high = value["ci95"]
            lines.append(f"{indent}{key}: {value['mean']:.2f} (95%: {low:.2f} to {high:.2f})")
        elif isinstance(value, dict) and key != "per_episode":
            lines += [f"{indent}{key}:", _readable(value, indent + "  ")]
        elif not isinstance(value, dict):
            shown = f"{value:.4g}" if isinstance(value, float) else value
            lines.append(f"{indent}{key}: {shown}")
    return "\n".join(lines)


def _add_env_settings(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Flags for what an agent's settings may not say of an environment that is not ours."""
    from safetransfer.envs.gym_settings import GymSettings
    from safetransfer.envs.naming import settings_for

    name = _named_env(argv)
    settings = settings_for(name) if name else None
    if isinstance(settings, GymSettings):
        settings_io.add_flags(parser, settings, "env")


def _env_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """The environment's settings that were given as flags; raises for an unknown environment."""
    from safetransfer.envs.naming import settings_for
    from safetransfer.training.settings import Settings

    settings: Any = Settings(env=settings_for(arguments.env))
    flags = settings_io.given_flags(arguments)
    return settings_io.parse_changes(settings, flags).get("env", {})


# ---------------------------------------------------------------- train


def _train_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument(
        "--env",
        metavar="NAME",
        help="environment, such as PointPoles, or the id of any registered Gymnasium environment "
        "(Name-v0, or module:Name-v0); --help shows the settings of the one that stands beside it "
        "(default: PointWalls)",
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        required=True,
        help="directory of the run; an unfinished run of these settings there goes on",
    )
    parser.add_argument(
        "--init", metavar="AGENT", help="checkpoint or run directory of an agent to start from"
    )
    _add_carry(parser, default="weights")
    _add_settings(parser, argv)


def _train(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments, arguments.env)
    carry = _carry(arguments)
    from safetransfer.training.loop import train

    train(
        settings,
        arguments.run,
        command=arguments.command_line,
        init=arguments.init,
        carry=carry,
    )


def _add_carry(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--carry",
        metavar="WHAT",
        default=default,
        help="what is taken over from the earlier agent, each with all before it: policy, weights "
        f"(the critics, too), multiplier, optimisers, replay (default: {default})",
    )


def _carry(arguments: argparse.Namespace) -> str:
    from safetransfer.agent.agent import CARRY

    if arguments.carry not in CARRY:
        raise UnknownNameError("value of --carry", arguments.carry, CARRY)
    return arguments.carry


# ---------------------------------------------------------------- transfer


def _transfer_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    from safetransfer.experiments.transfer import TransferPlan

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
        "--to",
        metavar="NAME",
        nargs="+",
        help="environments to move to (default: Poles and Humanoids of the same robot)",
    )
    parser.add_argument(
        "--seeds",
        metavar="INT",
        type=int,
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
        type=_positive,
        help="epochs in the first environment (default: --train.epochs)",
    )
    parser.add_argument(
        "--finetune-epochs",
        metavar="INT",
        type=_positive,
        help=f"epochs after the move (default: {plan.finetune_epochs}, or all of pre-training's "
        "where those are fewer)",
    )
    parser.add_argument(
        "--finetune-with",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="settings that are otherwise after the move, such as agent.lr=1e-4 "
        "(besides agent.multiplier_init=1 agent.constraint_warmup=0 train.decisions_per_update=16 "
        "train.num_envs=16)",
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
        type=_positive,
        default=plan.episodes,
        help=f"episodes of an evaluation (default: {plan.episodes})",
    )
    parser.add_argument(
        "--no-films", dest="films", action="store_false", help="leave out the films"
    )
    _add_carry(parser, plan.carry)
    _add_settings(parser, argv, "--from")


def _transfer(arguments: argparse.Namespace) -> None:
    from safetransfer.experiments.transfer import TransferPlan, run_transfer

    for flag, instead in (
        ("train.seed", "--seeds"),
        ("env.robot", "--from and --to"),
        ("env.obstacles", "--from and --to"),
        ("env.id", "--from and --to"),
    ):
        if flag in settings_io.given_flags(arguments):
            raise SettingError(f"transfer does not take --{flag}; use {instead}")
    settings = _settings(arguments, arguments.source)
    pretrain = arguments.pretrain_epochs or settings.train.epochs
    to = arguments.to or [settings.env.robot + place for place in ("Poles", "Humanoids")]
    plan = TransferPlan(
        env=arguments.source,
        to=tuple(to),
        seeds=tuple(arguments.seeds),
        pretrain_epochs=pretrain,
        finetune_epochs=arguments.finetune_epochs or min(TransferPlan.finetune_epochs, pretrain),
        carry=_carry(arguments),
        scratch=arguments.scratch,
        ablations=tuple(arguments.ablations),
        episodes=arguments.episodes,
        films=arguments.films,
        agent=arguments.agent,
        reference=arguments.reference,
        finetune=_merged(TransferPlan().finetune, _assignments(settings, arguments.finetune_with)),
    )
    print(run_transfer(arguments.out, plan, settings, command=arguments.command_line))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return base | {
        k: _merged(base[k], v) if isinstance(v, dict) and k in base else v
        for k, v in changes.items()
    }


def _assignments(settings: Any, texts: Sequence[str]) -> dict[str, Any]:
    for text in texts:
        if "=" not in text:
            raise SettingError(f"--finetune-with {text}: expected NAME=VALUE")
    return settings_io.parse_changes(settings, dict(text.split("=", 1) for text in texts))


# ---------------------------------------------------------------- study


def _study_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    from safetransfer.experiments.study import StudyPlan

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
        type=_positive,
        default=plan.episodes,
        help=f"episodes of an evaluation (default: {plan.episodes})",
    )
    _add_carry(parser, plan.carry)
    _add_mocap(parser)


def _study(arguments: argparse.Namespace) -> None:
    from safetransfer.experiments.study import StudyPlan, run_study

    plan = StudyPlan(
        agents=tuple(arguments.agent),
        env=arguments.env,
        vary=arguments.vary,
        values=tuple(arguments.values),
        episodes=arguments.episodes,
        finetune_epochs=arguments.finetune_epochs,
        carry=_carry(arguments),
        mocap=_mocap(arguments),
    )
    print(run_study(arguments.out, plan, command=arguments.command_line))


# ---------------------------------------------------------------- evaluate, bench


def _evaluate_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
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
        type=_positive,
        default=50,
        help="episodes from the start line (default: 50)",
    )
    parser.add_argument(
        "--seed",
        metavar="INT",
        type=int,
        help="seed of the hallways (default: one that no training uses)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="also keep the episodes in the agent's directory, where `compare` finds them",
    )
    _add_mocap(parser)
    _add_json(parser)
    _add_env_settings(parser, argv)


def _evaluate(arguments: argparse.Namespace) -> None:
    changes = _env_changes(arguments)
    clips = _mocap(arguments)

    def measure() -> dict[str, Any]:
        from safetransfer.training.evaluate import (
            EVALUATION_SEED,
            evaluate_checkpoint,
            keep_evaluation,
        )

        seed = EVALUATION_SEED if arguments.seed is None else arguments.seed
        result = evaluate_checkpoint(
            arguments.agent, arguments.env, arguments.episodes, seed, mocap=clips, changes=changes
        )
        if arguments.keep:
            print(keep_evaluation(arguments.agent, result))
        return result

    _measure(arguments, measure)


def _bench_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("name", metavar="{" + ",".join(BENCHMARKS) + "}", help="what is measured")
    _add_json(parser)


def _bench(arguments: argparse.Namespace) -> None:
    if arguments.name not in BENCHMARKS:
        raise UnknownNameError("benchmark", arguments.name, BENCHMARKS)
    _measure(
        arguments,
        lambda: importlib.import_module(f"safetransfer.benchmarks.{arguments.name}").run(),
    )


# ---------------------------------------------------------------- keep, report, watch, mocap


def _keep_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    from safetransfer.training.keep import STAGES

    parser.add_argument("source", metavar="RUN", help="directory of a training run or a transfer")
    parser.add_argument("directory", metavar="DIR", help="where to keep its agent, or agents")
    parser.add_argument(
        "--stage",
        metavar="{" + ",".join(STAGES) + "}",
        default="pretrained",
        help="what the agent of a run is, in the list agents.json beside DIR (default: pretrained)",
    )


def _keep(arguments: argparse.Namespace) -> None:
    from safetransfer.training.keep import STAGES, keep

    if arguments.stage not in STAGES:
        raise UnknownNameError("stage", arguments.stage, STAGES)
    for path in keep(arguments.source, arguments.directory, arguments.stage):
        print(path)


def _compare_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="directory of a training run or a transfer, kept or not, or one that holds several",
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="directory for page, tables and curves"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables as Markdown as well"
    )


def _compare(arguments: argparse.Namespace) -> None:
    from safetransfer.report.comparison import write_comparison

    page = write_comparison(arguments.runs, arguments.out)
    print(page.with_suffix(".md").read_text(encoding="utf-8") if arguments.markdown else page)


def _export_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("agent", metavar="AGENT", help="checkpoint or run directory")
    parser.add_argument(
        "--out",
        metavar="FILE",
        required=True,
        help="file to write: .onnx, or .pt2 (torch.export); it runs without safetransfer",
    )


def _export(arguments: argparse.Namespace) -> None:
    from safetransfer.training.export import export

    print(export(arguments.agent, arguments.out))


def _report_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.add_argument("directory", metavar="DIR", nargs="+", help="directory of a transfer")
    parser.add_argument("--out", metavar="FILE", help="the page (default: DIR/report.html)")
    parser.add_argument(
        "--markdown", action="store_true", help="print its table as Markdown, and write no page"
    )


def _report(arguments: argparse.Namespace) -> None:
    from safetransfer.report.markdown import markdown_table
    from safetransfer.report.page import write_report
    from safetransfer.report.runs import read_transfer

    directory, *more = arguments.directory
    if more:
        raise SettingError(
            "a report is about one transfer; to compare several: "
            f"safetransfer compare {shlex.join(arguments.directory)} --out DIR"
        )
    if arguments.markdown:
        print(markdown_table(read_transfer(directory)))
        return
    print(write_report(directory, out=arguments.out))


def _watch_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
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
        default="both",
        help="where the camera is (default: both)",
    )
    parser.add_argument(
        "--episodes", metavar="INT", type=_positive, default=1, help="episodes to film (default: 1)"
    )
    parser.add_argument("--seed", metavar="INT", type=int, default=0, help="seed (default: 0)")
    _add_mocap(parser)


def _watch(arguments: argparse.Namespace) -> None:
    _env_changes(arguments)  # refuses an unknown environment before anything is loaded
    clips = _mocap(arguments)
    if bool(arguments.out) == arguments.viewer:
        raise SettingError("watch: give --out FILE for a film, or --viewer; one of the two")
    if arguments.viewer:
        from safetransfer.report.viewer import watch_live

        watch_live(arguments.agent, arguments.env, arguments.episodes, arguments.seed, mocap=clips)
        return
    from safetransfer.report.film import film

    path = film(
        arguments.agent,
        arguments.env,
        arguments.out,
        view=arguments.view,
        episodes=arguments.episodes,
        seed=arguments.seed,
        mocap=clips,
    )
    print(path)


def _mocap_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
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
        "--stills", metavar="INT", type=_positive, default=8, help="stills in a strip (default: 8)"
    )
    _add_mocap(showing)


def _mocap_command(arguments: argparse.Namespace) -> None:
    if arguments.action == "preview":
        if not arguments.out:
            raise SettingError("mocap preview: --out FILE says where the film or strip goes")
        from safetransfer.report.clip_preview import preview_clip

        clips = _mocap(arguments)
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


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


_positive.__name__ = "whole number"  # argparse names the type by it

_TUNE = "[options] [--SECTION.SETTING VALUE ...]"

COMMANDS = {
    "train": Command(
        f"--run DIR [--env NAME] {_TUNE}",
        "train an agent in one environment",
        _train_options,
        _train,
        GOES_ON,
    ),
    "transfer": Command(
        f"--out DIR {_TUNE}",
        "learn in one environment, move to others, and count what it costs",
        _transfer_options,
        _transfer,
        GOES_ON,
    ),
    "study": Command(
        "--agent AGENT [AGENT ...] --out DIR [options]",
        "how alike must the two worlds be: agents in hallways of more and less likeness",
        _study_options,
        _study,
        GOES_ON,
    ),
    "evaluate": Command(
        "AGENT --env NAME [options]",
        "measure return, cost and length of an agent",
        _evaluate_options,
        _evaluate,
    ),
    "keep": Command(
        "RUN DIR [--stage NAME]",
        "keep trained agents, logs and configurations, without what only resuming needs",
        _keep_options,
        _keep,
    ),
    "compare": Command(
        "RUN [RUN ...] --out DIR [--markdown]",
        "tables and curves of any number of runs, seeds taken together",
        _compare_options,
        _compare,
    ),
    "export": Command(
        "AGENT --out FILE",
        "write an agent as one file that runs without safetransfer",
        _export_options,
        _export,
    ),
    "report": Command(
        "DIR [--out FILE | --markdown]", "write the page about a transfer", _report_options, _report
    ),
    "watch": Command(
        "AGENT --env NAME (--out FILE | --viewer) [options]",
        "film an agent, or show it in MuJoCo's viewer",
        _watch_options,
        _watch,
    ),
    "bench": Command(
        f"{{{','.join(BENCHMARKS)}}} [--json]",
        "measure the speed of a part on this machine",
        _bench_options,
        _bench,
    ),
    "mocap": Command(
        "{download DIR | preview CLIP --out FILE} [options]",
        "fetch motion-capture clips for the people to move by, or show one",
        _mocap_options,
        _mocap_command,
        GOES_ON,
    ),
}

if __name__ == "__main__":
    sys.exit(main())
