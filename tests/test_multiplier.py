"""The multiplier's step, by hand."""

import pytest

from safetransfer.agent.multiplier import Multiplier
from safetransfer.agent.settings import AgentSettings
from safetransfer.errors import SettingError


def make(**changes):
    return Multiplier(AgentSettings(**({"cost_limit": 0.01, "multiplier_lr": 0.5} | changes)))


def test_step_follows_the_excess():
    # beta <- beta + lr (J_c - c): 0 + 0.5 (0.11 - 0.01) = 0.05, then + 0.5 (0.03 - 0.01) = 0.06
    multiplier = make()
    assert multiplier.step(0.11) == pytest.approx(0.05)
    assert multiplier.step(0.03) == pytest.approx(0.06)


def test_it_falls_below_the_limit_but_never_below_zero():
    multiplier = make(multiplier_init=0.004)
    assert multiplier.step(0.006) == pytest.approx(0.002)
    assert multiplier.step(0.0) == 0.0
    assert multiplier.step(0.0) == 0.0
    # No credit was saved up while it stood at zero.
    assert multiplier.step(0.03) == pytest.approx(0.01)


def test_proportional_and_derivative_terms():
    # integral 0.05; + kp (0.10) = 0.2; the first step has no derivative
    multiplier = make(multiplier_kp=2.0, multiplier_kd=10.0)
    assert multiplier.step(0.11) == pytest.approx(0.05 + 0.2)
    # integral 0.05 + 0.5 * 0.2 = 0.15; kp 2 * 0.2; kd 10 * (0.21 - 0.11)
    assert multiplier.step(0.21) == pytest.approx(0.15 + 0.4 + 1.0)
    # the same measurement again keeps its derivative: integral 0.25
    assert multiplier.step(0.21) == pytest.approx(0.25 + 0.4 + 1.0)
    # a falling cost gives no negative derivative
    assert multiplier.step(0.01) == pytest.approx(0.25)


def test_upper_bound_and_state():
    multiplier = make(multiplier_max=1.0)
    multiplier.step(100.0)
    assert multiplier.value == 1.0
    other = make()
    other.load_state_dict(multiplier.state_dict())
    assert other.step(0.01) == 1.0


def test_its_terms_together_stay_within_its_bounds():
    multiplier = make(multiplier_kp=100.0, multiplier_max=1.0)
    assert multiplier.step(1.01) == 1.0  # integral 0.5; + 100
    assert multiplier.step(0.0) == 0.0  # integral 0.495; - 1


@pytest.mark.parametrize(("cost", "beta"), [(0.21, 0.25 + 1.0), (0.41, 0.35 + 2.0)])
def test_the_derivative_goes_on_where_it_was(cost, beta):
    multiplier, other = (make(multiplier_kd=10.0) for _ in range(2))
    for before in (0.11, 0.21):
        multiplier.step(before)
    other.load_state_dict(multiplier.state_dict())
    # integral 0.15 + 0.5 (J_c - c); kd times this rise, or the last one where nothing is new
    assert other.step(cost) == pytest.approx(beta)


def test_its_bound_may_rise_over_the_second_half_of_a_run():
    multiplier = make(multiplier_max=1.0, multiplier_max_end=3.0, multiplier_init=2.0)
    assert multiplier.value == 1.0  # a first value above the bound is the bound
    for share, bound in ((0.0, 1.0), (0.5, 1.0), (0.75, 2.0), (1.0, 3.0)):
        multiplier.anneal(share)
        assert multiplier.step(100.0) == pytest.approx(bound)


@pytest.mark.parametrize("name", ["multiplier_max", "multiplier_max_end", "multiplier_kp"])
def test_a_negative_one_would_reward_cost(name):
    with pytest.raises(SettingError, match=f"{name} is -1.0; it must not be negative"):
        make(**{name: -1.0})
