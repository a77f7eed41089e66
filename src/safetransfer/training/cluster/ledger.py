"""What every actor ever collected, and what became of it: received, waiting, or lost with it.

An actor of a cluster is a *slot* (its share of the hallways) and an *incarnation* (how often the
slot's actor was replaced). It counts what it collects; the learner counts what it takes in. What
the two differ by is still with the actor while it lives, and lost once it has died.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from safetransfer.replay import Chunk

FILE_NAME = "ledger.json"  # of the run's directory: the driver's copy, of what it last heard


@dataclass(frozen=True)
class Account:
    """An amount of experience, and what it cost."""

    steps: int = 0  # environment steps
    decisions: int = 0
    cost: float = 0.0

    @classmethod
    def of(cls, chunk: Chunk) -> Account:
        return cls(chunk.env_steps, chunk.decisions, float(chunk.cost.sum()))

    @classmethod
    def of_counters(cls, counters: Mapping[str, Any]) -> Account:
        """Of all that a learner took in."""
        return cls(counters["env_steps"], counters["decisions"], counters["cost_total"])

    def __add__(self, other: Account) -> Account:
        return Account(
            self.steps + other.steps, self.decisions + other.decisions, self.cost + other.cost
        )

    def __sub__(self, other: Account) -> Account:
        return Account(
            self.steps - other.steps, self.decisions - other.decisions, self.cost - other.cost
        )

    def as_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "decisions": self.decisions, "cost": self.cost}


def actor_name(slot: int, incarnation: int) -> str:
    """Both count from 0; what people read counts slots from 1, as in "actor 3"."""
    return f"{slot}.{incarnation}"


@dataclass
class Entry:
    """One incarnation of one actor."""

    slot: int
    incarnation: int
    collected: Account = field(default_factory=Account)  # by its own last word
    received: Account = field(default_factory=Account)  # by the learner
    next_chunk: int = 0  # number of the first chunk that the learner has not received
    ended: bool = False

    @property
    def outstanding(self) -> Account:
        return self.collected - self.received

    def as_dict(self) -> dict[str, Any]:
        return {
            "slot": self.slot,
            "incarnation": self.incarnation,
            "ended": self.ended,
            "next_chunk": self.next_chunk,
            "collected": self.collected.as_dict(),
            "received": self.received.as_dict(),
        }

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> Entry:
        return cls(
            int(data["slot"]),
            int(data["incarnation"]),
            Account(**data["collected"]),
            Account(**data["received"]),
            int(data["next_chunk"]),
            bool(data["ended"]),
        )


class Ledger:
    """An entry for each incarnation of each actor, and what the run had before its first."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.before = Account()  # taken in by the one-machine loop

    def entry(self, name: str) -> Entry:
        if name not in self.entries:
            slot, incarnation = map(int, name.split("."))
            self.entries[name] = Entry(slot, incarnation)
        return self.entries[name]

    def word(self, name: str, collected: Account) -> None:
        """Note an actor's own count; words can overtake each other, counts only grow."""
        entry = self.entry(name)
        if collected.decisions > entry.collected.decisions:
            entry.collected = collected

    def receive(self, name: str, number: int, amount: Account) -> bool:
        """Count a chunk as received, if it is the next one of its actor; else False."""
        entry = self.entry(name)
        if number != entry.next_chunk:
            return False
        entry.received += amount
        entry.next_chunk += 1
        self.word(name, entry.received)  # what arrived was collected
        return True

    def end(self, name: str) -> None:
        self.entry(name).ended = True

    def totals(self) -> dict[str, Account]:
        """collected = received + waiting (with living actors) + lost (with dead ones)."""
        entries = self.entries.values()
        return {
            "collected": _sum(e.collected for e in entries) + self.before,
            "received": _sum(e.received for e in entries) + self.before,
            "waiting": _sum(e.outstanding for e in entries if not e.ended),
            "lost": _sum(e.outstanding for e in entries if e.ended),
        }

    def audit(
        self, counters: Mapping[str, Any], backlogs: Mapping[str, Account]
    ) -> tuple[bool, str]:
        """Hold the ledger against what others counted by themselves.

        Args:
            counters: the learner's own, over everything that entered its replay.
            backlogs: by name, what each living actor says that it still has to send.

        Returns:
            Whether it adds up, and a sentence that says so or by how much it does not.
        """
        totals = self.totals()
        received, lost = totals["received"], totals["lost"]
        wrong = []
        if received.steps != counters["env_steps"]:
            wrong.append(f"{received.steps} steps received, {counters['env_steps']} taken in")
        if not math.isclose(received.cost, counters["cost_total"], rel_tol=1e-9, abs_tol=1e-6):
            wrong.append(f"cost {received.cost:g} received, {counters['cost_total']:g} counted")
        for name, backlog in backlogs.items():
            expected = self.entry(name).outstanding.decisions
            if backlog.decisions != expected:
                wrong.append(
                    f"actor {name} has {backlog.decisions} decisions to send, not {expected}"
                )
        if wrong:
            return False, "the accounts do not add up: " + "; ".join(wrong)
        waiting = totals["waiting"].steps
        return True, (
            f"every step is accounted for: {totals['collected'].steps:,} collected = "
            f"{received.steps:,} learned from + {waiting:,} still with actors + {lost.steps:,} "
            f"lost with actors that died; total cost {received.cost:,.0f}, and {lost.cost:,.0f} in "
            "what was lost"
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain data, for checkpoints and JSON."""
        return {
            "before": self.before.as_dict(),
            "entries": [e.as_dict() for e in self.entries.values()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.before = Account(**state["before"])
        entries = [Entry.of_dict(e) for e in state["entries"]]
        self.entries = {actor_name(e.slot, e.incarnation): e for e in entries}


def _sum(accounts: Iterable[Account]) -> Account:
    total = Account()
    for account in accounts:
        total += account
    return total
