"""Reads what runs wrote: logs, configurations, evaluations, and a whole transfer directory.

A transfer may be read while it runs. A stage that has not begun is None, one that has not finished
has fewer epochs than planned, and a last line still being written is left out; anything else that
does not parse is an error that names the file and the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safetransfer.envs.naming import directory_name
from safetransfer.errors import SafeTransferError
from safetransfer.statistics import bootstrap_mean, hierarchical_bootstrap

MEASURES = ("return", "cost", "length")

_NUMBERS = frozenset(
    (
        *("epoch", "updates", "env_steps", "wall_s", "episodes", "return", "cost", "length"),
        *("cost_total", "cost_rate", "multiplier", "alpha", "entropy"),
        *("q", "q_start", "q_measured", "qc", "loss_q", "loss_qc", "loss_pi"),
        *("steps_per_s", "updates_per_s"),
        *("collector_wait_share", "helper_share", "learner_wait_share"),
    )
)


_LARGEST = 1e100
"""A figure beyond this is damage, and would overflow the arithmetic of charts and intervals."""
_MOST_EPOCHS = 10**7


class RunFileError(SafeTransferError, ValueError):
    """A file of a run that cannot be read; names the file and, where there is one, the line."""


# --- One run ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One training run: its log, a row per epoch, and its configuration."""

    path: Path
    rows: tuple[Mapping[str, Any], ...]
    config: Mapping[str, Any]

    def column(self, key: str) -> NDArray[np.float64]:
        """One logged figure over the run, (epochs,), NaN where it is null, absent or not finite."""
        values = [row.get(key) for row in self.rows]
        column = np.array([math.nan if v is None else float(v) for v in values], dtype=np.float64)
        column[~(np.abs(column) < _LARGEST)] = math.nan
        return column

    def last(self, key: str) -> float | None:
        """The latest known value of a logged figure."""
        known = self.column(key)
        known = known[np.isfinite(known)]
        return float(known[-1]) if known.size else None

    @property
    def epochs(self) -> int:
        return len(self.rows)

    @property
    def cost_total(self) -> float | None:
        """All the cost that this run has incurred: the paper's regret."""
        return self.last("cost_total")

    def cost_total_after(self, env_steps: float) -> float | None:
        """Cost incurred within the first `env_steps` steps; None if the run is shorter."""
        steps, cost = self.column("env_steps"), self.column("cost_total")
        known = np.isfinite(steps) & np.isfinite(cost)
        steps, cost = steps[known], cost[known]
        if not steps.size or steps[-1] < env_steps:
            return None
        return float(np.interp(env_steps, np.append(0.0, steps), np.append(0.0, cost)))


_CONFIG = {
    "settings": Mapping,
    "machine": (str, Mapping),
    "versions": (str, Mapping),
    "init": (str, Mapping),
    "command": (str, list),
    "earlier": list,
}


def read_run(path: Path) -> Run | None:
    """The run kept in a directory, or None where no epoch of it has been logged yet."""
    log = path / "log.jsonl"
    if not log.is_file():
        return None
    rows = _read_rows(log)
    if not rows:
        return None
    config_file = path / "config.json"
    config = _read_object(config_file) if config_file.is_file() else {}
    _check(config, _CONFIG, config_file)
    return Run(path, tuple(rows), config)


def _read_rows(log: Path) -> list[dict[str, Any]]:
    text = _read_text(log)
    lines = text.split("\n")
    torn = len(lines) if lines[-1] else None  # no newline at the end: may still be being written
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == torn:
                break
            raise RunFileError(f"{log}, line {number}: not a row of JSON ({error})") from error
        rows.append(_checked_row(row, rows[-1] if rows else None, f"{log}, line {number}"))
    return rows


def _checked_row(row: Any, previous: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise RunFileError(f"{where}: expected an object with a key 'epoch', found {_kind(row)}")
    for key in _NUMBERS & row.keys():
        if row[key] is not None and not _is_number(row[key]):
            raise RunFileError(f"{where}: {key!r} must be a number or null, not {_kind(row[key])}")
    if row.get("epoch") is None:
        raise RunFileError(f"{where}: the row has no 'epoch'")
    if not (0 <= row["epoch"] <= _MOST_EPOCHS and float(row["epoch"]).is_integer()):
        raise RunFileError(f"{where}: 'epoch' must be a whole number of 0 or more")
    if previous is not None and row["epoch"] <= previous["epoch"]:
        raise RunFileError(f"{where}: epoch {row['epoch']} follows epoch {previous['epoch']}")
    return row


# --- Evaluations --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, which is None where the episodes behind it are not known."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Evaluation:
    """Return, cost and length per episode of one stage, over the episodes of every seed."""

    env: str
    episodes: int
    seeds: int
    measures: Mapping[str, Estimate]
    mocap: str


_EVALUATION = {"env": str, "episodes": int, "per_episode": Mapping}


def read_evaluations(files: Mapping[int, Path]) -> Evaluation | None:
    """Pools one stage's evaluations, given as {seed: file}; None where no file exists yet."""
    found = {seed: (path, _read_object(path)) for seed, path in files.items() if path.is_file()}
    if not found:
        return None
    for path, document in found.values():
        _check(document, _EVALUATION, path)
    measures = {name: _pooled(name, found) for name in MEASURES}
    documents = [document for _, document in found.values()]
    return Evaluation(
        env=str(documents[0].get("env", "")),
        episodes=sum(int(document.get("episodes") or 0) for document in documents),
        seeds=len(found),
        measures={name: estimate for name, estimate in measures.items() if estimate is not None},
        mocap=motions(documents[0].get("mocap")),
    )


def _pooled(name: str, found: Mapping[int, tuple[Path, Mapping[str, Any]]]) -> Estimate | None:
    episodes: list[float] = []
    strata: list[int] = []
    summaries: list[Mapping[str, Any]] = []
    for seed, (path, document) in found.items():
        values = (document.get("per_episode") or {}).get(name)
        if values is not None:
            if not isinstance(values, list) or not all(map(_is_finite, values)):
                raise RunFileError(f"{path}: per_episode.{name} must be a list of finite numbers")
            episodes += values
            strata += [seed] * len(values)
        if isinstance(document.get(name), dict):
            if not _is_finite(document[name].get("mean")):
                raise RunFileError(f"{path}: {name}.mean must be a finite number")
            ends = document[name].get("ci95")
            if ends is not None and not (
                isinstance(ends, list) and len(ends) == 2 and all(map(_is_finite, ends))
            ):
                raise RunFileError(f"{path}: {name}.ci95 must be two finite numbers")
            summaries.append(document[name])
    if episodes and len(set(strata)) == len(found):
        # Over seeds and episodes: of new agents trained in the same way, not of these alone.
        several = len(found) > 1
        mean, low, high = (
            hierarchical_bootstrap(episodes, strata) if several else bootstrap_mean(episodes)
        )
        return Estimate(mean, (low, high))
    if not summaries:
        return None
    mean = float(np.mean([entry["mean"] for entry in summaries]))
    interval = summaries[0].get("ci95") if len(summaries) == 1 else None
    return Estimate(mean, tuple(interval) if interval else None)  # type: ignore[arg-type]


# --- A transfer ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transfer:
    """A transfer directory: what was planned, and the runs and evaluations that exist so far.

    Stages are named as their directories are: "start-<env>", "pretrain", "zeroshot-<env>",
    "finetune-<env>", "scratch-<env>", "unconstrained-<env>", "no_feedback-<env>".
    """

    root: Path
    plan: Mapping[str, Any]
    source: str
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: Mapping[tuple[str, int], Run]
    evaluations: Mapping[str, Evaluation]

    @property
    def stages(self) -> tuple[str, ...]:
        """The training stages, in the order in which they run."""
        trained = [f"{way}-{env}" for env in self.targets for way in ("finetune", "scratch")]
        start = self.plan.get("start_in")
        first = (directory_name(f"start-{start}"),) if start else ()
        return (*first, "pretrain", *trained, *self.ablation_stages)

    @property
    def ablation_stages(self) -> tuple[str, ...]:
        """The training stages of the planned ablations: of figure 6, then of figure 8."""
        planned = self.plan.get("ablations") or ()
        everywhere = [f"unconstrained-{env}" for env in (self.source, *self.targets)]
        return (
            *(everywhere if "unconstrained" in planned else ()),
            *((f"no_feedback-{self.source}",) if "no_feedback" in planned else ()),
        )

    def stage_runs(self, stage: str) -> dict[int, Run]:
        """The runs of one stage that exist, by seed."""
        return {s: self.runs[stage, s] for s in self.seeds if (stage, s) in self.runs}

    def planned(self, stage: str) -> bool:
        """Whether a stage is part of the experiment; training from scratch can be left out."""
        return not stage.startswith("scratch") or self.plan.get("scratch") is not False

    def planned_epochs(self, stage: str) -> int | None:
        """Epochs that a stage is to run; None for what was taken from elsewhere as it is."""
        if (stage == "pretrain" and self.plan.get("agent")) or not self.planned(stage):
            return None
        return self.comparable_epochs(stage)

    def comparable_epochs(self, stage: str) -> int | None:
        """Epochs that runs of a stage have where they are this plan's, or are to stand for them."""
        way = stage.partition("-")[0]
        own = {"finetune": "finetune_epochs", "start": "start_epochs"}
        return self.plan.get(own.get(way, "pretrain_epochs"))

    def finished(self, stage: str) -> bool:
        """Whether every seed of a stage has run all of its planned epochs."""
        runs, planned = self.stage_runs(stage), self.planned_epochs(stage)
        return len(runs) == len(self.seeds) and all(
            planned is None or run.epochs >= planned for run in runs.values()
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.plan.get("settings") or {}

    @property
    def cost_limit(self) -> float | None:
        """Cost limit per episode: the limit per step times the steps of a whole episode."""
        per_step = _find(self.settings, "cost_limit")
        steps = self.plan.get("episode_steps") or _find(self.settings, "max_steps")
        if _is_finite(per_step) and _is_finite(steps):
            return float(per_step) * float(steps)
        return None

    def films(self) -> list[Path]:
        """Films of the first seed that has any, by name."""
        for seed in self.seeds:
            folder = self.root / f"seed-{seed}" / "films"
            films = [p for p in sorted(folder.glob("*")) if p.suffix in (".mp4", ".gif")]
            if films:
                return films
        return []


_PLAN = {
    "settings": Mapping,
    "agent": str,
    "start_in": str,
    "start": Mapping,
    "finetune": Mapping,
    "carry": str,
    "reference": str,
    "scratch": bool,
    "command": (str, list),
}


def read_transfer(root: str | Path) -> Transfer:
    """Reads the directory that `safetransfer transfer` writes, finished or not."""
    root = Path(root)
    plan_file = root / "transfer.json"
    if not plan_file.is_file():
        raise RunFileError(
            f"{root}: no transfer.json here; name the directory that `safetransfer transfer` wrote"
        )
    plan = _read_object(plan_file)
    source, targets, seeds = plan.get("env"), plan.get("to"), plan.get("seeds")
    if not isinstance(source, str):
        raise RunFileError(f"{plan_file}: 'env' must be the name of an environment")
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        raise RunFileError(f"{plan_file}: 'to' must be a list of names of environments")
    if not isinstance(seeds, list) or not seeds or not all(isinstance(s, int) for s in seeds):
        raise RunFileError(f"{plan_file}: 'seeds' must be a list of whole numbers, not empty")
    for key in ("start_epochs", "pretrain_epochs", "finetune_epochs"):
        epochs = plan.get(key)
        if epochs is not None and not (isinstance(epochs, int) and 0 <= epochs <= _MOST_EPOCHS):
            raise RunFileError(f"{plan_file}: {key!r} must be a whole number of 0 or more")
    _check(plan, _PLAN, plan_file)

    transfer = Transfer(root, plan, source, tuple(targets), tuple(seeds), {}, {})
    runs = {
        (stage, seed): run
        for stage in transfer.stages
        for seed in seeds
        if (run := read_run(root / f"seed-{seed}" / directory_name(stage))) is not None
    }
    evaluated = [
        *transfer.stages,
        *(f"{ablation}zeroshot-{env}" for env in targets for ablation in ("", "no_feedback-")),
    ]
    evaluations = {
        stage: evaluation
        for stage in evaluated
        if (
            evaluation := read_evaluations(
                {
                    seed: root / f"seed-{seed}" / "evaluations" / f"{directory_name(stage)}.json"
                    for seed in seeds
                }
            )
        )
        is not None
    }
    return Transfer(root, plan, source, tuple(targets), tuple(seeds), runs, evaluations)


# --- What moving cost, against learning there ---------------------------------------------------

AS_GOOD = 0.98


@dataclass(frozen=True)
class Regret:
    """Total cost in one deployment environment, mean over seeds: moved there or learned there.

    `scratch_same_steps` is what learning there had cost after as many steps as fine-tuning took,
    `scratch_until_good` what it had cost by the first epoch that was as good as fine-tuning's last
    (`AS_GOOD` of its return, at no more than the cost limit or, where that is higher, its cost).
    Each is a mean over the seeds, and None until every one has it.
    """

    moved: float | None
    scratch: float | None
    scratch_same_steps: float | None
    scratch_until_good: float | None
    moved_steps: float | None
    scratch_steps: float | None
    finished: bool

    @property
    def ratio(self) -> float | None:
        """How many times less moving there cost; infinite if it cost nothing at all."""
        return _ratio(self.scratch, self.moved)


def regret(transfer: Transfer, target: str) -> Regret:
    """Compares the seeds that have both runs, fine-tuned and from scratch; else what there is."""
    tuned = transfer.stage_runs(f"finetune-{target}")
    scratch = transfer.stage_runs(f"scratch-{target}")
    both = tuned.keys() & scratch.keys()
    if both:
        tuned = {seed: tuned[seed] for seed in both}
        scratch = {seed: scratch[seed] for seed in both}
    same_steps = [
        None if (steps := tuned[seed].last("env_steps")) is None
        else scratch[seed].cost_total_after(steps)
        for seed in both
    ]  # fmt: skip
    until_good = [_until_good(scratch[seed], tuned[seed], transfer.cost_limit) for seed in both]
    stages = (f"finetune-{target}", f"scratch-{target}")
    return Regret(
        moved=_mean([run.cost_total for run in tuned.values()]),
        scratch=_mean([run.cost_total for run in scratch.values()]),
        scratch_same_steps=_mean(same_steps),
        scratch_until_good=_mean(until_good),
        moved_steps=_mean([run.last("env_steps") for run in tuned.values()]),
        scratch_steps=_mean([run.last("env_steps") for run in scratch.values()]),
        finished=all(transfer.finished(stage) for stage in stages),
    )


def _until_good(scratch: Run, tuned: Run, limit: float | None) -> float | None:
    """Total cost of `scratch` by its first epoch that is as good as the last of `tuned`."""
    wanted, paid = tuned.last("return"), tuned.last("cost")
    if wanted is None or paid is None:
        return None
    enough = wanted - (1.0 - AS_GOOD) * abs(wanted)  # returns may be negative
    good = (scratch.column("return") >= enough) & (
        scratch.column("cost") <= max(paid, limit or 0.0)
    )
    totals = scratch.column("cost_total")[good]
    return float(totals[0]) if totals.size else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _ratio(scratch: float | None, moved: float | None) -> float | None:
    if scratch is None or moved is None or (scratch == 0 and moved == 0):
        return None
    return scratch / moved if moved else math.inf


# --- Reading JSON -------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path}: cannot be read ({error})") from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise RunFileError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number too long, or too deeply nested
        raise RunFileError(f"{path}: not JSON that can be read ({error})") from error
    if not isinstance(document, dict):
        raise RunFileError(f"{path}: expected an object, found {_kind(document)}")
    return document


def described(value: Any) -> str:
    """Whatever a run noted about itself, text or objects of it, as one line of plain text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {described(v)}" for k, v in value.items() if v not in (None, ""))
    if isinstance(value, list | tuple):
        return " ".join(described(item) for item in value)
    return "" if value is None else str(value)


def motions(value: Any) -> str:
    """What people moved by, for a table: source, number of clips, start of their sha256.

    The rest (folder, clips that were left out) stands in the configuration.
    """
    if not isinstance(value, Mapping) or "source" not in value:
        return described(value)
    source = described(value["source"])
    parts = [f"{source}, {described(value['clips'])} clips" if "clips" in value else source]
    if value.get("sha256"):
        parts.append(f"sha256 {str(value['sha256'])[:8]}")
    return ", ".join(parts)


def _is_number(value: Any) -> bool:
    """A number that a float can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 10**300
    return isinstance(value, float)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and abs(value) < _LARGEST


def _check(document: Mapping[str, Any], kinds: Mapping[str, Any], path: Path) -> None:
    """RunFileError where an entry that is there, and not null, is not of its kind."""
    for key, kind in kinds.items():
        value = document.get(key)
        if value is not None and (
            not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        ):
            raise RunFileError(f"{path}: {key!r} cannot be {_kind(value)}")


def _kind(value: Any) -> str:
    names = {str: "text", list: "a list", dict: "an object", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def _find(tree: Mapping[str, Any], key: str) -> Any:
    """The first value under `key` at any depth of nested objects."""
    if key in tree:
        return tree[key]
    branches = (_find(branch, key) for branch in tree.values() if isinstance(branch, Mapping))
    return next((value for value in branches if value is not None), None)
