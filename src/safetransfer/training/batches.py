"""Batches for the learner: taken from the replay when they are due or, for a GPU, one ahead.

While a GPU makes an update, a thread takes the next batch out of the replay into pinned memory,
each frame copied once and still in 8 bits, and sends it on a stream of its own. The replay must not
change meanwhile. The batches are the same ones in the same order as without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from safetransfer.agent.agent import Batch
from safetransfer.replay import SequenceReplay

T = TypeVar("T")


def batches(
    replay: SequenceReplay, size: int, count: int, rng: np.random.Generator, device: torch.device
) -> Iterator[Batch]:
    """`count` batches of `size` sequences, on `device`."""
    if device.type != "cuda":
        for _ in range(count):
            yield replay.sample(size, rng).to(device)
        return
    upload = _upload(device)
    for batch, arrived in one_ahead(lambda: upload(replay.sample(size, rng, pinned=True)), count):
        yield upload.received(batch, arrived)


def one_ahead(make: Callable[[], T], count: int) -> Iterator[T]:
    """What `count` calls of `make` give, each made by a thread while the one before is in use.

    An error in `make` is raised where its value would have been.
    """
    if count < 1:
        return
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(make)
        for left in range(count - 1, -1, -1):
            value = coming.result()
            if left:
                coming = thread.submit(make)
            yield value


class _Upload:
    """Copies to a GPU beside what it computes."""

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def __call__(self, batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        """Begin to send a pinned batch; the event tells when it has arrived."""
        with torch.cuda.stream(self.stream):
            sent = batch.to(self.device)
            return sent, self.stream.record_event()

    def received(self, batch: Batch, arrived: torch.cuda.Event) -> Batch:
        """Have what the present stream does next wait for the batch."""
        using = torch.cuda.current_stream(self.device)
        using.wait_event(arrived)
        for tensor in batch.tensors():
            tensor.record_stream(using)  # its memory is not given away before `using` is through
        return batch


@functools.cache  # PyTorch keeps memory apart for each stream
def _upload(device: torch.device) -> _Upload:
    return _Upload(device)
