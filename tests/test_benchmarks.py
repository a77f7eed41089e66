"""The benchmarks' JSON has the keys that others read; how fast anything is, is not tested."""

import json

import numpy as np
import pytest

from safetransfer.agent.precision import multiplies_bfloat16
from safetransfer.benchmarks import camera, collector, env, learner, peer, spy, train
from safetransfer.envs.hallway import HallwayVectorEnv
from safetransfer.envs.registration import env_names
from safetransfer.envs.settings import HallwaySettings
from safetransfer.errors import SettingError


def positive(value):
    return isinstance(value, (int, float)) and value > 0


def test_camera():
    result = json.loads(json.dumps(camera.run(num_scenes=2, repeats=1)))
    assert set(result) == {"walls", "poles", "people", "machine"}
    for name in ("walls", "poles", "people"):
        assert set(result[name]) == {"us", "reference_us", "ratio"}
        expected = result[name]["reference_us"] / result[name]["us"]
        assert result[name]["ratio"] == pytest.approx(expected, rel=0.05, abs=0.06)
    assert result["machine"]["mujoco"]


def test_env():
    result = json.loads(json.dumps(env.run(num_envs=2, windows=1, steps=2)))
    assert set(result) == {*env_names(), "machine"}
    assert {"PointWalls", "DoggoWalls", "DoggoPoles", "DoggoHumanoids"} <= set(result)
    for name in set(result) - {"machine"}:
        for key in ("steps_per_s", "bare_steps_per_s", "cost_over_bare"):
            assert positive(result[name][key]), (name, key)
        assert {"physics", "camera", "people", "slots", "rest"} == set(result[name]["us_per_step"])


def test_learner(monkeypatch):
    from safetransfer.training.settings import preset

    monkeypatch.setattr(learner, "preset", lambda name: preset("smoke"))
    result = json.loads(json.dumps(learner.run(seconds=0.0)))
    assert set(result) == {"laptop", "paper", "machine"}
    for name in ("laptop", "paper"):
        for figures in (result[name], result[name]["one_thread"]):
            for key in ("updates_per_s", "sequence_steps_per_s", "peak_share", "eager_ratio"):
                assert positive(figures[key]), (name, key)
        assert result[name]["parameters"]["Total"] > 0
        parts = dict(result[name]["budget"])
        whole = parts.pop("whole")
        assert result[name]["gflop_per_update"] == pytest.approx(whole["gflop"])
        for what in ("gflop", "mbyte"):  # the parts are all of it: nothing large lies between them
            assert sum(part[what] for part in parts.values()) == pytest.approx(whole[what], rel=0.1)
        short = result[name]["bfloat16"]
        assert (short is not None) == multiplies_bfloat16()
        if short:  # rounded to 8 bits and no more than that
            assert positive(short["eager_ratio"]) and 0 < short["loss_difference"] < 0.1


def test_train(monkeypatch):
    from safetransfer.training.settings import preset

    monkeypatch.setattr(train, "preset", lambda name: preset("smoke"))
    result = json.loads(json.dumps(train.run(epochs=2, epoch_updates=4)))
    assert set(result) == {
        "steps_per_s", "sequence_steps_per_s", "collector_wait_share", "learner_wait_share",
        "helper_share", "machine",
    }  # fmt: skip
    assert positive(result["steps_per_s"]) and 0 <= result["learner_wait_share"] < 1


def test_peer(monkeypatch):
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(peer, "cores", lambda: 1)  # quick also where the cores are busy
    result = json.loads(json.dumps(peer.run(updates=8, rounds=1, preset_name="smoke")))
    sides = {"ours", "ours_nature_cnn", "stable_baselines3"}
    assert set(result) == sides | {"ratio", "equal", "machine"}
    for side in sides:
        for key in ("steps_per_s", "transitions_per_s", "updates_per_s", "parameters"):
            assert positive(result[side][key]), (side, key)
        learned = result[side]["transitions_per_s"] / result[side]["updates_per_s"]
        assert learned == pytest.approx(result["equal"]["transitions_per_update"])
        # The ratio of steps to updates is the same in all: 32 decisions of 4 steps. Ours ends an
        # epoch within an exchange of 2 updates, at most.
        ratio = result[side]["steps_per_s"] / result[side]["updates_per_s"]
        assert ratio == pytest.approx(32 * 4, rel=0.3)
    steps = [result[side]["steps_per_s"] for side in ("ours_nature_cnn", "stable_baselines3")]
    assert result["ratio"]["steps"] == pytest.approx(steps[0] / steps[1])


def test_without_the_peer_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(peer, "PACKAGE", "stable_baselines_that_is_not_there")
    with pytest.raises(SettingError, match="pip install 'stable-baselines3"):
        peer.run()


def test_the_peer_gets_our_hallways_as_they_are():
    """The vector that SB3 steps is ours: same seed, same actions, same numbers."""
    pytest.importorskip("stable_baselines3")
    from safetransfer.benchmarks.sb3_vector import HallwaySB3

    settings = HallwaySettings(max_steps=5, start_anywhere=1.0)
    theirs, ours = HallwaySB3(HallwayVectorEnv(settings, 3), 2.0), HallwayVectorEnv(settings, 3)
    theirs.seed(4)
    first, (observation, _) = theirs.reset(), ours.reset(seed=4)
    assert (first["camera"][:, 0] == observation["camera"][..., 0]).all()
    cut_off = 0
    for action in np.random.default_rng(0).uniform(-1, 1, (12, 3, 2)).astype(np.float32):
        seen, reward, done, infos = theirs.step(action)
        observation, progress, terminated, truncated, info = ours.step(action)
        assert theirs.observation_space.contains({name: value[0] for name, value in seen.items()})
        assert (seen["proprio"] == observation["proprio"]).all()
        np.testing.assert_allclose(reward, progress - 2.0 * info["cost"], rtol=1e-6)
        assert (done == (terminated | truncated)).all()
        for i in np.flatnonzero(done):
            cut_off += infos[i]["TimeLimit.truncated"]
            last = info["final_obs"]["camera"][i, ..., 0]
            assert (infos[i]["terminal_observation"]["camera"][0] == last).all()
    assert cut_off == 6


def test_collector():
    result = collector.run(windows=1, names=["PointHumanoids", "DoggoWalls"], preset_name="smoke")
    result = json.loads(json.dumps(result))
    assert set(result) == {"PointHumanoids", "DoggoWalls", "machine"}
    parts = {
        "physics", "camera", "people", "slots", "environment", "policy", "bookkeeping", "replay",
    }  # fmt: skip
    for name in ("PointHumanoids", "DoggoWalls"):
        spent = result[name]["us_per_decision"]
        assert set(spent) == parts and all(map(positive, spent.values()))
        assert positive(result[name]["decisions_per_s"])
    # Four control steps to a decision of Point's, unless an episode ends before; of Doggo's one.
    per_decision = {
        name: result[name]["steps_per_s"] / result[name]["decisions_per_s"]
        for name in ("PointHumanoids", "DoggoWalls")
    }
    assert 3.5 < per_decision["PointHumanoids"] <= 4.01
    assert per_decision["DoggoWalls"] == pytest.approx(1.0, rel=0.01)


def test_a_spy_passes_on_and_times_what_it_is_told():
    class Clock:
        now = 0.0

    class Worker:
        speed = 3

        def work(self, seconds):
            Clock.now += seconds
            return self.speed

        def fail(self):
            Clock.now += 10.0
            raise ValueError

    seen, seconds = [], {}
    watched = spy.Spy(
        Worker(),
        before={"rest": lambda: seen.append("rest")},
        timed={"work": "labour", "fail": "labour"},
        seconds=seconds,
        clock=lambda: Clock.now,
    )
    assert watched.work(2.0) == watched.work(seconds=3.0) == watched.speed == 3
    with pytest.raises(ValueError):
        watched.fail()
    assert seconds == {"labour": 15.0} and seen == []
