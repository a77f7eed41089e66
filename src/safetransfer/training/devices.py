"""Where the policy acts while experience is collected, and the stream that it acts on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch

from safetransfer.agent.agent import Actor
from safetransfer.training.build import choose_device


def choose_actor_device(name: str, learner: torch.device) -> torch.device:
    """'auto' is the learner's; SettingError where a GPU is asked for and absent.

    One thread of a CPU takes milliseconds for a decision of 60 hallways by the paper's network,
    hallways on the other cores a fraction of one: where there is a GPU it should act, too.
    """
    return learner if name == "auto" else choose_device(name, "train.actor_device")


@functools.cache  # PyTorch keeps memory apart for each stream
def _stream_ahead(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)


@contextlib.contextmanager
def acting_stream(actor: Actor) -> Iterator[None]:
    """On a GPU, act ahead of the updates that the learner has queued; elsewhere, nothing."""
    device = actor.normaliser.mean.device
    if device.type != "cuda":
        yield
        return
    stream = _stream_ahead(device)
    stream.wait_stream(torch.cuda.default_stream(device))  # there the weights were copied
    with torch.cuda.stream(stream):
        yield
