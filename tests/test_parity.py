# ruff: noqa: E402 (what is imported last needs torch)
"""The pages beside their torch twins, in small; the whole is `python -m benchmarks.parity`."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the torch twins need pip install 'npgrad[bench]'")

from algorithms import a2c as a2c_page
from benchmarks.parity import a2c, actor_critic, asynchronous, ddpg, reinforce
from benchmarks.parity.measure import GRADIENT, PARAMETERS, Row, apart, judge, relative
from benchmarks.parity.world import D, System
from benchmarks.torch_twins.ddpg import Tensors
from benchmarks.torch_twins.networks import ACTIVATIONS, network, networks, pack
from npgrad import ActorCritic, at, beside, mlp
from npgrad.networks import Mlp
from tests.worlds import SEEDS

MODULES = (reinforce, actor_critic, asynchronous, a2c, ddpg)
METHODS = [(module, method) for module in MODULES for method in module.METHODS]
RUNS = pytest.mark.parametrize("module, method", METHODS, ids=[method for _, method in METHODS])
SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
ROWS = st.integers(1, 6)


@RUNS
def test_learning_runs__stay_together(module, method):
    for case in islice(module.cases(method), 1, None, 3):
        row = judge(module, method, case, updates=12)
        assert row.holds, row
        assert row.updates >= 12


def configs(module, continuous):
    """The configs of a module's cases with such actions."""
    for method in module.METHODS:
        yield from (case[1] for case in module.cases(method) if case[2] == continuous)


def policy_data(config, space, rng, k):
    """(h, head, A) of k states."""
    head = config.network.head(space)
    A = rng.normal(size=(k, D)) if head.action else rng.integers(head.size, size=k)
    return 2.0 * rng.normal(size=(k, head.size)), head, A


@given(SEEDS, ROWS, st.booleans())
@settings(max_examples=10)
def test_displayed__is_autograd_of_the_twins_loss(seed, k, continuous):
    """At outputs of networks that no learning run need have."""
    rng, space = np.random.default_rng(seed), System(continuous).action_space
    numbers = lambda n: rng.normal(size=(n, k))

    def differ(gradient, *data):
        gradient(*data)
        assert gradient.worst <= GRADIENT

    for config in configs(reinforce, continuous):
        pair = reinforce.displayed(config, space)
        differ(pair["gradient"], *policy_data(config, space, rng, k), *numbers(1))
        differ(pair["value_gradient"], *numbers(2))
    for config in configs(actor_critic, continuous):
        pair, (h, head, A) = (
            actor_critic.displayed(config, space),
            policy_data(config, space, rng, 1),
        )
        differ(pair["gradient"], h[0], head, A[0])
    for config in configs(asynchronous, continuous):
        pair, (h, head, A) = (
            asynchronous.displayed(config, space),
            policy_data(config, space, rng, k),
        )
        (v, R, advantage), weights = numbers(3), (0.3, 0.7)
        of_a3c = isinstance(config, type(asynchronous.A3C))
        differ(
            pair["gradient"], *((h, v, head, A, R, advantage, *weights) if of_a3c else (h, A, R))
        )
    for config in configs(a2c, continuous):
        pair, (h, head, A) = a2c.displayed(config, space), policy_data(config, space, rng, k)
        v, R, advantage, w = numbers(4)
        differ(pair["gradient"], h, v, head, A, R, advantage, w, 0.3, 0.7)
    pair, W = ddpg.displayed(), [rng.normal(size=shape) for shape in ((2, 3), (3, 1))]
    differ(pair["critic_gradient"], *numbers(2), W, 0.01 * continuous)
    differ(pair["actor_gradient"], *numbers(1))


@given(SEEDS, SIZES, ROWS, st.sampled_from(sorted(ACTIVATIONS)), st.booleans())
def test_backward__is_autograd(seed, sizes, k, activation, bias):
    """With the law above it makes the whole gradient, at any θ, the twin's."""
    rng, model = np.random.default_rng(seed), mlp(sizes, activation, bias=bias)
    theta = rng.normal(size=model.layout.size)
    x, g = rng.normal(size=(k, sizes[0])), rng.normal(size=(k, sizes[-1]))
    net, twin = at(model, theta), network(model, theta, torch.float64)
    y = twin(torch.from_numpy(x))
    assert relative(net.forward(x), y.detach().numpy()) <= GRADIENT
    d = torch.autograd.grad(y, list(twin.parameters()), torch.from_numpy(g))
    assert relative(net.backward(g), pack(d)) <= GRADIENT


@given(SEEDS, ROWS, st.booleans())
def test_backward__of_an_actor_critic_is_autograd(seed, k, shared):
    rng = np.random.default_rng(seed)
    model = mlp((3, 4, 3)) if shared else beside(mlp((3, 4, 2)), mlp((3, 5, 1)))
    theta, x = model.init(rng), rng.normal(size=(k + 1, 3))
    g_h, g_v = rng.normal(size=(k, 2)), rng.normal(size=k)
    net, nets = ActorCritic(model, theta), networks(model, theta, torch.float64)
    net.act(x[:k])
    net.evaluate(x, k)
    y = torch.cat([net(torch.from_numpy(x[:k])) for net in nets], 1)
    g = torch.from_numpy(np.concatenate([g_h, g_v[:, None]], 1))
    d = torch.autograd.grad(y, [p for net in nets for p in net.parameters()], g)
    assert relative(net.backward(g_h, g_v), pack(d)) <= GRADIENT


@given(SEEDS, st.integers(2, 6), st.integers(1, 3), st.booleans(), st.booleans())
def test_backward__of_ddpgs_networks_is_autograd(seed, k, layer, batch_norm, minibatch):
    """With a second input, with normalisation by the minibatch or by averages."""
    rng = np.random.default_rng(seed)
    model = mlp((3, 5, 4, 2), "relu", output="tanh", second=2, at=layer, batch_norm=batch_norm)
    theta = model.init(rng) + rng.uniform(0.0, 0.5, model.layout.size)
    x, u, g = (rng.normal(size=(k, n)) for n in (3, 2, 2))
    net, twin = at(model, theta), Tensors(model, theta, torch.float64)
    leaf = torch.from_numpy(u.copy()).requires_grad_()
    y = twin(torch.from_numpy(x), leaf, running=not minibatch)
    *d, d_u = torch.autograd.grad(y, [*twin.moving, leaf], torch.from_numpy(g))
    net.forward(x, u=u, minibatch=minibatch)
    theirs = np.zeros_like(theta)
    theirs[: sum(p.numel() for p in twin.moving)] = pack(d)
    assert relative(net.backward(g), theirs) <= GRADIENT
    assert relative(net.backward_u(g), d_u.numpy()) <= GRADIENT


def test_row__holds_only_within_all_limits():
    row = Row("", "", "", GRADIENT, GRADIENT, PARAMETERS, 1)
    assert row.holds
    for name in ("outputs", "gradient", "parameters"):
        assert not row._replace(**{name: 1.01 * getattr(row, name)}).holds
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


def judged():
    return judge(a2c, "a2c", next(a2c.cases("a2c")), updates=3)


def test_a_wrong_displayed_gradient__falls_short(monkeypatch):
    right, factor = a2c_page.gradient, 1.0 + 1e-9
    wrong = lambda *data: tuple(factor * d for d in right(*data))
    monkeypatch.setattr(a2c_page, "gradient", wrong)
    row = judged()
    assert row.outputs > GRADIENT and row.gradient > GRADIENT and not row.holds


def test_a_wrong_backward_pass__falls_short(monkeypatch):
    """It is not the displayed gradient's business, but the whole gradient's."""
    right, factor = Mlp.backward, 1.0 + 1e-9
    monkeypatch.setattr(Mlp, "backward", lambda net, g: right(net, factor * g))
    row = judged()
    assert row.outputs <= GRADIENT < row.gradient and not row.holds


def test_wrong_returns__fall_short(monkeypatch):
    right = a2c_page.returns
    monkeypatch.setattr(a2c_page, "returns", lambda r, gamma, *rest: right(r, 0.999 * gamma, *rest))
    row = judged()
    assert row.outputs <= GRADIENT < row.gradient and not row.holds


def test_a_wrong_step__falls_short(monkeypatch):
    """It is not the gradient's business, but the run's."""
    right = a2c_page.ascend

    def wrong(config, state, d):
        right(config, state, d)
        state.theta *= 1.0 + 1e-6

    monkeypatch.setattr(a2c_page, "ascend", wrong)
    row = judged()
    assert max(row.outputs, row.gradient) <= GRADIENT
    assert row.parameters > PARAMETERS and not row.holds
