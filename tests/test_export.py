"""An exported agent, run by a process that has no safetransfer, acts as the agent itself does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_environments as toys

from safetransfer.cli import main
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.training import export as exporting
from safetransfer.training.evaluate import load_policy
from safetransfer.training.loop import train
from safetransfer.training.settings import preset

KEPT = Path(__file__).resolve().parents[1] / "results" / "point" / "seed-2" / "pretrain"
STEPS = 6

RUNNER = """
import json, sys
import numpy as np
sys.modules["safetransfer"] = None  # whoever asks for it gets an ImportError
path, data, out = sys.argv[1:]
given = dict(np.load(data))
if path.endswith(".onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["safetransfer"])
    names = [i.name for i in session.get_inputs()]
    run = lambda inputs: session.run(["action", "next_carry"], inputs)
    assert "torch" not in sys.modules
else:
    import torch
    extra = {"safetransfer": ""}
    program = torch.export.load(path, extra_files=extra).module()
    about, names = json.loads(extra["safetransfer"]), None
    run = lambda inputs: [
        x.detach().numpy() for x in program(*(torch.from_numpy(v) for v in inputs.values()))
    ]
inputs = list(about["inputs"])
assert names in (None, inputs)
carry = np.zeros((given["last_reward"].shape[1], about["inputs"]["carry"]["shape"][1]), np.float32)
actions = []
for t in range(len(given["last_reward"])):
    now = {name: given[name][t] if name != "carry" else carry for name in inputs}
    action, carry = run(now)
    actions.append(action)
np.save(out, np.stack(actions))
print(json.dumps(about))
"""


def experience(policy, n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random inputs of STEPS decisions, and what the policy does, its memory carried along.

    The noise is what its generator will draw.
    """
    shapes, rng = policy.actor.networks.shapes, np.random.default_rng(0)
    given = {
        "proprio": rng.normal(size=(STEPS, n, shapes.proprio)).astype(np.float32),
        "last_reward": rng.normal(size=(STEPS, n)).astype(np.float32),
        "last_cost": rng.integers(0, 2, (STEPS, n)).astype(np.float32),
    }
    if shapes.camera:
        given["camera"] = rng.integers(0, 256, (STEPS, n, *shapes.camera), np.uint8)
    noise = np.random.default_rng(1).standard_normal((STEPS, n, shapes.actions), np.float32)
    given["noise"], exploring = noise, np.random.default_rng(1)
    carry, actions = policy.initial_carry(n), []
    for t in range(STEPS):
        obs = {name: given[name][t] for name in ("camera", "proprio") if name in given}
        action, carry = policy.act(
            obs, given["last_reward"][t], given["last_cost"][t], carry, exploring
        )
        actions.append(action)
    return given, np.stack(actions)


def run_elsewhere(file: Path, given: dict[str, np.ndarray], tmp_path: Path):
    np.savez(tmp_path / "given.npz", **given)
    command = [sys.executable, "-c", RUNNER, file, tmp_path / "given.npz", tmp_path / "actions.npy"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    return np.load(tmp_path / "actions.npy"), json.loads(result.stdout)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_kept_agent_acts_the_same_without_safetransfer(suffix, tmp_path, capsys):
    file = tmp_path / f"agent{suffix}"
    assert main(["export", str(KEPT), "--out", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert [p.name for p in tmp_path.iterdir()] == [file.name], "more than one file"
    policy = load_policy(KEPT)
    for n in (1, 4):
        given, expected = experience(policy, n)
        assert np.ptp(expected) > 0.1, "these inputs show nothing"
        actions, about = run_elsewhere(file, given, tmp_path)
        np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert about["inputs"]["camera"] == {"shape": ["batch", 50, 50, 1], "dtype": "uint8"}
    assert about["action_bounds"] == {"low": [-1.0, -1.0], "high": [1.0, 1.0]}
    # Point's control step of 0.02 s, held twice.
    assert (about["env"], about["decision_seconds"]) == ("PointWalls", 0.04)


def test_an_agent_that_acts_by_samples_takes_the_noise_as_an_input(tmp_path, capsys):
    file = tmp_path / "agent.onnx"
    walker = KEPT.parents[2] / "doggo" / "seed-1" / "finetune-DoggoPoles"
    assert main(["export", str(walker), "--out", str(file)]) == 0
    policy = load_policy(walker)
    assert policy.noise == 0.5, "this agent shows nothing"
    given, expected = experience(policy, 2)
    actions, about = run_elsewhere(file, given, tmp_path)
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert about["inputs"]["noise"] == {"shape": ["batch", 12], "dtype": "float32"}
    assert about["share_of_exploration"] == 0.5
    # By its mode there is no noise, as without any.
    assert main(["export", str(walker), "--out", str(file), "--act-by", "mode"]) == 0
    by_mode, about = run_elsewhere(file, given, tmp_path)
    assert "noise" not in about["inputs"] and about["noise"] is None
    np.testing.assert_allclose(by_mode, experience(load_policy(walker, noise=0.0), 2)[1], atol=1e-5)
    assert np.abs(by_mode - actions).max() > 0.05


@pytest.mark.parametrize(
    ("observations", "encoders", "feedback"),
    [("VECTOR", "shared", True), ("IMAGE", "shared", False), ("BOTH", "separate", True)],
)
def test_every_kind_of_agent(observations, encoders, feedback, tmp_path):
    """The network that is exported, against the agent, for other inputs and settings."""
    settings = preset("smoke")
    env_id = toys.register(f"Export{observations}", observations=getattr(toys, observations))
    settings.env, settings.train.epochs = GymSettings(env_id), 1
    settings.agent.encoders, settings.agent.feedback = encoders, feedback
    train(settings, tmp_path)
    policy = load_policy(tmp_path)
    given, expected = experience(policy, 2)
    module = exporting.ExportedPolicy(policy.actor)
    carry = torch.zeros(2, settings.agent.hidden)
    for t in range(STEPS):
        values = {name: torch.from_numpy(value[t]) for name, value in given.items()}
        values["carry"] = carry
        action, carry = module(*(values[name] for name in module.inputs))
        np.testing.assert_allclose(action.detach().numpy(), expected[t], atol=1e-5)
    about = exporting.description(policy, module)
    assert list(about["inputs"]) == module.inputs
    assert about["action_bounds"] == {"low": [-2.0, 0.0], "high": [2.0, 10.0]}


def test_other_formats_and_what_is_no_agent_are_refused(tmp_path, capsys, monkeypatch):
    assert main(["export", str(KEPT), "--out", str(tmp_path / "agent.pth")]) == 2
    assert ".onnx or a .pt2" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "agent.onnx")]) == 2
    assert "no checkpoint" in capsys.readouterr().err
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    assert main(["export", str(KEPT), "--out", str(tmp_path / "agent.onnx")]) == 2
    assert "pip install onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
