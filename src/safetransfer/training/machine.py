"""What a run ran on: processor, memory and versions, and nothing that names a person or host."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import safetransfer

_PACKAGES = ("torch", "mujoco", "gymnasium", "numpy", "numba")


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory (GiB), accelerator, system."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_gib": memory_gib(),
        "accelerator": _accelerator(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that its figures depend on."""
    found = {"python": platform.python_version(), "safetransfer": safetransfer.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def summary() -> str:
    """The machine in a line for people: ``8 cores of ..., 16 GiB, Linux x86_64, torch ...``."""
    machine = describe_machine()
    parts = [f"{machine['cores']} core{'s' * (machine['cores'] != 1)} of {machine['cpu']}"]
    if machine["memory_gib"]:
        parts.append(f"{machine['memory_gib']} GiB")
    if machine["accelerator"]:
        parts.append(machine["accelerator"])
    parts += [machine["system"], *(f"{name} {v}" for name, v in versions().items())]
    return ", ".join(parts)


def cores() -> int:
    """Cores that this process may use, which on a shared machine can be fewer than it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_gib() -> float | None:
    """Memory of the machine in GiB, or of the container that this is in, where that may have less;
    None where the system does not say."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(min([there, *_container_limits()]) / 2**30, 1)


def _container_limits(root: Path = Path("/sys/fs/cgroup"), own: str | None = None) -> list[int]:
    """Bytes that this process's control group (Linux, version 2) and those around it may have.

    `own`: the group's path below `root`; None asks the system.
    """
    limits = []
    try:
        if own is None:
            lines = Path("/proc/self/cgroup").read_text().splitlines()
            own = next(line[3:] for line in lines if line.startswith("0::"))
        group = root / own.lstrip("/")
        for place in (group, *group.parents):
            limit = place / "memory.max"
            if limit.is_file() and (text := limit.read_text().strip()) != "max":
                limits.append(int(text))
            if place == root:
                break
    except (OSError, ValueError, StopIteration):
        pass
    return limits


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
