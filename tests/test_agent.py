"""One update of Algorithm 1 against the same done by hand, and what each loss may touch."""

import copy
import math

import numpy as np
import pytest
import torch

from safetransfer.agent.agent import Agent, Batch, acting_state
from safetransfer.agent.networks import Encoder, Shapes
from safetransfer.agent.normaliser import Normaliser
from safetransfer.agent.settings import AgentSettings
from safetransfer.errors import CheckpointError, UnknownNameError

SHAPES = Shapes(camera=(50, 50, 1), proprio=3, actions=2)
SMALL = {"embedding": 8, "hidden": 8, "mlp": (8,), "horizon": 3, "batch_size": 2}


def agent_of(shapes=SHAPES, **changes):
    return Agent(shapes, AgentSettings(**(SMALL | changes)), seed=0)


def batch_of(shapes=SHAPES, steps=3, n=2, hidden=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    obs = {"proprio": torch.randn(steps + 1, n, shapes.proprio, generator=g)}
    if shapes.camera:
        pixels = torch.randint(256, (steps + 1, n, *shapes.camera), generator=g)
        obs["camera"] = pixels.to(torch.uint8)
    return Batch(
        obs=obs,
        last_reward=torch.randn(steps + 1, n, generator=g),
        last_cost=torch.rand(steps + 1, n, generator=g),
        carry=torch.zeros(n, hidden),
        action=torch.rand(steps, n, shapes.actions, generator=g) * 2 - 1,
        reward=torch.randn(steps, n, generator=g),
        cost=torch.rand(steps, n, generator=g),
        terminated=torch.zeros(steps, n, dtype=torch.bool),
        valid=torch.ones(steps, n, dtype=torch.bool),
    )


def constant_heads(heads, values):
    """Make stacked heads return `values` whatever their input."""
    with torch.no_grad():
        heads.weights[-1].zero_()
        heads.biases[-1].copy_(torch.tensor(values).reshape(heads.biases[-1].shape))


def test_losses_by_hand():
    shapes = Shapes(camera=None, proprio=1, actions=1)
    agent = agent_of(shapes, n_step=1, gamma=0.5, gamma_cost=0.8, reward_scale=0.1, cost_scale=2.0,
                     alpha=0.3, multiplier_init=1.5, cost_limit=0.01)  # fmt: skip
    constant_heads(agent.networks.q, [2.0, 3.0, 0.5])  # Q1, Q2, Qc
    constant_heads(agent.q_target, [4.0, 1.0, 0.25])
    constant_heads(agent.networks.policy, [0.2, 0.0])  # mean 0.2; log std (-5 + 1) / 2 = -2
    batch = batch_of(shapes, steps=2, n=1)
    batch.reward = torch.tensor([[10.0], [20.0]])
    batch.cost = torch.tensor([[1.0], [0.0]])
    batch.terminated = torch.tensor([[False], [True]])

    noise = torch.randn(
        (3, 1, 1), generator=torch.Generator().manual_seed(0)
    ).flatten().tolist()  # fmt: skip

    def log_pi(e):
        u = 0.2 + math.exp(-2.0) * e
        gaussian = -0.5 * e * e + 2.0 - 0.5 * math.log(2 * math.pi)
        return gaussian - math.log(1 - math.tanh(u) ** 2)

    l0, l1, _ = map(log_pi, noise)
    # y = r + gamma (1 - d) (min Qtarg - alpha log pi(a'|s')), the reward scaled
    y0, y1 = 1.0 + 0.5 * (1.0 - 0.3 * l1), 2.0
    loss_q = ((2 - y0) ** 2 + (2 - y1) ** 2 + (3 - y0) ** 2 + (3 - y1) ** 2) / 4
    # y_c = c + gamma_c (1 - d) Qctarg, the cost scaled
    loss_qc = ((0.5 - (2.0 + 0.8 * 0.25)) ** 2 + (0.5 - 0.0) ** 2) / 2
    # - (min Q - alpha log pi - beta Qc) / (1 + beta)
    loss_pi = -sum((2.0 - 0.3 * lp - 1.5 * 0.5) / 2.5 for lp in (l0, l1)) / 2

    metrics = agent.update(batch, measured_cost=0.06)
    assert metrics["loss_q"] == pytest.approx(loss_q, rel=1e-4)
    assert metrics["loss_qc"] == pytest.approx(loss_qc, rel=1e-4)
    assert metrics["loss_pi"] == pytest.approx(loss_pi, rel=1e-4)
    assert metrics["entropy"] == pytest.approx(-(l0 + l1) / 2, rel=1e-4)
    # beta + lr (J_c - c)
    assert metrics["multiplier"] == pytest.approx(1.5 + 0.02 * 0.05)
    # The targets moved by tau towards the heads, as they are after their step.
    moved = agent.q_target.biases[-1][0, 0, 0].item()
    now = agent.networks.q.biases[-1][0, 0, 0].item()
    assert moved == pytest.approx(4.0 + 0.02 * (now - 4.0), rel=1e-5)


def test_multiplier_by_the_replayed_cost_critic():
    # beta + lr ((1 - gamma_c) Qc / scale / decisions' steps - c): 0.2 * 0.5 / 4 / 2 - 0.01 = 0.0025
    settings = AgentSettings(
        **SMALL, multiplier_signal="critic", gamma_cost=0.8, cost_scale=4.0, multiplier_lr=1.0
    )
    agent = Agent(SHAPES, settings, steps_per_decision=2)
    constant_heads(agent.networks.q, [0.0, 0.0, 0.5])
    assert agent.update(batch_of())["multiplier"] == pytest.approx(0.0025)


@pytest.mark.parametrize(
    ("changes", "price", "divisor"),
    [
        ({}, 1.5, 2.5),
        ({"normalise_objective": False}, 1.5, 1.0),
        ({"constraint_warmup": 1}, 0.0, 1.0),
        ({"constraint": "off"}, 0.0, 1.0),
    ],
)
def test_what_cost_is_to_the_policy(changes, price, divisor):
    agent = agent_of(alpha=0.3, multiplier_init=1.5, **changes)
    constant_heads(agent.networks.q, [2.0, 3.0, 0.5])
    metrics = agent.update(batch_of())
    loss = -(2.0 + 0.3 * metrics["entropy"] - price * 0.5) / divisor
    assert metrics["loss_pi"] == pytest.approx(loss, rel=1e-4)


def test_gradients_that_are_too_large_are_scaled_down_each_loss_s_by_itself():
    free, bound = agent_of(max_grad_norm=1e9), agent_of(max_grad_norm=1e-3)
    noise = torch.ones(4, 2, 2)
    metrics = bound.update(batch_of(), None, noise)
    assert metrics == free.update(batch_of(), None, noise)  # as they were before
    n = bound.networks
    policy = list(n.policy.parameters())
    critics = [p for p in n.parameters() if not any(p is other for other in policy)]
    for name, parameters in (("grad_norm", critics), ("grad_norm_pi", policy)):
        assert metrics[name] > 2e-3
        norm = torch.cat([p.grad.flatten() for p in parameters]).norm().item()
        assert norm == pytest.approx(1e-3, rel=1e-3)


def test_the_normaliser_s_moments_are_those_of_all_rows():
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).double()
    rows = rows * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 100.0, -3.0])
    normaliser = Normaliser(3)
    for part in rows.split([7, 1, 52]):
        normaliser.update(part)
    mean, std = rows.mean(0), rows.std(0, correction=0)
    expected = ((rows - mean) / std).float()
    torch.testing.assert_close(normaliser(rows.float()), expected, rtol=1e-3, atol=1e-3)
    assert normaliser((mean + 9 * std).float()).tolist() == [5.0] * 3
    assert normaliser((mean - 9 * std).float()).tolist() == [-5.0] * 3


def test_learning_sees_what_acting_does_the_normalised_proprioception():
    mean, std = torch.tensor([1.0, -20.0, 300.0]), torch.tensor([2.0, 0.5, 30.0])
    batch, noise = batch_of(), torch.zeros(4, 2, 2)
    raw = copy.deepcopy(batch)
    raw.obs["proprio"] = batch.obs["proprio"] * std + mean
    agents = agent_of(), agent_of()
    agents[1].normaliser.update(torch.stack([mean - std, mean + std]))
    for agent in agents:
        with torch.no_grad():
            agent.networks.policy.weights[-1].normal_(std=0.3, generator=torch.Generator())
    given = [batch, raw]
    acted, starts, learned = [], [], []
    for agent, b in zip(agents, given, strict=True):
        obs = {name: value[0].numpy() for name, value in b.obs.items()}
        last = b.last_reward[0].numpy(), b.last_cost[0].numpy()
        acted.append(agent.actor.act(obs, *last, agent.actor.initial_carry(2))[0])
        starts.append(agent.q_at_start(obs, b.action[0].numpy()))
        learned.append(agent.update(b, 0.02, noise))
    np.testing.assert_allclose(*acted, atol=1e-4)
    np.testing.assert_allclose(*starts, atol=1e-4)
    assert learned[0] == pytest.approx(learned[1], rel=1e-3, abs=1e-4)


def test_q_at_an_episode_s_start_is_the_smaller_one():
    agent = agent_of()
    constant_heads(agent.networks.q, [2.0, 3.0, 0.5])
    obs = {name: value[0].numpy() for name, value in batch_of().obs.items()}
    assert agent.q_at_start(obs, np.zeros((2, 2), np.float32)).tolist() == [2.0, 2.0]


def test_constraint_off_and_warm_up():
    off = agent_of(constraint="off", multiplier_init=1.0)
    assert off.update(batch_of(), measured_cost=1.0)["multiplier"] == 0.0
    late = agent_of(constraint_warmup=2)
    values = [late.update(batch_of(), measured_cost=1.01)["multiplier"] for _ in range(3)]
    assert values == pytest.approx([0.0, 0.0, 0.02])


def test_invalid_steps_change_nothing():
    batch = batch_of()
    batch.valid[1:, 0] = False
    spoiled = copy.deepcopy(batch)
    spoiled.reward[1:, 0] = 1e6
    spoiled.cost[1:, 0] = 1e6
    spoiled.action[1:, 0] = 0.9
    a, b = agent_of().update(batch), agent_of().update(spoiled)
    assert a == b


@pytest.mark.parametrize("encoders", ["shared", "separate"])
def test_policy_loss_leaves_the_critics_alone_and_the_other_way_round(encoders):
    def changed(lr_policy, lr_encoder):
        agent = agent_of(encoders=encoders)
        agent.critic_optimiser.param_groups[0]["lr"] = lr_encoder
        agent.critic_optimiser.param_groups[1]["lr"] = lr_encoder
        for group in agent.policy_optimiser.param_groups:
            group["lr"] = lr_policy
        before = copy.deepcopy(agent.networks.state_dict())
        agent.update(batch_of())
        after = agent.networks.state_dict()
        return {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}

    own = {"policy_encoder"} if encoders == "separate" else set()
    assert changed(1e-3, 0.0) == {"policy"} | own
    assert changed(0.0, 1e-3) == {"encoder", "gru", "q"}


def test_policy_gradient_by_finite_differences():
    """The step of the policy goes down the loss that is reported, as a small difference shows."""
    agent = agent_of(tune_alpha=False, constraint="on", multiplier_init=0.7, max_grad_norm=1e9)
    torch.manual_seed(1)
    with torch.no_grad():  # last layers start near zero: give the gradient something to see
        agent.networks.policy.weights[-1].normal_(std=0.3)
        agent.networks.q.weights[-1].normal_(std=0.3)
    batch = batch_of()

    def loss(delta):
        probe = copy.deepcopy(agent)
        with torch.no_grad():
            probe.networks.policy.biases[-1][0, 0, 1] += delta
        probe.generator.manual_seed(5)
        return probe.update(batch)["loss_pi"]

    eps = 1e-2
    slope = (loss(eps) - loss(-eps)) / (2 * eps)
    probe = copy.deepcopy(agent)
    probe._groups()  # a copied optimiser still holds the old parameters
    probe.generator.manual_seed(5)
    probe.update(batch)
    gradient = probe.networks.policy.biases[-1].grad[0, 0, 1].item()
    assert gradient == pytest.approx(slope, rel=0.03, abs=1e-4)


def test_a_sequence_acts_as_its_steps_do():
    """The learner's pass over a sequence from a stored state equals the actor's step by step."""
    agent = agent_of(reward_scale=0.1, cost_scale=3.0)
    with torch.no_grad():
        agent.networks.policy.weights[-1].normal_(std=0.3)
    batch = batch_of(steps=4)
    feedback = torch.stack([batch.last_reward * 0.1, batch.last_cost * 3.0], -1)
    _, z, _ = agent.networks.state(batch.obs, feedback, batch.carry)
    expected = torch.tanh(agent.networks.policy(z.flatten(0, 1))[0][:, :2]).unflatten(0, (5, 2))
    carry = agent.actor.initial_carry(2)
    for t in range(5):
        obs = {k: v[t].numpy() for k, v in batch.obs.items()}
        action, carry = agent.actor.act(
            obs, batch.last_reward[t].numpy(), batch.last_cost[t].numpy(), carry
        )
        np.testing.assert_allclose(action, expected[t].detach().numpy(), atol=1e-5)


def test_feedback_can_be_taken_away():
    obs = {k: v[0].numpy() for k, v in batch_of().obs.items()}
    for feedback, same in ((True, False), (False, True)):
        agent = agent_of(feedback=feedback)
        with torch.no_grad():
            agent.networks.policy.weights[-1].normal_(std=0.3)
        a, _ = agent.actor.act(obs, np.zeros(2, "f4"), np.zeros(2, "f4"), np.zeros((2, 8), "f4"))
        b, _ = agent.actor.act(obs, np.ones(2, "f4"), np.ones(2, "f4"), np.zeros((2, 8), "f4"))
        assert np.array_equal(a, b) == same


def test_state_dict_goes_on_exactly():
    a, b = agent_of(), agent_of()
    for i in range(3):
        a.update(batch_of(seed=i), 0.05)
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    for i in range(3):
        assert a.update(batch_of(seed=9 + i), 0.05) == b.update(batch_of(seed=9 + i), 0.05)


@pytest.mark.parametrize("carry", ["policy", "weights", "multiplier", "optimisers"])
def test_what_is_carried_over(carry):
    source = agent_of()
    source.normaliser.update(torch.tensor([[1.0, 2.0, 3.0], [4.0, 8.0, 3.0]]))
    for i in range(3):
        source.update(batch_of(seed=i), 1.0)
    target = Agent(SHAPES, AgentSettings(**SMALL, lr_alpha=5e-3), seed=1)
    fresh = copy.deepcopy(target.networks.q.state_dict())
    target.load_state_dict(copy.deepcopy(source.state_dict()), carry=carry)
    assert torch.equal(target.networks.policy.weights[0], source.networks.policy.weights[0])
    kept = source if carry != "policy" else None
    q = source.networks.q.state_dict() if kept else fresh
    assert all(torch.equal(v, q[k]) for k, v in target.networks.q.state_dict().items())
    q_target = source.q_target.state_dict() if kept else fresh
    assert all(torch.equal(v, q_target[k]) for k, v in target.q_target.state_dict().items())
    assert target.alpha == pytest.approx(source.alpha if kept else 0.1)
    assert source.alpha != pytest.approx(0.1)
    assert torch.equal(target.normaliser.mean, source.normaliser.mean)
    assert target.normaliser.mean.tolist() == [2.5, 5.0, 3.0]
    assert target.alpha_optimiser.param_groups[0]["lr"] == 5e-3  # a setting, and this agent's
    assert (target.multiplier.value > 0) == (carry in ("multiplier", "optimisers"))
    assert bool(target.critic_optimiser.state_dict()["state"]) == (carry == "optimisers")
    assert target.updates == 0


def test_weights_of_another_shape_are_refused():
    other = Agent(Shapes((50, 50, 1), 4, 2), AgentSettings(**SMALL))
    with pytest.raises(CheckpointError, match="do not fit"):
        agent_of().load_state_dict(other.state_dict())


@pytest.mark.parametrize("own", [True, False])
def test_targets_with_an_encoder_of_their_own_do_not_move_with_the_critics(own):
    agent, batch, noise = agent_of(target_encoder=own), batch_of(), torch.zeros(4, 2, 2)
    # Then loss_q is the mean square of the targets, and they depend on what the targets read alone.
    constant_heads(agent.networks.q, [0.0, 0.0, 0.0])
    constant_heads(agent.networks.policy, [0.2, 0.2, 0.0, 0.0])
    losses = []
    for _ in range(2):
        losses.append(copy.deepcopy(agent).update(batch, None, noise)["loss_q"])
        with torch.no_grad():
            for parameter in agent.networks.gru.parameters():
                parameter.add_(1.0)
    assert (losses[0] == losses[1]) is own


def test_the_targets_own_encoder_follows_by_tau_and_is_kept():
    agent = agent_of(target_encoder=True, tau=0.25)
    before = copy.deepcopy(agent.core_target.gru.weight_hh_l0)
    agent.update(batch_of())
    after = 0.75 * before + 0.25 * agent.networks.gru.weight_hh_l0
    torch.testing.assert_close(agent.core_target.gru.weight_hh_l0, after)
    again = agent_of(target_encoder=True)
    again.load_state_dict(agent.state_dict())
    torch.testing.assert_close(again.core_target.gru.weight_hh_l0, after)
    # Moved from an agent that had none, it begins as the critics' own.
    plain = agent_of()
    plain.update(batch_of())
    again.load_state_dict(plain.state_dict(), carry="weights")
    torch.testing.assert_close(
        again.core_target.gru.weight_hh_l0, plain.networks.gru.weight_hh_l0.detach()
    )


def test_the_policy_is_averaged_over_updates():
    agent = agent_of(average=0.25, lr=1e-2, lr_encoder=1e-2)
    wanted: dict[str, torch.Tensor] = {}
    # The mean of all until one in four is as many as the share says, and then that share.
    for share in (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 4):
        agent.update(batch_of())
        for name, value in agent.networks.state_dict().items():
            if not name.startswith("q."):
                wanted[name] = value * share + wanted.get(name, 0.0) * (1 - share)
    assert agent.averaged is not None and agent.averaged.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(agent.averaged[name], value, rtol=1e-5, atol=1e-6)
    state = agent.state_dict()
    acting = acting_state(state)["networks"]
    assert all(torch.equal(acting[name], agent.averaged[name]) for name in wanted)
    assert torch.equal(acting["q.weights.0"], state["networks"]["q.weights.0"])
    # What goes on, goes on with it; a new run's begins anew.
    again = agent_of(average=0.25)
    again.load_state_dict(state)
    assert again.averaged is not None
    assert all(torch.equal(again.averaged[name], agent.averaged[name]) for name in wanted)
    again.load_state_dict(state, carry="weights")
    again.updates = 0
    again.update(batch_of())
    now = again.networks.state_dict()
    assert all(torch.equal(again.averaged[name], now[name]) for name in wanted)


def test_without_an_average_it_acts_as_it_is():
    state = agent_of().state_dict()
    assert state["averaged"] is None and acting_state(state) == state


def test_learning_rates_fall_linearly_to_their_end():
    agent = agent_of(lr=1e-3, lr_encoder=4e-4, lr_end=0.2, encoders="separate")
    agent.anneal(0.5)  # 1 - 0.8 / 2 = 0.6
    rates = [g["lr"] for g in agent.critic_optimiser.param_groups]
    assert rates == pytest.approx([2.4e-4, 6e-4])
    rates = [g["lr"] for g in agent.policy_optimiser.param_groups]  # heads, and its own encoder
    assert rates == pytest.approx([6e-4, 2.4e-4])
    agent.anneal(2.0)
    assert agent.policy_optimiser.param_groups[0]["lr"] == pytest.approx(2e-4)


def test_learning_rates_rise_over_the_first_updates():
    agent = agent_of(lr=1e-3, lr_encoder=4e-4, lr_end=1.0, lr_warmup=4)
    seen = []
    for _ in range(6):
        agent.anneal(0.0)
        rates = [g["lr"] for g in agent.critic_optimiser.param_groups]
        assert rates == pytest.approx([0.4 * rates[1], rates[1]])
        seen.append(rates[1])
        agent.update(batch_of())
    assert seen == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])


def test_alpha_is_tuned_towards_minus_the_number_of_actions_within_bounds():
    assert agent_of().target_entropy == -2.0
    for wanted, bound in ((50.0, 3.0), (-50.0, -12.0)):
        agent = agent_of(target_entropy=wanted, alpha=math.exp(bound), lr_alpha=1.0)
        agent.update(batch_of())
        assert math.log(agent.alpha) == pytest.approx(bound, abs=1e-5)


def test_the_entropy_that_alpha_is_tuned_towards_falls_over_the_run():
    agent = agent_of(target_entropy=-1.0, target_entropy_end=-5.0)
    assert agent.target_entropy == -1.0
    agent.anneal(0.25)
    assert agent.target_entropy == pytest.approx(-2.0)
    agent.anneal(3.0)
    assert agent.target_entropy == -5.0
    # The policy's entropy lies between these two: alpha rises at first, and falls at the end.
    for share, falls in ((0.0, False), (1.0, True)):
        agent = agent_of(target_entropy=50.0, target_entropy_end=-50.0, alpha=0.5)
        agent.anneal(share)
        assert -50 < agent.update(batch_of())["entropy"] < 50
        assert (agent.alpha < 0.5) is falls


@pytest.mark.parametrize("cnn, channels", [("nature", 1), ("patch", 3)])
def test_a_gpu_s_way_through_the_first_convolution_is_that_convolution(cnn, channels):
    encoder = Encoder((50, 46, channels), AgentSettings(cnn=cnn))
    camera = torch.randint(256, (5, 50, 46, channels), dtype=torch.uint8)
    expected = encoder.convolutions[0](camera.permute(0, 3, 1, 2) / 255.0)
    product = encoder._first_as_product(camera)
    torch.testing.assert_close(product, expected, rtol=1e-4, atol=1e-5)
    first = encoder.convolutions[0].weight
    gradients = [torch.autograd.grad(x.square().sum(), first)[0] for x in (product, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)


def test_in_bfloat16_losses_are_nearly_those_of_float32():
    batch, noise = batch_of(), torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0))
    exact = agent_of().update(batch, 0.02, noise)
    agent = Agent(SHAPES, AgentSettings(**SMALL), seed=0, precision="bfloat16")
    rounded = agent.update(batch, 0.02, noise)
    assert all(p.dtype == torch.float32 for p in agent.networks.parameters())
    for name in ("loss_q", "loss_qc", "loss_pi", "entropy", "grad_norm"):
        assert rounded[name] == pytest.approx(exact[name], rel=0.03, abs=0.01), name
    assert rounded["loss_q"] != exact["loss_q"]


def test_an_unknown_precision_is_refused():
    with pytest.raises(UnknownNameError, match="bfloat16"):
        Agent(SHAPES, AgentSettings(**SMALL), precision="bf16")


def test_a_fixed_entropy_coefficient_is_a_setting_and_is_not_carried_over():
    first = agent_of(alpha=0.1)
    fixed = agent_of(alpha=0.005, tune_alpha=False)
    fixed.load_state_dict(first.state_dict(), carry="optimisers")
    assert fixed.alpha == pytest.approx(0.005)
    tuned = agent_of(alpha=0.005)
    tuned.load_state_dict(first.state_dict(), carry="weights")
    assert tuned.alpha == pytest.approx(0.1)


def test_the_multiplier_s_bound_follows_the_run():
    agent = agent_of(multiplier_max=1.0, multiplier_max_end=3.0, multiplier_init=9.0)
    assert agent.multiplier.highest == 1.0
    agent.anneal(0.9)
    assert agent.multiplier.highest == pytest.approx(2.6)
