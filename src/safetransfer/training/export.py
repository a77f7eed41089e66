"""A trained agent as one file that runs without this package: ONNX, or PyTorch's own `.pt2`.

The file computes one decision. Its memory is explicit: `carry` goes in and `next_carry` comes out,
to be given with the next decision and set to zeros where an episode begins. Normalisation and the
scales of reward and cost are inside. Actions are in [-1, 1]: the policy's mode, or samples for an
agent that acts by samples, from unit noise that whoever runs the file draws.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import safetransfer
from safetransfer.agent import distribution
from safetransfer.agent.agent import Actor, scaled_feedback
from safetransfer.envs.gym_env import make_single
from safetransfer.envs.gym_settings import GymSettings
from safetransfer.envs.naming import EnvSettings
from safetransfer.envs.robots import make_robot
from safetransfer.errors import SafeTransferError, SettingError
from safetransfer.training.evaluate import Policy, load_policy

METADATA = "safetransfer"
"""Where the file keeps its description, as JSON: ONNX's metadata, or an extra file of a .pt2."""

_TRACED_BATCH = 3  # anything but 0 and 1, which an exporter takes for constants


class ExportedPolicy(nn.Module):
    """The acting half of an agent, in operations that every exporter knows.

    Inputs, in this order and as far as the agent has them: `camera` uint8 (B, H, W, C), `proprio`
    float32 (B, P), `last_reward` and `last_cost` float32 (B,) as the environment gave them, `carry`
    float32 (B, hidden), and, where `share` is not 0, `noise` float32 (B, A): standard normal, drawn
    anew for every decision. Outputs: `action` float32 (B, A) in [-1, 1] and `next_carry`.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, actor: Actor, share: float = 0.0):
        """`share` of its exploration is what the agent acts with; 0: by its policy's mode."""
        super().__init__()
        self.networks, self.settings, self.share = actor.networks, actor.settings, share
        shapes = self.networks.shapes
        self.inputs = [
            *(["camera"] if shapes.camera else []),
            *(["proprio"] if shapes.proprio else []),
            *("last_reward", "last_cost", "carry"),
            *(["noise"] if share else []),
        ]
        self.register_buffer("offset", actor.normaliser.offset.clone())
        self.register_buffer("factor", actor.normaliser.factor.clone())

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(self.inputs, values, strict=True))
        networks, carry = self.networks, given["carry"]
        feedback = scaled_feedback(given["last_reward"], given["last_cost"], self.settings)
        obs = {}
        if "proprio" in given:
            proprio = (given["proprio"] - self.offset) * self.factor
            obs["proprio"] = proprio.clamp(-5.0, 5.0)[None]
        if "camera" in given:
            obs["camera"] = given["camera"][None]
        x = networks.embed(networks.encoder, obs, feedback[None])[0]
        h = _gru_step(networks.gru, x, carry)
        if networks.policy_encoder is not None:
            x = networks.embed(networks.policy_encoder, obs, feedback[None])[0]
        parameters = networks.policy(torch.cat([h, x], -1))[0]
        if not self.share:
            return distribution.mode(parameters), h
        return distribution.action(parameters, self.share * given["noise"]), h


def _gru_step(gru: nn.GRU, x: Tensor, h: Tensor) -> Tensor:
    """One step of a one-layer GRU, x (B, X), h (B, hidden): the formulas of `torch.nn.GRU`."""
    w_x, w_h, b_x, b_h = gru.all_weights[0]
    reset, update, new = F.linear(x, w_x, b_x).chunk(3, -1)
    h_reset, h_update, h_new = F.linear(h, w_h, b_h).chunk(3, -1)
    r, z = torch.sigmoid(reset + h_reset), torch.sigmoid(update + h_update)
    n = torch.tanh(new + r * h_new)
    return (1.0 - z) * n + z * h


def export(agent: str | Path, out: str | Path, noise: float | None = None) -> Path:
    """Writes the agent of a checkpoint or run directory to `out`, an .onnx or a .pt2.

    `noise` is the share of its exploration that it acts with; None: as its settings say. The file
    appears under its name only when it is whole. Raises CheckpointError for an agent that cannot be
    read, SettingError for another suffix or where what ONNX needs is not installed.
    """
    out = Path(out)
    if out.suffix not in _WRITERS:
        raise SettingError(f"an exported agent is an {' or a '.join(_WRITERS)}, not {out.name}")
    missing = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if out.suffix == ".onnx" and missing:
        raise SettingError(
            f"ONNX needs {' and '.join(missing)}: pip install {' '.join(missing)}, or export to a "
            ".pt2, which needs PyTorch alone"
        )
    policy = load_policy(agent, noise)
    module = ExportedPolicy(policy.actor, policy.noise).eval().requires_grad_(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        with _quiet():
            _WRITERS[out.suffix](module, partial, json.dumps(description(policy, module)))
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def description(policy: Policy, module: ExportedPolicy) -> dict[str, Any]:
    """What stands in the file beside the weights: inputs, outputs, bounds, control step."""
    env = policy.settings.env
    example = _example(module)
    return {
        "format": "safetransfer policy",
        "version": 1,
        "made_by": f"safetransfer {safetransfer.__version__}",
        "env": env.name,
        "inputs": {
            name: {"shape": ["batch", *value.shape[1:]], "dtype": str(value.dtype).split(".")[1]}
            for name, value in example.items()
        },
        "outputs": {
            "action": {"shape": ["batch", module.networks.shapes.actions], "dtype": "float32"},
            "next_carry": {"shape": ["batch", module.settings.hidden], "dtype": "float32"},
        },
        # action a stands for low + (a + 1) / 2 * (high - low)
        "action_bounds": _bounds(env, module.networks.shapes.actions),
        "decision_seconds": _decision_seconds(env),
        "action_repeat": env.action_repeat,
        "at_an_episodes_start": "carry, last_reward and last_cost are zeros",
        # The share is applied inside; zeros for `noise` give the mode.
        "noise": "standard normal, drawn anew for every decision" if module.share else None,
        "share_of_exploration": module.share,
        "settings": {name: getattr(env, name, None) for name in ("camera", "max_depth")},
    }


def _bounds(env: EnvSettings, actions: int) -> dict[str, list[float]] | None:
    """The environment's own bounds of actions; None where it is not at hand to be asked."""
    if not isinstance(env, GymSettings):
        return {"low": [-1.0] * actions, "high": [1.0] * actions}
    try:
        view = make_single(env)
    except SafeTransferError:
        return None
    view.close()
    return {"low": view.scale.low.tolist(), "high": view.scale.high.tolist()}


def _decision_seconds(env: EnvSettings) -> float | None:
    """Seconds between two decisions; None where the environment does not say."""
    if isinstance(env, GymSettings):
        return None
    return round(make_robot(env.robot).control_dt * env.action_repeat, 9)


def _example(module: ExportedPolicy) -> dict[str, Tensor]:
    shapes, n = module.networks.shapes, _TRACED_BATCH
    made = {
        "camera": torch.zeros((n, *(shapes.camera or ())), dtype=torch.uint8),
        "proprio": torch.zeros(n, shapes.proprio),
        "last_reward": torch.zeros(n),
        "last_cost": torch.zeros(n),
        "carry": torch.zeros(n, module.settings.hidden),
        "noise": torch.zeros(n, shapes.actions),
    }
    return {name: made[name] for name in module.inputs}


# --- Formats ------------------------------------------------------------------------------------


def _program(module: ExportedPolicy) -> torch.export.ExportedProgram:
    example = tuple(_example(module).values())
    batch = torch.export.Dim("batch", min=1)
    dynamic = (tuple({0: batch} for _ in example),)  # one tuple: forward takes *values
    return torch.export.export(module, example, dynamic_shapes=dynamic)


def _write_onnx(module: ExportedPolicy, path: Path, about: str) -> None:
    program = torch.onnx.export(
        _program(module),
        input_names=module.inputs,
        output_names=["action", "next_carry"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[METADATA] = about
    program.save(str(path), external_data=False)


def _write_pt2(module: ExportedPolicy, path: Path, about: str) -> None:
    torch.export.save(_program(module), path, extra_files={METADATA: about})


_WRITERS: dict[str, Callable[[ExportedPolicy, Path, str], None]] = {
    ".onnx": _write_onnx,
    ".pt2": _write_pt2,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of their own insides, and of packages that are not needed here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
