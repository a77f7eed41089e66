"""Convolutions over camera pictures, on a CPU as products of matrices with their own backward pass.

PyTorch's convolutions are made for deep networks on large pictures. Ours have one to 64 channels on
50 x 50 pixels, where most of their time goes into reordering memory. Here every patch that a kernel
covers is laid out as a row of a matrix (im2col: Chellapilla et al. 2006), so that a layer is one
product, and pictures are taken in blocks that stay in the processor's cache from the first layer to
the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_BLOCK_BYTES = 2**20
"""Of the largest matrix of patches: with what is made of it, about a core's own cache."""
_KEPT_BYTES = 2**23
"""Up to this much of the first layer's patches are kept for the backward pass; more is laid out
again, which costs less than the memory."""
_SCALE = 1.0 / 255.0

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017


def _elu_backward(alpha: float, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
    def backward(gradient: Tensor, y: Tensor) -> Tensor:
        return torch.ops.aten.elu_backward.grad_input(
            gradient, alpha, scale, 1.0, True, y, grad_input=gradient
        )

    return backward


def _relu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)


_IN_PLACE: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]] = {
    nn.ReLU: (torch.relu_, _relu_backward),
    nn.ELU: (nn.functional.elu_, _elu_backward(1.0, 1.0)),
    nn.SELU: (torch.selu_, _elu_backward(_SELU_ALPHA, _SELU_SCALE)),
}
"""For each activation: it, and its gradient from its result, both in place."""


@dataclass(frozen=True)
class _Layer:
    """The figures of one convolution: input (height, width, channels), output likewise."""

    kernel: int
    stride: int
    shape: tuple[int, int, int]
    out: tuple[int, int, int]

    @property
    def row(self) -> int:
        """Values of a patch."""
        return self.kernel * self.kernel * self.shape[2]

    def patches(self, x: Tensor) -> Tensor:
        """Every patch of x (N, H, W, C) as a row: (N * h * w, row), copied."""
        n, (height, width, channels), k, s = len(x), self.shape, self.kernel, self.stride
        h, w, _ = self.out
        line = width * channels
        strides = (height * line, s * line, s * channels, line, 1)
        view = x.as_strided((n, h, w, k, k * channels), strides, x.storage_offset())
        return view.reshape(n * h * w, self.row)

    def add_up(self, rows: Tensor, n: int) -> Tensor:
        """The transpose of `patches`: each value of rows is added where it came from."""
        (height, width, channels), k, s = self.shape, self.kernel, self.stride
        h, w, _ = self.out
        line = width * channels
        x = rows.new_zeros(n, *self.shape)
        patches = rows.view(n, h, w, k, k * channels)
        for i in range(k):
            # Columns of a patch that the next patch does not cover lie side by side.
            for j in range(0, k, s):
                wide = min(s, k - j) * channels
                target = x.as_strided(
                    (n, h, w, wide),
                    (height * line, s * line, s * channels, 1),
                    i * line + j * channels,
                )
                target += patches[:, :, :, i, j * channels : j * channels + wide]
        return x


class Convolutions(nn.Sequential):
    """Convolutions and their activations: pictures uint8 (B, H, W, C) -> float (B, features).

    Features lie in the order (height, width, channels). The weights are those of `nn.Conv2d`
    layers, which also do the work on a GPU and in exported files.
    """

    def __init__(
        self,
        camera: tuple[int, int, int],
        layers: Sequence[tuple[int, int, int]],
        activation: type[nn.Module],
    ):
        """`layers`: (channels, kernel, stride) of each. Kernels must fit into what they get."""
        modules: list[nn.Module] = []
        self._figures: list[_Layer] = []
        height, width, channels = camera
        for out, kernel, stride in layers:
            modules += [nn.Conv2d(channels, out, kernel, stride), activation()]
            shape = (height, width, channels)
            height, width, channels = (
                (height - kernel) // stride + 1,
                (width - kernel) // stride + 1,
                out,
            )
            figures = _Layer(kernel, stride, shape, (height, width, channels))
            self._figures.append(figures)
        super().__init__(*modules)
        self._activation = activation
        self.features = height * width * channels
        # A kernel's weights then lie as a patch does.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, camera: Tensor) -> Tensor:
        weights = [p for layer in self if isinstance(layer, nn.Conv2d) for p in layer.parameters()]
        if camera.device.type == "cpu" and not torch.compiler.is_exporting():
            return _Products.apply(camera, self._figures, self._activation, *weights)
        # (B, H, W, C) seen as (B, C, H, W) is in channels-last memory order already.
        x = camera.permute(0, 3, 1, 2).to(weights[0].dtype).mul_(_SCALE)
        return super().forward(x).permute(0, 2, 3, 1).flatten(1)


class _Products(torch.autograd.Function):
    """All layers, block by block."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # under autocast, too
    def forward(
        ctx: Any,
        camera: Tensor,
        layers: list[_Layer],
        activation: type[nn.Module],
        *parameters: Tensor,
    ) -> Tensor:
        matrices, biases = _matrices(parameters), parameters[1::2]
        activate, _ = _IN_PLACE[activation]
        n, camera = len(camera), camera.contiguous()
        learns = any(ctx.needs_input_grad[3:])
        numbers = biases[0]  # of what kind
        results = [numbers.new_empty(n, *layer.out) for layer in layers[: None if learns else 0]]
        out = results[-1] if learns else numbers.new_empty(n, *layers[-1].out)
        keeps = learns and n * _area(layers[0]) * layers[0].row * 4 <= _KEPT_BYTES
        kept = []
        for block in _blocks(n, layers):
            x = camera[block]
            for i, (layer, matrix, bias) in enumerate(zip(layers, matrices, biases, strict=True)):
                patches = layer.patches(x.to(numbers.dtype) if i == 0 else x)
                if i == 0 and keeps:
                    kept.append(patches)
                last = i == len(layers) - 1
                y = out[block] if last else results[i][block] if learns else None
                flat = None if y is None else y.view(-1, layer.out[2])
                flat = torch.addmm(bias, patches, matrix.t(), out=flat)
                x = activate(flat).view(-1, *layer.out)
        if learns:
            ctx.save_for_backward(camera, *results, *parameters)
            ctx.layers, ctx.activation, ctx.kept = layers, activation, kept
        return out.view(n, -1)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        layers: list[_Layer] = ctx.layers
        camera, *saved = ctx.saved_tensors
        results, parameters = saved[: len(layers)], saved[len(layers) :]
        matrices = _matrices(parameters)
        _, through_activation = _IN_PLACE[ctx.activation]
        by_matrix = [torch.zeros_like(m) for m in matrices]
        by_bias = [torch.zeros_like(b) for b in parameters[1::2]]
        n = len(camera)
        for index, block in enumerate(_blocks(n, layers)):
            g = gradient[block].clone().view(-1, *layers[-1].out)
            for i in reversed(range(len(layers))):
                layer = layers[i]
                g = through_activation(g, results[i][block]).view(-1, layer.out[2])
                if i > 0:
                    patches = layer.patches(results[i - 1][block])
                elif ctx.kept:
                    patches = ctx.kept[index]
                else:
                    patches = layer.patches(camera[block].to(gradient.dtype))
                by_matrix[i].addmm_(g.t(), patches)
                by_bias[i] += g.sum(0)
                if i > 0:
                    g = layer.add_up(g @ matrices[i], block.stop - block.start)
        by_matrix[0] *= _SCALE
        gradients: list[Tensor] = []
        for layer, matrix, bias in zip(layers, by_matrix, by_bias, strict=True):
            square = matrix.view(len(bias), layer.kernel, layer.kernel, layer.shape[2])
            gradients += [square.permute(0, 3, 1, 2), bias]
        return None, None, None, *gradients


def _matrices(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Each layer's weights as (channels out, row); the first one's take pixels of 0 to 255."""
    matrices = [w.detach().permute(0, 2, 3, 1).flatten(1) for w in parameters[::2]]
    return [matrices[0] * _SCALE, *matrices[1:]]


def _area(layer: _Layer) -> int:
    return layer.out[0] * layer.out[1]


def _blocks(n: int, layers: list[_Layer]) -> list[slice]:
    """Pictures 0..n in parts of even size."""
    largest = max(_area(layer) * layer.row * 4 for layer in layers)
    parts = max(1, round(n * largest / _BLOCK_BYTES))
    size = -(-n // parts)
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]
