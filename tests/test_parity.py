# ruff: noqa: E402 (what is imported last needs torch)
"""The pages beside their torch twins, in small; the whole is `python -m benchmarks.parity`."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

REASON = "the torch twins need pip install 'npgrad[bench]'"
pytest.importorskip("torch", reason=REASON)
pytest.importorskip("stable_baselines3", reason=REASON)

from algorithms import a2c as a2c_page
from algorithms import ddpg as ddpg_page
from algorithms.common.policy import make_actor_critic, make_policy, make_value
from benchmarks.parity import a2c, actor_critic, asynchronous, ddpg, reinforce
from benchmarks.parity.measure import GRADIENT, PARAMETERS, Row, apart, relative
from benchmarks.parity.world import D, N, World
from npgrad.networks import Batch

MODULES = (reinforce, actor_critic, asynchronous, a2c, ddpg)
METHODS = [(module, method) for module in MODULES for method in module.METHODS]
RUNS = pytest.mark.parametrize("module, method", METHODS, ids=[method for _, method in METHODS])
DRAWN = given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.booleans())
FEW = settings(max_examples=4)


@RUNS
def test_learning_runs__stay_together(module, method):
    for case in islice(module.cases(method), 1, None, 3):
        row = module.row(method, case, updates=12)
        assert row.holds, row
        assert row.updates >= 12


def steps(env, rng, k):
    """(S, A) of k steps."""
    shape = env.action_space.shape
    A = rng.normal(size=(k, *shape)) if shape else rng.integers(env.action_space.n, size=k)
    return rng.normal(size=(k, N)), A


def differ(pair, model, rng, *data):
    """How far the page's and autograd's gradients are apart, at a drawn θ, on this data."""
    page, twin = pair
    theta = model.init(rng) + 0.1 * rng.normal(size=model.layout.size)
    return relative(page(theta, *data), twin(theta, *data))


@FEW
@DRAWN
def test_gradient__reinforce(seed, k, continuous):
    rng, env, config = np.random.default_rng(seed), World(continuous), reinforce.START
    S, A = steps(env, rng, k)
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    pairs = reinforce.gradients(config, env)
    data = policy, S, A, rng.normal(size=k)
    assert differ(pairs["gradient"], policy.model, rng, *data) <= GRADIENT
    data = value, S, rng.normal(size=k)
    assert differ(pairs["value_gradient"], value, rng, *data) <= GRADIENT


@FEW
@DRAWN
def test_gradient__actor_critic(seed, k, continuous):
    rng, env = np.random.default_rng(seed), World(continuous)
    config, *_ = actor_critic.METHODS["actor-critic"]
    S, A = steps(env, rng, 1)
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    pairs = actor_critic.gradients(config, env)
    assert differ(pairs["gradient"], policy.model, rng, policy, S[0], A[0]) <= GRADIENT
    assert differ(pairs["value_gradient"], value, rng, value, S[0]) <= GRADIENT


@FEW
@DRAWN
def test_gradient__asynchronous_q(seed, k, continuous):
    rng, env = np.random.default_rng(seed), World()
    config, *_ = asynchronous.METHODS["async-q"]
    pair, model = asynchronous.gradient(config, env), asynchronous.model_of(config, env)
    assert differ(pair, model, rng, model, *steps(env, rng, k), rng.normal(size=k)) <= GRADIENT


@FEW
@DRAWN
def test_gradient__a3c_and_a2c(seed, k, continuous):
    rng, env = np.random.default_rng(seed), World(continuous)
    R, advantage, weight = rng.normal(size=(3, k))
    for case in asynchronous.cases_of_a3c():
        config = case[1]
        policy = make_actor_critic(env, config.network, config.trunk)
        data, weights = (policy, *steps(env, rng, k), R, advantage), (0.3, 0.7)
        pair = asynchronous.gradient(config, env)
        assert differ(pair, policy.model, rng, *data, *weights) <= GRADIENT
        pair = a2c.gradient(config, env)
        assert differ(pair, policy.model, rng, *data, weight, *weights) <= GRADIENT


@FEW
@DRAWN
def test_gradient__ddpg(seed, k, weight_decay):
    rng, env, k = np.random.default_rng(seed), ddpg.world(), k + 1  # 2 for a variance
    S, u, y = rng.normal(size=(k, N)), rng.uniform(-1, 1, (k, D)), rng.normal(size=k)
    for _, config, _ in islice(ddpg.cases("ddpg"), 1, None, 3):
        pairs = ddpg.gradients(config, env)
        mu, q = (Batch(model, k, float) for model in ddpg_page.models(env, config))
        data = q, S, u, y, 0.01 * weight_decay
        assert differ(pairs["critic_gradient"], q.model, rng, *data) <= GRADIENT
        data = mu, q, q.model.init(rng), S
        assert differ(pairs["actor_gradient"], mu.model, rng, *data) <= GRADIENT


def test_row__holds_only_within_both_limits():
    row = Row("", "", "", GRADIENT, PARAMETERS, 1)
    assert row.holds
    for bad in (dict(gradient=1.01 * GRADIENT), dict(parameters=1.01 * PARAMETERS)):
        assert not row._replace(**bad).holds
    for name in ("gradient", "parameters"):
        assert not row._replace(**{name: float("nan")}).holds


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_apart__finds_a_difference_in_any_array(lengths, data):
    """However large the other arrays are; and what is not finite."""
    ours = np.repeat(2.0 ** np.arange(0, 30 * len(lengths), 30), lengths)
    theirs, i = ours.copy(), data.draw(st.integers(0, len(ours) - 1))
    assert apart(lengths, ours, theirs) == 0.0
    theirs[i] *= 1.0 + 2.0**-20
    assert apart(lengths, ours, theirs) == 2.0**-20
    theirs[i] = np.nan
    assert np.isnan(apart(lengths, ours, theirs))


def test_a_wrong_gradient__falls_short(monkeypatch):
    case, right = next(a2c.cases("a2c")), a2c_page.gradient
    monkeypatch.setattr(a2c_page, "gradient", lambda *data: right(*data) * (1.0 + 1e-9))
    row = a2c.row("a2c", case, updates=3)
    assert row.gradient > GRADIENT and not row.holds


def test_wrong_returns__fall_short(monkeypatch):
    """They are not the gradient's business, but the run's."""
    case, right = next(a2c.cases("a2c")), a2c_page.returns
    monkeypatch.setattr(a2c_page, "returns", lambda r, d, *rest: right(r, 0.999 * d, *rest))
    row = a2c.row("a2c", case, updates=3)
    assert row.gradient <= GRADIENT and row.parameters > PARAMETERS and not row.holds
