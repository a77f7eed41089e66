"""Stored experience, sampled as sequences."""

from safetransfer.replay.chunk import Chunk, Episode
from safetransfer.replay.sequence_replay import SequenceReplay

__all__ = ["Chunk", "Episode", "SequenceReplay"]
