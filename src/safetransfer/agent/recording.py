"""A computation on a GPU as a CUDA graph: its hundreds of kernels are launched by one call."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safetransfer.errors import TrainingError

_WARM_UP = 3
"""Times that a computation is made before it is recorded: libraries set themselves up in them."""
_one_at_a_time = threading.Lock()


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    output: Tensor
    gradients: list[Tensor | None]


class Recorded:
    """A computation, recorded once per kind and shapes. It may leave gradients in parameters.

    It may read other tensors that stay where they are, such as weights and normalisers, and must
    never wait for the device.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        """`parameters`: all that the computation gives gradients to."""
        self._parameters = list(parameters)
        self._recordings: dict[Hashable, _Recording] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorded:
        return Recorded(copy.deepcopy(self._parameters, memo))  # a copy records for itself

    def __call__(
        self, kind: Hashable, inputs: Sequence[Tensor], compute: Callable[[list[Tensor]], Tensor]
    ) -> Tensor:
        """What `compute` gives for `inputs`; the tensor is overwritten by the next call.

        Args:
            kind: what `compute` does depends on this and the inputs' shapes alone.
            inputs: read by `compute` in place of anything else that changes place.
            compute: called only where the kind is new.

        Raises:
            TrainingError: it cannot be recorded.
        """
        key = (kind, *(tuple(x.shape) for x in inputs))
        recording = self._recordings.get(key)
        if recording is None:
            try:
                recording = self._recordings[key] = self._record(inputs, compute)
            except torch.OutOfMemoryError as error:
                raise TrainingError(
                    "this GPU's memory is too small to record what is computed as a CUDA graph; "
                    "--train.cuda_graphs off needs less, and so does a smaller agent.batch_size"
                ) from error
            except RuntimeError as error:
                raise TrainingError(
                    "what is computed cannot be recorded as a CUDA graph on this GPU "
                    f"({str(error).strip().splitlines()[0]}); --train.cuda_graphs off does without"
                ) from error
        else:
            torch._foreach_copy_(recording.inputs, list(inputs))
        recording.graph.replay()
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return recording.output

    def _record(
        self, inputs: Sequence[Tensor], compute: Callable[[list[Tensor]], Tensor]
    ) -> _Recording:
        own = [x.clone() for x in inputs]
        device = own[0].device
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                compute(own)
        torch.cuda.current_stream(device).wait_stream(aside)
        for parameter in self._parameters:
            parameter.grad = None  # made anew below, in memory of the graph's own
        graph: Any = torch.cuda.CUDAGraph()
        # Collectors act, and batches arrive, by other threads meanwhile.
        with _one_at_a_time, torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = compute(own)
        return _Recording(graph, own, output, [p.grad for p in self._parameters])
