"""An update in parts is the update of the whole, whoever makes them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from safetransfer.agent.agent import Agent
from safetransfer.agent.networks import Shapes
from safetransfer.agent.parts import Helper
from safetransfer.agent.settings import AgentSettings
from safetransfer.benchmarks.learner import random_batch

SHAPES = Shapes((50, 50, 1), 3, 2)
SETTINGS = AgentSettings(
    embedding=24, hidden=16, mlp=(20, 12), horizon=5, batch_size=7, multiplier_init=0.7
)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        yield executor


def updated(parts, helper=None, updates=3):
    """Weights and figures after updates from one batch, whose sequences end at different times."""
    agent = Agent(SHAPES, SETTINGS, seed=1, batch_parts=parts)
    agent.helper = helper
    batch = random_batch(SHAPES, 5, 7, 16)
    batch.valid[1:, 0] = batch.valid[3:, 5] = False
    figures = [agent.update(batch, 0.02) for _ in range(updates)]
    return figures, [p.detach().clone() for p in agent.networks.parameters()]


@pytest.mark.parametrize("parts", [2, 3, 7, 9])
def test_parts_add_up_to_the_whole(parts):
    (whole, weights), (figures, others) = updated(1), updated(parts)
    for a, b in zip(whole, figures, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=2e-4, abs=1e-6), name
    for a, b in zip(weights, others, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


class Prompt(ThreadPoolExecutor):
    """Has begun with what it is handed before anybody can take it back."""

    def submit(self, do, *args):
        begun = threading.Event()

        def beginning():
            begun.set()
            return do(*args)

        future = super().submit(beginning)
        assert begun.wait(60)
        return future


def test_a_helper_changes_nothing():
    alone = updated(3)
    with Prompt(2, initializer=torch.set_num_threads, initargs=(1,)) as prompt:
        helper = Helper(prompt)
        helped = updated(3, helper)
    assert helper.take_times()[0] > 0  # it did help
    assert helper.take_times() == (0.0, 0.0)
    assert alone[0] == helped[0]
    assert all(torch.equal(a, b) for a, b in zip(alone[1], helped[1], strict=True))


def test_who_is_busy_does_not_help(pool):
    go_on = threading.Event()
    try:
        pool.submit(go_on.wait)
        helper = Helper(pool)
        who = helper.map(lambda part: (part, threading.get_ident()), range(4))
        assert who == [(part, threading.get_ident()) for part in range(4)]
        assert helper.take_times()[0] == 0.0
    finally:
        go_on.set()


def test_who_is_free_takes_a_part(pool):
    both = threading.Barrier(2, timeout=60)

    def meet(part):
        both.wait()  # comes back only where two threads are at it at once
        return part, threading.get_ident()

    (first, mine), (second, other) = Helper(pool).map(meet, "ab")
    assert (first, second) == ("a", "b")
    assert mine == threading.get_ident() != other


def test_an_error_of_the_helper_is_the_callers(pool):
    started = threading.Event()

    def fail(part):
        if part == 1:
            started.set()
            time.sleep(0.01)
            raise ValueError("of the second part")
        assert started.wait(60)
        return part

    with pytest.raises(ValueError, match="of the second part"):
        Helper(pool).map(fail, [0, 1])
