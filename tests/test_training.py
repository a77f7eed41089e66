"""Training as a user meets it: it learns, it can be killed and goes on, it can be repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy_environments as toys

from safetransfer import settings_io
from safetransfer.agent.networks import Shapes
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.errors import CheckpointError, SettingError, TrainingError, UnknownNameError
from safetransfer.training import checkpoint
from safetransfer.training.build import make_env
from safetransfer.training.evaluate import (
    EVALUATION_SEED,
    environment_settings,
    evaluate,
    evaluate_checkpoint,
    load_policy,
)
from safetransfer.training.keep import keep
from safetransfer.training.lock import locked
from safetransfer.training.logs import read_rows
from safetransfer.training.loop import Run, train
from safetransfer.training.machine import _container_limits
from safetransfer.training.settings import preset

TIMES = (
    "wall_s", "steps_per_s", "updates_per_s", "collector_wait_share", "learner_wait_share",
    "helper_share",
)  # fmt: skip


def smoke(**changes):
    sections: dict[str, dict] = {"train": {"checkpoint_minutes": 0.0}}
    for key, value in changes.items():
        section, field = key.split("__")
        sections.setdefault(section, {})[field] = value
    return settings_io.updated(preset("smoke"), sections)


def untimed(rows):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def test_a_minute_of_training_doubles_the_return_in_an_empty_hallway(tmp_path):
    settings = settings_io.updated(
        preset("laptop"),
        {
            "env": {"obstacles": "Empty"},
            "train": {"epochs": 1, "epoch_updates": 1, "tensorboard": False},
        },
    )
    train(settings, tmp_path)
    where = environment_settings(load_policy(tmp_path), "PointWalls", max_steps=400)
    where = settings_io.updated(where, {"obstacles": "Empty"})
    # The untrained policy's return depends on its first random weights; walking about does not.
    before = np.mean(evaluate(load_policy(tmp_path, noise=1.0), where, 16)["return"])
    settings.train.epochs, settings.train.epoch_updates = 5, 160
    train(settings, tmp_path / "trained")
    after = np.mean(evaluate(load_policy(tmp_path / "trained", noise=1.0), where, 16)["return"])
    assert after > 150 and after > 2 * before


def test_a_run_that_ended_before_its_first_checkpoint_makes_room_for_another(tmp_path):
    settings = smoke(train__epochs=1, train__epoch_updates=1)
    Run(settings, tmp_path)  # writes config.json, and ends
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n')
    settings.agent.lr = 1e-4
    train(settings, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["settings"]["agent"]["lr"] == 1e-4
    assert [row["updates"] for row in read_rows(tmp_path)] == [1]
    settings.agent.lr = 2e-4  # now there is something to lose
    with pytest.raises(SettingError, match=r"agent\.lr: 0\.0001 -> 0\.0002"):
        train(settings, tmp_path)


def test_two_processes_do_not_train_one_run(tmp_path):
    settings = smoke(train__epochs=1, train__epoch_updates=1)
    other = smoke(train__epochs=1, train__epoch_updates=1, agent__lr=1e-4)
    with locked(tmp_path), pytest.raises(TrainingError, match="another process is training"):
        train(other, tmp_path)
    assert not (tmp_path / "config.json").exists()  # which is the other process's to write
    assert train(settings, tmp_path)["epoch"] == 1  # when the other one is through


def test_an_evaluation_spares_hallways_that_have_made_their_share(tmp_path, monkeypatch):
    train(smoke(train__epochs=1, train__epoch_updates=1), tmp_path)
    rested = []
    rest = HallwayVectorEnv.rest

    def watched(env, mask):
        rested.append(mask.copy())
        rest(env, mask)

    # With a third of the way to go episodes end at different times.
    there = {"changes": {"length": 6.0, "walls": 1, "max_steps": 300}}
    monkeypatch.setattr(HallwayVectorEnv, "rest", watched)
    spared = evaluate_checkpoint(tmp_path, "PointWalls", 30, noise=1.0, **there)
    assert any(0 < mask.sum() < len(mask) for mask in rested)
    monkeypatch.setattr(HallwayVectorEnv, "rest", lambda env, mask: None)
    assert spared == evaluate_checkpoint(tmp_path, "PointWalls", 30, noise=1.0, **there)


def test_an_agent_is_evaluated_by_mode_or_by_samples_as_it_says_or_as_asked(tmp_path):
    lists = {}
    own = {"mode": 0.0, "sample": 1.0, "half": 0.5}
    for way, noise in own.items():
        by = "mode" if way == "mode" else "sample"
        settings = smoke(
            agent__act_by=by, agent__act_noise=noise or 1.0, train__epochs=1, train__epoch_updates=1
        )
        train(settings, tmp_path / way)
        for asked in (None, 0.0, 0.5, 1.0):
            result = evaluate_checkpoint(tmp_path / way, "PointWalls", 3, noise=asked)
            lists[way, asked] = result["per_episode"]["return"]
            expected = noise if asked is None else asked
            assert result["act_noise"] == expected
            assert result["act_by"] == ("sample" if expected else "mode")
    # The weights are the same: how they are asked to act makes all of the difference.
    for way, noise in own.items():
        assert all(lists[way, asked] == lists["mode", asked] for asked in own.values())
        assert lists[way, None] == lists["mode", noise]
    assert len({tuple(lists["mode", asked]) for asked in own.values()}) == 3


def test_a_trained_agent_acts_by_its_averaged_policy(tmp_path):
    run = tmp_path / "run"
    train(smoke(agent__average=0.01), run)
    state = checkpoint.load(run)["agent"]
    averaged = state["averaged"]
    assert any(not torch.equal(state["networks"][name], averaged[name]) for name in averaged)
    wheres = [run]
    for stage in ("pretrained", "finetuned"):  # kept with critics, and to act alone
        keep(run, tmp_path / "kept" / stage, stage)
        wheres.append(tmp_path / "kept" / stage)
    results = []
    for where in wheres:
        acting = load_policy(where).actor.networks.state_dict()
        assert all(torch.equal(acting[name], averaged[name]) for name in averaged)
        results.append(evaluate_checkpoint(where, "PointWalls", 2)["per_episode"])
    assert results[0] == results[1] == results[2]
    # Who trains on begins with the last weights, which the critics belong to.
    moved = Run(smoke(agent__average=0.01), tmp_path / "moved", init=run)
    now = moved.agent.networks.state_dict()
    assert all(torch.equal(now[name], state["networks"][name]) for name in now)
    moved.env.close()


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_shares_of_time_are_shares(tmp_path, parts):
    train(smoke(train__threads=2, train__batch_parts=parts, train__epochs=1), tmp_path)
    (row,) = read_rows(tmp_path)
    for name in ("collector_wait_share", "helper_share", "learner_wait_share"):
        assert 0 <= row[name] <= 1, name
    assert row["collector_wait_share"] + row["helper_share"] < 1
    assert parts > 1 or row["helper_share"] == 0


def test_less_noise_is_nearer_to_the_mode(tmp_path):
    train(smoke(train__epochs=1, train__epoch_updates=1), tmp_path)
    mode, half, full = (load_policy(tmp_path, noise) for noise in (0.0, 0.5, 1.0))
    env = make_env(environment_settings(mode, "PointWalls"), 64)
    obs, _ = env.reset(seed=0)
    zeros, carry = np.zeros(64, np.float32), mode.initial_carry(64)

    def unsquashed(policy):
        action = policy.act(obs, zeros, zeros, carry, np.random.default_rng(1))[0]
        return np.arctanh(np.clip(action.astype(float), -1 + 1e-7, 1 - 1e-7))

    center = unsquashed(mode)
    np.testing.assert_allclose(
        unsquashed(half) - center, 0.5 * (unsquashed(full) - center), rtol=2e-2, atol=2e-3
    )


def test_one_seed_gives_one_log_at_any_number_of_threads(tmp_path):
    logs = []
    for name, threads in (("a", 1), ("b", 1), ("c", 2)):
        train(smoke(train__threads=threads), tmp_path / name)
        rows = untimed(read_rows(tmp_path / name))
        logs.append(rows)
    assert len(logs[0]) == 2
    assert logs[0] == logs[1]
    assert logs[0] == logs[2]
    train(smoke(train__seed=1), tmp_path / "d")
    assert untimed(read_rows(tmp_path / "d")) != logs[0]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    """With the replay in the checkpoint, a run that was killed by SIGKILL and resumed ends with the
    very log of one that was not: no step, cost, multiplier, episode or random number is lost."""
    epochs = 12
    settings = smoke(train__threads=1, train__epochs=epochs, train__checkpoint_replay=True)
    train(settings, tmp_path / "whole")
    settings_io.write_json(tmp_path / "settings.json", settings_io.to_dict(settings))
    program = (
        "import sys; from safetransfer import settings_io;"
        "from safetransfer.training.settings import Settings;"
        "from safetransfer.training.loop import train;"
        "s = settings_io.from_dict(Settings, settings_io.read_file(sys.argv[1]));"
        "train(s, sys.argv[2])"
    )
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "settings.json"), str(killed)],
        stderr=subprocess.DEVNULL,
    )
    try:
        give_up = time.monotonic() + 120
        while len(read_rows(killed)) < 3 and process.poll() is None:
            assert time.monotonic() < give_up
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = checkpoint.load(killed)["counters"]["epoch"]
    assert 1 <= done < epochs, "the kill came too late to show anything"
    train(settings, killed)
    assert untimed(read_rows(killed)) == untimed(read_rows(tmp_path / "whole"))


def test_without_the_replay_counters_and_multiplier_still_go_on(tmp_path):
    settings = smoke(train__threads=1)
    train(settings, tmp_path)
    before = checkpoint.load(tmp_path)
    settings.train.epochs = 3
    train(settings, tmp_path)
    rows = read_rows(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["updates"] for row in rows] == [10, 20, 30]
    run = Run(settings, tmp_path)
    assert rows[2]["cost_total"] >= before["counters"]["cost_total"]
    assert run.counters["env_steps"] == rows[2]["env_steps"] > before["counters"]["env_steps"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupt_saves_and_the_same_call_goes_on(tmp_path, number, capfd):
    settings = smoke(train__epochs=4, train__checkpoint_minutes=60.0)

    def interrupt(row):
        if row["epoch"] == 2:
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.default_int_handler)  # not ignored, as under nohup
    try:
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path, on_row=interrupt)
    finally:
        signal.signal(number, before)
    assert "the run is being saved" in capfd.readouterr().err
    assert checkpoint.load(tmp_path)["counters"]["epoch"] >= 2
    assert train(settings, tmp_path)["epoch"] == 4


def test_an_interrupt_within_an_epoch_loses_nothing_of_it(tmp_path, monkeypatch):
    settings = smoke(train__threads=1, train__epochs=3, train__checkpoint_replay=True)
    train(settings, tmp_path / "whole")
    update = Run._update

    def interrupted(self, *batch_and_meter):
        update(self, *batch_and_meter)
        if self.agent.updates == 14:  # of 10 in an epoch
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_update", interrupted)
        train(settings, tmp_path / "stopped")
    assert 10 < checkpoint.load(tmp_path / "stopped")["agent"]["updates"] < 20
    train(settings, tmp_path / "stopped")
    assert untimed(read_rows(tmp_path / "stopped")) == untimed(read_rows(tmp_path / "whole"))


@pytest.fixture(scope="module")
def spied(tmp_path_factory):
    """A run of two epochs of ten updates, one thread; its chunks, how many there were at each
    update and each row, and what each update was given."""
    settings = smoke(train__threads=1, train__cost_window=1000, agent__lr=1e-3)
    run = Run(settings, tmp_path_factory.mktemp("spied"))
    chunks, updates, rows = [], [], []
    collect, update = run.collector.collect, run.agent.update

    def collected(decisions):
        chunks.append(collect(decisions))
        chunks[-1].cost[:] = 0.1 * len(chunks)  # by which each is known
        return chunks[-1]

    def updated(batch, measured_cost):
        rate = run.agent.critic_optimiser.param_groups[1]["lr"]
        updates.append((len(chunks), measured_cost, rate))
        return update(batch, measured_cost)

    run.collector.collect, run.agent.update = collected, updated
    run.go("spied", lambda row: rows.append((len(chunks), row)))
    return run, chunks, updates, rows


def test_a_row_is_of_its_epoch_s_own_experience(spied):
    _, chunks, _, rows = spied
    begin, total, episodes = 0, 0.0, 0
    for end, row in rows:
        own = chunks[begin:end]
        cost, steps = (
            sum(x) for x in zip(*((c.cost.sum(), c.env_steps) for c in own), strict=True)
        )
        ended = [e for c in own for e in c.episodes]
        full = [e for e in ended if e.full_start]
        assert 0 < len(full) < len(ended)
        total, episodes, begin = total + cost, episodes + len(ended), end
        assert row["cost_rate"] == pytest.approx(cost / steps)
        assert (row["cost_total"], row["episodes"]) == (pytest.approx(total), episodes)
        # Those that began elsewhere have less of the way to go.
        assert row["return"] == pytest.approx(np.mean([e.episode_return for e in full]))
        assert row["cost"] == pytest.approx(np.mean([e.cost for e in full]))
        assert row["length"] == pytest.approx(np.mean([e.length for e in full]))
        assert row["q_measured"] == pytest.approx(np.mean([e.discounted_return for e in full]))


def test_the_multiplier_is_driven_by_the_cost_per_step_of_the_newest_experience(spied):
    run, chunks, updates, _ = spied
    for known, measured, _ in updates:
        window = chunks[: known - 1]  # the last one comes in after the update
        while sum(c.env_steps for c in window) > 1000:
            window = window[1:]
        assert 0 < len(window) < known - 1
        steps = sum(c.env_steps for c in window)
        assert measured == pytest.approx(sum(c.cost.sum() for c in window) / steps)
    assert len({measured for _, measured, _ in updates}) > 3
    assert run.agent.multiplier.value > 0


def test_updates_keep_pace_with_decisions_and_their_rate_falls_to_the_run_s_end(spied):
    run, chunks, updates, _ = spied
    decisions, per_update = chunks[0].decisions, run.settings.train.decisions_per_update
    made = Counter(known for known, *_ in updates)
    assert set(made.values()) == {decisions / per_update} and sum(made.values()) == 20
    first = min(made)
    assert list(made) == list(range(first, first + len(made)))  # none is left out in between
    for k, (known, _, rate) in enumerate(updates):
        done = k - k % made[known]  # before this chunk's first one
        assert rate == pytest.approx(1e-3 * (1 - 0.9 * done / 20))


def test_the_copy_that_acts_is_the_agent_and_knows_all_that_was_seen(spied):
    run, chunks, _, _ = spied
    for own, copied in (
        (run.agent.networks, run.actor.networks),
        (run.agent.normaliser, run.actor.normaliser),
    ):
        state = copied.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())
    seen = np.concatenate([c.obs["proprio"].reshape(c.decisions, -1) for c in chunks])
    assert run.actor.normaliser.count == len(seen)
    np.testing.assert_allclose(run.actor.normaliser.mean, seen.mean(0, dtype=float), atol=1e-6)


def test_costs_are_counted_once(tmp_path):
    """The run's total is the sum over everything that its collector was given."""
    settings = smoke(train__epochs=1, train__threads=1)
    run = Run(settings, tmp_path)
    seen = []
    collect = run.collector.collect

    def spy(decisions):
        chunk = collect(decisions)
        seen.append((chunk.cost.sum(), chunk.env_steps, chunk.reward.size))
        return chunk

    run.collector.collect = spy
    row = run.go("spied", None)
    assert row["cost_total"] == pytest.approx(sum(s[0] for s in seen))
    assert row["env_steps"] == sum(s[1] for s in seen)
    repeat = settings.env.action_repeat
    assert sum(s[2] for s in seen) <= row["env_steps"] <= repeat * sum(s[2] for s in seen)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    settings = smoke()
    train(settings, tmp_path)
    settings.train.epochs = 3
    run = Run(settings, tmp_path)
    with torch.no_grad():
        run.agent.networks.q.biases[-1].fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"last good checkpoint is .*checkpoint\.pt"):
        run.go("poisoned", None)
    report = json.loads((tmp_path / "not_a_number.json").read_text())
    assert report["batch"]["reward"]["shape"] == [8, 8]
    assert checkpoint.load(tmp_path)["counters"]["epoch"] == 2  # the last good one is still there


def test_a_directory_with_another_run_is_refused(tmp_path):
    train(smoke(), tmp_path)
    with pytest.raises(SettingError, match=r"agent\.gamma: 0\.98 -> 0\.9"):
        train(smoke(agent__gamma=0.9), tmp_path)


def test_carrying_over(tmp_path):
    train(smoke(), tmp_path / "walls")
    settings = smoke(env__obstacles="Poles")
    train(settings, tmp_path / "poles", init=tmp_path / "walls", carry="multiplier")
    assert read_rows(tmp_path / "poles")[-1]["updates"] == 20
    with pytest.raises(CheckpointError, match="checkpoint_replay"):
        train(settings, tmp_path / "more", init=tmp_path / "walls", carry="replay")
    with pytest.raises(UnknownNameError, match="policy, weights, multiplier"):
        train(settings, tmp_path / "other", init=tmp_path / "walls", carry="everything")


def test_a_replay_is_carried_over_and_what_was_open_in_it_is_closed(tmp_path):
    train(smoke(train__epochs=1, train__checkpoint_replay=True), tmp_path / "walls")
    settings = smoke(env__obstacles="Poles")
    run = Run(settings, tmp_path / "poles", init=tmp_path / "walls", carry="replay")
    run.env.close()
    kept, ours = checkpoint.load(tmp_path / "walls")["replay"], run.replay.state_dict()
    for name in ("last_reward", "last_cost", "action", "hidden", "head"):
        np.testing.assert_array_equal(ours[name], kept[name])
    assert (kept["head"] > 400 / 4).all()
    newest = np.arange(len(kept["head"])), (kept["head"] - 1) % run.replay.size
    transition = 1
    assert (kept["kind"][newest] == transition).any()
    assert not (ours["kind"][newest] == transition).any()


def test_evaluation_is_repeatable_and_counts_every_episode(tmp_path):
    train(smoke(), tmp_path)
    first = evaluate_checkpoint(tmp_path, "PointPoles", episodes=7)
    again = evaluate_checkpoint(tmp_path, "PointPoles", episodes=7)
    assert first == again
    assert first["episodes"] == 7 == len(first["per_episode"]["cost"])
    assert first["return"]["mean"] == pytest.approx(np.mean(first["per_episode"]["return"]))
    low, high = first["return"]["ci95"]
    assert low <= first["return"]["mean"] <= high
    assert set(map(int, first["per_episode"]["length"])) == {120}  # smoke's episodes end there
    with pytest.raises(UnknownNameError, match="PointHumanoids"):
        evaluate_checkpoint(tmp_path, "PointHole", episodes=1)


def test_episodes_of_an_evaluation_begin_anew_and_each_environment_has_its_share():
    """Those of environment i take 5 + i steps; the reward of step t is t, its cost 10 t."""

    class Counting:
        """Its memory counts the decisions of an episode."""

        actor = SimpleNamespace(networks=SimpleNamespace(shapes=Shapes(None, 2, 2)))

        def initial_carry(self, n):
            return np.zeros((n, 1), np.float32)

        def act(self, obs, last_reward, last_cost, carry, rng):
            t = obs["proprio"][:, 0]
            drawn.append(rng.random())
            for known, wanted in ((last_reward, t), (last_cost, 10 * t), (carry[:, 0], t)):
                np.testing.assert_array_equal(known, wanted)
            return np.zeros((len(t), 2), np.float32), carry + 1

    drawn = []
    there = GymSettings(toys.register("Shares", vector=toys.CountingVector))
    found = evaluate(Counting(), there, episodes=7, num_envs=3)
    assert found["length"] == [5, 5, 5, 6, 6, 7, 7]
    assert found["return"] == [15, 15, 15, 21, 21, 28, 28]
    assert found["cost"] == [150, 150, 150, 210, 210, 280, 280]
    # Its noise is the seed's own, and drawn anew at each decision.
    first = drawn.copy()
    for seed, same in ((EVALUATION_SEED, True), (EVALUATION_SEED + 1, False)):
        drawn.clear()
        evaluate(Counting(), there, episodes=7, seed=seed, num_envs=3)
        assert (drawn == first) is same
    assert len(set(first)) == len(first) >= 15  # three episodes of environment 0


def test_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"hello": 1})
    with pytest.raises(CheckpointError, match="not the checkpoint of a training run"):
        load_policy(path)
    with pytest.raises(CheckpointError, match="no 'agent'"):
        train(smoke(), tmp_path / "run", init=path)
    assert not Path(tmp_path / "run" / "checkpoint.pt").exists()


def test_a_full_disk_while_logging_names_the_last_checkpoint(tmp_path, monkeypatch):
    from safetransfer.training import logs

    train(smoke(), tmp_path)
    opened = logs.RunLog.__init__

    def on_a_full_disk(self, *args, **kwargs):
        opened(self, *args, **kwargs)
        self._file.close()
        # The system's own: every write fails with ENOSPC.
        self._file = open("/dev/full", "a")  # noqa: SIM115

    monkeypatch.setattr(logs.RunLog, "__init__", on_a_full_disk)
    with pytest.raises(TrainingError, match=r"No space left .* last good checkpoint is"):
        train(smoke(train__epochs=4), tmp_path)
    assert checkpoint.load(tmp_path)["counters"]["epoch"] == 2


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path):
    settings = smoke()
    train(settings, tmp_path)
    settings.train.epochs = 3
    run = Run(settings, tmp_path)
    run.agent.networks.q.biases[-1].register_hook(lambda gradient: gradient * float("inf"))
    before = [p.detach().clone() for p in run.agent.networks.parameters()]
    with pytest.raises(TrainingError, match="not finite"):
        run.go("poisoned", None)
    after = list(run.agent.networks.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"train__learning_starts": 8001, "train__replay_size": 8002}, "even rings"),
        ({"train__learning_starts": 20}, "too few for one sequence"),
        ({"train__replay_stride": 12, "agent__horizon": 6}, "never be learned from"),
        ({"train__replay_size": 2**40, "train__learning_starts": 400}, "GiB of memory"),
    ],
)
def test_runs_that_could_never_learn_are_refused_at_once(tmp_path, changes, complaint):
    with pytest.raises(SettingError, match=complaint):
        train(smoke(**changes), tmp_path)


def test_going_on_keeps_what_was_recorded_of_the_beginning(tmp_path):
    train(smoke(), tmp_path / "walls")
    settings = smoke(env__obstacles="Poles")
    train(settings, tmp_path / "poles", init=tmp_path / "walls", command="the first")
    settings.train.epochs = 3
    train(settings, tmp_path / "poles", command="the second")
    config = json.loads((tmp_path / "poles" / "config.json").read_text())
    assert config["init"] == {"checkpoint": "walls", "carry": "weights"}
    assert config["command"] == "the first"
    assert "earlier" not in config
    (tmp_path / "poles" / "checkpoint.pt").unlink()  # killed before its first checkpoint
    with pytest.raises(SettingError, match="began from"):
        train(settings, tmp_path / "poles")


def test_run_that_went_on_elsewhere_records_both_machines(tmp_path, monkeypatch):
    settings = smoke()
    train(settings, tmp_path)
    here = json.loads((tmp_path / "config.json").read_text())
    where = "safetransfer.training.run_directory.describe_machine"
    for epochs, cpu in ((3, "Another"), (4, "Another"), (5, "A third")):
        monkeypatch.setattr(where, lambda cpu=cpu: {"cpu": cpu, "cores": 64})
        settings.train.epochs = epochs
        train(settings, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["machine"] == {"cpu": "A third", "cores": 64}
    assert config["versions"] == here["versions"]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    updates = {row["epoch"]: row["updates"] for row in rows}
    assert config["earlier"] == [
        {"updates": updates[2], "machine": here["machine"], "versions": here["versions"]},
        {
            "updates": updates[4],
            "machine": {"cpu": "Another", "cores": 64},
            "versions": here["versions"],
        },
    ]
    monkeypatch.setattr(where, lambda: {"cpu": "One that finds it finished", "cores": 1})
    train(settings, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == config


def test_what_tells_a_run_from_another_is_in_its_checkpoint_too(tmp_path):
    train(smoke(), tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(SettingError, match=r"agent\.gamma: 0\.98 -> 0\.9"):
        train(smoke(agent__gamma=0.9), tmp_path)


def test_a_run_goes_on_with_the_same_clips_from_another_folder(tmp_path, folders_of_clips):
    def go(folder, epochs):
        settings = smoke(
            env__obstacles="Humanoids", env__mocap=str(tmp_path / folder), train__epochs=epochs
        )
        train(settings, tmp_path / "run")

    go("clips", 1)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(SettingError, match=r"1 clip of 'clips' .* by 1 clip of 'others'"):
        go("others", 2)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    go("moved", 2)
    assert [row["epoch"] for row in read_rows(tmp_path / "run")] == [1, 2]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["env"]["mocap"] == str(tmp_path / "moved")


def test_a_run_may_go_on_on_a_machine_that_computes_otherwise(tmp_path):
    train(smoke(), tmp_path)
    config = tmp_path / "config.json"
    document = json.loads(config.read_text())
    document["settings"]["train"] |= {"cuda_graphs": "on", "precision": "tf32"}  # of a GPU
    config.write_text(json.dumps(document))
    assert train(smoke(train__epochs=3), tmp_path)["epoch"] == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SettingError, match=r"train\.actor_device is 'cuda'"):
        train(smoke(train__actor_device="cuda"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("[!.]*"))


def test_memory_is_that_of_the_container(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "memory.max").write_text("2147483648\n")
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    assert _container_limits(tmp_path, "/a/b") == [2**31]
    assert _container_limits(tmp_path, "/nowhere") == []


def test_a_run_that_goes_on_began_from_what_is_named(tmp_path):
    train(smoke(), tmp_path / "walls")
    train(smoke(), tmp_path / "alone")
    for carry in ("weights", "policy"):
        with pytest.raises(SettingError, match=r"began from nothing, not from walls \(its"):
            train(smoke(), tmp_path / "alone", init=tmp_path / "walls", carry=carry)
    train(smoke(), tmp_path / "next", init=tmp_path / "walls")
    train(smoke(train__epochs=3), tmp_path / "next", init=tmp_path / "walls")
    with pytest.raises(SettingError, match=r"from walls \(its weights\), not from walls \(its pol"):
        train(smoke(train__epochs=4), tmp_path / "next", init=tmp_path / "walls", carry="policy")


def test_a_start_of_other_networks_is_refused_with_what_differs(tmp_path):
    train(smoke(), tmp_path / "walls")
    words = r"trained with another agent\.hidden \(32, here 16\); --config"
    with pytest.raises(CheckpointError, match=words):
        train(smoke(agent__hidden=16), tmp_path / "next", init=tmp_path / "walls")
    keep(tmp_path / "walls", tmp_path / "kept")
    with pytest.raises(CheckpointError, match=r"holds a kept agent.*--init"):
        train(smoke(train__epochs=3), tmp_path / "kept")


def test_a_run_with_more_epochs_than_asked_for_says_so(tmp_path, capsys):
    train(smoke(), tmp_path)
    train(smoke(train__epochs=1), tmp_path)
    assert "has 2 epochs already: train.epochs 1 asks for no more" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cost_limit", "target_entropy", "target_entropy_end"])
def test_numbers_that_would_spoil_a_loss_are_refused(name):
    with pytest.raises(SettingError, match=f"agent.{name} is inf; it must be finite"):
        smoke(**{f"agent__{name}": float("inf")})
