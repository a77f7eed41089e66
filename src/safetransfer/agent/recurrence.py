"""The GRU over stored sequences, on a CPU with its own backward pass.

`torch.nn.GRU`'s backward pass on a CPU runs through some thirty small operations a step. Most of
them do not depend on the gradient that comes back from the step after: here those are done for all
steps at once, and so are the products that give the weights' gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GRU(nn.GRU):
    """One layer of `torch.nn.GRU`: the same weights, formulas and results."""

    def forward(  # type: ignore[override]
        self, x: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From x (T, B, X) and the state before it, carry (1, B, H): states (T, B, H), the last."""
        if x.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(x, carry)
        h = _Steps.apply(x, carry[0], *self.all_weights[0])
        return h, h[-1:]


class _Steps(torch.autograd.Function):
    """With r, z, n as in torch.nn.GRU's documentation: h' = n + z (h - n)."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # under autocast, too
    def forward(
        ctx: Any, x: Tensor, carry: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
    ) -> Tensor:
        steps, b, size = len(x), len(carry), carry.shape[1]
        from_x = torch.addmm(b_x, x.flatten(0, 1), w_x.t()).view(steps, b, 3 * size)
        gates = torch.empty_like(from_x)  # r, z, and what of n comes from the state
        new = carry.new_empty(steps, b, size)
        states = carry.new_empty(steps + 1, b, size)
        states[0] = carry
        w = w_h.t()
        for t in range(steps):
            g = torch.addmm(b_h, states[t], w, out=gates[t])
            rz = g[:, : 2 * size]
            rz.add_(from_x[t, :, : 2 * size]).sigmoid_()
            n = torch.addcmul(from_x[t, :, 2 * size :], g[:, :size], g[:, 2 * size :], out=new[t])
            n.tanh_()
            torch.lerp(n, states[t], g[:, size : 2 * size], out=states[t + 1])
        ctx.save_for_backward(x, w_x, w_h, gates, new, states)
        return states[1:]

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, w_x, w_h, gates, new, states = ctx.saved_tensors
        steps, b, size = new.shape
        r, z, from_state = gates.split(size, -1)
        # Factors of what comes back: by the state into z's and n's sums, and by n's into r's.
        into_z = (states[:-1] - new) * z * (1.0 - z)
        into_n = (1.0 - z) * (1.0 - new * new)
        into_r = from_state * r * (1.0 - r)
        sums = torch.empty_like(gates)  # gradients of the gates' sums from x: r, z, n
        sums_h = torch.empty_like(gates)  # and from the state
        back = new.new_zeros(b, size)
        for t in reversed(range(steps)):
            back = back + gradient[t]
            s, s_h = sums[t], sums_h[t]
            n = torch.mul(back, into_n[t], out=s[:, 2 * size :])
            torch.mul(n, into_r[t], out=s_h[:, :size])
            torch.mul(back, into_z[t], out=s_h[:, size : 2 * size])
            torch.mul(n, r[t], out=s_h[:, 2 * size :])
            back = torch.addmm(back * z[t], s_h, w_h)
        sums[..., : 2 * size] = sums_h[..., : 2 * size]
        flat, flat_h = sums.flatten(0, 1), sums_h.flatten(0, 1)
        by_x = (flat @ w_x).view_as(x) if ctx.needs_input_grad[0] else None
        return (
            by_x,
            back if ctx.needs_input_grad[1] else None,
            flat.t() @ x.flatten(0, 1),
            flat_h.t() @ states[:-1].flatten(0, 1),
            flat.sum(0),
            flat_h.sum(0),
        )
