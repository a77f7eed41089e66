"""The benchmarks' JSON has the keys that others read; how fast anything is, is not tested."""

import json

import pytest

from safetransfer.benchmarks import camera, env, learner, train
from safetransfer.envs.registration import env_names


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
        for key in ("updates_per_s", "sequence_steps_per_s", "peak_share", "eager_ratio"):
            assert positive(result[name][key]), (name, key)
        assert result[name]["parameters"]["Total"] > 0


def test_train(monkeypatch):
    from safetransfer.training.settings import preset

    monkeypatch.setattr(train, "preset", lambda name: preset("smoke"))
    result = json.loads(json.dumps(train.run(epochs=2, epoch_updates=4)))
    assert set(result) == {
        "steps_per_s", "sequence_steps_per_s", "collector_wait_share", "learner_wait_share",
        "machine",
    }  # fmt: skip
    assert positive(result["steps_per_s"]) and 0 <= result["learner_wait_share"] < 1
