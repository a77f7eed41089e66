"""Updates per second of the learner alone, against a plain eager update and the machine's peak."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from safetransfer.agent.agent import MUST_BE_FINITE, Agent, Batch
from safetransfer.agent.networks import Shapes
from safetransfer.agent.precision import multiplies_bfloat16
from safetransfer.benchmarks.plain_learner import PlainLearner
from safetransfer.training.machine import describe_machine, versions
from safetransfer.training.settings import preset

# Each preset with the robot that it is for: proprioception and actions of Point and of Doggo.
CASES = {"laptop": Shapes((50, 50, 1), 12, 2), "paper": Shapes((50, 50, 1), 48, 12)}
_MATRIX = 1536


def run(seconds: float = 20.0, threads: int | None = None) -> dict[str, Any]:
    """Times the updates of both presets, for about `seconds` each, on the CPU.

    `threads` of PyTorch: None takes one for `laptop`, as its training does beside the collector,
    and PyTorch's own choice for `paper`. Ours, the plain one and the matrix product take turns, so
    that a change of the machine's speed meets all of them; each figure is of the median time.

    Returns {preset: {"updates_per_s", "sequence_steps_per_s", "peak_share" (of the floating-point
    operations per second of a product of two 1536 x 1536 matrices), "eager_ratio" (the plain
    update's time over ours), "gflop_per_update", "peak_gflops", "threads", "parameters",
    "bfloat16": the first four for `train.precision bfloat16`, with "peak_gflops" of it and
    "loss_difference" (the largest of a loss, relative to float32's for the same batch and noise);
    None where the CPU does not multiply it}, "machine"}.
    """
    before = torch.get_num_threads()
    result: dict[str, Any] = {}
    try:
        for name, shapes in CASES.items():
            torch.set_num_threads(threads or (1 if name == "laptop" else before))
            result[name] = _measure(name, shapes, seconds)
    finally:
        torch.set_num_threads(before)
    return result | {"machine": describe_machine() | versions()}


def _measure(name: str, shapes: Shapes, seconds: float) -> dict[str, Any]:
    settings = preset(name).agent
    settings.constraint_warmup = 0  # all of the objective
    agent = Agent(shapes, settings)
    plain = PlainLearner(agent)
    batch = random_batch(shapes, settings.horizon, settings.batch_size, settings.hidden)
    matrix = torch.randn(_MATRIX, _MATRIX)
    counter = FlopCounterMode(display=False)
    noise = torch.randn(*batch.last_reward.shape, shapes.actions)
    with counter:
        losses = agent.update(batch, 0.01, noise)
    work: dict[str, Callable[[], Any]] = {
        "ours": lambda: agent.update(batch, 0.01),
        "plain": lambda: plain.update(batch),
        "matrix": lambda: matrix @ matrix,
    }
    difference = None
    if multiplies_bfloat16():
        short = Agent(shapes, settings, precision="bfloat16")
        others = short.update(batch, 0.01, noise)
        difference = max(
            abs(others[k] - losses[k]) / max(abs(losses[k]), 1e-12) for k in MUST_BE_FINITE
        )
        half = matrix.bfloat16()
        work["bfloat16"] = lambda: short.update(batch, 0.01)
        work["bfloat16_matrix"] = lambda: half @ half
    times: dict[str, list[float]] = {what: [] for what in work}
    for do in work.values():
        do()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times["ours"]) < 3:
        for what, do in work.items():
            begun = time.perf_counter()
            do()
            times[what].append(time.perf_counter() - begun)
    median = {what: float(np.median(t)) for what, t in times.items()}
    flop = float(counter.get_total_flops())

    def figures(update: str, product: str) -> dict[str, float]:
        peak, per_s = 2.0 * _MATRIX**3 / median[product], 1.0 / median[update]
        return {
            "updates_per_s": per_s,
            "sequence_steps_per_s": per_s * settings.batch_size * settings.horizon,
            "peak_share": flop * per_s / peak,
            "eager_ratio": median["plain"] / median[update],
            "peak_gflops": peak / 1e9,
        }

    return figures("ours", "matrix") | {
        "gflop_per_update": flop / 1e9,
        "threads": torch.get_num_threads(),
        "parameters": agent.parameter_counts(),
        "bfloat16": None
        if difference is None
        else figures("bfloat16", "bfloat16_matrix") | {"loss_difference": difference},
    }


def random_batch(shapes: Shapes, horizon: int, size: int, hidden: int, seed: int = 0) -> Batch:
    """A batch of noise: its contents do not change what an update has to do."""
    g = torch.Generator().manual_seed(seed)
    t, b = horizon, size
    obs = {"proprio": torch.randn(t + 1, b, shapes.proprio, generator=g)}
    if shapes.camera:
        pixels = torch.randint(256, (t + 1, b, *shapes.camera), generator=g, dtype=torch.uint8)
        obs["camera"] = pixels
    return Batch(
        obs=obs,
        last_reward=torch.randn(t + 1, b, generator=g),
        last_cost=torch.rand(t + 1, b, generator=g),
        carry=0.1 * torch.randn(b, hidden, generator=g),
        action=2.0 * torch.rand(t, b, shapes.actions, generator=g) - 1.0,
        reward=torch.randn(t, b, generator=g),
        cost=torch.rand(t, b, generator=g),
        terminated=torch.rand(t, b, generator=g) < 0.01,
        valid=torch.ones(t, b, dtype=torch.bool),
    )
