"""What actors and the learner say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from safetransfer.replay import Chunk
from safetransfer.training.cluster.ledger import Account

Version = tuple[str, int]  # the learner's life, and a count of what it published in it


@dataclass
class Word:
    """An actor about itself."""

    name: str
    slot: int
    collected: Account = field(default_factory=Account)  # since it began
    waiting: Account = field(default_factory=Account)  # of it, not yet received by the learner
    held: int = 0  # decisions that it keeps: waiting, or not yet in a checkpoint
    version: Version | None = None  # the parameters that it acts with
    node: str = ""
    stopped: bool = False  # collects no more
    error: str | None = None  # what ended its collecting, where that was an error


@dataclass
class Parcel:
    """A chunk on its way to the learner."""

    number: int  # of its actor's chunks, from 0
    chunk: Chunk
    version: Version  # of the parameters that it was collected with
    collect_s: float  # seconds that collecting it took
    held_s: float  # seconds that its actor was held back before


@dataclass
class Reply:
    """The learner to an actor."""

    next_chunk: int  # the first one that the learner has not got: send from there
    covered: int  # chunks below this are in a checkpoint: forget them
    version: Version
    parameters: Any = None  # a reference to them, where the actor's are of another version
    over: bool = False  # the actor has been replaced, or the run has ended
