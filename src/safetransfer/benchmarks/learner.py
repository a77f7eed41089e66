"""Updates per second of the learner alone, against a plain eager update and the machine's peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from safetransfer.agent.agent import MUST_BE_FINITE, Agent, Batch
from safetransfer.agent.networks import Shapes
from safetransfer.agent.parts import Helper
from safetransfer.agent.precision import multiplies_bfloat16
from safetransfer.benchmarks.budget import budget
from safetransfer.benchmarks.plain_learner import PlainLearner
from safetransfer.training.machine import describe_machine, versions
from safetransfer.training.settings import preset

# Each preset with the robot that it is for: proprioception and actions of Point and of Doggo.
CASES = {"laptop": Shapes((50, 50, 1), 12, 2), "paper": Shapes((50, 50, 1), 48, 12)}
_MATRIX = 1536


def run(seconds: float = 20.0, threads: int | None = None) -> dict[str, Any]:
    """Times the updates of both presets, for about `seconds` each, on the CPU.

    `threads`: of PyTorch in the plain update and the matrix product, where they use all; None:
    PyTorch's own choice. Ours is made as a training does while there is nothing to collect:
    `train.batch_parts`, of which a second thread takes some, and each thread is PyTorch's one. All
    take turns, so that a change of the machine's speed meets all of them; each figure is of the
    median time.

    Returns {preset: {"updates_per_s", "sequence_steps_per_s", "peak_share" (of the floating-point
    operations per second of a product of two 1536 x 1536 matrices), "eager_ratio" (the plain
    update's time over ours, by one thread or by all, whichever is faster: "plain_threads"),
    "peak_gflops", "gflop_per_update", "threads", "parameters", "one_thread": the first five of
    everything by one thread, and the batch in one part, as beside a collector that is always busy,
    "bfloat16": the first five for `train.precision bfloat16`, by both threads, and
    "loss_difference" (the largest of a loss, relative to float32's for the same batch and noise);
    None where the CPU does not multiply it, "budget": what an update by one thread is made of, as
    `budget.budget` has it}, "machine"}.
    """
    before = torch.get_num_threads()
    result: dict[str, Any] = {}
    try:
        for name, shapes in CASES.items():
            result[name] = _measure(name, shapes, seconds, threads or before)
    finally:
        torch.set_num_threads(before)
    return result | {"machine": describe_machine() | versions()}


def _measure(name: str, shapes: Shapes, seconds: float, threads: int) -> dict[str, Any]:
    given = preset(name)
    settings, parts = given.agent, given.train.batch_parts
    settings.constraint_warmup = 0  # all of the objective
    batch = random_batch(shapes, settings.horizon, settings.batch_size, settings.hidden)
    noise = torch.randn(*batch.last_reward.shape, shapes.actions)
    matrix = torch.randn(_MATRIX, _MATRIX)
    with ThreadPoolExecutor(
        max(1, parts - 1), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:

        def side_by_side(precision: str = "float32") -> Agent:
            agent = Agent(shapes, settings, batch_parts=parts, precision=precision)
            agent.helper = Helper(pool)
            return agent

        agent, alone = side_by_side(), Agent(shapes, settings)
        plain = PlainLearner(agent)
        counter = FlopCounterMode(display=False)
        with counter:
            losses = alone.update(batch, 0.01, noise)
        work: dict[str, tuple[int, Callable[[], Any]]] = {
            "ours": (1, lambda: agent.update(batch, 0.01)),
            "plain": (threads, lambda: plain.update(batch)),
            "matrix": (threads, lambda: matrix @ matrix),
            "ours_alone": (1, lambda: alone.update(batch, 0.01)),
            "plain_alone": (1, lambda: plain.update(batch)),
            "matrix_alone": (1, lambda: matrix @ matrix),
        }
        difference = None
        if multiplies_bfloat16():
            short = side_by_side("bfloat16")
            others = short.update(batch, 0.01, noise)
            difference = max(
                abs(others[k] - losses[k]) / max(abs(losses[k]), 1e-12) for k in MUST_BE_FINITE
            )
            half = matrix.bfloat16()
            work["bfloat16"] = (1, lambda: short.update(batch, 0.01))
            work["bfloat16_matrix"] = (threads, lambda: half @ half)
        median = _medians(work, seconds)
        torch.set_num_threads(1)
        made_of = budget(alone, batch)
    flop = float(counter.get_total_flops())
    fastest = min(median["plain"], median["plain_alone"])

    def figures(update: str, plain: float, product: str) -> dict[str, float]:
        peak, per_s = 2.0 * _MATRIX**3 / median[product], 1.0 / median[update]
        return {
            "updates_per_s": per_s,
            "sequence_steps_per_s": per_s * settings.batch_size * settings.horizon,
            "peak_share": flop * per_s / peak,
            "eager_ratio": plain / median[update],
            "peak_gflops": peak / 1e9,
        }

    return figures("ours", fastest, "matrix") | {
        "plain_threads": threads if fastest == median["plain"] else 1,
        "gflop_per_update": flop / 1e9,
        "threads": parts,
        "budget": made_of,
        "parameters": agent.parameter_counts(),
        "one_thread": figures("ours_alone", median["plain_alone"], "matrix_alone"),
        "bfloat16": None
        if difference is None
        else figures("bfloat16", fastest, "bfloat16_matrix") | {"loss_difference": difference},
    }


def _medians(work: Mapping[str, tuple[int, Callable[[], Any]]], seconds: float) -> dict[str, float]:
    """Median times of what is to be done, each with so many of PyTorch's threads."""
    times: dict[str, list[float]] = {what: [] for what in work}
    for threads, do in work.values():
        torch.set_num_threads(threads)
        do()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times["ours"]) < 3:
        for what, (threads, do) in work.items():
            torch.set_num_threads(threads)
            begun = time.perf_counter()
            do()
            times[what].append(time.perf_counter() - begun)
    return {what: float(np.median(t)) for what, t in times.items()}


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
