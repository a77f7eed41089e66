"""Keeping an agent: small, complete enough to act and be fine-tuned, listed beside its like."""

import json

import pytest
import torch

from safetransfer import settings_io
from safetransfer.cli import main
from safetransfer.errors import CheckpointError, SettingError
from safetransfer.training import checkpoint
from safetransfer.training.evaluate import evaluate_checkpoint
from safetransfer.training.keep import keep
from safetransfer.training.loop import train
from safetransfer.training.settings import preset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "walls"
    train(preset("smoke"), directory, command="safetransfer train --run walls")
    return directory


def test_a_kept_agent_acts_as_its_run_does_and_is_smaller(run, tmp_path):
    keep(run, tmp_path / "point-walls", "pretrained")
    kept = evaluate_checkpoint(tmp_path / "point-walls", "PointPoles", episodes=3)
    original = evaluate_checkpoint(run, "PointPoles", episodes=3)
    assert kept["per_episode"] == original["per_episode"]
    size = (tmp_path / "point-walls" / "checkpoint.pt").stat().st_size
    assert size < 0.7 * (run / "checkpoint.pt").stat().st_size
    assert (tmp_path / "point-walls" / "log.jsonl").read_text() == (run / "log.jsonl").read_text()


def test_it_can_be_fine_tuned_but_has_no_optimisers(run, tmp_path):
    keep(run, tmp_path / "kept", "pretrained")
    settings = settings_io.updated(preset("smoke"), {"env": {"obstacles": "Poles"}})
    train(settings, tmp_path / "tuned", init=tmp_path / "kept", carry="multiplier")
    with pytest.raises(CheckpointError, match="no optimiser states"):
        train(settings, tmp_path / "other", init=tmp_path / "kept", carry="optimisers")


def test_the_list_of_agents_and_the_command(run, tmp_path, capsys):
    assert main(["keep", str(run), str(tmp_path / "b")]) == 0
    assert main(["keep", str(run), str(tmp_path / "a"), "--stage", "scratch"]) == 0
    assert main(["keep", str(run), str(tmp_path / "b"), "--stage", "finetuned"]) == 0
    entries = json.loads((tmp_path / "agents.json").read_text())
    assert [(e["path"], e["stage"]) for e in entries] == [("a", "scratch"), ("b", "finetuned")]
    assert entries[0] | {"wall_minutes": 0, "path": ""} == {
        "robot": "Point", "stage": "scratch", "env": "PointWalls", "seed": 0, "path": "",
        "wall_minutes": 0, "command": "safetransfer train --run walls",
    }  # fmt: skip
    capsys.readouterr()
    assert main(["keep", str(run), str(tmp_path / "c"), "--stage", "best"]) == 2
    assert "no_feedback" in capsys.readouterr().err
    assert main(["keep", str(tmp_path / "nothing"), str(tmp_path / "c")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err


def test_where_the_clips_lay_is_not_kept(run, tmp_path, shared_mocap):
    settings = settings_io.updated(
        preset("smoke"), {"env": {"obstacles": "Humanoids", "mocap": str(shared_mocap)}}
    )
    train(settings, tmp_path / "people", command=f"safetransfer train --mocap {shared_mocap} -x")
    keep(tmp_path / "people", tmp_path / "kept", "scratch")
    assert str(shared_mocap) not in (tmp_path / "kept" / "config.json").read_text()
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert config["command"] == "safetransfer train --mocap cmu_mocap -x"
    assert config["mocap"]["source"] == "directory" and config["mocap"]["clips"] > 10


def test_a_transfer_is_kept_whole_but_small(tmp_path):
    from safetransfer.experiments.plans import TransferPlan
    from safetransfer.experiments.transfer import run_transfer
    from safetransfer.report.page import write_report

    plan = TransferPlan(
        to=("PointPoles",), pretrain_epochs=1, finetune_epochs=1, episodes=2, films=False
    )
    settings = settings_io.updated(preset("smoke"), {"env": {"mocap": str(tmp_path)}})
    run_transfer(tmp_path / "out", plan, settings, say=lambda text: None)
    agents = keep(tmp_path / "out", tmp_path / "results" / "point")
    names = ["finetune-PointPoles", "pretrain", "scratch-PointPoles"]
    assert agents == [tmp_path / "results" / "point" / "seed-0" / name for name in names]
    entries = json.loads((tmp_path / "results" / "agents.json").read_text())
    assert [(e["path"], e["stage"], e["env"]) for e in entries] == [
        ("point/seed-0/finetune-PointPoles", "finetuned", "PointPoles"),
        ("point/seed-0/pretrain", "pretrained", "PointWalls"),
        ("point/seed-0/scratch-PointPoles", "scratch", "PointPoles"),
    ]
    # The fine-tuned agent is kept without critics: it acts as before, and lends at most its policy.
    tuned = agents[0]
    kept = evaluate_checkpoint(tuned, "PointPoles", episodes=2)
    before = evaluate_checkpoint(tmp_path / "out" / "seed-0" / tuned.name, "PointPoles", episodes=2)
    assert kept["per_episode"] == before["per_episode"]
    settings = settings_io.updated(settings, {"env": {"mocap": None}})
    train(settings, tmp_path / "on", init=tuned, carry="policy")
    with pytest.raises(CheckpointError, match="no critics: carry over its policy"):
        train(settings, tmp_path / "other", init=tuned, carry="weights")
    page = write_report(tmp_path / "results" / "point").read_text()
    # The same runs give the same table.
    table = page[page.index("<table") : page.index("</table>")]
    assert table in write_report(tmp_path / "out").read_text()
    kept = [p for p in (tmp_path / "results").rglob("*") if p.is_file()]
    assert len([p for p in kept if p.name == "checkpoint.pt"]) == 3
    assert not any(str(tmp_path) in p.read_text() for p in kept if p.suffix in (".json", ".jsonl"))


def test_targets_of_an_encoder_of_their_own_are_kept(tmp_path):
    settings = preset("smoke")
    settings.agent.target_encoder = True
    train(settings, tmp_path / "run")
    keep(tmp_path / "run", tmp_path / "kept" / "agent")
    states = [
        checkpoint.load(d)["agent"]["core_target"]
        for d in (tmp_path / "run", tmp_path / "kept" / "agent")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_another_agent_is_not_overwritten(run, tmp_path):
    keep(run, tmp_path / "agent")
    keep(run, tmp_path / "agent")  # the same run, again
    settings = preset("smoke")
    settings.agent.gamma = 0.9
    train(settings, tmp_path / "other")
    with pytest.raises(SettingError, match=r"holds another agent: settings\.agent\.gamma"):
        keep(tmp_path / "other", tmp_path / "agent")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "transfer.json").write_text("{}")
    with pytest.raises(SettingError, match="holds a transfer"):
        keep(run, tmp_path / "moved")
    (tmp_path / "agent" / "config.json").write_text("{}")
    with pytest.raises(SettingError, match="does not say which settings"):
        keep(run, tmp_path / "agent")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="is a file"):
        keep(run, tmp_path / "file")
