"""Networks of the agent: encoder, recurrent core, policy, and the stacked Q heads.

Figure 5 and Table 2 of the paper name the modules and their sizes but not how they join; one
arrangement gives every number of that table (hidden layers of 400 and 300 in the heads):

    camera -> encoder (convolutions, embedding) -> e
    x = [e, proprioception, last reward, last cost]
    h = GRU(x)                          z = [h, x] is the state that the heads read
    policy(z), Q1(z, a), Q2(z, a), Qc(z, a)

The critics' losses train the encoder and the GRU; the policy reads z without gradient. With
``encoders="separate"`` the policy has an encoder of its own, trained by its own loss, in place of
the critics' e: then there are two of each vision module, as in the table.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safetransfer.agent.settings import AgentSettings
from safetransfer.errors import SettingError

_CNNS = {  # (channels, kernel, stride) of each layer
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),  # Mnih et al. 2015
    "patch": ((16, 5, 5), (32, 3, 2)),
}
_ACTIVATIONS = {"relu": nn.ReLU, "selu": nn.SELU, "elu": nn.ELU}


@dataclass(frozen=True)
class Shapes:
    """What goes in and out: camera (height, width, channels) or None, proprioception, actions."""

    camera: tuple[int, int, int] | None
    proprio: int
    actions: int


def smallest_picture(cnn: str) -> int:
    """Least height and width, pixels, of which the convolutions `cnn` leave something."""
    side = 1
    for _, kernel, stride in reversed(_CNNS[cnn]):
        side = (side - 1) * stride + kernel
    return side


def _init_linear(weight: Tensor, fan_in: int, activation: str) -> None:
    """LeCun normal for SELU (Klambauer et al. 2017), He normal for the rest."""
    gain = 1.0 if activation == "selu" else math.sqrt(2.0)
    nn.init.normal_(weight, std=gain / math.sqrt(fan_in))


class Encoder(nn.Module):
    """Convolutions and an embedding: uint8 (B, H, W, C) -> (B, embedding)."""

    def __init__(self, camera: tuple[int, int, int], settings: AgentSettings):
        super().__init__()
        height, width, channels = camera
        activation = _ACTIVATIONS[settings.activation]
        layers: list[nn.Module] = []
        for out, kernel, stride in _CNNS[settings.cnn]:
            conv = nn.Conv2d(channels, out, kernel, stride)
            _init_linear(conv.weight, channels * kernel * kernel, settings.activation)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, activation()]
            channels = out
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if min(height, width) < 1:
            least = smallest_picture(settings.cnn)
            raise SettingError(
                f"a camera picture of {camera[0]} x {camera[1]} is too small for agent.cnn "
                f"{settings.cnn!r}, which needs {least} x {least} or more"
            )
        self.convolutions = nn.Sequential(*layers).to(  # type: ignore[call-overload]
            memory_format=torch.channels_last
        )
        flat = height * width * channels
        linear = nn.Linear(flat, settings.embedding)
        _init_linear(linear.weight, flat, settings.activation)
        nn.init.zeros_(linear.bias)
        norm = [nn.LayerNorm(settings.embedding)] if settings.layer_norm else []
        self.embedding = nn.Sequential(linear, *norm, activation())

    def forward(self, camera: Tensor) -> Tensor:
        if camera.is_cuda:
            x = self._first_as_product(camera)
            return self.embedding(self.convolutions[1:](x).permute(0, 2, 3, 1).flatten(1))
        # A (B, H, W, C) frame seen as (B, C, H, W) is already in channels-last memory order.
        x = camera.permute(0, 3, 1, 2).float().mul_(1.0 / 255.0)
        # Flattened as it lies in memory; the embedding learns whichever order it is given.
        return self.embedding(self.convolutions(x).permute(0, 2, 3, 1).flatten(1))

    def _first_as_product(self, camera: Tensor) -> Tensor:
        """The first convolution as one product of matrices, (B, out, H', W') in channels-last.

        Of a picture with one channel cuDNN makes a copy in another layout, and computes the
        gradient of the weights slowly: together two fifths of the paper's update.
        """
        first = self.convolutions[0]
        (kernel, _), (stride, _) = first.kernel_size, first.stride
        patches = camera.unfold(1, kernel, stride).unfold(2, kernel, stride)
        gpu = torch.is_autocast_enabled("cuda")
        dtype = torch.get_autocast_dtype("cuda") if gpu else torch.float32
        # Bytes are exact in bfloat16; the weights take the division by 255.
        x = patches.flatten(3).to(dtype)
        weight = first.weight.flatten(1) * (1.0 / 255.0)
        return F.linear(x, weight, first.bias).permute(0, 3, 1, 2)


class StackedMLP(nn.Module):
    """`heads` perceptrons of one shape as one batched product: (B, in) -> (heads, B, out)."""

    def __init__(self, heads: int, inputs: int, outputs: int, settings: AgentSettings):
        super().__init__()
        self.activation = _ACTIVATIONS[settings.activation]()
        sizes = (inputs, *settings.mlp, outputs)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            weight = torch.empty(heads, fan_in, fan_out)
            _init_linear(weight, fan_in, settings.activation)
            if i == len(sizes) - 2:
                weight *= 0.1  # near-zero first outputs: centred actions, Q values near zero
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(heads, 1, fan_out)))
        self.scale: nn.Parameter | None = None
        if settings.layer_norm:
            self.scale = nn.Parameter(torch.ones(heads, 1, sizes[1]))
            self.shift = nn.Parameter(torch.zeros(heads, 1, sizes[1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.first(x))

    def first(self, x: Tensor) -> Tensor:
        """The first layer's sums (heads, B, hidden), from its first inputs x (B, at most in)."""
        heads, size = len(self.weights[0]), x.shape[-1]
        return torch.baddbmm(self.biases[0], x.expand(heads, -1, -1), self.weights[0][:, :size])

    def finish(self, sums: Tensor, rest: Tensor | None = None) -> Tensor:
        """The outputs, from the first layer's sums and the inputs that those do not have in them
        yet, `rest` (B, in - those): several of them can share one `first`."""
        x = sums
        if rest is not None:
            size = rest.shape[-1]
            given = rest.expand(len(sums), -1, -1)
            x = torch.baddbmm(sums, given, self.weights[0][:, -size:])
        if self.scale is not None:
            x = torch.addcmul(self.shift, F.layer_norm(x, x.shape[-1:]), self.scale)
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            x = torch.baddbmm(bias, self.activation(x), weight)
        return x


class Networks(nn.Module):
    """All online networks. Shapes below: T steps, B sequences, time first."""

    def __init__(self, shapes: Shapes, settings: AgentSettings):
        super().__init__()
        self.shapes, self.settings = shapes, settings
        embedding = settings.embedding if shapes.camera else 0
        self.x_size = embedding + shapes.proprio + (2 if settings.feedback else 0)
        self.z_size = settings.hidden + self.x_size
        self.encoder = Encoder(shapes.camera, settings) if shapes.camera else None
        own = shapes.camera is not None and settings.encoders == "separate"
        self.policy_encoder = Encoder(shapes.camera, settings) if own and shapes.camera else None
        self.gru = nn.GRU(self.x_size, settings.hidden)
        self.policy = StackedMLP(1, self.z_size, 2 * shapes.actions, settings)
        self.q = StackedMLP(3, self.z_size + shapes.actions, 1, settings)  # Q1, Q2, Qc

    def embed(self, encoder: Encoder | None, obs: dict[str, Tensor], feedback: Tensor) -> Tensor:
        """x (T, B, X) from camera (T, B, H, W, C), normalised proprio, feedback (T, B, 2)."""
        parts = [obs["proprio"]] if self.shapes.proprio else []
        if encoder is not None:
            camera = obs["camera"]
            parts.insert(0, encoder(camera.flatten(0, 1)).unflatten(0, camera.shape[:2]))
        if self.settings.feedback:
            parts.append(feedback)
        return torch.cat(parts, -1)

    def state(
        self, obs: dict[str, Tensor], feedback: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the recurrent core from `carry` (B, hidden).

        Returns z (T, B, Z) for the critics, the policy's z (its gradient reaches at most the
        policy's own encoder), and the last hidden state (B, hidden).
        """
        z, h, last = self.critics_state(obs, feedback, carry)
        if self.policy_encoder is None:
            return z, z.detach(), last
        x_policy = self.embed(self.policy_encoder, obs, feedback)
        return z, torch.cat([h.detach(), x_policy], -1), last

    def critics_state(
        self, obs: dict[str, Tensor], feedback: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """z for the critics alone, the hidden states in it (T, B, hidden), and the last of them."""
        x = self.embed(self.encoder, obs, feedback)
        h, last = self.gru(x, carry.unsqueeze(0))
        return torch.cat([h, x], -1), h, last[0]


class StateQs:
    """Q1, Q2 and Qc of the same states: what the heads make of z alone is computed once."""

    def __init__(self, heads: StackedMLP, z: Tensor):
        """z: (..., Z)."""
        self._heads, self._shape = heads, z.shape[:-1]
        self._sums = heads.first(z.flatten(0, -2))

    def of(self, action: Tensor) -> Tensor:
        """Q1, Q2, Qc stacked, (3, ...), of actions (..., A)."""
        q = self._heads.finish(self._sums, action.flatten(0, -2)).float()
        return q.squeeze(-1).unflatten(1, self._shape)

    def detached(self) -> StateQs:
        """The same for gradients that are to reach the actions, and not the states."""
        other = copy.copy(self)
        other._sums = self._sums.detach()
        return other


def policy_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the state of `Networks`, what acting needs: all but the critics' heads."""
    return {name: value for name, value in state.items() if not name.startswith("q.")}
