"""The processes of a run on a cluster: thin shells of Ray around what learns and what collects.

Settings travel as the plain data of config.json, errors of ours as their text: neither needs the
classes of the other side to be understood.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

import safetransfer
from safetransfer import settings_io
from safetransfer.errors import SafeTransferError
from safetransfer.training.cluster.collecting import Collecting
from safetransfer.training.cluster.learning import ClusterLearner
from safetransfer.training.cluster.ledger import Account
from safetransfer.training.cluster.messages import Parcel, Reply, Word
from safetransfer.training.cluster.slots import slots_of
from safetransfer.training.lock import locked
from safetransfer.training.settings import Settings

LOCK_WITHIN = 60.0  # seconds for a killed run's learner to be gone
ANSWER_WITHIN = 30.0  # seconds for a call to the learner, after which it is made anew


class LearnerProcess:
    """Holds the learner. Ray starts it again when it dies; it then begins from the checkpoint."""

    def __init__(self, spec: Mapping[str, Any]):
        self._learner: ClusterLearner | None = None
        self._failure: str | None = None
        try:
            # A driver that was killed leaves its learner to Ray, which may take a moment to end it.
            self._lock = locked(Path(spec["run_dir"]), LOCK_WITHIN)
            self._learner = ClusterLearner(
                settings_io.from_dict(Settings, spec["settings"]),
                Path(spec["run_dir"]),
                spec["num_actors"],
                publish=ray.put,
                command=spec["command"],
                init=spec["init"],
                carry=spec["carry"],
            )
        except SafeTransferError as error:
            self._failure = str(error)
            return
        threading.Thread(target=self._learner.run, daemon=True).start()

    def receive(self, word: Word, parcel: Parcel | None) -> Reply:
        if self._learner is None:
            return Reply(0, 0, ("", 0), over=True)
        return self._learner.receive(word, parcel)

    def status(self, life: str, seen: int) -> dict[str, Any]:
        if self._learner is None:
            return {"life": "", "failure": self._failure}
        return self._learner.status(life, seen)

    def note(self, words: Mapping[str, Account], ended: list[str]) -> None:
        if self._learner is not None:
            self._learner.note(words, ended)

    def drain(self) -> None:
        if self._learner is not None:
            self._learner.drain()

    def leave(self) -> None:
        if self._learner is not None:
            self._learner.leave()


class CollectorProcess:
    """Holds an actor. It is never started again: the driver puts another in its place."""

    def __init__(self) -> None:
        self._collecting: Collecting | None = None

    def start(self, spec: Mapping[str, Any], learner: Any, slot: int, incarnation: int) -> str:
        """Build hallways and networks and begin; returns what is wrong, or nothing."""
        if spec["version"] != safetransfer.__version__:
            return (
                f"safetransfer {safetransfer.__version__} is installed on an actor's machine, "
                f"{spec['version']} where the run was started; install the same on all"
            )
        try:
            settings = settings_io.from_dict(Settings, spec["settings"])
            self._collecting = Collecting(
                settings,
                slots_of(settings.train.num_envs, spec["num_actors"])[slot],
                incarnation,
                send=Line(learner),
                fetch=fetch,
                node=ray.get_runtime_context().get_node_id(),
            )
        except SafeTransferError as error:
            return str(error)
        except Exception as error:  # of an environment that is not ours
            return f"{type(error).__name__}: {error}"
        self._collecting.start()
        return ""

    def word(self) -> Word:
        assert self._collecting is not None
        return self._collecting.word()

    def stop(self) -> None:
        assert self._collecting is not None
        self._collecting.stop()

    def sample(self) -> tuple[Parcel, float]:
        """For benchmarks: a chunk of this actor's, and the seconds that it takes to make one."""
        assert self._collecting is not None
        return self._collecting.sample()

    def pid(self) -> int:
        return os.getpid()


class Line:
    """An actor's line to the learner: an answer, or ConnectionError while the learner is away."""

    def __init__(self, learner: Any):
        self._learner = learner

    def __call__(self, word: Word, parcel: Parcel | None) -> Reply:
        try:
            reply: Reply = ray.get(
                self._learner.receive.remote(word, parcel), timeout=ANSWER_WITHIN
            )
        except ray.exceptions.RayTaskError:  # an error of the learner's own
            raise
        except ray.exceptions.RayError as error:
            raise ConnectionError("the learner is away") from error
        return reply


def fetch(reference: Any) -> Any:
    """Parameters from the object store: a node asks for each version once, whatever its actors."""
    try:
        return ray.get(reference, timeout=ANSWER_WITHIN)
    except (ray.exceptions.ObjectLostError, ray.exceptions.GetTimeoutError) as error:
        raise ConnectionError("the parameters went with the learner") from error
