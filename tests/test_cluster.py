"""Training on a cluster without one: what actors and the learner do, over a line of the test's."""

import gc
import importlib.util
import pickle
import random
import socket
import threading
import time

import numpy as np
import pytest
import torch

from safetransfer import settings_io
from safetransfer.errors import SettingError, TrainingError
from safetransfer.replay import Chunk, Episode
from safetransfer.training.cluster import collecting, learning
from safetransfer.training.cluster.collecting import Backlog, Collecting, load_weights, weights_of
from safetransfer.training.cluster.learning import ClusterLearner
from safetransfer.training.cluster.ledger import Account, Ledger
from safetransfer.training.cluster.messages import Parcel, Word
from safetransfer.training.cluster.slots import Slot, actor_seed, slots_of
from safetransfer.training.cluster.train import Cluster, train_on_cluster
from safetransfer.training.logs import read_rows
from safetransfer.training.loop import Run, train
from safetransfer.training.settings import preset


def smoke(**train_changes):
    changes = {"checkpoint_minutes": 60.0, "epochs": 1, "threads": 1} | train_changes
    return settings_io.updated(preset("smoke"), {"train": changes})


def learner_of(settings, run_dir, num_actors=1):
    """References to parameters are the parameters themselves."""
    return ClusterLearner(settings, run_dir, num_actors, publish=lambda parameters: parameters)


def in_thread(learner):
    thread = threading.Thread(target=learner.run, daemon=True)
    thread.start()
    return thread


def until(condition, seconds=60.0):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(0.01)


def chunk(steps, cost=0.0, envs=1):
    """Zeros, but for `cost` in the first decision; one step to a decision."""
    flat = np.zeros((steps, envs), np.float32)
    costs = flat.copy()
    costs[0, 0] = cost
    return Chunk(
        obs={"proprio": np.zeros((steps, envs, 12), np.float32)},
        last_reward=flat, last_cost=flat, hidden=np.zeros((steps, envs, 32), np.float32),
        action=np.zeros((steps, envs, 2), np.float32), reward=flat, cost=costs,
        terminated=flat > 0, done=flat > 0, env_steps=steps * envs,
        final_obs=[{} for _ in range(steps)],
    )  # fmt: skip


# ---------------------------------------------------------------- accounts


def test_what_was_collected_was_received_waits_or_is_lost():
    ledger = Ledger()
    assert ledger.receive("0.0", 0, Account(10, 10, 3.0))
    assert not ledger.receive("0.0", 0, Account(10, 10, 3.0)), "the same chunk again"
    assert not ledger.receive("0.0", 2, Account(10, 10, 3.0)), "one too far"
    ledger.word("0.0", Account(25, 25, 4.0))
    ledger.word("0.0", Account(20, 20, 4.0))  # overtaken by the later word
    ledger.word("1.0", Account(7, 7, 1.0))
    ledger.end("0.0")
    totals = ledger.totals()
    assert totals["collected"] == Account(32, 32, 5.0)
    assert totals["received"] == Account(10, 10, 3.0)
    assert totals["lost"] == Account(15, 15, 1.0)
    assert totals["waiting"] == Account(7, 7, 1.0)
    again = Ledger()
    again.load_state_dict(ledger.state_dict())
    assert again.totals() == totals and not again.receive("0.0", 0, Account(1, 1, 0.0))


def test_an_audit_holds_the_ledger_against_what_others_counted():
    ledger = Ledger()
    ledger.before = Account(100, 50, 2.0)  # of one machine
    ledger.receive("0.0", 0, Account(10, 10, 3.0))
    ledger.word("0.0", Account(12, 12, 3.0))
    counters = {"env_steps": 110, "cost_total": 5.0}
    whole, text = ledger.audit(counters, {"0.0": Account(2, 2, 0.0)})
    assert whole and "112 collected = 110 learned from + 2 still with actors + 0 lost" in text
    for counted, backlogs, complaint in (
        (counters | {"env_steps": 120}, {}, "110 steps received, 120 taken in"),
        (counters | {"cost_total": 8.0}, {}, "cost 5 received, 8 counted"),
        (counters, {"0.0": Account(3, 3, 0.0)}, "0.0 has 3 decisions to send, not 2"),
    ):
        whole, text = ledger.audit(counted, backlogs)
        assert not whole and complaint in text


def test_a_backlog_sends_again_what_no_checkpoint_has():
    backlog = Backlog()
    for k in range(4):
        backlog.add(chunk(5, cost=k), ("life", k), 0.0, 0.0)
    sent = []
    for _ in range(3):
        sent.append(backlog.next_to_send().number)
        backlog.acknowledge(sent[-1] + 1, covered=0)
    assert sent == [0, 1, 2]
    assert (backlog.waiting, backlog.held) == (Account(5, 5, 3.0), 20)
    backlog.acknowledge(3, covered=1)  # a checkpoint has the first chunk
    assert backlog.held == 15
    backlog.acknowledge(1, covered=1)  # the learner began again from it
    assert backlog.next_to_send().number == 1 and backlog.waiting == Account(15, 15, 6.0)
    backlog.acknowledge(4, covered=4)
    assert backlog.next_to_send() is None
    assert (backlog.waiting.decisions, backlog.held) == (0, 0)
    assert backlog.collected == Account(20, 20, 6.0)
    with pytest.raises(TrainingError, match="asks for chunk 2"):
        backlog.acknowledge(2, covered=0)


def test_hallways_are_spread_evenly_and_every_actor_has_a_seed_of_its_own():
    assert slots_of(7, 3) == [Slot(0, 0, 3), Slot(1, 3, 2), Slot(2, 5, 2)]
    assert slots_of(60, 60)[59] == Slot(59, 59, 1)
    with pytest.raises(SettingError, match="7 hallways are too few for 8 actors"):
        slots_of(7, 8)
    seeds = {actor_seed(s, slot, n) for s in range(3) for slot in range(20) for n in range(5)}
    assert len(seeds) == 300 and all(0 <= seed < 2**31 for seed in seeds)


# ---------------------------------------------------------------- learning


def test_fed_the_same_chunks_it_makes_the_updates_of_the_one_machine_loop(tmp_path):
    settings = smoke(epochs=2)
    run = Run(settings, tmp_path / "one")
    chunks = []
    take_in = run.take_in
    run.take_in = lambda c, first_ring=0: (chunks.append(c), take_in(c, first_ring))
    run.go("one machine", None)

    learner = learner_of(settings, tmp_path / "cluster")
    in_thread(learner)
    number = 0
    while number < len(chunks) and learner.failure is None:
        reply = learner.receive(Word("0.0", 0), Parcel(number, chunks[number], ("", 0), 0.0, 0.0))
        number = reply.next_chunk
    until(lambda: learner.learned or learner.failure)
    learner.leave()
    until(lambda: learner.left or learner.failure)
    assert learner.failure is None
    ours, theirs = learner.agent.state_dict(), run.agent.state_dict()
    assert ours["updates"] == theirs["updates"] == 20
    for name in ("networks", "q_target"):
        for key, value in theirs[name].items():
            assert torch.equal(ours[name][key], value), key
    assert ours["multiplier"] == theirs["multiplier"]
    worth = 64 / 32.0  # of the last chunk: here when it is there, on one machine in advance
    assert learner.counters["credit"] == run.counters["credit"] + worth
    losses = [
        [(row["loss_q"], row["loss_pi"], row["loss_qc"]) for row in read_rows(tmp_path / name)]
        for name in ("cluster", "one")
    ]
    assert len(losses[0]) == 2 and losses[0] == losses[1]


def test_the_ratio_is_kept_and_logged(tmp_path):
    settings = smoke(epochs=4, decisions_per_update=16.0)
    learner = learner_of(settings, tmp_path)
    in_thread(learner)
    number, fed = 0, 0
    while not learner.learned and learner.failure is None:
        reply = learner.receive(Word("0.0", 0), Parcel(number, chunk_of(settings), ("", 0), 0, 0))
        fed += reply.next_chunk > number
        number = reply.next_chunk
    learner.leave()
    until(lambda: learner.left or learner.failure)
    warm, *rest, _ = read_rows(tmp_path)  # the last one holds what came while all stopped
    assert warm["decisions_per_update"] > 16.0  # what had to be there before the first update
    for row in rest:
        assert row["decisions_per_update"] == pytest.approx(16.0, abs=64 / 10)  # to a chunk
    learned_from = fed * 64 - settings.train.learning_starts
    assert learner.agent.updates == 40 and abs(learned_from - 40 * 16) <= 4 * 64


def chunk_of(settings, envs=4):
    from safetransfer.training.build import make_env, shapes_of

    if not hasattr(chunk_of, "shapes"):
        env = make_env(settings.env, 1)
        chunk_of.shapes = shapes_of(env)
        env.close()
    filled = chunk(settings.train.collect_decisions, envs=envs)
    frames = (settings.train.collect_decisions, envs, *chunk_of.shapes.camera)
    filled.obs["camera"] = np.zeros(frames, np.uint8)
    return filled


def test_a_replaced_actor_s_episodes_end_and_nothing_more_is_taken_from_it(tmp_path):
    settings = smoke()
    learner = learner_of(settings, tmp_path, num_actors=2)  # two hallways each
    thread = in_thread(learner)

    def send(name, number, value):
        c = chunk_of(settings, envs=2)
        c.obs["proprio"][:] = value
        reply = learner.receive(Word(name, 1), Parcel(number, c, ("", 0), 0.0, 0.0))
        return reply

    assert send("1.0", 0, 1.0).next_chunk == 1
    until(lambda: learner.counters["decisions"] == 32)
    learner.note({"1.0": Account(64, 64, 0.0)}, ["1.0"])
    refused = send("1.0", 1, 1.0)
    assert refused.over
    assert send("1.1", 0, 2.0).next_chunk == 1
    until(lambda: learner.counters["decisions"] == 64)
    learner.leave()
    thread.join(30)
    assert learner.ledger.totals()["lost"] == Account(32, 32, 0.0)
    replay = learner.replay
    assert replay.head.tolist() == [0, 0, 32, 32], "only the rings of the actor's own slot"
    batch = replay.sample(64, np.random.default_rng(0))
    followed = batch.obs["proprio"][1:, :, 0] - batch.obs["proprio"][:-1, :, 0]
    assert set(batch.obs["proprio"][:-1, :, 0][batch.valid].tolist()) == {1.0, 2.0}
    assert not followed[batch.valid].any(), "a sequence went from one actor into the next"


def test_a_chunk_s_memory_is_free_as_soon_as_it_is_taken_in(tmp_path):
    """It arrives as views of the object store, of which a whole epoch's would not have room."""
    settings = smoke()
    sent = chunk_of(settings)
    first = {name: array[0, 0] for name, array in sent.obs.items()}
    sent.episodes = [Episode(1.0, 2.0, 3, True, 0.5, first, sent.action[0, 0])]
    parts = []
    packed = pickle.dumps(sent, protocol=5, buffer_callback=parts.append)
    raw = [part.raw() for part in parts]
    store, ends = bytearray(b"".join(raw)), np.cumsum([len(part) for part in raw])
    views = [memoryview(store)[end - len(part) : end] for part, end in zip(raw, ends, strict=True)]
    arrived = pickle.loads(packed, buffers=views)
    learner = learner_of(settings, tmp_path)
    thread = in_thread(learner)
    learner.receive(Word("0.0", 0), Parcel(0, arrived, ("", 0), 0.0, 0.0))
    until(lambda: learner.counters["episodes"] == 1)
    until(lambda: not learner._mailbox)
    del arrived, views

    def is_free():
        gc.collect()
        try:
            store.append(0)  # refused while anything looks at it
        except BufferError:
            return False
        return True

    until(is_free, 10.0)
    (episode,) = learner.meter.episodes
    assert (episode.first_obs["camera"] == first["camera"]).all()
    learner.leave()
    thread.join(30)


# ---------------------------------------------------------------- actors


def test_parameters_arrive_whole():
    from safetransfer.agent.networks import Shapes
    from safetransfer.training.build import make_agent

    shapes = Shapes((50, 50, 1), 12, 2)
    cpu = torch.device("cpu")
    one = make_agent(smoke(seed=1), shapes, cpu).actor
    other = make_agent(smoke(seed=2), shapes, cpu).actor
    one.normaliser.update(torch.randn(100, 12) * 3 + 1)
    rng = np.random.default_rng(0)
    seen = {
        "camera": rng.integers(0, 255, (3, 50, 50, 1), np.uint8),
        "proprio": rng.normal(size=(3, 12)).astype(np.float32),
    }
    zeros, carry = np.zeros(3, np.float32), one.initial_carry(3)
    weights = weights_of(one)
    for array in weights.values():
        array.setflags(write=False)  # as they lie in an object store
    before, _ = other.act(seen, zeros, zeros, carry)
    load_weights(other, weights)
    wanted, after = one.act(seen, zeros, zeros, carry)[0], other.act(seen, zeros, zeros, carry)[0]
    assert (after == wanted).all() and not np.allclose(before, wanted)


def test_an_actor_of_few_hallways_sends_larger_chunks_where_it_is_quick_enough():
    settings = smoke(actor_chunk=256, collect_decisions=16, num_envs=6)
    few, one = slots_of(6, 1)[0], slots_of(6, 6)[0]
    actors = [Collecting(settings, slot, 0, send=None, fetch=None) for slot in (few, one)]
    assert [a._next_decisions(1e6) for a in actors] == [43, 256]  # 43 x 6 is 256 or more
    assert [a._next_decisions(100.0) for a in actors] == [43, 100]  # in a second
    assert [a._next_decisions(3.0) for a in actors] == [16, 16]
    for actor in actors:
        actor.env.close()


class Line:
    """A line from actors to whichever learner there is, which can be cut and can lose answers."""

    def __init__(self, learner, loses=0.0):
        self.learner, self.loses, self.random = learner, loses, random.Random(0)

    def __call__(self, word, parcel):
        learner, fate = self.learner, self.random.random()
        if learner is None or fate < self.loses / 2:  # did not get there
            raise ConnectionError
        reply = learner.receive(word, parcel)
        if fate < self.loses or self.learner is not learner:  # got there, but no answer came
            raise ConnectionError
        return reply


def witnessed(settings, num_actors, line, monkeypatch):
    """Actors, and what each of their collectors gave out, counted beside them."""
    actors, seen = [], {}
    for slot in slots_of(settings.train.num_envs, num_actors):
        actor = Collecting(settings, slot, 0, line, fetch=lambda parameters: parameters)
        seen[actor.name] = [0, 0.0]
        collect = actor.collector.collect

        def counted(decisions, collect=collect, own=seen[actor.name]):
            c = collect(decisions)
            own[0] += c.env_steps
            own[1] += float(c.cost.sum())
            return c

        actor.collector.collect = counted
        actors.append(actor)
    return actors, seen


def test_every_step_is_counted_once_though_the_learner_dies_and_answers_are_lost(
    tmp_path, monkeypatch
):
    """Two actors, one of which is gone for good halfway; the learner is replaced by one that knows
    the checkpoint alone, after it has taken in more than that."""
    monkeypatch.setattr(collecting, "PATIENCE", 0.2)
    settings = smoke(epochs=3, epoch_updates=12, decisions_per_update=64.0)
    first = learner_of(settings, tmp_path, num_actors=2)
    line = Line(first, loses=0.3)
    actors, seen = witnessed(settings, 2, line, monkeypatch)
    in_thread(first)
    for actor in actors:
        actor.start()
    until(lambda: first.agent.updates >= 5)
    first._save_asked = True
    monkeypatch.setattr(learning, "SAVE_SPACING", 0.0)
    until(lambda: first.path.exists() and not first._save_asked)
    kept = first.counters["decisions"]
    until(lambda: first.counters["decisions"] > kept + 300)
    line.learner = None  # its memory, and what it took in since, is gone
    first._leaving = first._draining = True
    monkeypatch.setattr(first, "save", lambda: None)
    gone = actors[1]
    gone.stop()  # stands for its death: it is never heard of again
    gone._over = True
    until(lambda: gone.word().stopped)
    held = actors[0].backlog.chunks_waiting
    until(lambda: actors[0].backlog.chunks_waiting > held + 3)  # it goes on into its backlog

    second = learner_of(settings, tmp_path, num_actors=2)
    assert second.counters["decisions"] < first.counters["decisions"]
    second.note({gone.name: gone.word().collected}, [gone.name])
    in_thread(second)
    line.learner = second
    until(lambda: second.learned or second.failure)
    actors[0].stop()
    until(lambda: actors[0].word().stopped and not actors[0].word().waiting.decisions)
    second.leave()
    until(lambda: second.left or second.failure)
    assert second.failure is None and second.agent.updates == 36

    totals = second.ledger.totals()
    everything = sum(steps for steps, _ in seen.values())
    assert totals["collected"].steps == everything
    assert totals["collected"].cost == pytest.approx(sum(cost for _, cost in seen.values()))
    living = seen[actors[0].name]
    assert second.ledger.entry(actors[0].name).received.steps == living[0]
    assert totals["lost"].steps == totals["collected"].steps - second.counters["env_steps"]
    assert totals["lost"] == second.ledger.entry(gone.name).outstanding
    rows = read_rows(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["cost_total"] == pytest.approx(totals["received"].cost)
    assert rows[-1]["lost_steps"] == totals["lost"].steps
    assert second.ledger.audit(second.counters, {actors[0].name: Account()})[0]


def test_a_learner_that_is_to_leave_takes_in_what_it_has_received(tmp_path, monkeypatch):
    learner = learner_of(smoke(), tmp_path)
    saving, go_on = threading.Event(), threading.Event()
    save = learner.save

    def slow():
        saving.set()
        assert go_on.wait(60.0)
        save()

    monkeypatch.setattr(learner, "save", slow)
    monkeypatch.setattr(learning, "SAVE_SPACING", 0.0)
    learner._save_asked = True
    in_thread(learner)
    assert saving.wait(60.0)
    # While it writes a checkpoint its last chunk arrives, and nobody has more to send.
    envs = learner.slots[0].num_envs
    last = chunk(5, cost=2.0, envs=envs)
    last.obs["camera"] = np.zeros((5, envs, 50, 50, 1), np.uint8)
    word = Word("0.0", 0)
    word.collected = Account.of(last)
    assert learner.receive(word, Parcel(0, last, ("", 0), 0.1, 0.0)).next_chunk == 1
    learner.drain()
    learner.leave()
    go_on.set()
    until(lambda: learner.left or learner.failure)
    assert learner.failure is None and learner.counters["decisions"] == 5 * envs
    assert learner.ledger.audit(learner.counters, {"0.0": Account()})[0]


@pytest.mark.parametrize("change", [{"precision": "tf32"}, {"cuda_graphs": "on"}])
def test_actors_act_on_their_cpu_whatever_the_learner_s_gpu_does(change):
    settings = smoke(**change)
    (slot,) = slots_of(settings.train.num_envs, 1)
    Collecting(settings, slot, 0, Line(None), fetch=lambda parameters: parameters).env.close()


def test_actors_are_held_back_by_a_slow_learner_and_fill_a_backlog_without_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(collecting, "PATIENCE", 0.3)
    monkeypatch.setattr(learning, "LONGEST_WAIT", 0.05)
    settings = smoke(actor_backlog=1000)
    learner = learner_of(settings, tmp_path)  # whose thread does not run: it takes nothing in
    learner._publish_parameters()
    line = Line(learner)
    (actor,), _ = witnessed(settings, 1, line, monkeypatch)
    actor.start()
    until(lambda: actor.backlog.chunks_waiting >= collecting.AHEAD)
    time.sleep(0.5)
    in_mailbox = 1
    assert actor.backlog.chunks_waiting <= collecting.AHEAD
    assert actor.backlog.held <= 64 * (collecting.AHEAD + in_mailbox)
    line.learner = None
    until(lambda: actor.backlog.held >= 1000)
    time.sleep(0.3)
    assert 1000 <= actor.backlog.held < 1000 + 64
    actor.stop()


def test_an_actor_whose_environment_breaks_says_so(tmp_path, monkeypatch):
    settings = smoke()
    learner = learner_of(settings, tmp_path)
    learner._publish_parameters()
    (actor,), _ = witnessed(settings, 1, Line(learner), monkeypatch)

    def broken(decisions):
        raise ValueError("the floor is gone")

    actor.collector.collect = broken
    actor.start()
    until(lambda: actor.word().error)
    assert "the floor is gone" in actor.word().error and actor.word().stopped


# ---------------------------------------------------------------- runs


def test_without_ray_and_with_too_many_actors_it_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="4 hallways are too few for 5 actors"):
        train_on_cluster(smoke(), tmp_path, Cluster(num_actors=5))
    if importlib.util.find_spec("ray"):
        with pytest.raises(SettingError, match="has to be a node of the cluster"):
            train_on_cluster(smoke(), tmp_path, Cluster(2, "ray://somewhere:10001"))
        with pytest.raises(SettingError, match="expected HOST:PORT, or 'auto'"):
            train_on_cluster(smoke(), tmp_path, Cluster(2, "somewhere"))
        with socket.socket() as taken:  # bound, but nobody listens
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(SettingError, match="nothing answers there"):
                train_on_cluster(smoke(), tmp_path, Cluster(2, address))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install 'safetransfer\[ray\]'"):
        train_on_cluster(smoke(), tmp_path, Cluster(num_actors=2))


def on_a_cluster(settings, run_dir, incarnation=0):
    """The learner, when it has left; two actors, the first of which loses what it collects last."""
    learner = learner_of(settings, run_dir, num_actors=2)
    actors = [
        Collecting(
            settings, slot, incarnation, learner.receive, fetch=lambda parameters: parameters
        )
        for slot in learner.slots
    ]
    in_thread(learner)
    for actor in actors:
        actor.start()
    until(lambda: learner.learned or learner.failure)
    for actor in actors:
        actor.stop()
    until(lambda: all(a.word().stopped and not a.word().waiting.decisions for a in actors))
    collected = actors[0].word().collected
    more = collected + Account(7, 7, 1.0)
    learner.note({actors[0].name: more}, [actor.name for actor in actors])
    learner.leave()
    until(lambda: learner.left or learner.failure)
    assert learner.failure is None
    return learner


def test_a_run_of_one_machine_goes_on_on_a_cluster_and_back(tmp_path):
    """And once more: what the cluster had accounted for, what was lost there included, is in its
    accounts again."""
    settings = smoke(epochs=1)
    train(settings, tmp_path)
    before = read_rows(tmp_path)[-1]
    settings.train.epochs = 2
    learner = on_a_cluster(settings, tmp_path)
    assert learner.ledger.before.steps == before["env_steps"]
    assert learner.ledger.audit(learner.counters, {})[0]
    assert learner.ledger.totals()["lost"] == Account(7, 7, 1.0)
    rows = read_rows(tmp_path)
    assert rows[-1]["epoch"] == 2 and rows[-1]["age_versions"] is not None
    settings.train.epochs = 3
    alone = train(settings, tmp_path)
    assert alone["env_steps"] > rows[-1]["env_steps"]
    settings.train.epochs = 4
    again = on_a_cluster(settings, tmp_path, incarnation=1)
    there = alone["env_steps"] - rows[-1]["env_steps"]
    assert again.ledger.before.steps == before["env_steps"] + there
    whole, text = again.ledger.audit(again.counters, {})
    assert whole, text
    assert again.ledger.totals()["lost"] == Account(14, 14, 2.0)
    assert read_rows(tmp_path)[-1]["lost_steps"] == 14


def test_a_finished_run_is_known_to_be_as_soon_as_it_is_there(tmp_path):
    settings = smoke(epochs=1)
    train(settings, tmp_path)
    assert learner_of(settings, tmp_path).learned
