"""Members that are seeds of one thing, and what to call it: by what differs from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetransfer.report.comparison.members import BEFORE, Member
from safetransfer.report.words import short_name

_ABSENT = "–"
_LABELLED = 3  # a label with more settings than this is no label
_WAYS = ("trained", "zero-shot", "fine-tuned", "from scratch")


@dataclass(frozen=True)
class Group:
    """Seeds of one thing. `differs` are the settings that set it apart in its environment."""

    letter: str
    way: str
    env: str
    members: tuple[Member, ...]
    differs: Mapping[str, str]

    @property
    def parts(self) -> list[str]:
        """How its agents came to be, and the first few settings that set them apart."""
        parts = [f"{_last(name)} {value}" for name, value in self.differs.items()]
        if len(parts) > _LABELLED:
            parts = [*parts[:_LABELLED], f"and {len(parts) - _LABELLED} more"]
        return [self.way, *parts]

    @property
    def label(self) -> str:
        """Such as "fine-tuned, lr 0.001"; the environment goes without saying in its table."""
        return ", ".join(self.parts)

    @property
    def title(self) -> str:
        """The label with its environment."""
        return f"{short_name(self.env)}, {self.label}"

    @property
    def cost_limit(self) -> float | None:
        return self.members[0].cost_limit


def group_members(members: Sequence[Member]) -> list[Group]:
    """Groups in the order of their environments, then of how their agents came to be."""
    together: dict[Any, list[Member]] = {}
    for member in members:
        together.setdefault(member.key, []).append(member)
    envs = list(dict.fromkeys(m.env for m in members))
    ordered = sorted(
        together.values(), key=lambda g: (envs.index(g[0].env), _WAYS.index(g[0].way))
    )  # stable: the order given decides the rest
    groups = []
    for index, found in enumerate(ordered):
        first = found[0]
        like = [g[0].settings for g in ordered if (g[0].env, g[0].way) == (first.env, first.way)]
        shown = {name: shown_value(first.settings, name) for name in differing(like)}
        found.sort(key=lambda m: m.seed)
        groups.append(Group(_letter(index), first.way, first.env, tuple(found), shown))
    return groups


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings that are not the same in all, in the order in which they come.

    What pre-training differed in just as the run itself does is left out: it goes without saying.
    """
    names = dict.fromkeys(name for one in settings for name in one)
    columns = {name: [shown_value(one, name) for one in settings] for name in names}
    different = {name: column for name, column in columns.items() if len(set(column)) > 1}
    return [
        name
        for name, column in different.items()
        if not (name.startswith(BEFORE) and different.get(name.removeprefix(BEFORE)) == column)
    ]


def shown_value(settings: Mapping[str, Any], name: str) -> str:
    """A setting's value as text; a dash where the run knows no such setting."""
    value = settings.get(name, _ABSENT)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "on", False: "off"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _last(name: str) -> str:
    """agent.lr as lr; what came before the run keeps saying so."""
    before, _, setting = name.rpartition(" ")
    return f"{before} {setting.rpartition('.')[2]}".strip()


def _letter(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("A") + digit) + text
    return text
