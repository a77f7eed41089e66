"""The figures that the paper prints, to stand beside ours."""

from __future__ import annotations

from typing import NamedTuple


class Result(NamedTuple):
    """Return and cost per episode."""

    episode_return: float
    cost: float


class TableRow(NamedTuple):
    """One row of Table 1: trained in the deployment environment, or moved there untrained."""

    scratch: Result
    zeroshot: Result


CITATION = (
    "Knight and Achiam, “Safely Transferring to Unsafe Environments with Constrained "
    "Reinforcement Learning”"
)

TABLE_1: dict[str, TableRow] = {
    "PointPoles": TableRow(Result(1090, 0.4), Result(756, 1000)),
    "PointHumanoids": TableRow(Result(1040, 16), Result(935, 5.5)),
    "DoggoPoles": TableRow(Result(800, 1.8), Result(877, 3.1)),
    "DoggoHumanoids": TableRow(Result(965, 2.2), Result(946, 3.9)),
}
