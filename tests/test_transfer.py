"""The whole experiment in the smoke preset: every stage, its accounting, interruption, reuse."""

import dataclasses
import json
import shutil

import pytest

from safetransfer import settings_io
from safetransfer.errors import CheckpointError, SettingError, UnknownNameError
from safetransfer.experiments import transfer
from safetransfer.experiments.plans import TransferPlan
from safetransfer.experiments.transfer import run_transfer
from safetransfer.training import checkpoint
from safetransfer.training.evaluate import EVALUATION_SEED
from safetransfer.training.keep import keep
from safetransfer.training.logs import read_rows
from safetransfer.training.settings import preset

PLAN = TransferPlan(
    to=("PointPoles", "PointHumanoids"), pretrain_epochs=2, finetune_epochs=1, episodes=4
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("transfer")
    said = []
    report = run_transfer(out, PLAN, preset("smoke"), say=said.append)
    return out, report, said


def test_every_stage_is_there(finished):
    out, report, _ = finished
    seed = out / "seed-0"
    epochs = {"pretrain": 2, "finetune-PointPoles": 1, "finetune-PointHumanoids": 1,
              "scratch-PointPoles": 2, "scratch-PointHumanoids": 2}  # fmt: skip
    for name, n in epochs.items():
        rows = read_rows(seed / name)
        assert [row["epoch"] for row in rows] == list(range(1, n + 1)), name
        config = json.loads((seed / name / "config.json").read_text())
        expected = name.split("-Point")[-1] if "-" in name else "Walls"
        assert config["settings"]["env"]["obstacles"] == expected
    names = {p.stem for p in (seed / "evaluations").iterdir()}
    assert names == {"pretrain", "zeroshot-PointPoles", "zeroshot-PointHumanoids",
                     *(n for n in epochs if n != "pretrain")}  # fmt: skip
    evaluation = json.loads((seed / "evaluations" / "zeroshot-PointPoles.json").read_text())
    assert evaluation["env"] == "PointPoles" and evaluation["episodes"] == 4
    assert {p.suffix for p in (seed / "films").iterdir()} == {".mp4"}
    assert report.exists()


def test_the_fine_tuned_agent_started_from_the_pretrained_one(finished):
    out, _, _ = finished
    config = json.loads((out / "seed-0" / "finetune-PointPoles" / "config.json").read_text())
    assert config["init"] == {"checkpoint": "pretrain", "carry": "weights"}
    # Its constraint is on from the first update; from scratch it has the preset's warm-up.
    assert config["settings"]["agent"]["constraint_warmup"] == 0
    scratch = json.loads((out / "seed-0" / "scratch-PointPoles" / "config.json").read_text())
    assert scratch["settings"]["agent"]["constraint_warmup"] == 5
    assert scratch["init"] is None


def test_stages_are_of_their_seed_and_carry_over_what_the_plan_says(tmp_path, monkeypatch):
    trained, met = {}, []

    def train(settings, run_dir, *, init, carry, **rest):
        trained[run_dir.name] = (settings.train.seed, init and init.name, carry)

    def evaluated(agent, env, episodes, seed, **rest):
        met.append((agent.name, env, seed))
        return {}

    monkeypatch.setattr(transfer, "evaluate_checkpoint", evaluated)
    plan = TransferPlan(to=("PointPoles",), carry="multiplier", films=False)
    for stage in transfer.stages(tmp_path, plan, preset("smoke"), 7, None, train):
        stage.run()
    assert trained == {
        "pretrain": (7, None, "weights"),
        "finetune-PointPoles": (7, "pretrain", "multiplier"),
        "scratch-PointPoles": (7, None, "weights"),
    }
    assert met == [
        (agent, env, EVALUATION_SEED + 7)
        for agent, env in (
            ("pretrain", "PointWalls"),
            ("pretrain", "PointPoles"),
            ("finetune-PointPoles", "PointPoles"),
            ("scratch-PointPoles", "PointPoles"),
        )
    ]


def test_a_robot_may_learn_to_move_somewhere_else_first(tmp_path):
    plan = TransferPlan(
        env="DoggoWalls", to=("DoggoPoles",), start_in="DoggoEmpty", start_epochs=1,
        start={"agent": {"horizon": 4}}, films=False,
        pretrain_epochs=2, finetune_epochs=1, episodes=2,
        ablations=("unconstrained", "no_feedback"),
    )  # fmt: skip
    report = run_transfer(tmp_path, plan, preset("smoke", "Doggo"))
    seed = tmp_path / "seed-0"
    start = json.loads((seed / "start-DoggoEmpty" / "config.json").read_text())
    assert start["settings"]["env"]["obstacles"] == "Empty" and start["init"] is None
    # In its own way, and nowhere else.
    horizons = {
        path.parent.name: json.loads(path.read_text())["settings"]["agent"]["horizon"]
        for path in seed.glob("*/config.json")
    }
    own = {name for name, horizon in horizons.items() if horizon == 4}
    assert own == {"start-DoggoEmpty", "no_feedback-start-DoggoEmpty"}
    assert set(horizons.values()) == {4, preset("smoke").agent.horizon}
    assert len(read_rows(seed / "start-DoggoEmpty")) == 1
    pretrained = json.loads((seed / "pretrain" / "config.json").read_text())
    assert pretrained["init"] == {"checkpoint": "start-DoggoEmpty", "carry": "weights"}
    assert len(read_rows(seed / "pretrain")) == 2
    # What is held beside pre-training begins as it did, the rest from nothing.
    for name, start in {
        "scratch-DoggoPoles": None,
        "unconstrained-DoggoPoles": None,
        "unconstrained-DoggoWalls": "start-DoggoEmpty",
        "no_feedback-DoggoWalls": "no_feedback-start-DoggoEmpty",
        "no_feedback-start-DoggoEmpty": None,
    }.items():
        begun = json.loads((seed / name / "config.json").read_text())["init"]
        assert (begun and begun["checkpoint"]) == start, name
    page = report.read_text()
    assert "Learning to move in D-Empty" in page and "Pre-training" in page
    assert "other settings than planned" not in page


def test_again_does_nothing_and_an_interrupted_one_goes_on(finished, tmp_path):
    out, _, _ = finished
    said = []
    run_transfer(out, PLAN, preset("smoke"), say=said.append)
    assert said == []
    # Killed while fine-tuning among people, between the last row of the log and its checkpoint.
    half = tmp_path / "half"
    shutil.copytree(out, half)
    for name in ("scratch-PointHumanoids", "films", "evaluations"):
        shutil.rmtree(half / "seed-0" / name)
    tuned = half / "seed-0" / "finetune-PointHumanoids" / "checkpoint.pt"
    payload = checkpoint.load(tuned)
    payload["counters"]["epoch"] = 0
    payload["agent"]["updates"] = 0
    checkpoint.save(tuned, payload)
    run_transfer(half, PLAN, preset("smoke"), say=said.append)
    assert any("fine-tuning in PointHumanoids" in line for line in said)
    assert not any("pre-training in PointWalls" in line for line in said)
    assert len(read_rows(half / "seed-0" / "finetune-PointHumanoids")) == 1
    assert len(read_rows(half / "seed-0" / "scratch-PointHumanoids")) == 2


def test_a_directory_of_an_older_version_goes_on(finished, tmp_path):
    out = tmp_path / "older"
    shutil.copytree(finished[0], out)
    plan = json.loads((out / "transfer.json").read_text())
    for name in ("start_in", "start_epochs", "start"):  # which it did not know
        del plan[name]
    (out / "transfer.json").write_text(json.dumps(plan))
    said = []
    run_transfer(out, PLAN, preset("smoke"), say=said.append)
    assert said == []


def test_another_machine_may_go_on_with_a_transfer(finished, tmp_path):
    out = tmp_path / "moved"
    shutil.copytree(finished[0], out)
    settings = preset("smoke")
    settings.train.threads, settings.train.batch_parts, settings.train.device = 1, 2, "cpu"
    settings.train.checkpoint_minutes = 3.0
    said = []
    run_transfer(out, PLAN, settings, say=said.append)
    assert said == []


def test_other_clips_are_another_experiment_where_there_are_people(finished, shared_mocap):
    settings = preset("smoke")
    settings.env = settings.env.with_mocap(str(shared_mocap))
    with pytest.raises(SettingError, match=r"move by built-in motions, .* 36 clips of 'cmu_mocap'"):
        run_transfer(finished[0], PLAN, settings)


def test_a_transfer_goes_on_with_the_same_clips_from_another_folder(tmp_path, folders_of_clips):
    def go(folder, *seeds):
        settings = preset("smoke")
        settings.env = settings.env.with_mocap(folder and str(tmp_path / folder))
        plan = TransferPlan(
            to=("PointHumanoids",), pretrain_epochs=1, finetune_epochs=1, episodes=2,
            seeds=seeds, scratch=False, films=False,
        )  # fmt: skip
        said = []
        run_transfer(tmp_path / "out", plan, settings, say=said.append)
        return said

    go("clips", 0)
    assert go("moved", 0) == []
    # Only zero-shot is left of the people's: that evaluation says by which they moved.
    shutil.rmtree(tmp_path / "out" / "seed-0" / "finetune-PointHumanoids")
    (tmp_path / "out" / "seed-0" / "evaluations" / "finetune-PointHumanoids.json").unlink()
    plan = (tmp_path / "out" / "transfer.json").read_text()
    for folder, words in (("others", "1 clip of 'others'"), (None, "built-in motions")):
        with pytest.raises(SettingError, match=rf"1 clip of 'clips'.* would now .*{words}"):
            go(folder, 1)
    assert (tmp_path / "out" / "transfer.json").read_text() == plan
    # A kept one does not know where they lay.
    keep(tmp_path / "out", tmp_path / "kept")
    (tmp_path / "out").rename(tmp_path / "whole")
    (tmp_path / "kept").rename(tmp_path / "out")
    assert any("seed 1" in line for line in go("moved", 1))


def test_a_seed_asked_for_twice_is_one_seed():
    assert TransferPlan(seeds=(3, 0, 3)).seeds == (3, 0)


def test_a_place_asked_for_twice_is_one_place():
    name = "safetransfer/PointPoles-v0"  # which is PointPoles
    assert TransferPlan(to=("PointPoles", "PointHumanoids", name)).to == (
        "PointPoles",
        "PointHumanoids",
    )


def test_another_experiment_in_the_directory_is_refused(finished):
    out, _, _ = finished
    other = dataclasses.replace(PLAN, finetune_epochs=2)
    with pytest.raises(SettingError, match=r"finetune_epochs: 1 -> 2"):
        run_transfer(out, other, preset("smoke"))


def test_a_kept_agent_replaces_pre_training_and_a_reference_shows_from_scratch(finished, tmp_path):
    out, _, _ = finished
    kept = out / "seed-0" / "pretrain"
    plan = TransferPlan(
        to=("PointPoles",), finetune_epochs=1, episodes=2, agent=str(kept), scratch=False,
        films=False, reference=str(out),
    )  # fmt: skip
    said = []
    run_transfer(tmp_path, plan, preset("smoke"), say=said.append)
    assert not any("pre-training" in line for line in said)
    copied = checkpoint.load(tmp_path / "seed-0" / "pretrain")
    assert copied["counters"] == checkpoint.load(kept)["counters"]
    assert read_rows(tmp_path / "seed-0" / "pretrain") == read_rows(kept)
    assert read_rows(tmp_path / "seed-0" / "scratch-PointPoles") == read_rows(
        out / "seed-0" / "scratch-PointPoles"
    )


def test_a_kept_agent_that_is_none_is_refused_before_anything_is_written(tmp_path):
    plan = TransferPlan(to=("PointPoles",), agent=str(tmp_path / "nothing"), films=False)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        run_transfer(tmp_path / "out", plan, preset("smoke"))
    assert not (tmp_path / "out" / "seed-0" / "pretrain" / "checkpoint.pt").exists()


def test_ablations_take_away_one_thing_each_and_are_evaluated(tmp_path):
    plan = TransferPlan(
        to=("PointPoles",), pretrain_epochs=1, finetune_epochs=1, episodes=2, films=False,
        scratch=False, ablations=("unconstrained", "no_feedback"),
    )  # fmt: skip
    page = run_transfer(tmp_path, plan, preset("smoke"), say=lambda text: None).read_text()
    seed = tmp_path / "seed-0"
    settings = {
        name: json.loads((seed / name / "config.json").read_text())["settings"]
        for name in ("pretrain", "unconstrained-PointWalls", "unconstrained-PointPoles",
                     "no_feedback-PointWalls")
    }  # fmt: skip
    full = settings["pretrain"]
    for name, changed in (
        ("unconstrained-PointWalls", {'agent.constraint: "on" -> "off"'}),
        ("no_feedback-PointWalls", {"agent.feedback: true -> false"}),
    ):
        assert set(settings_io.differences(full, settings[name])) == changed
    assert settings["unconstrained-PointPoles"]["env"]["obstacles"] == "Poles"
    evaluated = {p.stem for p in (seed / "evaluations").iterdir()}
    assert {
        "unconstrained-PointWalls", "unconstrained-PointPoles", "no_feedback-PointWalls",
        "no_feedback-zeroshot-PointPoles",
    } <= evaluated  # fmt: skip
    assert "Figure 6: reward alone" in page and "Figure 8: without the last reward" in page
    # Nothing of it is run twice.
    said = []
    run_transfer(tmp_path, plan, preset("smoke"), say=said.append)
    assert said == []


def test_plans_that_cannot_work():
    with pytest.raises(UnknownNameError, match="no_feedback"):
        TransferPlan(ablations=("no_reward",))
    with pytest.raises(UnknownNameError, match="PointPoles"):
        TransferPlan(to=("PointHoles",))
    with pytest.raises(UnknownNameError, match="multiplier"):
        TransferPlan(carry="everything")
    with pytest.raises(SettingError, match="one deployment hallway"):
        TransferPlan(to=())


def test_replay_is_kept_when_it_is_to_be_carried(tmp_path):
    plan = dataclasses.replace(PLAN, to=("PointPoles",), carry="replay", films=False, scratch=False)
    run_transfer(tmp_path, plan, preset("smoke"), say=lambda text: None)
    assert checkpoint.load(tmp_path / "seed-0" / "pretrain")["replay"] is not None


def test_a_run_begun_here_is_not_filled_up_from_a_reference(finished, tmp_path):
    out, _, _ = finished
    own = tmp_path / "seed-0" / "scratch-PointPoles"
    own.mkdir(parents=True)
    (own / "config.json").write_text("{}")  # interrupted before its first epoch's end
    plan = TransferPlan(to=("PointPoles", "PointHumanoids"))
    transfer._copy_reference(tmp_path, out, plan)
    assert [path.name for path in own.iterdir()] == ["config.json"]
    copied = sorted(path.name for path in (tmp_path / "seed-0" / "evaluations").iterdir())
    assert copied == ["scratch-PointHumanoids.json"]


def test_an_own_run_takes_the_place_of_a_reference(finished, tmp_path):
    out, _, _ = finished
    kept = str(out / "seed-0" / "pretrain")
    shown = TransferPlan(
        to=("PointPoles",), finetune_epochs=1, episodes=2, agent=kept, scratch=False, films=False,
        reference=str(out),
    )  # fmt: skip
    run_transfer(tmp_path, shown, preset("smoke"), say=lambda text: None)
    scratch = tmp_path / "seed-0" / "scratch-PointPoles"
    assert json.loads((scratch / "reference.json").read_text()) == {"from": out.name}
    evaluation = tmp_path / "seed-0" / "evaluations" / "scratch-PointPoles.json"
    assert json.loads(evaluation.read_text())["episodes"] == 4  # the reference's
    own = dataclasses.replace(shown, scratch=True)
    run_transfer(tmp_path, own, preset("smoke"), say=lambda text: None)
    assert not (scratch / "reference.json").exists() and (scratch / "checkpoint.pt").exists()
    assert json.loads(evaluation.read_text())["episodes"] == 2
    # From scratch it trained for as long as the kept agent had been.
    assert len(read_rows(scratch)) == 2


def test_an_agent_evaluated_again_after_more_training(finished, tmp_path):
    out, _, _ = finished
    again = tmp_path / "again"
    shutil.copytree(out, again)
    path = again / "seed-0" / "evaluations" / "finetune-PointPoles.json"
    document = json.loads(path.read_text())
    document["trained"]["updates"] = 1
    path.write_text(json.dumps(document))
    said = []
    run_transfer(again, PLAN, preset("smoke"), say=said.append)
    assert said == ["seed 0: evaluating finetune-PointPoles in PointPoles, 4 episodes"]


def test_a_kept_agent_that_saw_the_world_otherwise_is_refused(finished, tmp_path):
    out, _, _ = finished
    plan = TransferPlan(to=("PointPoles",), agent=str(out / "seed-0" / "pretrain"), films=False)
    settings = settings_io.updated(preset("smoke"), {"env": {"action_repeat": 2}})
    with pytest.raises(SettingError, match=r"env.action_repeat \(4, here 2\)"):
        run_transfer(tmp_path / "out", plan, settings)


@pytest.mark.parametrize(
    ("changes", "settings", "complaint"),
    [
        ({"reference": "nowhere"}, {}, "nowhere is not a transfer directory"),
        ({"agent": True}, {"hidden": 16}, r"another agent\.hidden \(32, here 16\)"),
        ({"agent": True, "env": "DoggoWalls", "to": ("DoggoPoles",)}, {}, "trained with Point"),
        ({"agent": True, "carry": "replay"}, {}, "holds no replay to carry over"),
        (
            {"finetune": {"agent": {"hidden": 64}}},
            {},
            r"fine-tuning cannot have another agent\.hid",
        ),
        ({"finetune": {"agent": {"lr": 0.0}}}, {}, r"agent\.lr is 0\.0"),
        ({"env": "PointEmpty", "to": ("PointPoles",), "poles": 100_000}, {}, "do not fit"),
        ({"agent": True, "carry": "optimisers"}, {}, "has no optimiser states"),
    ],
)
def test_what_cannot_work_is_refused_before_the_plan_is_written(
    finished, tmp_path, changes, settings, complaint
):
    """Or the right command would be refused after it, as another experiment."""
    keep(finished[0] / "seed-0" / "pretrain", tmp_path / "kept")
    if "agent" in changes:
        changes = changes | {"agent": str(tmp_path / "kept")}
    changes, poles = dict(changes), changes.get("poles", 30)
    changes.pop("poles", None)
    plan = dataclasses.replace(PLAN, films=False, **changes)
    given = preset("smoke", "Doggo" if plan.env.startswith("Doggo") else "Point")
    given.agent = dataclasses.replace(given.agent, **settings)
    given.env = dataclasses.replace(given.env, poles=poles)
    with pytest.raises((SettingError, CheckpointError), match=complaint):
        run_transfer(tmp_path / "out", plan, given)
    assert not (tmp_path / "out").exists()


def test_a_run_s_or_a_study_s_directory_is_not_written_into(finished, tmp_path):
    (tmp_path / "study.json").write_text("{}")
    for out, what in ((finished[0] / "seed-0" / "pretrain", "a run"), (tmp_path, "a study")):
        with pytest.raises(SettingError, match=f"holds {what} already"):
            run_transfer(out, PLAN, preset("smoke"))


def test_another_reference_is_the_same_experiment(finished, tmp_path):
    out = tmp_path / "out"
    plan = dataclasses.replace(PLAN, scratch=False, films=False, episodes=1)
    run_transfer(out, plan, preset("smoke"))
    assert not list(out.glob("seed-0/scratch-*"))
    run_transfer(out, dataclasses.replace(plan, reference=str(finished[0])), preset("smoke"))
    assert (out / "seed-0" / "scratch-PointPoles" / transfer.REFERENCE).exists()


def test_more_seeds_join_those_that_are_there(finished, tmp_path):
    out, _, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    more = dataclasses.replace(PLAN, seeds=(1,), to=("PointPoles",), scratch=False, films=False)
    run_transfer(copy, more, preset("smoke"), say=lambda text: None)
    plan = json.loads((copy / "transfer.json").read_text())
    assert plan["seeds"] == [0, 1] and plan["to"] == ["PointPoles", "PointHumanoids"]
