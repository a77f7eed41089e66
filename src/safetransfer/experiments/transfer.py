"""The paper's experiment: pre-train where mistakes are cheap, carry the agent over, count the cost.

For each seed: pre-train, after learning to move where a robot must learn that first; meet each
deployment hallway as it is (zero-shot); fine-tune there; train from scratch there for as many
epochs as pre-training took; evaluate each. On request, also train what the paper takes away: the
constraint, or the last reward and cost. Every stage writes into its own directory and is skipped,
or gone on with, when it is found there.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetransfer import settings_io
from safetransfer.agent.agent import Agent
from safetransfer.agent.settings import network_differences
from safetransfer.envs.gym_env import episode_steps, has_pictures
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.naming import directory_name, settings_for
from safetransfer.errors import CheckpointError, RenderingError, SettingError
from safetransfer.experiments.plans import ABLATIONS, TransferPlan
from safetransfer.training import checkpoint, logs
from safetransfer.training.build import (
    check_equal_spaces,
    make_env,
    require_start,
    shapes_of_checkpoint,
)
from safetransfer.training.evaluate import (
    EVALUATION_SEED,
    describe_people,
    evaluate_checkpoint,
)
from safetransfer.training.loop import train
from safetransfer.training.run_directory import TRANSFER as PLAN
from safetransfer.training.run_directory import is_finished, require_room, require_same_people
from safetransfer.training.settings import MAY_CHANGE, Settings

REFERENCE = "reference.json"  # marks a run that was copied from another transfer


def run_transfer(
    out: str | Path,
    plan: TransferPlan,
    settings: Settings,
    command: str | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    backend: contextlib.AbstractContextManager[Callable[..., Any]] | None = None,
) -> Path:
    """Run what is missing of the plan in directory `out`, and write its report.

    Args:
        out: the transfer directory; one that holds another plan is refused.
        plan: the experiment.
        settings: of every training run in it; hallway, epochs and seed are the plan's.
        command: what the user typed, recorded.
        say: told of each stage.
        backend: gives what does a training run, as `safetransfer.training.loop.train` does, which
            is what None takes. Entered once the plan has been found possible.

    Returns:
        The path of the report.

    Raises:
        SettingError: `out` holds another experiment, or the plan cannot work: an environment is
            one that agents cannot live in, or its spaces are not those of the first.
        CheckpointError: the kept agent cannot be read.
    """
    from safetransfer.report.page import write_report

    out = Path(out)
    settings = _for_transfer(settings, plan)
    _check_environments(settings, plan)
    dark = [name for name in plan.to if not has_pictures(settings_for(name, settings.env))]
    if plan.films and dark:
        say(f"no films: {', '.join(dark)} cannot be rendered as rgb_array")
        plan = dataclasses.replace(plan, films=False)
    # Whatever can be refused is refused before the plan is written, which the next try must equal.
    require_room(out, PLAN)
    tuned = _fine_tuning(settings, plan)
    _check_networks(settings, plan, tuned)
    for seed in plan.seeds:
        list(stages(out, plan, settings, seed, command))  # makes all settings, and runs nothing
    if plan.agent is not None:
        epochs = _check_kept(Path(plan.agent), settings, tuned, plan)
        plan = dataclasses.replace(plan, pretrain_epochs=epochs, start_in=None)
    if plan.reference:
        _check_reference(Path(plan.reference))
    _write_plan(out, plan, settings, command)
    with backend or contextlib.nullcontext(train) as run:
        for seed in plan.seeds:
            for stage in stages(out, plan, settings, seed, command, run):
                if stage.done():
                    continue
                say(f"seed {seed}: {stage.title}")
                try:
                    stage.run()
                except RenderingError as error:  # nothing else needs it; the same command retries
                    say(f"no film: {error}")
                write_report(out)
    if plan.reference:
        _copy_reference(out, Path(plan.reference), plan)
    return write_report(out)


@dataclass
class Stage:
    """A piece of the experiment that is done when its file says so."""

    name: str
    title: str
    done: Callable[[], bool]
    run: Callable[[], Any]


def stages(
    out: Path,
    plan: TransferPlan,
    settings: Settings,
    seed: int,
    command: str | None,
    train: Callable[..., Any] = train,
) -> Iterator[Stage]:
    """The stages of one seed, in order; each expects those before it to be done."""
    training = functools.partial(_training, train)
    base = out / f"seed-{seed}"
    pretrain = base / "pretrain"
    settings = _with(settings, seed=seed)
    start = None
    if plan.agent is None:
        if plan.start_in is not None:
            name = directory_name(f"start-{plan.start_in}")
            start = base / name
            yield training(
                name, f"learning to move in {plan.start_in}", start,
                _starting(settings, plan), command,
            )  # fmt: skip
            yield _evaluation(name, base, start, plan.start_in, plan, settings, seed)
        yield training(
            "pretrain", f"pre-training in {plan.env}", pretrain,
            _with(settings, env=plan.env, epochs=plan.pretrain_epochs), command, init=start,
        )  # fmt: skip
    else:
        kept = Path(plan.agent)
        yield Stage(
            "pretrain",
            f"taking the kept agent {kept.name}",
            lambda: (pretrain / checkpoint.FILE_NAME).exists(),
            lambda: _take_kept(kept, pretrain),
        )
    yield _evaluation("pretrain", base, pretrain, plan.env, plan, settings, seed)
    for env in plan.to:
        name = directory_name(f"zeroshot-{env}")
        yield _evaluation(name, base, pretrain, env, plan, settings, seed)
        if plan.films:
            yield _film(name, base, pretrain, env, settings)
    tuned = _fine_tuning(settings, plan)
    for env in plan.to:
        name = directory_name(f"finetune-{env}")
        yield training(
            name, f"fine-tuning in {env}", base / name, _with(tuned, env=env), command,
            init=pretrain, carry=plan.carry,
        )  # fmt: skip
        yield _evaluation(name, base, base / name, env, plan, settings, seed)
        if plan.films:
            yield _film(name, base, base / name, env, settings)
    for env in plan.to if plan.scratch else ():
        name = directory_name(f"scratch-{env}")
        yield training(
            name, f"training from scratch in {env}", base / name,
            _with(settings, env=env, epochs=plan.pretrain_epochs), command,
        )  # fmt: skip
        yield _evaluation(name, base, base / name, env, plan, settings, seed)
    for ablation in plan.ablations:
        changed = _with(
            settings_io.updated(settings, ABLATIONS[ablation]), epochs=plan.pretrain_epochs
        )
        words, begin = ablation.replace("_", " "), start
        if start is not None and ablation == "no_feedback":  # its networks are of other shapes
            name = directory_name(f"{ablation}-start-{plan.start_in}")
            begin = base / name
            yield training(
                name, f"learning to move in {plan.start_in}, {words}", begin,
                _starting(changed, plan), command,
            )  # fmt: skip
        for env in (plan.env, *plan.to) if ablation == "unconstrained" else (plan.env,):
            name = directory_name(f"{ablation}-{env}")
            # Beside pre-training it begins as that did; beside training from nothing, from nothing.
            yield training(
                name, f"training in {env}, {words}", base / name,
                _with(changed, env=env), command, init=begin if env == plan.env else None,
            )  # fmt: skip
            yield _evaluation(name, base, base / name, env, plan, settings, seed)
        for env in plan.to if ablation == "no_feedback" else ():
            agent = base / directory_name(f"{ablation}-{plan.env}")
            name = directory_name(f"{ablation}-zeroshot-{env}")
            yield _evaluation(name, base, agent, env, plan, settings, seed)


def _for_transfer(settings: Settings, plan: TransferPlan) -> Settings:
    settings = copy.deepcopy(settings)
    if plan.carry == "replay":
        settings.train.checkpoint_replay = True
    return settings


def _check_environments(settings: Settings, plan: TransferPlan) -> None:
    """Raise SettingError where one cannot be, or an agent could not move between them."""
    named = [settings_for(name, settings.env) for name in plan.places]
    if any(isinstance(env, GymSettings) for env in named):
        check_equal_spaces(named)
        return
    for env in named:  # of one robot, between which it can move
        make_env(env, 1).close()


def _check_networks(settings: Settings, plan: TransferPlan, tuned: Settings) -> None:
    """Raise SettingError where weights could not be carried from one stage to the next."""
    ours = settings_io.to_dict(settings.agent)
    others = {"fine-tuning": tuned}
    if plan.start_in is not None:
        others["learning to move"] = _starting(settings, plan)
    for what, other in others.items():
        different = network_differences(settings_io.to_dict(other.agent), ours)
        if different:
            raise SettingError(
                f"{what} cannot have another {', '.join(different)}: weights are carried over"
            )


def _episode_steps(settings: Settings, plan: TransferPlan) -> int | None:
    """Steps of a whole episode, where they are the same everywhere and not a setting already."""
    named = [settings_for(name, settings.env) for name in (plan.env, *plan.to)]
    steps = {episode_steps(env) if isinstance(env, GymSettings) else env.max_steps for env in named}
    return steps.pop() if len(steps) == 1 else None


def _with(
    settings: Settings, env: str | None = None, epochs: int | None = None, seed: int | None = None
) -> Settings:
    settings = copy.deepcopy(settings)
    if env is not None:
        settings.env = settings_for(env, settings.env)
    if epochs is not None:
        settings.train.epochs = epochs
    if seed is not None:
        settings.train.seed = seed
    return settings


def _starting(settings: Settings, plan: TransferPlan) -> Settings:
    """Settings of learning to move."""
    own = settings_io.updated(settings, plan.start)
    return _with(own, env=plan.start_in, epochs=plan.start_epochs)


def _fine_tuning(settings: Settings, plan: TransferPlan) -> Settings:
    """Settings of fine-tuning, but for where."""
    own = _with(settings_io.updated(settings, plan.finetune), epochs=plan.finetune_epochs)
    if plan.carry == "replay":  # whose rings are one to a hallway
        own.train.num_envs = settings.train.num_envs
    return own


def _training(
    train: Callable[..., Any],
    name: str,
    title: str,
    run_dir: Path,
    settings: Settings,
    command: str | None,
    init: Path | None = None,
    carry: str = "weights",
) -> Stage:
    def run() -> None:
        if (run_dir / REFERENCE).exists():  # shown for want of an own run, which this now is
            shutil.rmtree(run_dir)
        train(settings, run_dir, command=command, init=init, carry=carry, title=title)

    return Stage(name, title, lambda: is_finished(run_dir, settings.train.epochs), run)


def _evaluation(
    name: str, base: Path, agent: Path, env: str, plan: TransferPlan, settings: Settings, seed: int
) -> Stage:
    path = base / "evaluations" / f"{name}.json"

    def done() -> bool:
        """Whether it is there, and of the agent as it is now."""
        if not path.exists() or (agent / REFERENCE).exists():
            return False
        rows, there = logs.read_rows(agent), settings_io.read_file(path)
        trained = _trained(rows[-1]) if rows else None
        return (there.get("episodes"), there.get("trained")) == (plan.episodes, trained)

    def run() -> None:
        document = evaluate_checkpoint(
            agent, env, plan.episodes, EVALUATION_SEED + seed, mocap=settings.env.mocap
        )
        rows = logs.read_rows(agent)
        document["trained"] = _trained(rows[-1]) if rows else None
        path.parent.mkdir(parents=True, exist_ok=True)
        settings_io.write_json(path, document)

    return Stage(
        f"evaluate {name}", f"evaluating {agent.name} in {env}, {plan.episodes} episodes",
        done, run,
    )  # fmt: skip


def _trained(row: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the agent of a log's last row from the same one at another time."""
    return {name: row.get(name) for name in ("updates", "env_steps", "cost_total")}


def _film(name: str, base: Path, agent: Path, env: str, settings: Settings) -> Stage:
    path = base / "films" / f"{name}.mp4"

    def run() -> None:
        from safetransfer.report.film import film

        path.parent.mkdir(parents=True, exist_ok=True)
        film(agent, env, path, mocap=settings.env.mocap)

    return Stage(f"film {name}", f"filming {agent.name} in {env}", path.exists, run)


def _check_kept(kept: Path, settings: Settings, tuned: Settings, plan: TransferPlan) -> int:
    """The epochs that a kept agent was trained for.

    Raises:
        SettingError: these settings would have it see the world in other units than it was trained
            with, or with another body, or make networks of other shapes.
        CheckpointError: it lacks what `plan.carry` takes over.
    """
    payload = checkpoint.load(kept)
    try:
        theirs, epochs = payload["settings"], int(payload["counters"]["epoch"])
    except KeyError as error:
        raise CheckpointError(f"{kept} is not a training run: it has no {error}") from error
    ours = settings_io.to_dict(settings)
    if ("id" in theirs["env"]) != ("id" in ours["env"]):  # a hallway, or somebody else's
        raise SettingError(
            f"{kept} was trained in another environment than {settings.env.name}; "
            "--from names the one that it was trained in"
        )
    robots = [env.get("robot") for env in (theirs["env"], ours["env"])]
    if robots[0] != robots[1]:
        raise SettingError(
            f"{kept} was trained with {robots[0]}, {settings.env.name} is of {robots[1]}: an agent "
            "moves between hallways, not between robots"
        )
    different = []
    for section, names in {
        "env": ("action_repeat", "camera", "max_depth", "progress_reward", "cost_key"),
        "agent": ("gamma", "gamma_cost", "reward_scale", "cost_scale"),
    }.items():
        for name in names:
            there, here = theirs[section].get(name), ours[section].get(name)
            if there != here:
                different.append(f"{section}.{name} ({there}, here {here})")
    if different:
        raise SettingError(
            f"{kept} was trained with another {', '.join(different)}; "
            f"--config {kept}/config.json takes its settings"
        )
    require_start(payload, kept, settings, plan.carry)
    if "shapes" in payload:  # what is carried over is carried over once, and thrown away
        begun = Agent(shapes_of_checkpoint(payload), tuned.agent)
        begun.load_state_dict(payload["agent"], plan.carry)
    return epochs


def _check_reference(reference: Path) -> None:
    if not (reference / PLAN).exists():
        raise SettingError(f"{reference} is not a transfer directory: it has no {PLAN}")


def _take_kept(kept: Path, pretrain: Path) -> None:
    """Copy a kept agent, with its log and configuration, in place of pre-training."""
    checkpoint.load(kept)  # refuses what is not one before anything is copied
    source = checkpoint.locate(kept)
    pretrain.mkdir(parents=True, exist_ok=True)
    for name in (logs.FILE_NAME, "config.json"):
        if (source.parent / name).exists():
            shutil.copyfile(source.parent / name, pretrain / name)
    partial = pretrain / (checkpoint.FILE_NAME + ".part")
    shutil.copyfile(source, partial)
    partial.replace(pretrain / checkpoint.FILE_NAME)


def _copy_reference(out: Path, reference: Path, plan: TransferPlan) -> None:
    """Show the kept from-scratch runs of another transfer where this one has none of its own."""
    for source in sorted(reference.glob("seed-*")):
        for env in plan.to:
            name = directory_name(f"scratch-{env}")
            own = out / source.name / name
            if (own / "config.json").exists() and not (own / REFERENCE).exists():
                continue  # begun here: its figures must not be another run's
            for relative in (
                Path(name) / logs.FILE_NAME,
                Path(name) / "config.json",
                Path("evaluations") / f"{name}.json",
            ):
                target = out / source.name / relative
                if (source / relative).exists() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if relative.name != f"{name}.json":
                        marker = {"from": reference.name}
                        settings_io.write_json(target.parent / REFERENCE, marker)
                    partial = target.with_name(f".{target.name}.part")
                    shutil.copyfile(source / relative, partial)
                    partial.replace(target)


def _check_people(out: Path, plan: TransferPlan, settings: Settings) -> None:
    """Raise SettingError where people would move by other clips than they did here before."""
    made_here = [
        path
        for path in sorted(out.glob("seed-*/*/config.json"))
        if not (plan.agent is not None and path.parent.name == "pretrain")
        and not (path.parent / REFERENCE).exists()
    ]
    made_here += [  # a reference's are from scratch
        path
        for path in sorted(out.glob("seed-*/evaluations/*.json"))
        if not path.name.startswith("scratch-")
    ]
    records = [settings_io.read_file(path).get("mocap") for path in made_here]
    if not any(records):
        return
    for name in plan.places:
        place = settings_for(name, settings.env)
        if "mocap" not in place.indifferent and (now := describe_people(place)):
            for record in records:
                require_same_people(out, record, now)
            return  # they move by the same clips everywhere


def _write_plan(out: Path, plan: TransferPlan, settings: Settings, command: str | None) -> None:
    document = settings_io.to_dict(plan) | {
        "settings": settings_io.to_dict(settings),
        "episode_steps": _episode_steps(settings, plan),
        "command": command,
    }
    path = out / PLAN
    if path.exists():
        # A plan of an older version lacks what has been added since, at its default.
        before = settings_io.to_dict(TransferPlan()) | dict(settings_io.read_file(path))
        before["settings"] = settings_io.with_defaults(Settings, before.get("settings"))
        # More seeds, more hallways, more runs to compare with of the same experiment are welcome.
        for name in ("seeds", "to", "ablations"):  # what is there already stays part of it
            kept = before.get(name) or []
            document[name] = [*kept, *(x for x in document[name] if x not in kept)]
        free = (
            "command", "seeds", "to", "ablations", "scratch", "films", "episode_steps",
            "reference", *(f"settings.{name}" for name in MAY_CHANGE),
            "settings.env.mocap",  # where clips lie; which ones they are is looked at below
        )  # fmt: skip
        different = [
            line
            for line in settings_io.differences(before, json.loads(json.dumps(document)))
            if not line.startswith(free)
        ]
        if different:
            raise SettingError(
                f"{out} holds another experiment: {'; '.join(different)}. "
                "Give its own settings to go on with it, or another --out"
            )
        _check_people(out, plan, settings)
    out.mkdir(parents=True, exist_ok=True)
    settings_io.write_json(path, document)


__all__ = ["ABLATIONS", "Stage", "TransferPlan", "run_transfer", "stages"]
