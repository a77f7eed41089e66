"""The constrained recurrent soft actor-critic: networks, losses, multiplier."""

from safetransfer.agent.agent import Agent
from safetransfer.agent.settings import AgentSettings

__all__ = ["Agent", "AgentSettings"]
