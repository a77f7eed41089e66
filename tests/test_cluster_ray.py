"""Training over Ray as a user meets it: real processes, a cluster of three nodes, and SIGKILL."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safetransfer.training.cluster.events import read_events
from safetransfer.training.logs import read_rows

pytest.importorskip("ray", reason="needs the extra 'ray'")


def small(epochs):
    return [
        "--preset", "smoke", "--train.epochs", str(epochs), "--train.epoch_updates", "40",
        "--train.checkpoint_minutes", "0.05", "--train.collect_decisions", "8",
    ]  # fmt: skip


def test_whatever_is_killed_the_run_ends_and_every_step_and_cost_is_accounted_for(tmp_path):
    """The learner, an actor while the learner is away (whose backlog is lost with it), a node with
    its actors, and at last the driver itself, after which the same command goes on."""
    from safetransfer.benchmarks.chaos import run

    kills = ("learner", "actor", "node", "driver")
    flags = [*small(12), "--train.decisions_per_update", "64"]
    result = run(tmp_path / "chaos", flags, kills=kills, moments=(1.0, 3.0, 5.0, 8.0), actors=3)
    assert [k["what"] for k in result["killed"]] == list(kills)
    assert result["exit_status"] == 0 and result["updates"] == 12 * 40
    assert result["adds_up"], result["differences"] or result["accounts"]
    names = [name for name, _ in result["events"]]
    for event in ("learner_died", "learner_restarted", "actor_died", "actor_replaced"):
        assert event in names, event
    assert names.count("run_started") == 2 and "nodes_changed" in names
    totals = result["totals"]
    for what in ("steps", "cost"):
        assert totals["waiting"][what] == 0
        assert totals["collected"][what] == totals["received"][what] + totals["lost"][what]
    assert totals["lost"]["steps"] > 0
    assert result["logged_cost_total"] == totals["received"]["cost"] > 0


@contextlib.contextmanager
def own_ray():
    from safetransfer.training.cluster.connection import connected

    with connected(None, 2) as where:
        yield where


def test_whatever_ends_an_actor_another_takes_its_place(tmp_path, monkeypatch):
    """Ray raises errors of several kinds for it, that of its memory monitor among them."""
    import ray

    from safetransfer.training.cluster import pool as pools
    from safetransfer.training.cluster.events import Events

    class Actor:
        """Ends at once, or says who it is."""

        def pid(self):
            return os.getpid()

    said = []
    monkeypatch.setattr(pools, "CollectorProcess", Actor)
    errors = iter([ray.exceptions.OutOfMemoryError("node low on memory"), None])
    get = ray.get

    def answer(call, **kwargs):
        error = next(errors, None)
        if error is not None:
            raise error
        return get(call, **kwargs)

    monkeypatch.setattr(ray, "get", answer)
    with own_ray():
        pool = pools.Pool({"num_actors": 1}, None, {}, Events(tmp_path, said.append))
        until = time.monotonic() + 60
        while pool.members[0].incarnation == 0 and time.monotonic() < until:
            pool.poll(0.1)
        assert pool.members[0].name == "0.1" and pool.ended == ["0.0"]
        pool.end()
    assert "actor 1 died (node low on memory)" in said[0]


def test_a_learner_that_dies_while_it_is_built_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    import ray

    from safetransfer.errors import TrainingError
    from safetransfer.training.cluster import driver as drivers
    from safetransfer.training.interrupts import Interrupts
    from safetransfer.training.progress import Progress
    from safetransfer.training.settings import preset

    class Dies:
        def __init__(self):
            os._exit(1)

        def status(self, life, seen):
            return {}

    monkeypatch.setattr(drivers, "LEARNER_BACK_WITHIN", 4.0)
    monkeypatch.setattr(drivers, "SAY_SO_AFTER", 1.0)
    driver = drivers.Driver(preset("smoke"), tmp_path, {"num_actors": 1}, "a run")
    said = []
    driver.progress = Progress(1, "a run")
    monkeypatch.setattr(driver.progress, "message", said.append)
    with own_ray(), Interrupts() as interrupts:
        driver.learner = ray.remote(Dies).options(max_restarts=-1).remote()
        with pytest.raises(TrainingError, match="did not begin within 4 s"):
            driver._await_learner(interrupts)
    assert len(said) == 1 and "still being built" in said[0]


def listening(pids):
    """Addresses on which any of the processes listens, as the kernel tells them."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    sockets[fields[9]] = fields[1].partition(":")[0]
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{name}")
                    if target.startswith("socket:["):
                        found |= {sockets[inode] for inode in [target[8:-1]] if inode in sockets}
    return found


def processes_of(session):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(name)) == session:
                    found.append(int(name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_on_one_machine_it_listens_to_nobody_else_and_can_be_interrupted(tmp_path):
    command = [
        sys.executable, "-m", "safetransfer", "train", "--run", str(tmp_path), "--env",
        "PointWalls", "--backend", "ray", "--num-actors", "2", *small(400),
    ]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 240
        while len(read_rows(tmp_path)) < 1:
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.2)
        ray_processes = processes_of(process.pid)
        assert len(ray_processes) > 5
        loopback = {"0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000"}
        addresses = listening(ray_processes)
        assert addresses and addresses <= loopback
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to Ray's processes, too
        assert process.wait(120) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    events = read_events(tmp_path)
    assert events[-1]["event"] == "accounts", [e["text"] for e in events]
    done = read_rows(tmp_path)[-1]
    totals = json.loads((tmp_path / "ledger.json").read_text())["totals"]
    assert totals["lost"]["steps"] == 0 and totals["received"]["steps"] >= done["env_steps"]

    # The same run goes on without Ray: nothing of it belongs to the way that it was collected.
    from safetransfer import settings_io
    from safetransfer.training.loop import train
    from safetransfer.training.settings import Settings

    config = settings_io.read_file(tmp_path / "config.json")
    settings = settings_io.from_dict(Settings, config["settings"])
    settings.train.epochs = done["epoch"] + 1
    row = train(settings, tmp_path)
    assert row["epoch"] == done["epoch"] + 1 and row["env_steps"] > totals["received"]["steps"]


def test_a_whole_transfer_uses_one_cluster_and_as_many_actors_as_there_are_hallways(
    tmp_path, monkeypatch
):
    import ray

    from safetransfer import cli

    starts = []
    init = ray.init
    monkeypatch.setattr(ray, "init", lambda *args, **kw: (starts.append(1), init(*args, **kw)))
    argv = [
        "transfer", "--out", str(tmp_path), "--backend", "ray", "--num-actors", "2",
        "--to", "PointPoles", "--no-scratch", "--no-films", "--episodes", "2",
        "--finetune-epochs", "1", "--finetune-with", "train.num_envs=1",
        "train.decisions_per_update=32", "--preset", "smoke",
    ]  # fmt: skip
    assert cli.main(argv) == 0
    assert len(starts) == 1 and not ray.is_initialized()
    for stage, actors in (("pretrain", 2), ("finetune-PointPoles", 1)):
        begun, *_, ended = read_events(tmp_path / "seed-0" / stage)
        assert (begun["event"], begun["actors"]) == ("run_started", actors)
        assert ended["event"] == "accounts", ended["text"]
    assert (tmp_path / "report.html").exists()
    for name in ("pretrain", "zeroshot-PointPoles", "finetune-PointPoles"):
        assert (tmp_path / "seed-0" / "evaluations" / f"{name}.json").exists()


def test_the_cluster_file_is_one_that_ray_understands():
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    root = Path(__file__).resolve().parents[1]
    config = prepare_config(yaml.safe_load((root / "examples" / "cluster.yaml").read_text()))
    validate_config(config)
    commands = " ".join(config["head_start_ray_commands"] + config["worker_start_ray_commands"])
    assert commands.count("RAY_AUTH_MODE=token") == commands.count("ray start") == 2


def test_a_transfer_that_cannot_work_is_refused_before_ray_starts(tmp_path, monkeypatch, capsys):
    from safetransfer import cli
    from safetransfer.training.cluster import train

    monkeypatch.setattr(train, "connected", lambda *_: pytest.fail("Ray was started"))
    missing = tmp_path / "missing"
    command = ["transfer", "--out", str(tmp_path / "out"), "--backend", "ray"]
    assert cli.main([*command, "--agent", str(missing)]) == 2
    assert f"no checkpoint at {missing}" in capsys.readouterr().err


def test_bench_actors_measures_real_actors_and_replaying_ones():
    from safetransfer.benchmarks.actors import run

    whole = json.loads(json.dumps(run(seconds=0.5, numbers=(1, 2), real=1, paper_numbers=())))
    result = whole["laptop"]
    real, replaying = result["actors"]
    assert (real["n"], real["kind"]) == (1, "real")
    assert (replaying["n"], replaying["kind"]) == (2, "replaying")
    for row in (real, replaying, result["flat_out"]):
        assert row["steps_per_s"] > 0 and 0 <= row["learner_wait_share"] <= 1
        assert row["learning_thread_cores"] > 0 and row["learner_cores"] > 0
    assert replaying["offered_steps_per_s"] == 2 * real["steps_per_s"]
    assert f"{result['flat_out']['steps_per_s']:,.0f} steps" in result["saturates_first"]
    assert whole["machine"]["cores"] > 0
