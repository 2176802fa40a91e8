"""The laws that every page obeys, over all methods."""

import copy
import importlib
import inspect
import re
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from itertools import islice
from math import inf, nan, nextafter
from types import FunctionType
from typing import NamedTuple, get_args

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from hypothesis import assume, given
from hypothesis import strategies as st
from worlds import LINEAR, NETWORKS, SEEDS, Endless, Recorder, Scripted, numbers
from worlds import actions as some_actions

from algorithms import (
    a2c,
    a3c,
    actor_critic,
    async_q,
    ddpg,
    natural_actor_critic,
    reinforce,
    td_lambda,
)
from algorithms import policy_gradient_theorem as theorem
from algorithms.common import policy
from algorithms.common.config import PRECISIONS, Range, ranges
from algorithms.common.events import WorkerError
from algorithms.common.policy import Network, make_actor_critic, soft_rewards
from algorithms.common.world import BLOCK, Spaces, returns
from algorithms.exact.mdp import FiniteMDPEnv
from algorithms.exact.worlds import garnet
from algorithms.runner.lookup import METHODS, load_method
from npgrad import (
    OPTIMIZERS,
    ActorCritic,
    Gaussian,
    Layout,
    Softmax,
    at,
    compiled,
    complex_step,
    from_function,
    gaussian,
    grad,
    networks,
    product,
    softmax,
)
from npgrad.compiled import program_of
from npgrad.networks import Mlp

programs = importlib.import_module("npgrad.compiled")
ALL = tuple(METHODS)
PLAYING = tuple(name for name in ALL if name != "theorem")  # in an environment, step by step
TOGETHER = ("a3c", "async-q", "async-sarsa", "async-n-step-q", "a2c")  # several environments
ALONE = tuple(name for name in PLAYING if name not in TOGETHER)
LIMIT = 250  # lines of a page


class Facts(NamedTuple):
    """What the laws need to know of a method.

    small    options that make it quick
    moved    {a displayed gradient: the array of the State that its first update moves}
    idle     functions of its page, displayed or not, that the defaults do not need
    common   functions elsewhere that they need
    factor   of the first step, if the gradient is doubled: a natural gradient has the score squared
             in its denominator
    back     what takes a gradient at a network's outputs to its parameters
    """

    small: dict
    moved: dict
    idle: tuple = ()
    common: tuple = ()
    factor: float = 2.0
    back: FunctionType = Mlp.backward


OBJECTIVES = {"objective", "value_objective", "critic_objective", "actor_objective"}
APART = {"init", "actor", "train", *OBJECTIVES}  # not called by `train`
DRAWN = (Softmax.score, Softmax.sample)
ENTROPY = (*DRAWN, Softmax.entropy_gradient)
BOTH = {"gradient": "theta", "value_gradient": "w"}
RMSPROP, ADAM = OPTIMIZERS["rmsprop"].step, OPTIMIZERS["adam"].step
ONLINE = dict(moved={"gradient": "theta"}, common=(*DRAWN, RMSPROP))
TINY = Network(hidden=(3,))
CREW = dict(workers=2, T_max=10**6, network=TINY)
Q = dict(small=CREW | dict(I_target=7, epsilon_steps=20), moved={"gradient": "theta"})
FACTS = {
    "theorem": Facts(
        dict(network=TINY),
        {"gradient": "theta"},
        ("performance", "exact_gradient", "score", "fisher"),
        (theorem.Gibbs.forward, theorem.Gibbs.backward, Softmax.mean_gradient),
    ),
    "reinforce": Facts(dict(network=TINY), BOTH, ("learn_moving",), (returns, *DRAWN, ADAM)),
    "natural-actor-critic": Facts(
        dict(network=TINY, episodes_per_update=1),
        {"gradient": "theta"},
        common=(returns, *DRAWN),
        factor=0.5,
        back=Mlp.backward_rows,
    ),
    "td-lambda": Facts(dict(network=LINEAR, gamma=0.9, step_size=1e-3), {"gradient": "w"}),
    "actor-critic": Facts(dict(network=TINY), idle=("traces", "continuing"), **ONLINE),
    "actor-critic-traces": Facts(dict(network=TINY), idle=("one_step", "continuing"), **ONLINE),
    "actor-critic-continuing": Facts(
        dict(network=TINY, report_every=BLOCK + 9), idle=("one_step", "traces"), **ONLINE
    ),
    "a3c": Facts(CREW, {"gradient": "theta"}, common=(returns, soft_rewards, *ENTROPY, RMSPROP)),
    "async-q": Facts(**Q, idle=("n_step",), common=(RMSPROP,)),
    "async-sarsa": Facts(**Q, idle=("n_step",), common=(RMSPROP,)),
    "async-n-step-q": Facts(**Q, idle=("one_step", "target"), common=(returns, RMSPROP)),
    "a2c": Facts(
        dict(environments=2, n_steps=4, network=TINY),
        {"gradient": "theta"},
        common=(soft_rewards, *ENTROPY, RMSPROP),
    ),
    "ddpg": Facts(
        dict(networks=ddpg.Networks(hidden=(3, 2)), batch=2, warmup=2, replay=60),
        {"critic_gradient": "w_statistics", "actor_gradient": "theta_statistics"},
        common=(ddpg.Replay.store, ddpg.Replay.sample, ddpg.Noise.explore, ADAM),
    ),
}


def page_of(name):
    return importlib.import_module(METHODS[name].module)


def small(name, **options):
    """The method's Config, small, with those of the options that it has."""
    Config = load_method(name, METHODS).Config
    known = {field.name for field in fields(Config)}
    return Config(**FACTS[name].small | {k: x for k, x in options.items() if k in known})


FIXED = {"driver", "vectorization", "features"}


@st.composite
def configs(draw, name, **options):
    """Small Configs, whose words and flags are drawn, and so is the network."""
    config = small(name, **options)
    chosen = {}
    for field, (hint, allowed, *_) in ranges(type(config)).items():
        if field not in FIXED | set(options) and not isinstance(allowed, Range):
            values = (True, False) if hint is bool else allowed
            chosen[field] = draw(st.sampled_from(values))
    if name == "ddpg":
        norm, layer = draw(st.booleans()), draw(st.integers(1, 2))
        chosen["networks"] = replace(config.networks, batch_norm=norm, action_layer=layer)
        kinds = st.sampled_from(("ou", "white", "epsilon", "none"))
        chosen["noise"] = ddpg.Noise(noise=draw(kinds))
    else:
        chosen["network"] = draw(NETWORKS)
    try:
        return replace(config, **chosen)
    except ValueError:  # fields that do not go together
        assume(False)


def world_of(name, **how):
    """An environment for the method."""
    if name == "theorem":
        return FiniteMDPEnv(garnet(0))
    if name == "td-lambda":
        return Numbered(**how)
    return Scripted(d=2 if name == "ddpg" else 0, **how)


class Numbered(gymnasium.Env):
    """Observations 0, 1, 2 drawn at each reset, with rewards; ends after T steps."""

    def __init__(self, T=3, truncate=False):
        self.T, self.truncate = T, truncate
        self.observation_space, self.action_space = Discrete(3), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.S = self.np_random.integers(3, size=self.T + 1)
        self.R = self.np_random.normal(size=self.T)
        return int(self.S[0]), {}

    def step(self, action):
        self.t += 1
        over = self.t == self.T
        s, r = int(self.S[self.t]), float(self.R[self.t - 1] + action)
        return s, r, over and not self.truncate, over and self.truncate, {}


def train(name, env, config, state, **options):
    """The method's generator; what went wrong in a worker is raised as it was."""
    try:
        yield from load_method(name, METHODS).train(env, config, state, **options)
    except WorkerError as error:
        raise error.__cause__ from None


def learn(name, env, config, seed, yields, **options):
    """The State after so many yields, fewer if the method ends before."""
    state = load_method(name, METHODS).init(env, config, seed)
    for _ in islice(train(name, env, config, state, **options), yields):
        pass
    return state


def bits(x):
    """What two equal States have in common, bit by bit."""
    if is_dataclass(x):
        return {field.name: bits(getattr(x, field.name)) for field in fields(x)}
    if isinstance(x, list):
        return [bits(part) for part in x]
    if isinstance(x, np.random.Generator):
        return bits(x.bit_generator.state)
    if isinstance(x, dict):
        return {k: bits(value) for k, value in x.items()}
    if isinstance(x, np.ndarray):
        return x.dtype, x.shape, x.tobytes()
    return x.tobytes() if hasattr(x, "tobytes") else x


def arrays_of(state):
    """{name: array} of the floats in a State."""
    found = {k: x for k, x in vars(state).items() if isinstance(x, np.ndarray)}
    return {k: x for k, x in found.items() if x.dtype.kind == "f"}


def assert_finite(state):
    wrong = [name for name, x in arrays_of(state).items() if not np.isfinite(x).all()]
    assert not wrong, "not finite"


# 1. what is displayed is what runs


@contextmanager
def code_of(function, by):
    """`function` runs the code of `by`, which may call `text`, what it ran before, and `twice`."""
    code, names = function.__code__, function.__globals__
    names.update(text=FunctionType(code, names), twice=twice)
    function.__code__ = by.__code__
    try:
        yield
    finally:
        function.__code__ = code
        del names["text"], names["twice"]


def raiser(*args, **kwargs):
    raise LookupError("this text runs")


def raising_generator(*args, **kwargs):
    raise LookupError("this text runs")
    yield


def displayed():
    """(method, function) of all that the defaults need: the page's functions, and the common."""
    for name, facts in FACTS.items():
        page = page_of(name)
        idle = APART | set(facts.idle)
        own = [f for k, f in vars(page).items() if inspect.isfunction(f) and k not in idle]
        own = [f for f in own if f.__module__ == page.__name__]
        for f in (*own, *facts.common, Mlp.forward, facts.back):
            yield pytest.param(name, f, id=f"{name}-{f.__qualname__}")


DEFAULTS = {"ddpg": dict(warmup=64)}  # shipped, but for the length of the warm-up


@pytest.mark.parametrize(("name", "function"), list(displayed()))
def test_page__what_you_read_is_what_runs(name, function):
    """With the defaults as they are shipped."""
    method = load_method(name, METHODS)
    env, config = world_of(name), method.Config(**DEFAULTS.get(name, {}))
    state = method.init(env, config, 0)
    by = raising_generator if inspect.isgeneratorfunction(function) else raiser
    with code_of(function, by), pytest.raises(LookupError, match="this text runs"):
        for _ in islice(train(name, env, config, state), 30):
            pass


@pytest.mark.parametrize("name", ALL)
def test_page__what_stands_idle_exists(name):
    """So that no function escapes the law above by a slip in the table."""
    page, facts = page_of(name), FACTS[name]
    for function in facts.idle:
        assert inspect.isfunction(getattr(page, function))
    assert set(facts.moved) < set(inspect.signature(page.train).parameters)
    for gradient in facts.moved:
        assert inspect.signature(page.train).parameters[gradient].default is getattr(page, gradient)


class Compiled(Network):
    """A network of one's own, written in NumPy and compiled."""

    def model(self, n, m, one_hot=False):
        layout = Layout(W=(n, 3), V=(3, m))
        f = lambda theta, x: np.tanh(x @ layout.views(theta).W) @ layout.views(theta).V
        return from_function(compiled(f), layout, lambda rng: rng.normal(size=layout.size))


STEADY = ("a3c", "a2c", "actor-critic", "actor-critic-traces", "actor-critic-continuing")


@pytest.mark.parametrize("name", ALL)
@given(seed=SEEDS, d=st.sampled_from((0, 2)))
def test_page__plain_and_compiled_are_the_same_run(name, seed, d):
    """To the bit, where everything that can be compiled is, from its first call on."""
    options = dict(network=Compiled()) if name not in ("td-lambda", "theorem", "ddpg") else {}
    config = small(name, workers=1, **options)
    env = Scripted(d=d) if name in ("reinforce", *STEADY) else world_of(name)
    states, made = [], []

    def counted(*args):
        made.append(args)
        return program_of(*args)

    for plain in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policy, "AFTER", 0)
            patch.setattr(networks, "AFTER", 0)
            patch.setattr(programs, "program_of", counted)
            patch.delenv("NPGRAD_PLAIN", raising=False)
            if plain:
                patch.setenv("NPGRAD_PLAIN", "1")
            before = len(made)
            states.append(learn(name, env, config, seed, 3))
            traced = {getattr(f, "__name__", "") for f, *_ in made[before:]}
            assert not (plain and traced)
            assert plain or traced or not options
            assert plain or not d or name not in STEADY or "gradient" in traced
    assert bits(states[0]) == bits(states[1])


@pytest.mark.parametrize("name", STEADY)
def test_page__what_you_read_is_what_runs_compiled(name, monkeypatch):
    """Also a function that the displayed gradient calls; and a gradient of one's own is called."""
    monkeypatch.setattr(policy, "AFTER", 0)
    page, env, config = page_of(name), Scripted(d=2), small(name, workers=1)
    for function in (page.gradient, Gaussian.score):
        with code_of(function, raiser), pytest.raises(LookupError, match="this text runs"):
            learn(name, env, config, 0, 30)
    calls = []

    def own(*args):
        calls.append(args)
        return page.gradient(*args)

    assert bits(learn(name, env, config, 0, 9)) == bits(
        learn(name, env, config, 0, 9, gradient=own)
    )
    assert len(calls) > 3


# 2. an edit of the displayed gradient is an edit of what is learned


def twice(x):
    """2 x, of an array, or of all in a tuple or list of them."""
    return type(x)(twice(part) for part in x) if isinstance(x, (tuple, list)) else 2.0 * x


def doubled(*args):
    return twice(text(*args))  # noqa: F821


EDITS = [(name, gradient) for name in ALL for gradient in FACTS[name].moved]


@pytest.mark.parametrize(("name", "gradient"), EDITS)
@given(seed=SEEDS)
def test_page__twice_the_gradient_is_twice_the_step(name, gradient, seed):
    """Bit by bit, from parameters that are 0, by sgd. DDPG has Adam, whose statistics double, but
    for their gradient's rounding to multiples of 1e-18."""
    page, moved = page_of(name), FACTS[name].moved[gradient]
    config = small(name, network=LINEAR, optimizer="sgd", workers=1, report_every=1)
    env, yields = world_of(name) if name == "theorem" else world_of(name, T=1), 1 + (name == "ddpg")
    function = getattr(page, gradient)
    once = learn(name, env, config, seed, yields)
    instead = {gradient: lambda *args: twice(function(*args))}
    passed = learn(name, env, config, seed, yields, **instead)
    with code_of(function, doubled):
        edited = learn(name, env, config, seed, yields)
    assert bits(passed) == bits(edited)
    first, second = getattr(once, moved), getattr(edited, moved)
    if name == "ddpg":
        close = dict(rtol=4 * np.finfo(first.dtype).eps, atol=4e-18)
        np.testing.assert_allclose(second[0], 2.0 * first[0], **close)
    else:
        np.testing.assert_array_equal(second, FACTS[name].factor * first)


# 3. displayed gradient = tape = complex step, at the outputs and through the network


HEADS = st.one_of(
    st.integers(1, 4).map(softmax),
    st.builds(gaussian, st.integers(1, 2), st.sampled_from(("exp", "softplus")), st.booleans()),
    st.lists(st.integers(1, 3), min_size=1, max_size=3).map(product),
)
WHOLE = lambda y: (y,), lambda g: g  # outputs y (k, m) -> what the page takes, and back
COLUMN = lambda y: (y[:, 0],), lambda g: g[:, None]
BOTH_OUTPUTS = lambda y: (y[:, :-1], y[:, -1]), np.column_stack
ROWS = None  # the page takes one state at a time


def cases(rng, head, k):
    """{name: (m, F, G)}: F(y) is an objective of outputs y (k, m), G(y) its displayed gradient."""
    A = head(rng.normal(size=(k, head.size))).sample(head.noise(rng, k))
    x, z, w = rng.normal(size=(3, k))
    beta, c = rng.exponential(size=2)
    m, q = head.size, rng.normal(size=(k, head.size))
    taken, W = rng.integers(m, size=k), [rng.normal(size=(2, 3)), rng.normal(size=(3, 1))]
    critic_gradient = lambda *args: ddpg.critic_gradient(*args)[0]
    table = {
        "reinforce": (m, WHOLE, reinforce.objective, reinforce.gradient, (head, A, x)),
        "reinforce-value": (1, COLUMN, reinforce.value_objective, reinforce.value_gradient, (x,)),
        "natural-actor-critic": (m, WHOLE, natural_actor_critic.objective,
                                 natural_actor_critic.gradient, (head, A)),
        "td-lambda": (1, ROWS, td_lambda.objective, td_lambda.gradient, [()] * k),
        "actor-critic": (m, ROWS, actor_critic.objective, actor_critic.gradient,
                         [(head, a) for a in A]),
        "a3c": (m + 1, BOTH_OUTPUTS, a3c.objective, a3c.gradient, (head, A, x, z, beta, c)),
        "a2c": (m + 1, BOTH_OUTPUTS, a2c.objective, a2c.gradient, (head, A, x, z, w, beta, c)),
        "async-q": (m, WHOLE, async_q.objective, async_q.gradient, (taken, x)),
        "ddpg-critic": (1, COLUMN, ddpg.critic_objective, critic_gradient, (x, W, c)),
        "ddpg-actor": (1, COLUMN, ddpg.actor_objective, ddpg.actor_gradient, ()),
        "theorem": (m, WHOLE, theorem.objective, theorem.gradient, (x, q)),
    }  # fmt: skip
    return {name: (m, *of_outputs(*rest)) for name, (m, *rest) in table.items()}


def of_outputs(kind, objective, gradient, args):
    """(F, G) of `cases`."""
    if kind is ROWS:
        each = lambda f, y: np.stack([f(row, *more) for row, more in zip(y, args)])
        return lambda y: np.sum(each(objective, y)), lambda y: each(gradient, y)
    read, write = kind
    F = lambda y: objective(*read(y), *args)
    return F, lambda y: write(gradient(*read(y), *args))


CASES = tuple(cases(np.random.default_rng(0), softmax(2), 1))


def assert_close(actual, expected):
    """Equal but for the rounding of some hundred operations on numbers as large as the largest."""
    scale = 1.0 + np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=1e3 * np.finfo(float).eps * scale)


@pytest.mark.parametrize("case", CASES)
@given(head=HEADS, k=st.integers(1, 4), scale=st.sampled_from((0.1, 1.0, 3.0)), seed=SEEDS)
def test_gradient__explicit_is_tape_is_complex_step(case, head, k, scale, seed):
    rng = np.random.default_rng(seed)
    m, F, G = cases(rng, head, k)[case]
    y = rng.uniform(-scale, scale, (k, m))
    explicit = G(y)
    assert explicit.shape == y.shape
    assert_close(explicit, grad(F)(y))
    assert_close(explicit, complex_step(F, y))


@pytest.mark.parametrize("case", CASES)
@given(
    network=NETWORKS,
    trunk=st.sampled_from(("shared", "separate")),
    d=st.integers(0, 2),
    k=st.integers(1, 4),
    seed=SEEDS,
)
def test_gradient__through_the_network_is_the_tapes(case, network, trunk, d, k, seed):
    """(∂y/∂θ)ᵀ of the displayed gradient is the tape's ∇ of the objective of the model."""
    rng = np.random.default_rng(seed)
    seen = Spaces(numbers(2), some_actions(d))
    head, S = network.head(seen.action), rng.normal(size=(k, 2))
    m, F, G = cases(rng, head, k)[case]
    if case in ("a3c", "a2c"):
        model = make_actor_critic(seen, network, trunk).model
        theta = rng.normal(size=model.layout.size)
        net = ActorCritic(model, theta)
        net.act(S)
        h, v = net.evaluate(S, k)
        g = G(np.column_stack([h, v]))
        d_theta = net.backward(g[:, :-1], g[:, -1])
    else:
        model = network.model(2, m)
        theta = rng.normal(size=model.layout.size)
        net = at(model, theta)
        d_theta = net.backward(G(net.forward(S)))
    assert_close(d_theta, grad(lambda theta: F(model(theta, S)))(theta))


@given(st.booleans(), st.integers(1, 2), st.integers(2, 4), st.floats(0, 2), SEEDS)
def test_ddpg__both_chains_are_the_tapes(batch_norm, layer, k, l2, seed):
    """The critic's with its weight decay; the actor's through the critic's second input."""
    rng = np.random.default_rng(seed)
    nets = ddpg.Networks(hidden=(4, 3), action_layer=layer, batch_norm=batch_norm)
    config = small("ddpg", networks=nets)
    mu, q = ddpg.models(Spaces(numbers(2), some_actions(2)), config)
    theta, w = (0.5 + 0.5 * rng.normal(size=model.layout.size) for model in (mu, q))
    for model, parameters in ((mu, theta), (q, w)):
        for *_, var in model.layers(parameters):
            if var is not None:
                var[:] = rng.uniform(0.5, 2.0, var.shape)
    S, U, y = rng.normal(size=(k, 2)), rng.uniform(-1, 1, (k, 2)), rng.normal(size=k)
    actor, critic = at(mu, theta), at(q, w)
    d_q, decay = ddpg.critic_gradient(
        critic.forward(S, u=U, minibatch=batch_norm)[:, 0], y, q.weights(w), l2
    )
    d_w = critic.backward(d_q[:, None])
    for d, pull in zip(q.weights(d_w), decay):
        d += pull
    loss = lambda w: ddpg.critic_objective(q(w, S, U, batch_norm)[:, 0], y, q.weights(w), l2)
    assert_close(d_w, grad(loss)(w))
    q_mu = critic.forward(S, u=actor.forward(S, minibatch=batch_norm), minibatch=batch_norm)[:, 0]
    d_theta = actor.backward(critic.backward_u(ddpg.actor_gradient(q_mu)[:, None]))
    u = lambda theta: mu(theta, S, minibatch=batch_norm)
    J = lambda theta: ddpg.actor_objective(q(w, S, u(theta), batch_norm)[:, 0])
    assert_close(d_theta, grad(J)(theta))


# 4. the State holds all that changes


@pytest.mark.parametrize("name", ALL)
@given(st.data(), st.booleans(), st.integers(0, 5), st.integers(1, 6), SEEDS)
def test_state__goes_on_to_the_same_bits(name, data, truncate, before, after, seed):
    """From a copy at any yield, also one within an episode, in a new environment of the kind."""
    config = data.draw(configs(name))
    how = {} if name == "theorem" else dict(T=BLOCK + 5, truncate=truncate)
    make = lambda: world_of(name, **how)
    method, env = load_method(name, METHODS), make()
    state = method.init(env, config, seed)
    training = train(name, env, config, state)
    for _ in islice(training, before):
        pass
    resumed = copy.deepcopy(state)
    first = list(islice(training, after))
    second = list(islice(train(name, make(), config, resumed), after))
    assert first == second
    assert bits(state) == bits(resumed)


# 5. spaces and ranges are refused by name


class Shown(gymnasium.Env):
    """Spaces only."""

    def __init__(self, observation, action):
        self.observation_space, self.action_space = observation, action


STRANGE = (
    Dict(a=Discrete(2)),
    Tuple((Discrete(2), Discrete(2))),
    Text(3),
    Sequence(Discrete(2)),
)
IMAGE = Box(0, 255, (8, 8, 3), np.uint8)
UNBOUNDED = Box(-np.inf, np.inf, (2,))
INTEGERS = Box(-2, 2, (2,), np.int64)
MANY = MultiDiscrete([2, 2]), MultiBinary(3)
REFUSED = {
    **dict.fromkeys(PLAYING, STRANGE),
    **dict.fromkeys(
        ("td-lambda", "async-q", "async-sarsa", "async-n-step-q"),
        (*STRANGE, *MANY, UNBOUNDED, INTEGERS),
    ),
    "ddpg": (*STRANGE, *MANY, Discrete(3), UNBOUNDED, INTEGERS),
}
ACTIONS = [(name, space) for name in PLAYING for space in REFUSED[name]]


@pytest.mark.parametrize(("name", "space"), ACTIONS, ids=str)
def test_init__refuses_action_spaces_by_name(name, space):
    with pytest.raises(ValueError, match=rf"^action_space = {re.escape(str(space))}: must be "):
        load_method(name, METHODS).init(Shown(numbers(2), space), small(name), 0)


@pytest.mark.parametrize("space", (*STRANGE, *MANY, IMAGE), ids=str)
@pytest.mark.parametrize("name", PLAYING)
def test_init__refuses_observation_spaces_by_name(name, space):
    env = Shown(space, some_actions(2 if name == "ddpg" else 0))
    with pytest.raises(
        ValueError, match=rf"^observation_space = {re.escape(str(space))}: must be "
    ):
        load_method(name, METHODS).init(env, small(name), 0)


def test_init__refuses_what_has_no_exact_answers():
    with pytest.raises(ValueError, match=r"must be a finite MDP, such as npgrad/Chain-v0"):
        theorem.init(Scripted(), small("theorem"), 0)


CONFIGS = tuple({load_method(name, METHODS).Config: None for name in ALL}) + (
    Network,
    ddpg.Networks,
    ddpg.Noise,
)
RANGED = [(cls, name) for cls in CONFIGS for name in ranges(cls)]
ELSEWHERE = {"hidden", "dt", "policy", "final_epsilons", "epsilon_chances"}  # no plain range


def label(x):
    return x if isinstance(x, str) else f"{x.__module__}.{x.__name__}"


def outside(hint, allowed, optional, whole):
    """Values just outside a field's range, and of other kinds."""
    if hint is bool:
        return [0, "True", None]
    if not isinstance(allowed, Range):
        return ["", allowed[0] + " ", 0, None]
    wrong = [nan, -inf, "1", True, [1], *([] if optional else [None])]
    if not allowed.infinite:
        wrong.append(inf)
    if whole:
        return [*wrong, int(allowed.low) - 1, 1.5, float(allowed.low) + 1.0]
    wrong.append(allowed.low if allowed.above else nextafter(allowed.low, -inf))
    if allowed.high < inf:
        wrong.append(allowed.high if allowed.below else nextafter(allowed.high, inf))
    return wrong


def what_is_allowed(hint, allowed, whole):
    if hint is bool:
        return "True or False"
    if not isinstance(allowed, Range):
        return f"one of {', '.join(get_args(hint))}"
    return str(allowed)


@pytest.mark.parametrize(("cls", "name"), RANGED, ids=label)
def test_config__refuses_what_is_just_outside_by_name(cls, name):
    hint, allowed, optional, whole = ranges(cls)[name]
    said = re.escape(what_is_allowed(hint, allowed, whole))
    for value in outside(hint, allowed, optional, whole):
        start = rf"^{name} = {re.escape(repr(value))}: must be (whole and |finite and )?"
        with pytest.raises(ValueError, match=start + said + "$"):
            cls(**{name: value})


@pytest.mark.parametrize(("cls", "name"), RANGED, ids=label)
def test_config__takes_what_is_just_inside(cls, name):
    """Alone: the other fields have their defaults."""
    hint, allowed, optional, whole = ranges(cls)[name]
    if hint is bool or not isinstance(allowed, Range):
        values = (True, np.True_) if hint is bool else ()
    elif whole:
        values = int(allowed.low), np.int64(allowed.low)
    else:
        values = [nextafter(allowed.low, inf) if allowed.above else allowed.low]
        if allowed.high < inf:
            values.append(nextafter(allowed.high, -inf) if allowed.below else allowed.high)
        values += [inf] if allowed.infinite else []
    together = {"replay": dict(batch=1)}.get(name, {})  # at least one batch
    for value in (*values, *([None] if optional else [])):
        assert getattr(cls(**{name: value}, **together), name) == value


@pytest.mark.parametrize("cls", CONFIGS, ids=label)
def test_config__every_field_has_a_range(cls):
    """But those that are Configs themselves, and a few that say more than a range."""
    for field in fields(cls):
        nested = is_dataclass(getattr(cls(), field.name))
        assert field.name in ranges(cls) or nested or field.name in ELSEWHERE, field.name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Network(hidden=()), "hidden = ()"),
        (lambda: Network(hidden=(3, 0)), "hidden = (3, 0)"),
        (lambda: Network(hidden=(2.5,)), "hidden = (2.5,)"),
        (lambda: ddpg.Networks(hidden=()), "hidden = ()"),
        (lambda: ddpg.Networks(hidden=(3,)), "action_layer = 2"),
        (lambda: ddpg.Noise(dt=0.0), "dt = 0.0"),
        (lambda: ddpg.Noise(dt=nan), "dt = nan"),
        (lambda: ddpg.Noise(dt=inf, ou_form="exact"), "dt = inf"),
        (lambda: ddpg.Noise(dt=2.0, ou_theta=1.0), "dt = 2.0"),
        (lambda: ddpg.Config(batch=8, replay=7), "batch = 8"),
        (lambda: td_lambda.Config(trace="dutch", updates="offline"), "trace = 'dutch'"),
        (lambda: td_lambda.Config(trace="dutch", network=TINY), "trace = 'dutch'"),
        (lambda: async_q.NStepQ(final_epsilons=()), "final_epsilons = ()"),
        (lambda: async_q.NStepQ(final_epsilons=(nan,)), "final_epsilons = (nan,)"),
        (lambda: async_q.NStepQ(final_epsilons=(0.1, 1.5)), "final_epsilons = (0.1, 1.5)"),
        (lambda: async_q.NStepQ(epsilon_chances=(1.0,)), "epsilon_chances = (1.0,)"),
        (lambda: async_q.NStepQ(epsilon_chances=(nan, 0.5, 0.5)), "epsilon_chances = (nan, 0"),
    ],
)
def test_config__names_what_does_not_go_together(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*: must "):
        make()


# 6. what is not finite stops, before the environment sees it


class Spoilt(gymnasium.Env):
    """Episodes of T steps, one number of which is `bad`: of the reward or the observation, in step
    `at` of episode `episode` (0: the reset). After that nobody may call it again."""

    def __init__(self, what, bad, episode, at, T=4, d=0, truncate=True):
        self.what, self.bad, self.episode, self.at, self.T = what, bad, episode, at, T
        self.truncate, self.count, self.broken = truncate, 0, False
        self.observation_space, self.action_space = Box(-9.0, 9.0, (2,)), some_actions(d)

    def reset(self, *, seed=None, options=None):
        assert not self.broken, "reset after what is not finite"
        super().reset(seed=seed)
        self.count, self.t = self.count + 1, 0
        return self._observed(), {}

    def _observed(self):
        s = self.np_random.uniform(-1.0, 1.0, 2)
        if self.what == "observation" and (self.count, self.t) == (self.episode, self.at):
            s[1], self.broken = self.bad, True
        return s

    def step(self, action):
        assert not self.broken, "a step after what is not finite"
        assert self.action_space.contains(action)
        self.t += 1
        s, r, over = self._observed(), float(self.np_random.normal()), self.t == self.T
        if self.what == "reward" and (self.count, self.t) == (self.episode, self.at):
            r, self.broken = self.bad, True
        return s, r, over and not self.truncate, over and self.truncate, {}


def spoilt_config(draw, name):
    """Small Configs for Spoilt, whose observations have no whole numbers; some have features."""
    options = dict(trace="accumulating")
    config = draw(configs(name, **options if name == "td-lambda" else {}))
    if name.startswith("actor-critic"):
        words = ranges(type(config))["features"][1]
        config = replace(config, features=draw(st.sampled_from(words)), order=1)
    return config


@pytest.mark.parametrize("name", PLAYING)
@given(
    st.data(),
    st.sampled_from(("reward", "observation")),
    st.sampled_from((nan, inf, -inf)),
    st.integers(1, 3),
    st.integers(0, 4),
    st.booleans(),
    SEEDS,
)
def test_train__stops_at_what_is_not_finite(name, data, what, bad, episode, t, truncate, seed):
    """One message for all methods names environment, episode, step and quantity. The State that is
    left has none of it."""
    assume(what == "observation" or t > 0)
    config = spoilt_config(data.draw, name)
    d = 2 if name == "ddpg" else 0
    env = Spoilt(what, bad, episode, t, d=d, truncate=truncate)
    state = load_method(name, METHODS).init(env, config, seed)
    seen = rf"(Spoilt|\w+: environment \d+)[:,] episode {episode}, step {t}: {what} = .*"
    with pytest.raises(FloatingPointError, match=f"(?s)^{seen}(nan|inf).*: must be finite$"):
        for _ in islice(train(name, env, config, state), 200):
            assert_finite(state)
    assert_finite(state)


class Strict(gymnasium.Env):
    """Large rewards, and asserts that actions are those of its space, and finite."""

    def __init__(self, reward, T=5, d=0):
        self.reward, self.T, self.actions = reward, T, 0
        self.observation_space, self.action_space = Box(-9.0, 9.0, (2,)), some_actions(d)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1.0, 1.0, 2), {}

    def step(self, action):
        assert self.action_space.contains(action) and np.isfinite(action).all()
        self.t, self.actions = self.t + 1, self.actions + 1
        s, r = self.np_random.uniform(-1.0, 1.0, 2), self.reward * self.np_random.normal()
        return s, float(r), False, self.t == self.T, {}


DISCRETE = "td-lambda", "async-q", "async-sarsa", "async-n-step-q"
STEP_SIZES = [
    (name, field)
    for name in ALL
    for field in ("step_size", "step_size_w", "step_size_R")
    if field in ranges(load_method(name, METHODS).Config)
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "field"), STEP_SIZES)
@given(
    st.data(),
    st.sampled_from((1e3, 1e30, 1e150, 1e200, 1e308)),
    st.sampled_from((1e-3, 1.0, 1e20)),
    st.booleans(),
    SEEDS,
)
def test_train__stops_when_it_diverges(name, field, data, size, reward, continuous, seed):
    """Whatever the step size: all parameters that are yielded are finite, and so is every action;
    what ends the run says what has diverged."""
    config = data.draw(configs(name, trace="accumulating", annealed=False))
    config = replace(config, **{field: size})
    d = 2 if name == "ddpg" or (continuous and name not in DISCRETE) else 0
    env = world_of(name) if name == "theorem" else Strict(reward, d=d)
    state = load_method(name, METHODS).init(env, config, seed)
    try:
        for _ in islice(train(name, env, config, state), 40):
            for parameters in state.parameters:
                assert np.isfinite(getattr(state, parameters)).all()
    except FloatingPointError as error:
        assert re.search(r"\b(theta|w|R_bar) has diverged", str(error))


DIVERGING = {
    "reinforce": dict(step_size=0.0, step_size_w=1e308),
    "td-lambda": dict(step_size=1e308, gamma=1.0),
    "actor-critic": dict(step_size=0.0, step_size_w=1e308),
    "actor-critic-traces": dict(step_size=0.0, step_size_w=1e308),
    "actor-critic-continuing": dict(step_size=0.0, step_size_w=1e308),
    "a3c": dict(step_size=1e308),
    "async-q": dict(step_size=1e308),
    "async-sarsa": dict(step_size=1e308),
    "async-n-step-q": dict(step_size=1e308),
    "a2c": dict(step_size=1e308),
    "ddpg": dict(step_size=0.0, step_size_w=1e308),
}


SOLVED = ("natural-actor-critic",)  # for v̂: it cannot overshoot


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [name for name in PLAYING if name not in SOLVED])
@given(seed=SEEDS)
def test_train__says_that_it_has_diverged(name, seed):
    """A v̂ or Q that overshoots by more every time must overflow."""
    config = small(name, optimizer="sgd", network=LINEAR, **DIVERGING[name])
    env = Strict(1.0, d=2 if name == "ddpg" else 0)
    state = load_method(name, METHODS).init(env, config, seed)
    with pytest.raises(FloatingPointError, match=r"\b(theta|w) has diverged"):
        for _ in islice(train(name, env, config, state), 200):
            assert_finite(state)


SQUARED = [(name, k) for name, k in EDITS if name not in ("theorem", "td-lambda")]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "gradient"), SQUARED)
@given(data=st.data(), sign=st.sampled_from((-1.0, 1.0)), seed=SEEDS)
def test_train__yields_no_statistics_that_overflow(name, gradient, data, sign, seed):
    """The square of a finite gradient may be infinite; such statistics would hold θ still for ever,
    without a word."""
    config = data.draw(configs(name, optimizer="rmsprop", beta=0.0, l2=0.0))
    env, function = world_of(name), getattr(page_of(name), gradient)
    state = load_method(name, METHODS).init(env, config, seed)
    huge = sign * 2.0 ** (90 if getattr(config, "precision", "double") == "single" else 700)
    scaled = lambda x: tuple(map(scaled, x)) if isinstance(x, (tuple, list)) else huge * x
    options = {gradient: lambda *args: scaled(function(*args))}
    try:
        for _ in islice(train(name, env, config, state, **options), 8):
            assert_finite(state)
    except FloatingPointError as error:
        assert re.search(r"\b(theta|w) has diverged", str(error))


# 7. single precision goes the same way

PRECISE = [name for name in ALL if "precision" in ranges(load_method(name, METHODS).Config)]
DOUBLE = {"seen", "returned", "trace", "N", "final_epsilon"}  # of the data, noise, ε: not θ's


@pytest.mark.parametrize("name", PRECISE)
@given(st.data(), SEEDS)
def test_precision__single_goes_the_same_way(name, data, seed):
    """Two yields: rounding errors of 2⁻²⁴, grown by a few hundred operations at most. Adam and
    RMSProp turn them into steps, of the step size's order at most."""
    rate = 1e-4
    config = data.draw(configs(name))
    steps = {f: rate for f in ("step_size", "step_size_w") if f in ranges(type(config))}
    runs = {}
    for precision, dtype in PRECISIONS.items():
        runs[precision] = learn(
            name, world_of(name), replace(config, precision=precision, **steps), seed, 2
        )
        for array, x in arrays_of(runs[precision]).items():
            assert x.dtype == (np.float64 if array in DOUBLE else dtype), array
    updates = 2 * (BLOCK + 9)
    for parameters in ("theta", "w"):
        if hasattr(runs["single"], parameters):
            one, two = (getattr(run, parameters) for run in runs.values())
            assert np.abs(one - two).max() <= updates * rate + 2e-6 * (1.0 + np.abs(one).max())


# 8. on worlds that never end, `train` still yields


class Patient(Endless):
    """Which waits for so many steps between two yields, and no longer."""

    def step(self, action):
        self.left -= 1
        assert self.left >= 0, "no yield"
        return super().step(action)


@pytest.mark.parametrize("name", PLAYING)
@given(st.data(), SEEDS)
def test_train__yields_within_an_episode(name, data, seed):
    """Every yield comes after so many steps at most, and no episode is said to have ended."""
    trace = dict(trace="accumulating") if name == "td-lambda" else {}
    small = dict(step_size=1e-6, step_size_w=1e-6)  # what learns for ever may diverge
    config = data.draw(configs(name, workers=1, environments=1, **small, **trace))
    most = [
        getattr(config, n) for n in ("n_steps", "t_max", "I_async_update") if hasattr(config, n)
    ]
    most = max(most, default=BLOCK)
    env = Patient(d=2 if name == "ddpg" else 0)
    env.left, before, reports = most, 0, 0
    state = load_method(name, METHODS).init(env, config, seed)
    for metrics in islice(train(name, env, config, state), 6):
        assert 0 < metrics.steps - before <= most
        env.left, before, reports = most, metrics.steps, reports + len(metrics.returns)
    assert reports == (before // config.report_every if hasattr(config, "report_every") else 0)


# 9. an environment is seeded once; it is the one that was handed over


class Watched(Recorder):
    """Remembers in `all` what was made, and which of them were closed."""

    def __init__(self, env, all):
        super().__init__(env)
        self.closed = False
        all.append(self)

    def close(self):
        super().close()
        self.closed = True


def assert_seeded_once(seeds):
    first, *rest = seeds
    assert type(first) is int and rest and not any(s is not None for s in rest)


@pytest.mark.parametrize("name", PLAYING)
@given(seed=SEEDS)
def test_train__seeds_each_environment_once(name, seed):
    """Right after it is made, and never again (Gymnasium's rule); each with a seed of its own."""
    made = []
    make = lambda: Watched(world_of(name, T=2), made)
    config = small(name, workers=3, environments=3)
    learn(name, make, config, seed, 20)
    reset = [env for env in made if env.seeds]
    assert len(reset) == (3 if name in TOGETHER else 1)
    for env in reset:
        assert_seeded_once(env.seeds)
    assert len({env.seeds[0] for env in reset}) == len(reset)


@pytest.mark.parametrize("name", ALL)
@given(seed=SEEDS)
def test_train__plays_in_the_environment_handed_over(name, seed):
    """One worker, or N = 1, copies nothing, so that what was set on the object counts; and does not
    close it. A function that makes one gives the same run."""
    config = small(name, workers=1, environments=1)
    method, made = load_method(name, METHODS), []
    how = {} if name == "theorem" else dict(T=2)
    env = Watched(world_of(name, **how), [])
    state = method.init(env, config, seed)
    training = train(name, env, config, state)
    metrics = list(islice(training, 9))
    training.close()
    if name != "theorem":
        assert len(env.log) >= metrics[-1].steps > 0
        assert_seeded_once(env.seeds)
    assert not env.closed
    other = learn(name, lambda: Watched(world_of(name, **how), made), config, seed, 9)
    assert bits(other) == bits(state)


@pytest.mark.parametrize("name", ALL)
def test_train__closes_what_it_makes(name):
    """Of a function that makes environments: every one, at the latest when training is closed."""
    config, made = small(name, workers=2, environments=2), []
    make = lambda: Watched(world_of(name), made)
    method = load_method(name, METHODS)
    state = method.init(make, config, 0)
    assert all(env.closed for env in made)
    training = method.train(make, config, state)
    next(training)
    training.close()
    assert made and all(env.closed for env in made)


# 10. a page tells what it ascends, in view


PAGES = sorted({METHODS[name].module for name in ALL})


@pytest.mark.parametrize("module", PAGES)
def test_page__says_what_it_ascends(module):
    page = importlib.import_module(module)
    assert re.search(r"\b(a|de)scen[dt]", page.__doc__)
    for k, f in vars(page).items():
        if k in OBJECTIVES or (k.endswith("gradient") and getattr(f, "__module__", "") == module):
            assert f.__doc__, k


@pytest.mark.parametrize("module", PAGES)
def test_page__is_a_page(module):
    assert inspect.getsource(importlib.import_module(module)).count("\n") <= LIMIT
