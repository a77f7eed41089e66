"""An environment that is not ours, from training to report, as its owner would go about it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import toy_environments as toys

from safetransfer import settings_io
from safetransfer.cli import main
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.errors import CheckpointError, SettingError
from safetransfer.training import checkpoint, loop
from safetransfer.training.evaluate import evaluate_checkpoint, load_policy
from safetransfer.training.keep import keep
from safetransfer.training.logs import read_rows
from safetransfer.training.loop import train
from safetransfer.training.settings import Settings, preset

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LITTLE = ["--preset", "smoke", "--episodes", "2"]


@pytest.fixture
def in_examples(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(EXAMPLES))])


def smoke(env_id: str, **env) -> Settings:
    settings = preset("smoke")
    settings.env = GymSettings(env_id, **env)
    return settings


@pytest.mark.parametrize("observations", ["VECTOR", "IMAGE", "BOTH"])
def test_agents_train_and_act_with_any_supported_observation(observations, tmp_path):
    env_id = toys.register(f"Train{observations}", observations=getattr(toys, observations))
    row = train(smoke(env_id), tmp_path)
    # 1 + 2 + ... + 5 in each episode, whatever the agent does.
    assert (row["return"], row["cost"], row["length"]) == (15.0, 150.0, 5.0)
    result = evaluate_checkpoint(tmp_path, env_id, episodes=2)
    assert result["per_episode"] == {"return": [15.0] * 2, "cost": [150.0] * 2, "length": [5.0] * 2}


def test_configuration_and_checkpoint_tell_which_kind_of_environment(tmp_path):
    env_id = toys.register("Kind", cost="danger")
    settings = smoke(env_id, cost_key="danger", kwargs={"length": 4}, action_repeat=2)
    train(settings, tmp_path / "run")
    read = settings_io.read_settings(tmp_path / "run" / "config.json")
    assert settings_io.from_dict(Settings, read) == settings
    assert load_policy(tmp_path / "run").settings == settings
    keep(tmp_path / "run", tmp_path / "results" / "kept")
    entry = json.loads((tmp_path / "results" / "agents.json").read_text())[0]
    assert (entry["robot"], entry["env"]) == (None, env_id)
    result = evaluate_checkpoint(tmp_path / "results" / "kept", env_id, episodes=1)
    assert result["per_episode"]["length"] == [4.0]


def test_a_run_that_is_interrupted_goes_on_with_new_episodes_and_says_so(
    tmp_path, monkeypatch, capsys
):
    settings = smoke(toys.register("Resumed"))
    settings.train.epochs, settings.train.checkpoint_replay = 4, True
    collected = loop.Run._collect

    def interrupting(self):
        if self.counters["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)
        return collected(self)

    settings.train.threads = 1
    monkeypatch.setattr(loop.Run, "_collect", interrupting)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path)
    monkeypatch.setattr(loop.Run, "_collect", collected)
    assert checkpoint.load(tmp_path)["collector"]["env"] is None
    capsys.readouterr()
    train(settings, tmp_path)
    assert "with new episodes: those of toys/Resumed-v0" in capsys.readouterr().err
    rows = read_rows(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    # No episode was joined from two halves.
    assert {row["return"] for row in rows} == {15.0} and {row["length"] for row in rows} == {5.0}


@pytest.mark.parametrize("vector", ["sync", "async"])
def test_a_terminal_s_interrupt_reaches_workers_too_and_the_run_is_kept(vector, tmp_path):
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import toy_environments as toys
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.training.loop import train
from safetransfer.training.settings import preset
if __name__ == "__main__":
    settings = preset("smoke")
    settings.env = GymSettings(toys.register("Interrupted"), vector=sys.argv[3])
    settings.train.epochs = 100_000
    train(settings, sys.argv[2])
"""
    script, run = tmp_path / "script.py", tmp_path / "run"
    script.write_text(program)
    process = subprocess.Popen(
        [sys.executable, script, Path(__file__).parent, run, vector],
        start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while len(read_rows(run)) < 2 and time.monotonic() < until:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert checkpoint.load(run)["counters"]["epoch"] >= 2


@pytest.mark.parametrize("what", list(toys.UNSUPPORTED))
def test_nothing_is_written_for_an_environment_that_is_refused(what, tmp_path, capsys):
    kwargs, _ = toys.UNSUPPORTED[what]
    env_id = toys.register("Refused", **kwargs)
    command = ["train", "--preset", "smoke", "--env", env_id, "--run", str(tmp_path / "run")]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"safetransfer: {env_id}: ")
    assert not (tmp_path / "run").exists()


def test_an_image_that_is_too_small_is_refused_with_the_network_s_needs(tmp_path):
    tiny = gymnasium.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    with pytest.raises(SettingError, match=r"8 x 8.*'patch'.*15 x 15"):
        train(smoke(toys.register("Tiny", toys.Blank, observations=tiny)), tmp_path)


def test_moving_between_unequal_spaces_is_refused_before_anything_runs(tmp_path, capsys):
    one, other = toys.register("One"), toys.register("Two", observations=toys.BOTH)
    out = tmp_path / "out"
    assert main(["transfer", "--out", str(out), "--from", one, "--to", other, *LITTLE]) == 2
    assert "cannot move from toys/One-v0 to toys/Two-v0" in capsys.readouterr().err
    assert main(["transfer", "--out", str(out), "--from", one, "--to", "PointPoles", *LITTLE]) == 2
    assert "cannot move from toys/One-v0 to PointPoles" in capsys.readouterr().err
    assert not out.exists()
    train(smoke(one), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"trained with no picture, 2 other inputs"):
        evaluate_checkpoint(tmp_path / "run", other, episodes=1)


def test_a_flag_of_the_environment_s_settings(tmp_path, capsys):
    env_id = toys.register("Flags", cost="danger")
    run = ["train", "--preset", "smoke", "--env", env_id, "--run", str(tmp_path / "run")]
    assert main([*run, "--env.cost_key", "danger", "--env.kwargs", '{"length": 3}']) == 0
    argv = ["evaluate", str(tmp_path / "run"), "--env", env_id, "--episodes", "1", "--json"]
    capsys.readouterr()
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["length"]["mean"] == 3
    assert main([*argv, "--env.max_steps", "2", "--env.cost_key", "none"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["length"]["mean"], result["cost"]["mean"]) == (2, 0)
    assert main([*run, "--env.kwargs", "[1]"]) == 2
    assert 'env.kwargs: got "[1]"' in capsys.readouterr().err
    assert main([*run, "--env.walls", "3"]) == 2
    assert "--env.cost_key" in capsys.readouterr().err


def test_a_transfer_between_environments_of_the_registry(in_examples, tmp_path, capsys):
    """The example of an environment from the registry: Pendulum, with a limit on its speed."""
    out = tmp_path / "out"
    light, heavy = "speed_limit:LightPendulum-v0", "speed_limit:HeavyPendulum-v0"
    command = ["transfer", "--from", light, "--to", heavy, "--out", str(out), *LITTLE, "--no-films"]
    assert main(command) == 0
    stages = {p.name for p in (out / "seed-0").iterdir()}
    assert stages == {"pretrain", "evaluations", "finetune-speed_limit_HeavyPendulum-v0",
                      "scratch-speed_limit_HeavyPendulum-v0"}  # fmt: skip
    page = (out / "report.html").read_text()
    assert "agent from LightPendulum-v0 to HeavyPendulum-v0" in page
    # The limit of 0.01 a step, over the 200 steps that are registered.
    assert "limit of 2 per episode" in page
    assert 'class="paper"' not in page and "hallway" not in page.partition("Configuration")[0]
    capsys.readouterr()
    assert main(["report", str(out), "--markdown"]) == 0
    table = capsys.readouterr().out
    assert "| **HeavyPendulum-v0** zero-shot |" in table and "paper" not in table
    assert main(command) == 0  # nothing is left to do
    assert "pre-training" not in capsys.readouterr().err


def test_the_example_of_an_own_environment(in_examples, tmp_path, capsys):
    out, run = tmp_path / "out", str(tmp_path / "run")
    practice, deployment = "costly_region:Practice-v0", "costly_region:Deployment-v0"
    assert main(["train", "--env", practice, "--preset", "smoke", "--run", run]) == 0
    assert main(["evaluate", run, "--env", deployment, "--episodes", "2"]) == 0
    assert main(["watch", run, "--env", deployment, "--out", str(tmp_path / "a.gif")]) == 0
    assert (tmp_path / "a.gif").read_bytes()[:3] == b"GIF"
    transfer = ["transfer", "--from", practice, "--to", deployment, "--out", str(out), *LITTLE]
    assert main([*transfer, "--agent", run, "--no-scratch"]) == 0
    # The settings that the walk-through gives are settings, and go with this environment.
    file = settings_io.read_settings(EXAMPLES / "costly_region.toml")
    assert settings_io.updated(preset("laptop"), file).train.epochs == 6
    films = {p.name for p in (out / "seed-0" / "films").iterdir()}
    assert films == {f"{way}-costly_region_Deployment-v0.mp4" for way in ("zeroshot", "finetune")}
    assert "Deployment-v0, after fine-tuning there" in (out / "report.html").read_text()


def test_the_examples_follow_gymnasium_s_rules(in_examples):
    from gymnasium.utils.env_checker import check_env

    from safetransfer.envs.naming import find_spec

    for name in ("costly_region:Practice-v0", "costly_region:Deployment-v0"):
        check_env(gymnasium.make(find_spec(name)).unwrapped)


def test_a_transfer_goes_on_where_drawing_fails(tmp_path, capsys, monkeypatch):
    def fail(env):
        raise ImportError("no pygame here")

    monkeypatch.setattr(toys.Counting, "render", fail)
    env_id, out = toys.register("Undrawn"), tmp_path / "out"
    command = ["transfer", "--from", env_id, "--to", env_id, "--out", str(out), *LITTLE]
    assert main([*command, "--no-scratch"]) == 0
    assert "no film" in (said := capsys.readouterr().err) and "no pygame here" in said
    assert not list(out.rglob("*.mp4"))
    assert (out / "seed-0" / "evaluations" / "finetune-toys_Undrawn-v0.json").exists()


def test_an_agent_of_other_spaces_is_refused_as_a_start(tmp_path, capsys):
    env_id, run = toys.register("Other"), tmp_path / "run"
    train(smoke(env_id), run)
    here = ["--preset", "smoke", "--env", "PointPoles", "--run", str(tmp_path / "next")]
    assert main(["train", *here, "--init", str(run)]) == 2
    assert "PointPoles has a 50 x 50 x 1 picture, 12 other inputs" in capsys.readouterr().err
    move = ["transfer", "--preset", "smoke", "--agent", str(run), "--to", "PointPoles"]
    assert main([*move, "--out", str(tmp_path / "out")]) == 2
    assert "--from names the one" in capsys.readouterr().err


def test_what_cannot_be_filmed_says_so(tmp_path, capsys):
    env_id = toys.register("Dark", toys.Dark)
    train(smoke(env_id), tmp_path / "run")
    film = ["watch", str(tmp_path / "run"), "--env", env_id, "--out", str(tmp_path / "a.mp4")]
    assert main(film) == 2
    assert "toys/Dark-v0" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.mp4"))
