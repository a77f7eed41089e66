"""The study of likeness: every value once, resumable, and what it writes read back."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from safetransfer import settings_io
from safetransfer.cli import main
from safetransfer.envs.robots import Doggo
from safetransfer.errors import SafeTransferError, SettingError
from safetransfer.experiments import study
from safetransfer.experiments.plans import StudyPlan
from safetransfer.experiments.study import run_study
from safetransfer.report.study import read_study
from safetransfer.training import checkpoint
from safetransfer.training.evaluate import EVALUATION_SEED, evaluate_checkpoint
from safetransfer.training.logs import read_rows
from safetransfer.training.loop import train
from safetransfer.training.settings import preset

EPISODES = 4


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    root = tmp_path_factory.mktemp("agents")
    for seed in (0, 1):
        settings = settings_io.updated(preset("smoke"), {"train": {"seed": seed, "epochs": 1}})
        train(settings, root / f"seed-{seed}")
    return str(root / "seed-0"), str(root / "seed-1")


@pytest.fixture(scope="module")
def finished(agents, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    plan = StudyPlan(agents, values=(1.0, 0.0), episodes=EPISODES, finetune_epochs=1)
    page = run_study(out, plan, command="safetransfer study", say=lambda text: None)
    return out, plan, page


def rows_of(out):
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_agent_is_met_at_every_value_before_and_after_fine_tuning(finished):
    out, _, page = finished
    assert page.is_file()
    rows = rows_of(out)
    assert [(row["likeness"], row["way"]) for row in rows] == [
        ("0.0", "zero-shot"), ("1.0", "zero-shot"), ("0.0", "fine-tuned"), ("1.0", "fine-tuned"),
    ]  # fmt: skip
    assert {(row["agents"], row["episodes"]) for row in rows} == {("2", str(2 * EPISODES))}
    for row in rows:
        assert float(row["mean_cost.over_seeds.low"]) <= float(row["mean_cost"])
        assert (row["regret"] != "") == (row["way"] == "fine-tuned")


def test_at_the_ends_the_agents_do_what_they_do_in_the_other_hallways(finished, agents):
    out, _, _ = finished
    for index, agent in enumerate(agents):
        for value, env in ((0, "PointPoles"), (1, "PointWalls")):
            file = out / f"agent-{index}" / f"likeness-{value}" / "zeroshot.json"
            seed = EVALUATION_SEED + index
            expected = evaluate_checkpoint(agent, env, EPISODES, seed, threads=1)
            assert json.loads(file.read_text())["per_episode"] == expected["per_episode"]


def test_fine_tuning_was_there_and_its_cost_is_the_regret(finished):
    out, _, _ = finished
    totals = []
    for index in (0, 1):
        run = out / f"agent-{index}" / "likeness-0" / "finetune"
        config = json.loads((run / "config.json").read_text())
        env = config["settings"]["env"]
        assert (env["obstacles"], env["likeness"]) == ("Mixed", 0.0)
        assert config["settings"]["train"]["seed"] == index
        assert config["settings"]["agent"]["constraint_warmup"] == 0
        totals.append(read_rows(run)[-1]["cost_total"])
    row = next(r for r in rows_of(out) if (r["likeness"], r["way"]) == ("0.0", "fine-tuned"))
    assert float(row["regret"]) == pytest.approx(np.mean(totals))


def test_a_robot_is_fine_tuned_in_its_own_way_as_a_transfer_does(tmp_path, monkeypatch):
    settings = preset("smoke", "Doggo")
    settings.train.epochs = settings.train.epoch_updates = 1
    train(settings, tmp_path / "agent")
    given = {}
    monkeypatch.setattr(study, "train", lambda settings, run_dir, **rest: given.update(s=settings))
    plan = StudyPlan((str(tmp_path / "agent"),), env="DoggoMixed", finetune_epochs=1)
    study._finetune(tmp_path / "tuned", plan, tmp_path / "agent", 0.5)
    own = Doggo.fine_tuning["laptop"]
    for name, value in own["agent"].items():
        assert getattr(given["s"].agent, name) == value
    assert given["s"].train.num_envs == own["train"]["num_envs"]
    assert given["s"].agent.constraint_warmup == 0  # as for every robot


def test_a_log_ahead_of_its_checkpoint_is_not_taken_for_a_finished_run(finished, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(finished[0], out)
    path = next(out.glob("**/checkpoint.pt"))
    payload = checkpoint.load(path)
    payload["counters"]["epoch"] = payload["agent"]["updates"] = 0
    checkpoint.save(path, payload)
    said = []
    run_study(out, finished[1], say=said.append)
    assert any("fine-tuning" in line for line in said)
    assert checkpoint.load(path)["counters"]["epoch"] == 1


def test_again_does_nothing_and_another_value_is_added(finished, agents, tmp_path):
    done, plan, _ = finished
    out = tmp_path / "study"
    shutil.copytree(done, out)
    said = []
    run_study(out, plan, say=said.append)
    assert said == []
    run_study(out, StudyPlan(agents, values=(0.5,), episodes=EPISODES), say=said.append)
    assert len(said) == 2 and all("likeness 0.5" in line for line in said)
    assert [p.value for p in read_study(out).along("zeroshot")] == [0.0, 0.5, 1.0]


def test_fine_tuning_goes_on_where_agents_lie_elsewhere_by_now(finished, agents, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(finished[0], out)
    moved = [shutil.copytree(agent, tmp_path / f"moved-{k}") for k, agent in enumerate(agents)]
    plan = dataclasses.replace(finished[1], agents=tuple(map(str, moved)), finetune_epochs=2)
    run_study(out, plan, say=lambda text: None)
    assert read_rows(out / "agent-1" / "likeness-0" / "finetune")[-1]["epoch"] == 2


def test_more_episodes_are_measured_anew(finished, agents, tmp_path):
    done, _, _ = finished
    out = tmp_path / "study"
    shutil.copytree(done, out)
    run_study(out, StudyPlan(agents, values=(1.0,), episodes=5), say=lambda text: None)
    (point,) = [p for p in read_study(out).along("zeroshot") if p.value == 1.0]
    assert point.evaluated.episodes == 10


def test_other_agents_are_another_study(finished, agents):
    out, plan, _ = finished
    with pytest.raises(SettingError, match=r"holds another study: agents.*another --out"):
        run_study(out, StudyPlan(agents[:1], episodes=EPISODES), say=lambda text: None)
    with pytest.raises(SettingError, match="another study: vary"):
        run_study(out, StudyPlan(agents, vary="pole_radius", values=(0.1,)))
    assert json.loads((out / "study.json").read_text())["values"] == sorted(plan.values)


def test_people_and_their_speed_can_be_what_varies(agents, tmp_path):
    plan = StudyPlan(agents[:1], "PointHumanoids", "people", values=(0, 2), episodes=2)
    run_study(tmp_path, plan, say=lambda text: None)
    none, two = rows_of(tmp_path)
    assert float(none["mean_cost"]) == 0.0
    assert (none["people"], two["people"]) == ("0.0", "2.0")
    assert "built-in" in (tmp_path / "study.html").read_text()


def test_the_figure_shows_each_value(finished):
    out, _, _ = finished
    figure = ElementTree.parse(out / "study.svg").getroot()
    names = {"svg": "http://www.w3.org/2000/svg"}
    panels = figure.findall("svg:svg", names)
    assert len(panels) == 3  # return, cost, total cost
    assert [len(p.findall("svg:circle", names)) for p in panels] == [4, 4, 2]
    assert all("likeness" in "".join(p.itertext()) for p in panels)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"vary": "likenes"}, "Did you mean 'likeness'"),
        ({"vary": "robot"}, "unknown number"),
        ({"values": ()}, "one value or more"),
        ({"values": (0.5, 1.5)}, "likeness must be between 0 and 1"),
        ({"env": "PointMixt"}, "Did you mean|unknown environment"),
        ({"vary": "people", "values": (0.5,)}, "people"),
        ({"carry": "replay"}, "unknown carry"),
        ({"finetune_epochs": -1}, "not below 0"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_anything_runs(changes, complaint):
    with pytest.raises(SafeTransferError, match=complaint):
        StudyPlan(**{"agents": ("somewhere",), **changes})


def test_what_is_not_a_study_says_so(tmp_path):
    with pytest.raises(SafeTransferError, match=r"no study\.json"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"vary": "likeness", "values": ["x"], "agents": []}')
    with pytest.raises(SafeTransferError, match="must be numbers"):
        read_study(tmp_path)


def test_the_command_hands_over_what_it_was_given(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(study, "run_study", lambda *a, **k: calls.append((a, k)) or "the page")
    argv = ["study", "--agent", "a", "b", "--out", str(tmp_path), "--values", "0", "1"]
    assert main([*argv, "--mocap", "none", "--episodes", "7"]) == 0
    ((out, plan), keywords) = calls[0]
    assert (out, plan.agents, plan.values) == (str(tmp_path), ("a", "b"), (0.0, 1.0))
    assert (plan.episodes, plan.finetune_epochs) == (7, 0)
    assert keywords["command"].startswith("safetransfer study --agent a b")
    assert capsys.readouterr().out.strip() == "the page"


def test_one_agent_is_one_seed(agents, tmp_path):
    shutil.copytree(agents[0], tmp_path / "copy")
    with pytest.raises(SettingError, match="is the same agent as"):
        run_study(tmp_path / "out", StudyPlan((agents[0], str(tmp_path / "copy"))))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingError, match="holds a run already"):
        run_study(tmp_path, StudyPlan((agents[0],)))


def test_what_varies_must_change_something():
    words = "people_speed changes nothing in PointMixed.*PointHumanoids"
    with pytest.raises(SettingError, match=words):
        StudyPlan(("x",), vary="people_speed", values=(1.0,))
    StudyPlan(("x",), env="PointPoles", vary="pole_radius", values=(0.1,))
    StudyPlan(("x",), env="PointWalls", vary="length", values=(20.0,))
