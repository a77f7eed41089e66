"""Training on a cluster whose parts are killed while it trains, and the accounts afterwards.

Three nodes of Ray on one machine, the real command line, and SIGKILL at random moments for actors,
a node, the learner and, where asked for, the driver. The hallways keep a count of their own (see
`witness`), which the run's accounts are held against.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetransfer.benchmarks import witness
from safetransfer.errors import TrainingError
from safetransfer.training.cluster.events import read_events
from safetransfer.training.cluster.ledger import FILE_NAME as LEDGER
from safetransfer.training.logs import read_rows
from safetransfer.training.machine import describe_machine, versions

KILLS = ("actor", "learner", "node", "actor", "learner", "actor")
NODES = 3
CORES_OF_A_NODE = 2
STORE = 80 * 2**20  # bytes of a node's object store
NODE_BACK_AFTER = 5.0  # seconds until another node joins in a dead one's place
PATIENCE = 600.0  # seconds without anything after which it is called off


class Chaos:
    """One run on a cluster of this machine, and what is done to it."""

    def __init__(self, out: Path, flags: Sequence[str], actors: int, seed: int):
        """`flags`: of ``safetransfer train``, besides those of directory and cluster."""
        self.out, self.run_dir, self.counts = out, out / "run", out / "witness"
        self.counts.mkdir(parents=True)
        self.random = random.Random(seed)
        self.killed: list[dict[str, Any]] = []
        self.began = time.monotonic()
        os.environ[witness.DIRECTORY] = str(self.counts)
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback, in nodes and driver
        from ray.cluster_utils import Cluster

        head = {"_system_config": {"worker_niceness": 0}, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=self._node() | head)
        for _ in range(NODES - 1):
            self.cluster.add_node(**self._node())
        self.command = [
            sys.executable, "-m", "safetransfer", "train", "--run", str(self.run_dir),
            "--backend", "ray", "--num-actors", str(actors),
            "--ray-address", self.cluster.address, "--env", witness.ID, *flags,
        ]  # fmt: skip
        self.driver = self._start()

    @staticmethod
    def _node() -> dict[str, Any]:
        return {
            "node_ip_address": "127.0.0.1",
            "num_cpus": CORES_OF_A_NODE,
            "object_store_memory": STORE,
        }

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, stdout=sys.stderr)

    # ---------------------------------------------------------------- what is done to it

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it, while the run goes on; TrainingError where the run ends or hangs."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            if self.driver.poll() is not None:
                raise TrainingError(f"the run ended ({self.driver.returncode}) before {what}")
            if time.monotonic() > give_up:
                raise TrainingError(f"nothing for {PATIENCE:.0f} s while waiting for {what}")
            time.sleep(0.1)

    def happened(self, event: str) -> int:
        return sum(e["event"] == event for e in read_events(self.run_dir))

    def kill(self, what: str) -> None:
        """SIGKILL for an "actor", the "learner", a "node" or the "driver", whichever is there."""
        self.killed.append({"what": what, "after_s": round(time.monotonic() - self.began, 1)})
        if what == "node":
            node = self.random.choice(sorted(self.cluster.worker_nodes, key=id))
            self.cluster.remove_node(node, allow_graceful=False)
            time.sleep(NODE_BACK_AFTER)
            self.cluster.add_node(**self._node())
        elif what == "driver":
            starts = self.happened("run_started")
            self.driver.kill()
            self.driver.wait()
            self.driver = self._start()  # the same command
            self.until(lambda: self.happened("run_started") > starts, "the same command goes on")
        else:
            with contextlib.suppress(ProcessLookupError):  # it went with its node just now
                os.kill(self._pid_of(what), signal.SIGKILL)

    def _pid_of(self, what: str) -> int:
        if what == "learner":
            names = ("run_started", "learner_restarted")
            return int([e["pid"] for e in read_events(self.run_dir) if e["event"] in names][-1])
        return int(self.random.choice(sorted(self.living().values())))

    @property
    def learners_killed(self) -> int:
        return sum(k["what"] in ("learner", "driver") for k in self.killed)

    def living(self) -> dict[str, int]:
        """Process ids by name of the actors that live, as the run's events tell it."""
        pids: dict[str, int] = {}
        for event in read_events(self.run_dir):
            if event["event"] == "run_started":
                pids = {}
            elif event["event"] in ("actor_joined", "actor_replaced"):
                pids[event["actor"]] = event["pid"]
            elif event["event"] == "actor_died":
                pids.pop(event["actor"], None)
        return pids

    def end(self) -> None:
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        self.cluster.shutdown()

    # ---------------------------------------------------------------- what came of it

    def result(self) -> dict[str, Any]:
        """What the run's accounts say, and what the hallways say that they should."""
        ledger = json.loads((self.run_dir / LEDGER).read_text())
        events = read_events(self.run_dir)
        pids = {
            e["actor"]: e["pid"] for e in events if e["event"].startswith("actor_") and "pid" in e
        }
        counts = witness.read_counts(self.counts)
        whole = self.living()
        differences, unheard = [], 0
        for entry in ledger["ledger"]["entries"]:
            name = f"{entry['slot']}.{entry['incarnation']}"
            steps, cost = counts.get(pids.get(name, -1), (0, 0.0))
            told = entry["collected"]
            if name not in whole:  # cut off in the middle of a chunk
                unheard += steps - told["steps"]
                if steps and (steps < told["steps"] or cost < told["cost"]):
                    differences.append([name, "counted more than there was", steps, told])
            elif (steps, cost) != (told["steps"], told["cost"]):
                differences.append([name, "not what there was", steps, cost, told])
        rows = read_rows(self.run_dir)
        return {
            "exit_status": self.driver.returncode,
            "minutes": round((time.monotonic() - self.began) / 60, 2),
            "killed": self.killed,
            "updates": rows[-1]["updates"] if rows else 0,
            "decisions_per_update": [row["decisions_per_update"] for row in rows],
            "totals": ledger["totals"],
            "logged_cost_total": rows[-1]["cost_total"] if rows else 0.0,
            "accounts": [e["text"] for e in events if e["event"].startswith("accounts")],
            "adds_up": bool(events) and events[-1]["event"] == "accounts" and not differences,
            "differences": differences,
            "steps_of_chunks_cut_short_by_a_kill": unheard,
            "events": [[e["event"], e["text"]] for e in events],
            "machine": describe_machine() | versions(),
        }


def run(
    out: Path,
    flags: Sequence[str],
    seconds: float = 180.0,
    kills: Sequence[str] = KILLS,
    actors: int = 4,
    seed: int = 0,
    moments: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Train with `flags`, kill each of `kills` at its moment, wait for the end.

    `moments`: seconds after the first epoch, rising; None draws them from most of `seconds`.

    Returns what `Chaos.result` says. TrainingError where the run ends before everything was killed:
    then it needs more epochs.
    """
    chaos = Chaos(out, flags, actors, seed)
    try:
        chaos.until(lambda: chaos.happened("actor_joined") >= actors, "all actors began")
        chaos.until(lambda: bool(read_rows(chaos.run_dir)), "an epoch is over")
        started = time.monotonic()
        if moments is None:
            moments = sorted(chaos.random.uniform(0.05, 0.8) * seconds for _ in kills)
        for what, moment in zip(kills, moments, strict=True):
            _wait_for_the_moment(chaos, what, started + moment)
            chaos.kill(what)
        chaos.driver.wait(PATIENCE)
        return chaos.result()
    finally:
        chaos.end()


def epochs_for(out: Path, flags: Sequence[str], actors: int, seconds: float) -> int:
    """Epochs that a run with `flags` takes for about `seconds` if nothing is killed.

    Measured: the same run is begun in `out` and called off after its second epoch, of which the
    first had also to fill the replay.
    """
    chaos = Chaos(out, [*flags, "--train.epochs", "1000"], actors, 0)
    try:
        chaos.until(lambda: len(read_rows(chaos.run_dir)) >= 2, "two epochs are over")
        first, second = (row["wall_s"] for row in read_rows(chaos.run_dir)[:2])
    finally:
        chaos.end()
    return max(2, math.ceil(1.0 + seconds / max(second - first, 1e-3)))


def _wait_for_the_moment(chaos: Chaos, what: str, moment: float) -> None:
    """Its time, and that it is there. An actor may die while the learner is away; nothing else."""

    def learner_is_there() -> bool:
        lives = chaos.happened("run_started") + chaos.happened("learner_restarted")
        return lives > chaos.learners_killed

    chaos.until(lambda: time.monotonic() > moment, f"the {what} was killed")
    if what == "actor":
        chaos.until(lambda: bool(chaos.living()), "an actor is there")
    else:
        chaos.until(learner_is_there, "a learner is there")
