"""The constrained recurrent soft actor-critic: networks, losses, multiplier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetransfer.agent.settings import AgentSettings

if TYPE_CHECKING:
    from safetransfer.agent.agent import Agent


def __getattr__(name: str) -> Any:
    # PyTorch takes a second to import, and settings do not need it.
    if name == "Agent":
        from safetransfer.agent.agent import Agent

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Agent", "AgentSettings"]
