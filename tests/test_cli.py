"""The command line: help that is complete, errors that help, JSON that stands alone."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from safetransfer import cli, settings_io
from safetransfer.report import film
from safetransfer.training import evaluate, loop
from safetransfer.training.settings import Settings, preset

RESULTS = Path(__file__).resolve().parents[1] / "results"


def leaves(settings: dict, prefix: str = "") -> list[str]:
    names = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        names += leaves(value, f"{name}.") if isinstance(value, dict) else [name]
    return names


def help_of(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([*argv, "--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def refused(capsys, *argv: str) -> str:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("safetransfer: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture
def trained(monkeypatch) -> list[tuple]:
    """What `train` was called with, in place of training."""
    calls: list[tuple] = []
    monkeypatch.setattr(loop, "train", lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.delenv("SAFETRANSFER_MOCAP", raising=False)
    return calls


def settings_of(trained: list[tuple], *argv: str) -> Settings:
    assert cli.main(["train", "--run", "somewhere", *argv]) == 0
    return trained.pop()[0][0]


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_has_help(capsys, command):
    text = help_of(capsys, command)
    assert text.startswith(f"usage: safetransfer {command} ")
    assert cli.COMMANDS[command].help in text
    assert command in help_of(capsys)


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_help_shows_every_setting_with_help_and_default(capsys, command):
    text = help_of(capsys, command)
    names = leaves(settings_io.to_dict(preset("laptop")))
    assert len(names) > 40
    for name in names:
        help_and_default = text.split(f"--{name} ")[1].split("(default: ")[0]
        assert len(help_and_default.split()) > 2, name


def test_help_shows_the_defaults_of_the_preset_beside_it(capsys):
    for name in ("laptop", "paper"):
        text = help_of(capsys, "train", "--preset", name)
        line = text.split("--agent.gamma NUMBER")[1]
        shown = line.split("(default: ")[1].split(")")[0]
        assert float(shown) == preset(name).agent.gamma


def default_in_help(text: str, flag: str) -> str:
    return text.split(f"--{flag} ")[1].split("(default: ")[1].split(")")[0]


@pytest.mark.parametrize(
    ("argv", "robot"),
    [
        (["train"], "Point"),
        (["train", "--env", "DoggoPoles"], "Doggo"),
        (["train", "--env.robot=Doggo"], "Doggo"),
        (["transfer", "--from", "DoggoPoles"], "Doggo"),
    ],
)
def test_help_shows_the_defaults_of_the_robot_of_the_environment_beside_it(capsys, argv, robot):
    text, settings = help_of(capsys, *argv), preset("laptop", robot)
    assert default_in_help(text, "env.action_repeat") == str(settings.env.action_repeat)
    assert default_in_help(text, "train.num_envs") == str(settings.train.num_envs)
    shown = default_in_help(text, "agent.target_entropy")
    assert shown == str(settings.agent.target_entropy).lower()
    assert preset("laptop", "Doggo").agent.target_entropy == -6.0
    assert preset("laptop", "Doggo").env.action_repeat == 1 < preset("laptop").env.action_repeat


def test_help_needs_no_heavy_imports():
    code = (
        "import sys\nfrom safetransfer.cli import COMMANDS, main\n"
        "for command in [], *([name] for name in COMMANDS):\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit: pass\n"
        "    assert not {'torch', 'numba', 'ray'} & set(sys.modules), command"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--finetune-epochs" in result.stdout


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], ["unknown command 'trian'", "Did you mean 'train'", "evaluate"]),
        (["--versoin"], ["--versoin", "--version"]),
        (["train", "--run", "x", "--env", "PointWals"], ["PointWalls", "PointPoles"]),
        (["train", "--run", "x", "--preset", "lapptop"], ["laptop, paper, smoke"]),
        (["train", "--run", "x", "--agent.gama", "1"], ["--agent.gamma", "--agent.feedback"]),
        (["train", "--run", "x", "--agent.gamma", "x"], ['agent.gamma: got "x"', "a number"]),
        (["train", "--run", "x", "--train.device", "tpu"], ["auto, cpu, cuda"]),
        (["train", "--run", "x", "--env.robot", "Spot"], ["robot", "Point", "Doggo"]),
        (["transfer", "--out", "x", "--from", "DogoWalls"], ["DoggoWalls"]),
        (["train", "--run", "x", "--env.walls", "-1"], ["walls", "0"]),
        (
            ["train", "--run", "x", "--env", "PointPoles", "--env.obstacles", "Walls"],
            ["PointPoles has obstacles Poles", "--env.obstacles Walls"],
        ),
        (["train", "--run", "x", "--train.decisions_per_update", "inf"], ["above 0, and finite"]),
        (["train", "--run", "x", "--carry", "policy"], ["--carry policy", "--init"]),
        (["train", "--run", "x", "--carry", "all"], ["policy, weights, multiplier"]),
        (["train", "--run", "x", "more"], ["more"]),
        (["train", "--run", "x", "--backend", "spark"], ["'spark'", "local, ray"]),
        (["train", "--run", "x", "--num-actors", "4"], ["--num-actors needs --backend ray"]),
        (["train"], ["--run", "safetransfer train --help"]),
        (["train", "--run", "x", "--mocap", "/no/such/folder"], ["/no/such/folder"]),
        (["train", "--run", "x", "--config", "no.json"], ["no.json", "No such file"]),
        (["transfer", "--out", "x", "--to", "PointWals"], ["PointWalls"]),
        (["transfer", "--out", "x", "--finetune-with", "agent.lrr=1"], ["agent.lrr", "gamma"]),
        (["transfer", "--out", "x", "--finetune-with", "agent.lr"], ["NAME=VALUE"]),
        (
            ["transfer", "--out", "x", "--from", "DoggoWalls", "--start-with", "agent.lr"],
            ["--start-with", "NAME=VALUE"],
        ),
        (
            ["transfer", "--out", "x", "--from", "DoggoWalls", "--start-with", "env.robot=Point"],
            ["--start-with does not take env.robot", "--from"],
        ),
        (
            ["transfer", "--out", "x", "--finetune-with", "train.epochs=2"],
            ["--finetune-with does not take train.epochs", "--finetune-epochs"],
        ),
        (["transfer", "--out", "x", "--start-with", "agent.lr=1"], ["--start-with", "--start-in"]),
        (["transfer", "--out", "x", "--start-epochs", "1"], ["--start-epochs", "--start-in"]),
        (["evaluate", "x", "--env", "PointPole"], ["PointPoles"]),
        (["train", "--run", "x", "--env", ""], ["name is empty"]),
        (["transfer", "--out", "x", "--from", "MountainCarContinuous-v0"], ["needs --to"]),
        (
            ["evaluate", "x", "--env", "Pendulum-v1", "--env.max_steps", "5", "--keep"],
            ["--keep is for Pendulum-v1 as it is"],
        ),
        (["evaluate", "x", "--env", "PointPoles", "--episodes", "0"], ["0 is not 1 or more"]),
        (["evaluate", "/no/agent", "--env", "PointPoles"], ["no checkpoint at /no/agent"]),
        (["evaluate", "x", "--env", "PointPoles", "--act-by", "luck"], ["mode, sample"]),
        (["evaluate", "x", "--env", "PointPoles", "--act-by", "1.5"], ["share from 0 to 1"]),
        (["watch", "x", "--env", "PointPoles", "--out", "a.mp4", "--act-by", "mod"], ["'mode'"]),
        (["bench", "everything"], ["actors, camera, collector, env, learner, peer, train"]),
        (["watch", "x", "--env", "PointPoles", "--out", "a.avi"], [".mp4", ".gif"]),
        (["mocap", "upload", "x"], ["download"]),
    ],
)
def test_bad_input_is_answered_with_what_would_be_right(capsys, monkeypatch, argv, words):
    monkeypatch.delenv("SAFETRANSFER_MOCAP", raising=False)
    message = refused(capsys, *argv)
    assert all(word in message for word in words), message


def test_without_a_command_the_overview_is_shown(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2
    assert "transfer" in capsys.readouterr().out


def test_settings_come_from_preset_file_environment_and_flags_in_this_order(trained, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[env]\nobstacles = "Poles"\nwalls = 5\n[agent]\ngamma = 0.5\n[train]\nepochs = 7\n'
    )
    assert settings_of(trained) == preset("laptop")
    assert settings_of(trained, "--preset", "smoke") == preset("smoke")

    settings = settings_of(
        *(trained, "--preset", "smoke", "--config", str(file)),
        *("--env", "PointHumanoids", "--train.epochs", "9", "--env.people", "3"),
    )
    assert settings.agent.horizon == preset("smoke").agent.horizon  # the preset's
    assert (settings.env.walls, settings.agent.gamma) == (5, 0.5)  # the file's
    assert settings.env.obstacles == "Humanoids"  # the named environment's, over the file's
    assert (settings.train.epochs, settings.env.people) == (9, 3)  # the flags', over both


def test_each_robot_has_its_own_defaults_which_file_and_flags_go_over(trained, tmp_path):
    doggo = preset("laptop", "Doggo")
    assert settings_of(trained, "--env", "DoggoWalls") == doggo
    assert settings_of(trained, "--env.robot", "Doggo") == doggo
    assert settings_of(trained, "--env", "DoggoPoles", "--train.num_envs", "9").train.num_envs == 9

    file = tmp_path / "mine.toml"
    file.write_text('[env]\nrobot = "Doggo"\n[agent]\ntarget_entropy = -3.0\n')
    settings = settings_of(trained, "--config", str(file))
    assert (settings.env.robot, settings.agent.target_entropy) == ("Doggo", -3.0)
    assert settings.train.num_envs == doggo.train.num_envs  # the preset's for the file's robot
    point = settings_of(trained, "--config", str(file), "--env", "PointWalls")
    assert (point.env.robot, point.agent.target_entropy) == ("Point", -3.0)
    assert point.train.num_envs == preset("laptop").train.num_envs


def test_a_run_that_ends_before_its_constraint_begins_says_so(capsys, monkeypatch):
    monkeypatch.setattr("safetransfer.training.loop.train", lambda *given, **more: None)
    argv = ["train", "--run", "x", "--train.epoch_updates", "100", "--train.epochs"]
    for epochs, more, said in (
        ("20", [], True),
        ("21", [], False),
        ("20", ["--agent.constraint", "off"], False),
    ):
        assert cli.main([*argv, epochs, *more]) == 0
        words = "constraint_warmup is 2000 updates, and the whole run 2000"
        assert (words in capsys.readouterr().err) == said
    monkeypatch.setattr("safetransfer.experiments.transfer.run_transfer", lambda *a, **k: "page")
    argv = ["transfer", "--out", "x", "--train.epoch_updates", "100", "--pretrain-epochs", "20"]
    for more, said in (([], True), (["--agent", "kept"], False)):
        assert cli.main([*argv, *more]) == 0
        assert (words in capsys.readouterr().err) == said


def test_a_transfer_goes_to_hallways_of_its_own_robot(monkeypatch):
    from safetransfer.experiments import transfer

    plans = []
    monkeypatch.setattr(transfer, "run_transfer", lambda out, plan, *a, **k: plans.append(plan))
    monkeypatch.delenv("SAFETRANSFER_MOCAP", raising=False)
    assert cli.main(["transfer", "--out", "x", "--from", "DoggoWalls"]) == 0
    assert cli.main(["transfer", "--out", "x"]) == 0
    assert [plan.to for plan in plans] == [
        ("DoggoPoles", "DoggoHumanoids"),
        ("PointPoles", "PointHumanoids"),
    ]


@pytest.mark.parametrize(
    ("argv", "start", "horizon"),
    [
        (["--from", "DoggoWalls"], "DoggoEmpty", 12),
        (["--from", "PointWalls"], None, None),
        (["--from", "DoggoWalls", "--preset", "paper"], None, None),
        (["--from", "DoggoWalls", "--start-in", "none"], None, None),
        (["--from", "DoggoWalls", "--start-in", "DoggoPoles"], "DoggoPoles", 12),
        (["--from", "DoggoWalls", "--start-with", "agent.horizon=6"], "DoggoEmpty", 6),
        (["--from", "DoggoWalls", "--agent", "some/agent"], None, None),
        (["--from", "DoggoEmpty"], None, None),
    ],
)
def test_a_transfer_has_the_robot_learn_to_move_first_where_it_must(
    monkeypatch, argv, start, horizon
):
    plans = []
    monkeypatch.setattr(
        "safetransfer.experiments.transfer.run_transfer",
        lambda out, plan, *args, **kwargs: plans.append(plan),
    )
    assert cli.main(["transfer", *argv, "--out", "runs/x"]) == 0
    assert plans[0].start_in == start
    assert plans[0].start.get("agent", {}).get("horizon") == horizon


def test_where_a_robot_learns_to_move_it_is_trained_as_a_transfer_would(monkeypatch, trained):
    plans = []
    monkeypatch.setattr(
        "safetransfer.experiments.transfer.run_transfer",
        lambda out, plan, settings, **kwargs: plans.append((plan, settings)),
    )
    assert cli.main(["transfer", "--from", "DoggoWalls", "--out", "runs/x"]) == 0
    plan, settings = plans[0]
    expected = settings_io.updated(settings, plan.start)
    expected = settings_io.updated(
        expected, {"env": {"obstacles": "Empty"}, "train": {"epochs": plan.start_epochs}}
    )
    assert settings_of(trained, "--env", "DoggoEmpty") == expected
    assert settings_of(trained, "--env.robot", "Doggo", "--env.obstacles", "Empty") == expected
    assert settings_of(trained, "--env", "DoggoEmpty", "--agent.horizon", "8").agent.horizon == 8
    assert settings_of(trained, "--env", "DoggoEmpty", "--preset", "paper").agent.horizon == 30


ASKED = ("--finetune-with", "train.num_envs=8")


@pytest.mark.parametrize(
    ("argv", "epochs", "hallways", "first_multiplier"),
    [
        (["--from", "PointWalls"], 3, 16, 1.0),
        (["--from", "DoggoWalls"], 10, 32, 1.5),
        (["--from", "DoggoWalls", "--preset", "paper"], 3, 16, 1.0),
        (["--from", "DoggoWalls", "--agent", "some/agent"], 10, 32, 1.5),
        (["--from", "DoggoWalls", "--finetune-epochs", "2", *ASKED], 2, 8, 1.5),
    ],
)
def test_after_a_move_a_robot_is_trained_in_its_own_way_or_as_asked(
    monkeypatch, argv, epochs, hallways, first_multiplier
):
    plans = []
    monkeypatch.setattr(
        "safetransfer.experiments.transfer.run_transfer",
        lambda out, plan, *args, **kwargs: plans.append(plan),
    )
    assert cli.main(["transfer", *argv, "--out", "runs/x"]) == 0
    assert plans[0].finetune_epochs == epochs
    assert plans[0].finetune["train"]["num_envs"] == hallways
    assert plans[0].finetune["agent"]["multiplier_init"] == first_multiplier
    assert plans[0].finetune["agent"]["constraint_warmup"] == 0


def test_the_configuration_of_a_run_is_a_settings_file(trained, tmp_path):
    settings = settings_of(trained, "--preset", "smoke", "--agent.gamma", "0.5")
    config = {"settings": settings_io.to_dict(settings), "command": "safetransfer train"}
    settings_io.write_json(tmp_path / "config.json", config)
    assert settings_of(trained, "--config", str(tmp_path / "config.json")) == settings


def test_clips_come_from_flag_then_file_then_variable(trained, tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    assert settings_of(trained).env.mocap is None
    monkeypatch.setenv("SAFETRANSFER_MOCAP", str(one))
    assert settings_of(trained).env.mocap == str(one)
    assert settings_of(trained, "--mocap", str(two)).env.mocap == str(two)
    assert settings_of(trained, "--mocap", "none").env.mocap is None
    file = tmp_path / "mine.toml"
    file.write_text(f"[env]\nmocap = {json.dumps(str(two))}\n")
    assert settings_of(trained, "--config", str(file)).env.mocap == str(two)
    both = ("--config", str(file), "--mocap", str(one))
    assert settings_of(trained, *both).env.mocap == str(one)


def test_device_is_short_for_train_device(trained):
    assert settings_of(trained, "--device", "cpu").train.device == "cpu"


def test_the_command_that_was_typed_is_recorded(trained):
    argv = ["train", "--run", "a dir", "--init", "old", "--carry", "policy"]
    cli.main(argv)
    (_, run), options = trained.pop()
    assert run == "a dir"
    assert options["command"] == "safetransfer train --run 'a dir' --init old --carry policy"
    assert (options["init"], options["carry"]) == ("old", "policy")


def test_json_stands_alone_on_standard_output(capsys, monkeypatch):
    result = {"env": "PointPoles", "episodes": 3, "return": {"mean": 1.0, "ci95": [0.5, 1.5]}}

    def evaluate_checkpoint(*args, **kwargs):
        print("something that a library says")
        return result

    monkeypatch.setattr(evaluate, "evaluate_checkpoint", evaluate_checkpoint)
    argv = ["evaluate", "agent", "--env", "PointPoles", "--episodes", "3"]
    assert cli.main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result
    assert "something that a library says" in captured.err
    assert cli.main(argv) == 0
    assert "return: 1.00 (95%: 0.50 to 1.50)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("act_by", "noise"), [(None, None), ("mode", 0.0), ("sample", 1.0), ("0.25", 0.25)]
)
def test_evaluate_and_watch_hand_over_what_they_were_given(
    capsys, monkeypatch, tmp_path, act_by, noise
):
    calls = []

    def called(*args, **kwargs):
        calls.append((args, kwargs))
        return {}

    monkeypatch.setattr(evaluate, "evaluate_checkpoint", called)
    monkeypatch.setattr(film, "film", called)
    more = ["--episodes", "3", "--seed", "5", "--mocap", str(tmp_path)]
    more += ["--act-by", act_by] if act_by else []
    assert cli.main(["evaluate", "agent", "--env", "PointPoles", *more]) == 0
    assert cli.main(["watch", "agent", "--env", "PointPoles", "--out", "a.mp4", *more]) == 0
    (evaluated, how), (filmed, so) = calls
    assert evaluated == ("agent", "PointPoles", 3, 5) and filmed == ("agent", "PointPoles", "a.mp4")
    assert (so["episodes"], so["seed"]) == (3, 5)
    for options in (how, so):
        assert (options["noise"], options["mocap"]) == (noise, str(tmp_path))


def test_a_download_is_of_what_was_asked_for(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "safetransfer.envs.mocap.download.download",
        lambda *args, **kwargs: calls.append((*args, kwargs)) or ["a file"],
    )
    command = ["mocap", "download", "clips"]
    assert cli.main([*command, "--trials", "02_01", "--base-url", "http://x", "--no-verify"]) == 0
    assert cli.main(command) == 0
    assert calls[0] == ("clips", ["02_01"], {"base_url": "http://x", "verify": False})
    assert len(calls[1][1]) > 20 and calls[1][2]["verify"] is True
    assert "1 files in clips" in capsys.readouterr().out


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", interrupted)
    assert cli.main(["train", "--run", "x"]) == 130
    assert "same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(unbuffered):
    command = (
        f"{sys.executable} -m safetransfer report {RESULTS / 'point'} --markdown | true;"
        "echo ${PIPESTATUS[0]}"
    )
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("0", "")


def test_another_broken_pipe_is_an_error(capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")  # of a worker's, for instance

    monkeypatch.setattr(loop, "train", broken)
    assert "Broken pipe" in refused(capsys, "train", "--run", "x")


def test_a_path_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(capsys, "train", "--preset", "smoke", "--run", str(tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in message


def test_train_then_evaluate_then_other_settings(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("SAFETRANSFER_MOCAP", raising=False)
    run = str(tmp_path / "run")
    command = ["train", "--preset", "smoke", "--env", "PointWalls", "--run", run]
    command += ["--train.epochs", "1", "--train.epoch_updates", "2"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == ""
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["train"]["epoch_updates"] == 2

    assert cli.main(["evaluate", run, "--env", "PointPoles", "--episodes", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["env"], result["episodes"]) == ("PointPoles", 2)
    low, high = result["return"]["ci95"]
    assert low <= result["return"]["mean"] <= high

    message = refused(capsys, *command, "--agent.gamma", "0.5")
    assert "agent.gamma" in message and "0.5" in message
    assert "drives Point" in refused(capsys, "evaluate", run, "--env", "DoggoPoles")
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert cli.main(command) == 0  # nothing is left to do
    assert (tmp_path / "run" / "log.jsonl").read_text() == log
    capsys.readouterr()

    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "cut short" in refused(capsys, "evaluate", run, "--env", "PointPoles")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate AGENT --env PointPoles --seed -4", "-4 is not 0 or more"),
        ("watch AGENT --env PointPoles --out a.mp4 --seed -1", "-1 is not 0 or more"),
        ("transfer --out OUT --seeds 1 -1", "-1 is not 0 or more"),
        ("train --run OUT --train.seed -1", "train.seed is -1; it must be from 0"),
        ("train --run OUT --agent.lr inf", "agent.lr is inf; it must be above 0, and finite"),
        ("train --run OUT --seed 3", "Did you mean '--train.seed'?"),
        ("train --run OUT --lr 1e-3", "Known: --agent.lr"),
        ("train --run FULL", "is not empty, and no run's directory: it holds notes.md"),
        ("train --run FULL/notes.md", "notes.md is a file; a run needs a directory"),
        ("evaluate AGENT --env PointPoles --env.width 3", "study --vary width"),
        ("keep FULL FULL", "that is where it is"),
        ("report FULL --markdown --out x.html", "One of them"),
        ("watch AGENT --env PointPoles --out a.mp4 --speed 0", "a speed above 0, not 0"),
    ],
)
def test_what_cannot_work_is_refused_in_plain_words(command, said, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.md").write_text("mine")
    for name, path in (("OUT", "out"), ("FULL", "full"), ("AGENT", "agent")):
        command = command.replace(name, str(tmp_path / path))
    try:
        code = cli.main(command.split())
    except SystemExit as left:  # argparse's own way out
        code = left.code
    assert code == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.md"]
    assert not (tmp_path / "out").exists()
