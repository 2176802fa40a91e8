"""The access-control queue against the answers that are known, and its own arrays."""

import gymnasium
import numpy as np
import pytest

import algorithms.exact.register  # noqa: F401
from algorithms.exact.average_reward import average_reward, differential_action_values
from algorithms.exact.optimal import optimal_policy
from algorithms.exact.queueing import ACCEPT, PRIORITIES, REJECT, SERVERS, access_control

STATES = (SERVERS + 1) * len(PRIORITIES)


@pytest.mark.parametrize(
    ("at_once", "best", "always"), [(True, 2.7476, 2.1814), (False, 2.6732, 2.0700)]
)
def test_access_control__has_the_known_average_rewards(at_once, best, always):
    mdp = access_control(at_once)
    optimal = optimal_policy(mdp, differential_action_values)
    assert average_reward(mdp, optimal) == pytest.approx(best, abs=5e-5)
    accept = np.eye(2)[np.full(STATES, ACCEPT)]
    assert average_reward(mdp, accept) == pytest.approx(always, abs=5e-5)
    assert average_reward(mdp, np.eye(2)[np.full(STATES, REJECT)]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("at_once", [True, False])
def test_access_control__keeps_count_of_servers(at_once):
    """Servers free on average: those that were, less one if accepted, plus 0.06 of the busy."""
    mdp = access_control(at_once)
    free = np.repeat(np.arange(SERVERS + 1), len(PRIORITIES))
    for action in (REJECT, ACCEPT):
        taken = (free > 0) * (action == ACCEPT)
        busy = SERVERS - free + taken * at_once
        np.testing.assert_allclose(mdp.P[:, action] @ free, free - taken + 0.06 * busy, atol=1e-12)
        earned = np.where(taken, np.tile(PRIORITIES, SERVERS + 1), 0)
        np.testing.assert_array_equal(mdp.r[:, action, 0], earned)
    priority = np.tile(np.arange(4), SERVERS + 1)
    for k in range(4):
        np.testing.assert_allclose(mdp.P[..., priority == k].sum(-1), 0.25, atol=1e-12)


def test_register__knows_the_continuing_worlds():
    queue = gymnasium.make("npgrad/AccessControl-v0")
    assert queue.observation_space.n == STATES and queue.action_space.n == 2
    pendulum = gymnasium.make("npgrad/ContinuingPendulum-v0")
    pendulum.reset(seed=0)
    for _ in range(300):
        *_, terminated, truncated, _ = pendulum.step(np.zeros(1, np.float32))
        assert not terminated and not truncated
