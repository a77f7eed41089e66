"""The `paper` preset, held to Tables 2 and 3 of the paper line by line: a test's id is the row.

Where a row can be seen in what is built (layers, optimisers, episodes, sequences), the test looks
there, and not at the setting.
"""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from safetransfer import settings_io
from safetransfer.agent.agent import Agent
from safetransfer.agent.networks import Shapes
from safetransfer.benchmarks.learner import random_batch
from safetransfer.envs.hallway import HallwayEnv, HallwayVectorEnv
from safetransfer.replay import SequenceReplay
from safetransfer.training.build import make_agent, make_env, shapes_of
from safetransfer.training.collector import Collector
from safetransfer.training.settings import preset

ROBOTS = ("Point", "Doggo")


@pytest.fixture(scope="module")
def doggo() -> Agent:
    settings = preset("paper", "Doggo")
    env = HallwayVectorEnv(settings.env)
    return make_agent(settings, shapes_of(env), torch.device("cpu"))


# --- Table 2: parameter count of the final agent, which is Doggo's --------------------------------

TABLE_2 = {
    "Vision CNN": "1.4e5",
    "CNN Embedding": "1.3e5",
    "RNN (GRU)": "4.3e5",
    "Policy MLP": "3.5e5",
    "Q MLP": "3.5e5",  # each of three
    "Total": "2.1e6",
}


@pytest.mark.parametrize(("module", "printed"), TABLE_2.items(), ids=list(TABLE_2))
def test_table_2(doggo, module, printed):
    count = doggo.parameter_counts()[module]
    assert f"{count:.1e}".replace("e+0", "e") == printed


def test_table_2_counts_every_parameter_that_is_trained(doggo):
    counts = doggo.parameter_counts()
    assert counts["RNN (GRU)"] == 433_152  # of 256 units that read 256 + 48 + 2 numbers
    parts = sum(v for k, v in counts.items() if k not in ("Total", "Q MLP"))
    assert parts + 3 * counts["Q MLP"] == counts["Total"]
    trained = {
        id(p): p.numel()
        for optimiser in (doggo.critic_optimiser, doggo.policy_optimiser)
        for group in optimiser.param_groups
        for p in group["params"]
    }
    assert sum(trained.values()) == counts["Total"]


# --- Table 3: hyperparameters --------------------------------------------------------------------


def actors(settings):
    return settings.train.num_envs  # on one machine a hallway stands for an actor


def cnn(settings):
    agent = agent_of(settings)
    encoders = [agent.networks.encoder, agent.networks.policy_encoder]
    layers = {
        tuple(
            (m.out_channels, m.kernel_size, m.stride)
            for m in encoder.modules()
            if isinstance(m, nn.Conv2d)
        )
        for encoder in encoders
    }
    assert len(layers) == 1
    return layers.pop()


NATURE = ((32, (8, 8), (4, 4)), (64, (4, 4), (2, 2)), (64, (3, 3), (1, 1)))  # Mnih et al. 2015


def activations(settings):
    own = (
        m
        for m in agent_of(settings).networks.modules()
        if not list(m.children()) and not list(m.parameters(recurse=False))
    )
    return {type(m) for m in own if not isinstance(m, nn.Flatten | nn.ParameterList)}


def entropy_coefficient(settings):
    agent = small(settings)
    agent.update(random_batch(agent.shapes, 3, 2, 8))
    return round(agent.alpha, 9)  # fixed: it is the same after an update


def learning_rates(settings):
    agent = agent_of(settings)
    rates = set()
    for share_of_run in (0.0, 0.5, 1.0):
        agent.anneal(share_of_run)
        for optimiser in (agent.critic_optimiser, agent.policy_optimiser):
            rates |= {group["lr"] for group in optimiser.param_groups}
    return rates


def sequences(settings):
    """Shape of a batch's transitions, as the replay gives it to the learner."""
    s = settings_io.updated(settings, {"train": {"num_envs": 4}})
    env = make_env(s.env, 4)
    shapes = shapes_of(env)
    replay = SequenceReplay(
        shapes, 400, 4, s.agent.hidden, s.agent.horizon, s.train.replay_stride
    )  # fmt: skip
    collector = Collector(env, agent_of(s).actor, 0, s.agent.reward_scale, s.agent.gamma)
    replay.add(collector.collect(75))
    batch = replay.sample(s.agent.batch_size, np.random.default_rng(0))
    env.close()
    return tuple(batch.action.shape[:2])


def episode_steps(settings):
    """Environment steps after which an episode that has not arrived is cut off."""
    env = HallwayEnv(dataclasses.replace(settings.env, camera_width=5, camera_height=5))
    env.reset(seed=0)
    stand = np.zeros(env.action_space.shape, np.float32)
    for step in range(1, 1_100):
        *_, terminated, truncated, info = env.step(stand)
        if truncated and not terminated:
            assert info["steps"] == step
            return step
    return None


def limit(settings):
    """The cost per step at which the multiplier neither rises nor falls."""
    c = settings.agent.cost_limit
    changes = []
    for cost in (c - 0.001, c, c + 0.001):
        agent = small(settings, multiplier_signal="measured", multiplier_init=1.0)
        agent.update(random_batch(agent.shapes, 3, 2, 8), measured_cost=cost)
        changes.append(np.sign(round(agent.multiplier.value - 1.0, 9)))
    return c if changes == [-1, 0, 1] else changes


TABLE_3 = {
    "# of Actors": (actors, 60),
    "CNN architecture: Nature CNN": (cnn, NATURE),
    "Activation: SeLU": (activations, {nn.SELU}),
    "alpha (entreg coef.)": (entropy_coefficient, 0.005),
    "Learner replay size": (lambda s: s.train.replay_size, 2 * 10**6),
    "Actor replay size": (lambda s: s.train.actor_backlog, 10**5),
    "Batch size and backprop horizon": (sequences, (30, 256)),
    "c (per-timestep cost limit)": (limit, 0.01),
    "Learning rate": (learning_rates, {3e-4}),
    "Max environment timesteps": (episode_steps, 1000),
    "Training steps per epoch": (lambda s: s.train.epoch_updates, 4000),
}


def agent_of(settings) -> Agent:
    shapes = Shapes((50, 50, 1), *((48, 12) if settings.env.robot == "Doggo" else (12, 2)))
    return make_agent(settings, shapes, torch.device("cpu"))


def small(settings, **changes) -> Agent:
    """The preset's agent with narrow layers and short sequences: quick to update."""
    narrow = {"embedding": 8, "hidden": 8, "mlp": (8,), "horizon": 3, "batch_size": 2}
    return Agent(
        Shapes((50, 50, 1), 12, 2), dataclasses.replace(settings.agent, **(narrow | changes))
    )


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize(("found", "printed"), TABLE_3.values(), ids=list(TABLE_3))
def test_table_3(robot, found, printed):
    assert found(preset("paper", robot)) == printed


# --- What the text adds --------------------------------------------------------------------------


def test_optimised_by_adam(doggo):
    assert {type(o) for o in (doggo.critic_optimiser, doggo.policy_optimiser)} == {torch.optim.Adam}


def test_the_constraint_acts_from_the_first_update():
    agent = small(preset("paper"), multiplier_init=1.0)
    assert agent.constrained


def test_no_burn_in_hidden_states_are_those_that_the_actor_had():
    """A sequence run from its stored state arrives at the states that the actor went through."""
    settings = settings_io.updated(preset("paper"), {"train": {"num_envs": 2}})
    env = make_env(settings.env, 2)
    agent = agent_of(settings)
    horizon, stride = settings.agent.horizon, settings.train.replay_stride
    assert stride <= horizon  # sequences begin often enough that every step is learned from
    replay = SequenceReplay(
        shapes_of(env), 240, 2, settings.agent.hidden, horizon, stride,
        settings.train.replay_compact,
    )  # fmt: skip
    collector = Collector(env, agent.actor, 0, settings.agent.reward_scale, settings.agent.gamma)
    chunk = collector.collect(stride + horizon + 1)
    env.close()
    replay.add(chunk)
    batch = replay.sample(16, np.random.default_rng(0))
    later = batch.carry.abs().sum(1) > 0  # begun within an episode, not at its start
    assert later.any() and not later.all()
    scale = torch.tensor([settings.agent.reward_scale, settings.agent.cost_scale])
    feedback = torch.stack([batch.last_reward, batch.last_cost], -1) * scale
    obs = batch.obs | {"proprio": agent.normaliser(batch.obs["proprio"])}
    with torch.no_grad():
        *_, last = agent.networks.state(
            {k: v[:stride] for k, v in obs.items()}, feedback[:stride], batch.carry
        )
    stored = torch.from_numpy(chunk.hidden[stride])
    nearest = torch.cdist(last[~later], stored).min(1)
    assert nearest.values.max() < 1e-3 < 0.1 * stored.norm(dim=1).min()


def test_no_burn_in_the_first_step_is_learned_from():
    """Where only the first transition counts, the encoder and the GRU learn all the same."""
    agent = small(preset("paper"))
    batch = random_batch(agent.shapes, 3, 2, 8)
    batch.valid[1:] = False
    before = {k: v.clone() for k, v in agent.networks.state_dict().items()}
    agent.update(batch)
    moved = {
        k.split(".")[0] for k, v in agent.networks.state_dict().items() if not v.equal(before[k])
    }
    assert {"encoder", "policy_encoder", "gru", "q", "policy"} <= moved


def test_gradients_flow_through_all_steps_from_the_last_to_the_stored_state(monkeypatch):
    """The last transition's reward changes the gradient at the first observation and the carry."""
    horizon = preset("paper").agent.horizon
    gradients = []
    given: list[torch.Tensor] = []
    real = torch.autograd.grad

    def also_of_what_was_given(loss, parameters):
        if not any(parameter is agent.networks.gru.weight_hh_l0 for parameter in parameters):
            return real(loss, parameters)  # the policy's
        found = real(loss, [*parameters, *given])
        gradients.append(found[len(parameters) :])
        return found[: len(parameters)]

    monkeypatch.setattr(torch.autograd, "grad", also_of_what_was_given)
    for last_reward in (0.0, 50.0):
        agent = small(preset("paper"), horizon=horizon)
        batch = random_batch(agent.shapes, horizon, 2, 8)
        batch.reward[-1] = last_reward
        given[:] = [batch.obs["proprio"].requires_grad_(), batch.carry.requires_grad_()]
        agent.update(batch)
    (early, early_carry), (late, late_carry) = gradients
    moved = (early - late).abs().amax(dim=(1, 2))
    assert (moved[:horizon] > 0).all()
    assert ((early_carry - late_carry).abs().amax(dim=1) > 0).all()
