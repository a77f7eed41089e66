"""A run's experience as the learner gets it: asked for, awaited, and renewed with new weights.

It is collected in turn with learning, or beside it in a process of its own (`collector_process`).
A thread would not do: both sides are thousands of small steps of Python, and take turns at the
interpreter. The experience is the same either way.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from safetransfer.agent.agent import Actor
from safetransfer.agent.networks import Shapes
from safetransfer.replay import Chunk
from safetransfer.training.build import make_agent, make_env, shapes_of
from safetransfer.training.collector import Collector
from safetransfer.training.settings import Settings


class Collecting(Protocol):
    """What a run needs of whoever collects for it. `start` and `finish` are called in turn."""

    shapes: Shapes
    mocap: dict[str, Any] | None  # what clips people move by

    def start(self, decisions: int) -> None:
        """Begin to take `decisions` decisions in each environment."""
        ...

    def finish(self) -> tuple[Chunk, float]:
        """Await them: the experience, and the seconds that it took to collect."""
        ...

    def renew(self, actor: Actor) -> None:
        """Act as `actor` does from the next start on."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class InTurn:
    """Collects when it is asked to, on the caller's own thread."""

    def __init__(self, settings: Settings, threads: int = 1):
        self.env = make_env(settings.env, settings.train.num_envs, threads)
        self.shapes = shapes_of(self.env)
        self.mocap = self.env.mocap
        agent = make_agent(settings, self.shapes, torch.device("cpu"))
        self.actor = copy.deepcopy(agent.actor).requires_grad_(False)
        self.collector = Collector(
            self.env,
            self.actor,
            settings.train.seed,
            settings.agent.reward_scale,
            settings.agent.gamma,
        )
        self._done: tuple[Chunk, float] | None = None

    def start(self, decisions: int) -> None:
        started = time.perf_counter()
        chunk = self.collector.collect(decisions)
        self._done = chunk, time.perf_counter() - started

    def finish(self) -> tuple[Chunk, float]:
        assert self._done is not None, "start comes before finish"
        done, self._done = self._done, None
        return done

    def renew(self, actor: Actor) -> None:
        self.actor.load_weights(actor.weights())

    def state_dict(self) -> dict[str, Any]:
        return self.collector.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.collector.load_state_dict(state)

    def close(self) -> None:
        self.env.close()


def start_collecting(settings: Settings) -> Collecting:
    """Whoever collects for a run of these settings: beside the learner with 2 threads or more."""
    if settings.train.threads > 1 and os.name == "posix":
        from safetransfer.training.collector_process import InProcess

        return InProcess(settings)
    return InTurn(settings)
