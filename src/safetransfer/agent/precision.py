"""In which arithmetic an update's products are made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

PRECISIONS = ("float32", "tf32", "bfloat16")


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Make products of matrices and convolutions in `precision`, one of PRECISIONS.

    "tf32" rounds factors to 10 bits and sums up in 32, on a GPU that can; "bfloat16" is PyTorch's
    autocast: factors and results of 8 bits, sums in 32, and what needs more stays in 32. Weights,
    losses and optimisers are 32 bits wide in all of them.
    """
    if device.type != "cuda":
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32 = cudnn.allow_tf32 = precision != "float32"
    cudnn.benchmark = True  # batches are all of one shape: the fastest way is looked for once
    try:
        # Nothing is cached across a recording's bounds (`recording`), where it would not be remade.
        with torch.autocast(
            "cuda", torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
        ):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def choose_precision(name: str, device: torch.device) -> str:
    """What 'auto' is on a device: TF32 on a GPU, float32 on a CPU; other names are themselves."""
    if name != "auto":
        return name
    return "tf32" if device.type == "cuda" else "float32"


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 matrices; without, they are slow.

    Known of the flags that Linux lists; elsewhere False.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
