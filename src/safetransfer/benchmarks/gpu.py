"""Everything to be known about a GPU in one call: agreement with the CPU, and speeds.

It runs on the CPU as well, where it shows that it works from end to end and nothing about a GPU.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from safetransfer import settings_io
from safetransfer.agent.agent import Agent, Batch
from safetransfer.agent.precision import arithmetic
from safetransfer.benchmarks.learner import CASES, random_batch
from safetransfer.benchmarks.plain_learner import PlainLearner
from safetransfer.replay import Chunk, SequenceReplay
from safetransfer.training.build import choose_device
from safetransfer.training.loop import train
from safetransfer.training.machine import cores, describe_machine, versions
from safetransfer.training.settings import Settings, preset

LOSSES = ("loss_q", "loss_qc", "loss_pi", "entropy", "grad_norm", "grad_norm_pi")
TOLERANCE = 1e-3
"""Greatest relative difference of a loss or gradient norm between devices, float32 throughout."""
ASKED_UPDATES_PER_S = 100.0
"""Of the paper's network and batch, on an H200."""
RUNS = (("laptop", "PointWalls"), ("laptop", "DoggoWalls"), ("paper", "DoggoWalls"))


PARTS = ("agreement", "learner", "batches", "training")


def run(
    device_name: str = "auto",
    quick: bool = False,
    minutes: float = 3.0,
    parts: Sequence[str] = PARTS,
    presets: Sequence[str] | None = None,
) -> dict[str, Any]:
    """All checks and figures, or some of them.

    Args:
        device_name: "auto", "cpu" or "cuda".
        quick: the sizes of the `smoke` preset and a few repetitions, to see that all of it works.
        minutes: of training in each of the whole runs.
        parts: of PARTS, those to do.
        presets: of CASES, those to do them with; None: all.

    Returns what of this was asked for:
    {"agreement": {preset: {"within_tolerance", "relative_difference": {loss: x}}},
    "learner": {preset: {way: {"updates_per_s", "sequence_steps_per_s", "peak_memory_gib",
    "peak_tflops" and "peak_share" (a product of large matrices in the same precision, and how much
    of it an update reaches), "relative_difference": {loss: x} (to float32, same weights, batch and
    noise)}}}, the ways "plain" (`PlainLearner`) and those of VARIANTS, "asked": {"updates_per_s",
    "reached"}, "batches": {preset: {"sample_ms"}}, "training": [{"preset", "env", "actor_device",
    "threads", "steps_per_s", "updates_per_s", "sequence_steps_per_s", "minutes",
    "collector_wait_share", "learner_wait_share"}], "quick", "device", "machine"}. A part that fails
    holds {"error"} in place of its figures, and the rest goes on.

    Raises:
        SettingError: a GPU is asked for and absent.
    """
    device = choose_device(device_name)
    presets = tuple(CASES) if presets is None else presets
    sizes = {name: _settings(name, quick) for name in presets}
    result: dict[str, Any] = {"quick": quick, "device": device.type}
    each: dict[str, Callable[[str, Settings], Any]] = {
        "agreement": lambda name, s: _part(_agreement, name, s, device),
        "learner": lambda name, s: _variants(name, s, device, quick),
        "batches": lambda name, s: _part(_batches, name, s, device),
    }
    for part, figures in each.items():
        if part in parts:
            result[part] = {name: figures(name, s) for name, s in sizes.items()}
    if "paper" in result.get("learner", {}):
        ways = result["learner"]["paper"].values()
        best = max((v.get("updates_per_s", 0.0) for v in ways), default=0.0)
        result["asked"] = {
            "updates_per_s": ASKED_UPDATES_PER_S,
            "reached": None if quick else best >= ASKED_UPDATES_PER_S,
        }
    if "training" in parts:
        result["training"] = [
            {"preset": name, "env": env, "actor_device": actor}
            | _part(_training, name, env, device, actor, quick, minutes)
            for name, env in RUNS
            if name in presets
            for actor in (("cpu",) if device.type == "cpu" else ("cuda", "cpu"))
        ]
    return result | {"machine": describe_machine() | versions()}


def _settings(name: str, quick: bool) -> Settings:
    settings = preset("smoke" if quick else name)
    if quick and name == "paper":  # its kind of network, small
        changes = {"encoders": "separate", "cnn": "nature", "activation": "selu"}
        settings = settings_io.updated(settings, {"agent": {**changes, "layer_norm": False}})
    return settings_io.updated(settings, {"agent": {"constraint_warmup": 0}})


def _part(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `measure` gives, or what went wrong in it: one call is all that there may be."""
    try:
        return measure(*arguments)
    except Exception as error:  # of any kind, a GPU's included
        first = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {first[0] if first else ''}"}


# ---------------------------------------------------------------- agreement


def _batch(name: str, settings: Settings) -> tuple[Batch, Tensor]:
    """A batch of the preset's size, and the noise of an update on it, on the CPU."""
    a, shapes = settings.agent, CASES[name]
    batch = random_batch(shapes, a.horizon, a.batch_size, a.hidden)
    noise = torch.randn(
        (a.horizon + 1, a.batch_size, shapes.actions), generator=torch.Generator().manual_seed(1)
    )
    return batch, noise


def _losses(agent: Agent, batch: Batch, noise: Tensor) -> dict[str, float]:
    metrics = agent.update(batch.to(agent.device), 0.01, noise.to(agent.device))
    return {name: metrics[name] for name in LOSSES}


def _agreement(name: str, settings: Settings, device: torch.device) -> dict[str, Any]:
    """The same weights, batch and noise on the CPU and on the device, float32 without TF32."""
    batch, noise = _batch(name, settings)
    there = _losses(Agent(CASES[name], settings.agent, device=device), batch, noise)
    here = _losses(Agent(CASES[name], settings.agent, device="cpu"), batch, noise)
    difference = relative_difference(here, there)
    return {
        "relative_difference": difference,
        "tolerance": TOLERANCE,
        "within_tolerance": max(difference.values()) <= TOLERANCE,
    }


def relative_difference(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Of each loss, against the larger of the two."""
    return {
        name: abs(one[name] - other[name]) / max(abs(one[name]), abs(other[name]), 1e-12)
        for name in one
    }


# ---------------------------------------------------------------- the learner and its variants

VARIANTS: dict[str, tuple[str, bool]] = {
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    "tf32": ("tf32", False),
    "float32_graph": ("float32", True),
    "tf32_graph": ("tf32", True),
    "bfloat16_graph": ("bfloat16", True),
}
"""`train.precision` and `train.cuda_graphs` of each; without a GPU the first two alone."""


def _variants(
    name: str, settings: Settings, device: torch.device, quick: bool
) -> dict[str, dict[str, Any]]:
    batch, noise = _batch(name, settings)
    there = batch.to(device)
    a = settings.agent
    repeats = (2, 0.0) if quick else (20, 4.0)
    reference: dict[str, float] = {}

    def speed(update: Callable[[], Any]) -> dict[str, Any]:
        figures = _speed(update, device, *repeats)
        steps = figures["updates_per_s"] * a.batch_size * a.horizon
        return figures | {"sequence_steps_per_s": steps}

    def plain() -> dict[str, Any]:
        learner = PlainLearner(Agent(CASES[name], a, device=device))
        return speed(lambda: learner.update(there))

    def variant(precision: str, graphs: bool) -> dict[str, Any]:
        agent = Agent(CASES[name], a, device=device, precision=precision, cuda_graphs=graphs)
        losses = _losses(agent, batch, noise)
        if not reference:
            reference.update(losses)
        counter = FlopCounterMode(display=False)
        with counter:
            Agent(CASES[name], a, device=device).update(there, 0.01)
        figures = speed(lambda: agent.update(there, 0.01))
        peak = _peak(device, precision, quick)
        share = counter.get_total_flops() * figures["updates_per_s"] / peak
        return figures | {
            "peak_tflops": peak / 1e12,
            "peak_share": share,
            "relative_difference": relative_difference(reference, losses),
        }

    return {"plain": _part(plain)} | {
        key: _part(variant, *options)
        for key, options in VARIANTS.items()
        if device.type == "cuda" or key in ("float32", "bfloat16")
    }


def _peak(device: torch.device, precision: str, quick: bool) -> float:
    """Floating-point operations per second of a product of large matrices."""
    n = 512 if quick else 8192
    a, b = torch.randn(2, n, n, device=device)
    with torch.no_grad(), arithmetic(device, precision):
        if precision == "bfloat16":
            a, b = a.bfloat16(), b.bfloat16()
        rate = _speed(lambda: a @ b, device, 2, 0.0 if quick else 0.5)["updates_per_s"]
    return 2.0 * n**3 * rate


def _speed(
    update: Callable[[], Any], device: torch.device, warm_up: int, seconds: float
) -> dict[str, Any]:
    """Calls per second on what is already there, after `warm_up` of them."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(warm_up):
        update()
    _wait(device)
    begun, made = time.perf_counter(), 0
    while made < 3 or time.perf_counter() - begun < seconds:
        update()
        made += 1
        if made % 20 == 0:
            _wait(device)  # what was queued is also done
    _wait(device)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {"updates_per_s": made / (time.perf_counter() - begun), "peak_memory_gib": peak}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---------------------------------------------------------------- batches, and whole runs


def _batches(name: str, settings: Settings, device: torch.device) -> dict[str, Any]:
    """Milliseconds that one batch takes out of the replay, pinned where there is a GPU."""
    a, t, shapes = settings.agent, settings.train, CASES[name]
    capacity = min(t.replay_size, 100_000)
    replay = SequenceReplay(
        shapes, capacity, t.num_envs, a.hidden, a.horizon, t.replay_stride, t.replay_compact
    )
    chunk = _noise_chunk(shapes, 64, t.num_envs, a.hidden)
    while len(replay) < replay.size * t.num_envs:
        replay.add(chunk)
    rng, times = np.random.default_rng(0), []
    for _ in range(20):
        begun = time.perf_counter()
        replay.sample(a.batch_size, rng, pinned=device.type == "cuda")
        times.append(time.perf_counter() - begun)
    return {"sample_ms": 1e3 * float(np.median(times))}


def _noise_chunk(shapes: Any, k: int, n: int, hidden: int) -> Chunk:
    rng = np.random.default_rng(0)
    numbers: dict[str, Any] = {
        name: rng.standard_normal((k, n), dtype=np.float32)
        for name in ("last_reward", "last_cost", "reward", "cost")
    }
    return Chunk(
        obs={
            "camera": rng.integers(256, size=(k, n, *shapes.camera), dtype=np.uint8),
            "proprio": rng.standard_normal((k, n, shapes.proprio), dtype=np.float32),
        },
        hidden=np.tanh(rng.standard_normal((k, n, hidden), dtype=np.float32)),
        action=np.tanh(rng.standard_normal((k, n, shapes.actions), dtype=np.float32)),
        terminated=np.zeros((k, n), bool),
        done=np.zeros((k, n), bool),
        env_steps=k * n,
        final_obs=[{}] * k,
        **numbers,
    )


class _TimeIsUp(Exception):
    """Ends a training that is only measured."""


def _training(
    name: str, env: str, device: torch.device, actor: str, quick: bool, minutes: float
) -> dict[str, Any]:
    """`minutes` of training from nothing, by all cores; the first epoch is not counted."""
    from safetransfer.envs.naming import settings_for
    from safetransfer.envs.registration import parse_env_name

    settings = preset("smoke" if quick else name, parse_env_name(env)[0])
    settings.env = settings_for(env, settings.env)
    threads = cores()
    settings = settings_io.updated(
        settings,
        {
            "train": {
                "device": device.type, "actor_device": actor, "threads": threads, "epochs": 10_000,
                "epoch_updates": 4 if quick else 50, "tensorboard": False,
                "checkpoint_minutes": 1e6,
            },
            "agent": {"lr_end": 1.0},
        },
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    begun = time.monotonic()

    def note(row: dict[str, Any]) -> None:
        rows.append(copy.copy(row))
        if len(rows) >= 3 and time.monotonic() - begun > 60.0 * (0.0 if quick else minutes):
            raise _TimeIsUp

    with tempfile.TemporaryDirectory() as directory, contextlib.suppress(_TimeIsUp):
        train(settings, directory, title=f"{name} {env}", on_row=note)
    first, last = rows[0], rows[-1]
    seconds = last["wall_s"] - first["wall_s"]
    a = settings.agent
    updates_per_s = (last["updates"] - first["updates"]) / max(seconds, 1e-9)
    waits = {
        key: None if last[key] is None else float(np.mean([row[key] for row in rows[1:]]))
        for key in ("collector_wait_share", "learner_wait_share")
    }
    return {
        "threads": threads,
        "steps_per_s": (last["env_steps"] - first["env_steps"]) / max(seconds, 1e-9),
        "updates_per_s": updates_per_s,
        "sequence_steps_per_s": updates_per_s * a.batch_size * a.horizon,
        "minutes": seconds / 60.0,
        **waits,
    }
