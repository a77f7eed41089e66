"""How alike must the two worlds be? Trained agents in hallways of more and less likeness.

One setting of the deployment hallway takes one value after another. At each, every agent is met as
it is (zero-shot) and, if asked for, fine-tuned there and met again. What is finished is not done
again; more values of the same study are added to it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from safetransfer import settings_io
from safetransfer.envs.registration import parse_env_name
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError
from safetransfer.experiments.fine_tuning import fine_tuning_of
from safetransfer.experiments.plans import StudyPlan
from safetransfer.training import checkpoint
from safetransfer.training.evaluate import (
    EVALUATION_SEED,
    describe_people,
    environment_settings,
    evaluate,
    load_policy,
    summary,
)
from safetransfer.training.loop import train
from safetransfer.training.machine import cores
from safetransfer.training.run_directory import STUDY as PLAN
from safetransfer.training.run_directory import is_finished, require_room


def run_study(
    out: str | Path,
    plan: StudyPlan,
    command: str | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Path:
    """Run what is missing of the plan in directory `out`, and write figure, tables and page.

    Returns the page. Raises SettingError where `out` holds another study, CheckpointError for an
    agent that cannot be read or that cannot play in these hallways.
    """
    from safetransfer.report.study import write_study

    out = Path(out)
    policies = [load_policy(agent) for agent in plan.agents]
    for policy in policies:
        environment_settings(policy, plan.env)
    _write_plan(out, plan, command)
    for index, agent in enumerate(plan.agents):
        for value in plan.values:
            for title, done, run in _stages(out, plan, index, Path(agent), value):
                if not done():
                    say(f"{Path(agent).name} {index + 1} of {len(plan.agents)}: {title}")
                    run()
                    write_study(out)
    return write_study(out)


_Stage = tuple[str, Callable[[], bool], Callable[[], Any]]


def _stages(out: Path, plan: StudyPlan, index: int, agent: Path, value: float) -> Iterator[_Stage]:
    base = out / f"agent-{index}" / f"{plan.vary}-{value:g}"
    where = f"{plan.env}, {plan.vary} {value:g}"
    yield _evaluation(f"zero-shot in {where}", base / "zeroshot.json", plan, agent, value)
    if plan.finetune_epochs:
        run_dir = base / "finetune"
        yield (
            f"fine-tuning in {where}",
            lambda: is_finished(run_dir, plan.finetune_epochs),
            lambda: _finetune(run_dir, plan, agent, value),
        )
        yield _evaluation(f"fine-tuned, in {where}", base / "finetuned.json", plan, run_dir, value)


def _evaluation(title: str, file: Path, plan: StudyPlan, agent: Path, value: float) -> _Stage:
    def done() -> bool:
        if not file.exists():
            return False
        there = settings_io.read_file(file)
        return (there.get("episodes"), there.get("agent")) == (plan.episodes, fingerprint(agent))

    def run() -> None:
        torch.set_num_threads(1)
        policy = load_policy(agent)
        env = environment_settings(policy, plan.env, mocap=plan.mocap, **plan.changes(value))
        assert isinstance(env, HallwaySettings)  # a plan has no others
        # The hallways that `transfer` evaluates an agent of this seed in.
        seed = EVALUATION_SEED + policy.settings.train.seed
        episodes = evaluate(policy, env, plan.episodes, seed, threads=cores())
        document = summary(plan.env, episodes) | {
            "per_episode": episodes,
            "seed": seed,
            "agent": fingerprint(agent),
            plan.vary: value,
            "mocap": describe_people(env),
            "cost_limit": policy.settings.agent.cost_limit * env.max_steps,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        settings_io.write_json(file, document)

    return title, done, run


def _finetune(run_dir: Path, plan: StudyPlan, agent: Path, value: float) -> None:
    """As `transfer` fine-tunes this robot by the `laptop` preset: in this hallway."""
    settings = copy.deepcopy(load_policy(agent).settings)
    robot, obstacles = parse_env_name(plan.env)
    there = {"robot": robot, "obstacles": obstacles, "mocap": plan.mocap, **plan.changes(value)}
    settings = settings_io.updated(settings, {"env": there})
    settings = settings_io.updated(settings, fine_tuning_of(settings.env)[0])
    settings.train.epochs = plan.finetune_epochs
    title = f"fine-tuning in {plan.env}, {plan.vary} {value:g}"
    # One that goes on is known by what it holds: the agent may lie elsewhere by now.
    begun = (run_dir / checkpoint.FILE_NAME).exists()
    train(settings, run_dir, init=None if begun else agent, carry=plan.carry, title=title)


def fingerprint(agent: Path) -> str:
    """SHA-256 of a checkpoint: whether an agent is still the one that was met."""
    return hashlib.sha256(checkpoint.locate(agent).read_bytes()).hexdigest()


def _write_plan(out: Path, plan: StudyPlan, command: str | None) -> None:
    """Record the study; one of other agents or hallways is refused, more values are welcome."""
    require_room(out, PLAN)
    agents = [{"path": a, "sha256": fingerprint(Path(a))} for a in plan.agents]
    document: dict[str, Any] = settings_io.to_dict(plan) | {"agents": agents, "command": command}
    document["mocap"] = plan.mocap and Path(plan.mocap).name
    seen: dict[str, str] = {}
    for agent in agents:
        if agent["sha256"] in seen:
            raise SettingError(
                f"{agent['path']} is the same agent as {seen[agent['sha256']]}; a study takes each "
                "for a seed, and once"
            )
        seen[agent["sha256"]] = agent["path"]
    path = out / PLAN
    if path.exists():
        before = settings_io.read_file(path)
        document["values"] = sorted({*_listed(before.get("values")), *document["values"]})
        free = ("command", "values", "episodes", "finetune_epochs")
        different = [
            line
            for line in settings_io.differences(
                _known_by_content(before), _known_by_content(json.loads(json.dumps(document)))
            )
            if not line.startswith(free)
        ]
        if different:
            raise SettingError(
                f"{out} holds another study: {'; '.join(different)}. Give its own arguments to go "
                "on with it, or another --out"
            )
        document["finetune_epochs"] = max(
            document["finetune_epochs"], before.get("finetune_epochs") or 0
        )
    out.mkdir(parents=True, exist_ok=True)
    settings_io.write_json(path, document)


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list) else []


def _known_by_content(document: Mapping[str, Any]) -> dict[str, Any]:
    """A plan with its agents by what they are, not by where they lie."""
    agents = [a.get("sha256") for a in _listed(document.get("agents")) if isinstance(a, Mapping)]
    return {**document, "agents": agents}
