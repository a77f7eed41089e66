"""What there is to compare: training runs and evaluations, found below the directories given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safetransfer import settings_io
from safetransfer.report.runs import MEASURES, Run, RunFileError, read_run
from safetransfer.training.settings import HOW_IT_IS_CARRIED_OUT, Settings

LOG, PLAN = "log.jsonl", "transfer.json"
BEFORE = "pre-training "
"""Begins the names of settings that an agent was trained with before it moved."""

_INCIDENTAL = frozenset(("env.mocap", "train.seed", *HOW_IT_IS_CARRIED_OUT))


@dataclass(frozen=True)
class Member:
    """One seed of something: how an agent came to be, and what it did in one environment.

    `way` is "trained", "zero-shot", "fine-tuned" or "from scratch"; `run` is its training there
    (None for zero-shot), `agent` a digest of what its agent learned and `episodes` what an
    evaluation there measured, arrays (episodes,) of "return", "cost" and "length", or None.
    `settings` are flat, {"agent.lr": 5e-4, ...}.
    """

    path: Path
    way: str
    env: str
    seed: int
    settings: Mapping[str, Any]
    run: Run | None
    episodes: Mapping[str, NDArray[np.float64]] | None
    cost_limit: float | None
    agent: str | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for the seeds of one thing."""
        settings = tuple(sorted((name, repr(value)) for name, value in self.settings.items()))
        return self.way, self.env, settings


def find_members(roots: Sequence[str | Path]) -> list[Member]:
    """Every run and evaluation in the directories `roots`: runs, transfers, or what holds those.

    A run that is found twice, also as a copy elsewhere, counts once: by the evaluation that is
    found first. RunFileError where a directory holds nothing to compare, or for a file that cannot
    be read.
    """
    members: dict[tuple[Any, ...], Member] = {}
    for root in map(Path, roots):
        if not root.is_dir():
            raise RunFileError(f"{root}: no such directory; name a training run or a transfer")
        found = list(_below(root))
        if not found:
            raise RunFileError(
                f"{root}: no training run ({LOG}) and no transfer ({PLAN}) in it or below it"
            )
        for member in found:
            identity = (*member.key, member.seed, member.agent or _measured(member))
            known = members.get(identity)
            if known is None or known.episodes is None:
                members[identity] = member
    return list(members.values())


# Of a log's row, what the same training would have otherwise another time.
_TIMES = ("wall_s", "steps_per_s", "updates_per_s")


def _agent(run: Run | None) -> str | None:
    """A digest of how an agent learned: the same for a run, its copy and its repetition."""
    if run is None or not run.rows:
        return None
    digest = hashlib.sha256()
    for row in run.rows:
        learned = {k: v for k, v in row.items() if k not in _TIMES and not k.endswith("_share")}
        digest.update(repr(sorted(learned.items())).encode())
    return digest.hexdigest()


def _measured(member: Member) -> str:
    """A digest of what an agent without a log did."""
    digest = hashlib.sha256()
    for name, values in sorted((member.episodes or {}).items()):
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def _below(root: Path) -> Iterator[Member]:
    if (root / PLAN).is_file():
        yield from _transfer(root)
    elif (root / LOG).is_file():
        yield from _single_run(root)
    else:
        for folder in sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != "."):
            yield from _below(folder)


# --- A run by itself ----------------------------------------------------------------------------


def _single_run(path: Path) -> Iterator[Member]:
    """A run in its own environment, and its agent in the others that it was evaluated in."""
    run = read_run(path)
    if run is None:
        return
    settings = flat_settings(run.config)
    env, seed = _env(settings, path), _seed(run.config)
    init = run.config.get("init")
    if isinstance(init, Mapping):
        settings |= {f"init.{name}": value for name, value in init.items()}
    evaluations = {}
    for file in sorted((path / "evaluations").glob("*.json")):
        document = settings_io.read_file(file)
        evaluations[str(document.get("env", file.stem))] = read_episodes(document, file)
    way = "fine-tuned" if init else "trained"
    limit, agent = _limit(settings), _agent(run)
    yield Member(path, way, env, seed, settings, run, evaluations.pop(env, None), limit, agent)
    for elsewhere, episodes in evaluations.items():
        yield Member(path, "zero-shot", elsewhere, seed, settings, None, episodes, limit, agent)


# --- The stages of a transfer -------------------------------------------------------------------


def _transfer(root: Path) -> Iterator[Member]:
    for base in sorted(root.glob("seed-*")):
        pretrain = read_run(base / "pretrain")
        before = flat_settings(pretrain.config) if pretrain else {}
        for folder in _stage_folders(base):
            run = read_run(folder)
            if run is None:
                continue
            settings = flat_settings(run.config)
            stage, env = folder.name.partition("-")[0], _env(settings, folder)
            way = {"finetune": "fine-tuned", "scratch": "from scratch"}.get(stage, "trained")
            if stage == "finetune":
                settings |= _inherited(before)
                init = run.config.get("init")
                if isinstance(init, Mapping):
                    settings["init.carry"] = init.get("carry")
            episodes = _evaluation(base, folder.name)
            limit = _limit(settings)
            seed, agent = _seed(run.config), _agent(run)
            yield Member(folder, way, env, seed, settings, run, episodes, limit, agent)
        for file in sorted((base / "evaluations").glob("zeroshot-*.json")):
            document = settings_io.read_file(file)
            env = str(document.get("env", file.stem.partition("-")[2]))
            seed = _seed(pretrain.config) if pretrain else _seed_of(base)
            yield Member(
                file,
                "zero-shot",
                env,
                seed,
                before | _motions(document),
                None,
                read_episodes(document, file),
                _limit(before),
                _agent(pretrain),
            )


def _seed_of(folder: Path) -> int:
    try:
        return int(folder.name.removeprefix("seed-"))
    except ValueError:
        raise RunFileError(
            f"{folder}: expected a folder such as seed-0, named after a seed"
        ) from None


def _stage_folders(base: Path) -> list[Path]:
    folders = [log.parent for log in sorted(base.glob(f"*/{LOG}"))]
    return sorted(folders, key=lambda p: (p.name != "pretrain", p.name))


def _inherited(before: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of pre-training, so that agents with another past are not taken for seeds."""
    return {BEFORE + name: value for name, value in before.items()}


def _evaluation(base: Path, stage: str) -> Mapping[str, NDArray[np.float64]] | None:
    file = base / "evaluations" / f"{stage}.json"
    return read_episodes(settings_io.read_file(file), file) if file.is_file() else None


# --- Reading ------------------------------------------------------------------------------------


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What was learned how, as {"agent.lr": 5e-4, ...}: without the seed and what is incidental."""
    settings = config.get("settings")
    if isinstance(settings, Mapping):
        # A run of an earlier version is not another thing for lacking what came later.
        settings = settings_io.with_defaults(Settings, settings)
    flat = dict(settings_io.flattened(settings if isinstance(settings, Mapping) else {}))
    return {name: value for name, value in flat.items() if name not in _INCIDENTAL} | _motions(
        config
    )


def _motions(document: Mapping[str, Any]) -> dict[str, Any]:
    """What people moved by, by content and not by folder; nothing where there were no people."""
    people = document.get("mocap")
    if not isinstance(people, Mapping):
        return {}
    name = str(people.get("source", ""))
    return {"motions": f"{name} {str(people.get('sha256') or '')[:8]}".strip()}


def _env(settings: Mapping[str, Any], path: Path) -> str:
    robot, obstacles = settings.get("env.robot"), settings.get("env.obstacles")
    if isinstance(robot, str) and isinstance(obstacles, str):
        return robot + obstacles
    return str(settings.get("env.id") or path.name)


def _seed(config: Mapping[str, Any]) -> int:
    settings = config.get("settings")
    train = settings.get("train") if isinstance(settings, Mapping) else None
    seed = train.get("seed") if isinstance(train, Mapping) else None
    return seed if isinstance(seed, int) else 0


def _limit(settings: Mapping[str, Any]) -> float | None:
    """Cost limit per episode: the limit per step times the steps of a whole episode."""
    per_step, steps = settings.get("agent.cost_limit"), settings.get("env.max_steps")
    if isinstance(per_step, int | float) and isinstance(steps, int | float):
        return float(per_step) * float(steps)
    return None


def read_episodes(document: Mapping[str, Any], file: Path) -> dict[str, NDArray[np.float64]]:
    """What each episode of an evaluation measured; RunFileError where that is not all numbers."""
    recorded = document.get("per_episode")
    if not isinstance(recorded, Mapping):
        raise RunFileError(f"{file}: no 'per_episode'; evaluate again with this version")
    episodes = {}
    for name in MEASURES:
        try:
            episodes[name] = np.array(recorded[name], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            raise RunFileError(f"{file}: per_episode.{name} must be a list of numbers") from None
        if episodes[name].ndim != 1 or not np.isfinite(episodes[name]).all():
            raise RunFileError(f"{file}: per_episode.{name} must be a list of finite numbers")
    if not len({values.size for values in episodes.values()}) == 1 or not episodes["cost"].size:
        raise RunFileError(f"{file}: per_episode needs a return, cost and length of each episode")
    if episodes["length"].min() <= 0:
        raise RunFileError(f"{file}: per_episode.length must be numbers of steps above 0")
    return episodes
