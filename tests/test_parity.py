# ruff: noqa: E402 (what is imported last needs torch)
"""The pages beside their torch twins, in small; the whole is `python -m benchmarks.parity`."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the torch twins need pip install 'npgrad[bench]'")

from algorithms import a2c as a2c_page
from algorithms import a3c, actor_critic, async_q, ddpg, natural_actor_critic, reinforce
from algorithms.referee.segments import drawn
from benchmarks.parity import runs
from benchmarks.parity.cases import CASES
from benchmarks.parity.displayed import EPS, displayed, relative
from benchmarks.parity.measure import TELLS, Row, apart, judge
from benchmarks.parity.runs import Update, page_of
from benchmarks.parity.world import D, System
from benchmarks.torch_twins.ddpg import Network
from benchmarks.torch_twins.networks import ACTIVATIONS, network, networks, pack
from npgrad import ActorCritic, at, beside, mlp
from npgrad.networks import Mlp
from tests.worlds import SEEDS

SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
ROWS = st.integers(1, 6)
CLOSE = 1e5 * EPS  # of what is not cancelled to less than 1e-3 of its terms, by some 100 roundings


@pytest.mark.parametrize("method", CASES)
def test_learning_runs__stay_together(method):
    updates = 40 if method.startswith("async") else 12  # the first copy of θ⁻ among them
    for case in CASES[method][1::3]:
        row = judge(case, updates)
        assert row.holds, row
        assert row.updates >= updates


def data(page, config, space, rng, k):
    """{argument: what the page calls it with}, of k states and any numbers."""
    numbers = lambda n: list(rng.normal(size=(n, k)))
    if page is ddpg:
        W = [rng.normal(size=shape) for shape in ((2, 3), (3, 1))]
        return dict(critic_gradient=[*numbers(2), W, 0.01], actor_gradient=numbers(1))
    head = config.network.head(space)
    A = rng.normal(size=(k, D)) if head.action else rng.integers(head.size, size=k)
    h, (v, R, advantage, w) = 2.0 * rng.normal(size=(k, head.size)), numbers(4)
    both = [h, v, head, A, R, advantage]
    return {
        reinforce: dict(gradient=[h, head, A, w], value_gradient=[v, R]),
        actor_critic: dict(gradient=[h[0], head, A[0]]),
        natural_actor_critic: dict(gradient=[h, head, A]),
        async_q: dict(gradient=[h, A, R]),
        a3c: dict(gradient=[*both, 0.3, 0.7]),
        a2c_page: dict(gradient=[*both, w, 0.3, 0.7]),
    }[page]


@given(SEEDS, ROWS)
@settings(max_examples=10)
def test_displayed__is_autograd_of_the_twins_loss(seed, k):
    """At outputs of networks that no learning run need have."""
    rng = np.random.default_rng(seed)
    for case in (case for cases in CASES.values() for case in cases):
        page, space = page_of(case.config), System(case.continuous).action_space
        pairs = displayed(case.config, space)
        given = data(page, case.config, space, rng, k)
        assert pairs.keys() == given.keys()
        for name, pair in pairs.items():
            pair(*given[name])
            assert pair.worst <= 100 * max(EPS, pair.response)


@given(SEEDS, SIZES, ROWS, st.sampled_from(sorted(ACTIVATIONS)), st.booleans())
def test_backward__is_autograd(seed, sizes, k, activation, bias):
    """With the law above it makes the whole gradient, at any θ, the twin's."""
    rng, model = np.random.default_rng(seed), mlp(sizes, activation, bias=bias)
    theta = rng.normal(size=model.layout.size)
    x, g = rng.normal(size=(k, sizes[0])), rng.normal(size=(k, sizes[-1]))
    net, twin = at(model, theta), network(model, theta, torch.float64)
    y = twin(torch.from_numpy(x))
    assert relative(net.forward(x), y.detach().numpy()) <= CLOSE
    d = torch.autograd.grad(y, list(twin.parameters()), torch.from_numpy(g))
    assert relative(net.backward(g), pack(d)) <= CLOSE


@given(SEEDS, ROWS, st.booleans())
def test_backward__of_an_actor_critic_is_autograd(seed, k, shared):
    rng = np.random.default_rng(seed)
    model = mlp((3, 4, 3)) if shared else beside(mlp((3, 4, 2)), mlp((3, 5, 1)))
    theta, x = model.init(rng), rng.normal(size=(k + 1, 3))
    g_h, g_v = rng.normal(size=(k, 2)), rng.normal(size=k)
    parts = [model] if shared else [model.first, model.second]
    net, nets = ActorCritic(model, theta), networks(parts, theta, torch.float64)
    net.act(x[:k])
    net.evaluate(x, k)
    y = torch.cat([net(torch.from_numpy(x[:k])) for net in nets], 1)
    g = torch.from_numpy(np.concatenate([g_h, g_v[:, None]], 1))
    d = torch.autograd.grad(y, [p for net in nets for p in net.parameters()], g)
    assert relative(net.backward(g_h, g_v), pack(d)) <= CLOSE


@given(SEEDS, st.integers(2, 6), st.integers(1, 3), st.booleans(), st.booleans())
def test_backward__of_ddpgs_networks_is_autograd(seed, k, layer, batch_norm, minibatch):
    """With a second input, with normalisation by the minibatch or by averages."""
    rng = np.random.default_rng(seed)
    model = mlp((3, 5, 4, 2), "relu", output="tanh", second=2, at=layer, batch_norm=batch_norm)
    theta = model.init(rng) + rng.uniform(0.0, 0.5, model.layout.size)
    x, u, g = (rng.normal(size=(k, n)) for n in (3, 2, 2))
    net, twin = at(model, theta), Network(model, theta, torch.float64)
    leaf = torch.from_numpy(u.copy()).requires_grad_()
    y = twin(torch.from_numpy(x), leaf, running=not minibatch)
    *d, d_u = torch.autograd.grad(y, [*twin.moving, leaf], torch.from_numpy(g))
    net.forward(x, u=u, minibatch=minibatch)
    theirs = np.zeros_like(theta)
    theirs[: sum(p.numel() for p in twin.moving)] = pack(d)
    assert relative(net.backward(g), theirs) <= CLOSE
    assert relative(net.backward_u(g), d_u.numpy()) <= CLOSE


def test_row__holds_only_within_all_limits():
    row = Row("", "", "", 1e-12, 1e-11, 1e-10, 1, (1e-12, 1e-11, 1e-10))
    assert row.holds
    for k, name in enumerate(("outputs", "gradient", "parameters")):
        assert not row._replace(**{name: 1.01 * getattr(row, name)}).holds
        assert not row._replace(**{name: float("nan")}).holds
        limits = [*row.limits[:k], 1.01 * TELLS, *row.limits[k + 1 :]]
        assert not row._replace(limits=limits).holds


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


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_gae__is_that_of_stable_baselines3(lam):
    """A2C's R − V, at Stable-Baselines3's gae_lambda, in segments whose episodes end both ways.
    In single precision: 6 steps, each of at most |r| + 2|v| < 9, are 60 roundings of at most 54."""
    sb3 = pytest.importorskip("benchmarks.field.by_sb3", exc_type=ImportError)
    names = "rewards", "values", "next_values", "last_value", "terminated", "truncated"
    for s in [s for s in drawn() if s.autoreset == "SAME_STEP"][::9]:
        theirs = sb3.rollout(*(getattr(s, name) for name in names), s.gamma, lam)
        stops, v_next = s.ends.copy(), np.where(s.terminated, 0.0, s.next_values)
        stops[-1] = True
        ours = a2c_page.returns(s.rewards, s.gamma, stops, v_next, lam) - s.values
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=60 * 54 * 2.0**-24)


def judged():
    return judge(CASES["a2c"][0], updates=3)


def far(row):
    """Which of outputs, gradient and parameters are beyond their limits."""
    return [x > limit for x, limit in zip((row.outputs, row.gradient, row.parameters), row.limits)]


def test_a_wrong_displayed_gradient__falls_short(monkeypatch):
    right, factor = a2c_page.gradient, 1.0 + 1e-9
    wrong = lambda *data: tuple(factor * d for d in right(*data))
    monkeypatch.setattr(a2c_page, "gradient", wrong)
    row = judged()
    assert far(row)[:2] == [True, True] and not row.holds


def test_a_wrong_backward_pass__falls_short(monkeypatch):
    """It is not the displayed gradient's business, but the whole gradient's."""
    right, factor = Mlp.backward, 1.0 + 1e-9
    monkeypatch.setattr(Mlp, "backward", lambda net, g: right(net, factor * g))
    row = judged()
    assert far(row)[:2] == [False, True] and not row.holds


def test_wrong_returns__fall_short(monkeypatch):
    right = a2c_page.returns
    monkeypatch.setattr(a2c_page, "returns", lambda r, gamma, *rest: right(r, 0.999 * gamma, *rest))
    row = judged()
    assert far(row)[:2] == [False, True] and not row.holds


def test_a_wrong_step__falls_short(monkeypatch):
    """It is not the gradient's business, but the run's."""
    right = a2c_page.ascend

    def wrong(config, state, d):
        right(config, state, d)
        state.theta *= 1.0 + 1e-6

    monkeypatch.setattr(a2c_page, "ascend", wrong)
    row = judged()
    assert far(row) == [False, False, True] and not row.holds


@pytest.mark.parametrize("method", ["async-q", "a2c"])
def test_no_update__is_kept(monkeypatch, method):
    """Of three runs of a page, each with an update at a time, at most two of each are alive."""
    made, alive = [], []

    def update(d, theta):
        made.append(weakref.ref(d))
        alive.append(sum(one() is not None for one in made))
        return Update(d, theta)

    monkeypatch.setattr(runs, "Update", update)
    judge(CASES[method][0], updates=20)
    assert len(made) == 60 and max(alive) <= 6
