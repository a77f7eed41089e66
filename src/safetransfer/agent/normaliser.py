"""Running mean and variance of the proprioception."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normaliser(nn.Module):
    """(x - mean) / std, clipped to +-5; moments merged batch by batch (Chan et al. 1979)."""

    count: Tensor
    mean: Tensor
    var: Tensor
    offset: Tensor
    factor: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(size), persistent=False)
        self.register_buffer("factor", torch.ones(size), persistent=False)
        self._refresh()

    def _refresh(self) -> None:
        self.offset.copy_(self.mean)
        self.factor.copy_((self.var + 1e-6).rsqrt())

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Merge the rows of x (M, size)."""
        if not len(self.mean):  # an agent that only sees
            return
        x = x.double()
        n = x.shape[0]
        total = self.count + n
        delta = x.mean(0) - self.mean
        m2 = self.var * self.count + x.var(0, correction=0) * n
        m2 = m2 + delta.square() * self.count * n / total
        self.mean.add_(delta * n / total)
        self.var.copy_(m2 / total)
        self.count.copy_(total)
        self._refresh()

    def load_state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        result = super().load_state_dict(*args, **kwargs)
        self._refresh()
        return result

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.offset) * self.factor).clamp(-5.0, 5.0)
