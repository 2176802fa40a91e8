"""From spaces to policies: what is observed, what is done, and models and heads of one's own."""

import copy
import functools
from dataclasses import replace
from itertools import islice
from math import prod

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from worlds import CHANCE, LINEAR, SEEDS, Scripted, Wander

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, natural_actor_critic, reinforce
from algorithms.common.policy import (
    Network,
    Policy,
    make_actor_critic,
    make_policy,
    make_value,
)
from algorithms.common.world import Spaces, decoder, encoder, one_hot, spaces
from npgrad import Head, Layout, Product, Softmax, from_function, linear, mlp, softmax
from npgrad.distributions import METHODS

SHAPES = array_shapes(min_dims=0, max_dims=3, max_side=3)
PLANE = Box(-1.0, 1.0, (2,))
OTHERS = Dict(a=Discrete(2)), Tuple([Discrete(2)]), Text(3), MultiDiscrete([2, 2]), MultiBinary(2)


@st.composite
def action_spaces(draw):
    """Any space that has a policy."""
    shape, start = draw(SHAPES), draw(st.integers(-3, 3))
    kind = draw(st.sampled_from(("discrete", "several", "binary", "box", "whole")))
    if kind == "discrete":
        return Discrete(draw(st.integers(1, 4)), start=start)
    if kind == "several":
        shape = draw(array_shapes(max_dims=2, max_side=3))
        nvec = draw(arrays(np.int64, shape, elements=st.integers(1, 4)))
        return MultiDiscrete(nvec, start=np.full(shape, start))
    if kind == "binary":
        return MultiBinary(draw(st.integers(1, 4) | array_shapes(max_dims=2, max_side=3)))
    dtypes = (np.float32, np.float64) if kind == "box" else (np.int64, np.int8)
    dtype = draw(st.sampled_from(dtypes))
    low = np.array(draw(arrays(np.int64, shape, elements=st.integers(-3, 3))), dtype)
    return Box(low, (low + draw(st.integers(0, 3))).astype(dtype), dtype=dtype)


def drawn(space, network, rng, N):
    """N actions of a method, before they are decoded."""
    head = network.head(space)
    return head(3.0 * rng.normal(size=(N, head.size))).sample(head.noise(rng, N))


# observations


@given(st.integers(1, 5), st.integers(-3, 3), st.data())
def test_encoder__discrete_is_an_index_from_0(n, start, data):
    size, encode = encoder(Discrete(n, start=start))
    i = data.draw(st.integers(0, n - 1))
    s = encode(np.int64(start + i))
    assert size == n and s == i and s.dtype == np.intp and s.shape == ()
    assert np.array_equal(one_hot(s, n), np.eye(n)[i])


@given(SHAPES, st.sampled_from((np.float32, np.float64, np.int64, np.uint8)), SEEDS)
def test_encoder__a_box_is_its_numbers_in_new_memory(shape, dtype, seed):
    high = np.full(shape, 9, dtype)
    if dtype == np.uint8 and len(shape) == 3:
        return
    size, encode = encoder(Box(0 * high, high, dtype=dtype))
    observation = np.random.default_rng(seed).integers(9, size=shape).astype(dtype)
    kept = observation.copy()
    s = encode(observation)
    observation += 1
    assert size == prod(shape) and s.dtype == float and np.array_equal(s, kept.reshape(-1))


@given(arrays(int, array_shapes(min_dims=0, max_dims=2), elements=st.integers(0, 4)))
def test_one_hot__rows_of_the_identity(k):
    rows = one_hot(k, 5)
    assert rows.dtype == float and np.array_equal(rows, np.eye(5)[k])
    assert one_hot(rows, 5) is rows, "one-hot already"


@pytest.mark.parametrize("space", [Box(0, 255, (4, 4, 3), np.uint8), *OTHERS], ids=str)
def test_encoder__refuses_what_is_no_vector_and_names_the_wrapper(space):
    with pytest.raises(ValueError, match=r"^observation_space = .*no image .*FlattenObs"):
        encoder(space)


def test_flatten_observation__makes_an_image_a_policys():
    """The wrapper that the error names does what it says."""
    env = gymnasium.Env()
    env.observation_space, env.action_space = Box(0, 255, (2, 2, 3), np.uint8), Discrete(2)
    with pytest.raises(ValueError, match=r"gymnasium\.wrappers\.FlattenObservation"):
        make_policy(env, Network())
    flat = gymnasium.wrappers.FlattenObservation(env)
    assert make_policy(flat, Network()).model.sizes[0] == 12


# actions


@given(action_spaces(), st.booleans(), SEEDS)
def test_decoder__gives_actions_of_the_space(space, spherical, seed):
    """Of any space, alone; side by side they are the same, stacked."""
    network, decode, N = Network(spherical=spherical), decoder(space), 4
    A = drawn(space, network, np.random.default_rng(seed), N)
    together = decode(A)
    for a, action in zip(A, together):
        alone = decode(a)
        assert space.contains(alone) and np.array_equal(alone, action)
        assert isinstance(space, Discrete) or isinstance(alone, np.ndarray)


@given(action_spaces(), SEEDS)
def test_decoder__the_nearest_action_of_a_box_another_space_counted_from_its_start(space, seed):
    A = drawn(space, Network(), np.random.default_rng(seed), 4)
    if isinstance(space, Box):
        kept = A.copy()
        nearest = np.clip(A.reshape(4, *space.shape), space.low, space.high)
        nearest = np.rint(nearest) if space.dtype.kind == "i" else nearest.astype(space.dtype)
        assert np.array_equal(decoder(space)(A), nearest)
        assert np.array_equal(A, kept), "what is learned from is the action drawn"
    else:
        start = getattr(space, "start", 0)
        assert np.array_equal(decoder(space)(A) - start, A.reshape(4, *space.shape))


@pytest.mark.parametrize("space", OTHERS[:3], ids=str)
def test_policy__refuses_action_spaces_without_a_head(space):
    message = "^action_space = .*must be Discrete, MultiDiscrete, MultiBinary or Box"
    for make in (decoder, Network().head):
        with pytest.raises(ValueError, match=message):
            make(space)


@given(action_spaces(), st.booleans(), SEEDS)
def test_head__has_a_number_for_each_preference_mean_and_deviation(space, spherical, seed):
    head = Network(spherical=spherical).head(space)
    if isinstance(space, Box):
        d = prod(space.shape)
        assert head.size == d + (1 if spherical else d) and head.action == (d,)
    else:
        sizes = {
            Discrete: lambda: [space.n],
            MultiDiscrete: lambda: space.nvec.ravel(),
            MultiBinary: lambda: [2] * prod(space.shape),
        }[type(space)]()
        assert head.size == sum(sizes)
        assert head.action == (() if isinstance(space, Discrete) else (len(sizes),))


def test_head__of_several_choices_draws_each_from_its_own_preferences():
    """Frequencies of all 2·3·2 actions against the products π₁π₂π₃ (Hoeffding)."""
    h, n = np.array([0.0, 1.0, 0.5, -1.0, 0.0, 2.0, -2.0]), 4000
    space = MultiDiscrete([2, 3, 2], start=[5, -1, 0])
    policy = make_policy(Spaces(PLANE, space), Network(approximator="linear"))
    theta = np.concatenate([np.zeros(14), h])  # W = 0, b = h
    act, rng = policy.act, np.random.default_rng(0)
    actions = np.array([act(dict(theta=theta), np.zeros(2), rng) for _ in range(n)])
    found = np.zeros((2, 3, 2))
    np.add.at(found, tuple((actions - space.start).T), 1 / n)
    parts = [np.exp(x) / np.exp(x).sum() for x in np.split(h, [2, 5])]
    bound = np.sqrt(np.log(2 * found.size / CHANCE) / (2 * n))
    assert np.abs(found - np.einsum("i,j,k->ijk", *parts)).max() <= bound
    assert np.array_equal(act(dict(theta=theta), np.zeros(2), rng, greedy=True), [6, -1, 0])


# policies


@given(action_spaces(), st.booleans(), st.booleans(), SEEDS)
def test_act__is_a_draw_or_the_mode_of_the_policy_at_the_observation(space, discrete, value, seed):
    rng = np.random.default_rng(seed)
    found = Spaces(Discrete(3, start=1) if discrete else PLANE, space)
    network = Network(hidden=(3,))
    policy = make_actor_critic(found, network, "shared") if value else make_policy(found, network)
    theta, observation = rng.normal(size=policy.model.layout.size), found.observation.sample()
    pi = policy.at(theta, policy.encode(observation))
    noise = policy.head.noise(np.random.default_rng(seed), 1)[0]
    for greedy, a in ((False, pi.sample(noise)), (True, pi.mode())):
        action = policy.act(dict(theta=theta), observation, np.random.default_rng(seed), greedy)
        assert space.contains(action) and np.array_equal(action, policy.decode(a))


def test_make_policy__has_one_output_per_preference():
    env = Scripted()
    assert make_policy(env, Network(hidden=(5, 3))).model.sizes == (2, 5, 3, 3)
    value = make_value(env, Network(hidden=(5, 3), activation="relu"))
    assert value.sizes == (2, 5, 3, 1) and value.activation == "relu"
    env.observation_space = Discrete(3)
    policy = make_policy(env, LINEAR)
    assert policy.model.layout.size == 9, "no bias beside a one-hot"
    assert isinstance(policy, Policy) and isinstance(policy.head(np.zeros(3)), Softmax)


@pytest.mark.parametrize("approximator", ["mlp", "linear"])
@pytest.mark.parametrize("actions", [Discrete(3), PLANE, MultiBinary(2)], ids=str)
@pytest.mark.parametrize("observations", [Discrete(4), PLANE], ids=str)
def test_make_actor_critic__is_the_policy_and_the_value_in_one_model(
    approximator, actions, observations
):
    """One output more than the head's; separate networks are those of make_policy, make_value."""
    found, network = Spaces(observations, actions), Network(approximator, hidden=(5, 3))
    policy, value = make_policy(found, network), make_value(found, network)
    s, rng = policy.encode(observations.sample()), np.random.default_rng(0)
    shared, separate = (make_actor_critic(found, network, k) for k in ("shared", "separate"))
    assert shared.model.sizes == (*policy.model.sizes[:-1], policy.head.size + 1)
    assert shared.model.layout.size == policy.model.layout.size + sum(
        prod(shape) // policy.head.size for shape in last_layer(policy.model)
    )
    theta, n = rng.normal(size=separate.model.layout.size), policy.model.layout.size
    expected = [*policy.model(theta[:n], s), *value(theta[n:], s)]
    assert np.array_equal(separate.model(theta, s), expected)
    for both in (shared, separate):
        theta = both.model.init(rng)
        assert theta.shape == (both.model.layout.size,)
        y = both.model(theta, s)
        assert y.shape == (policy.head.size + 1,)
        assert np.array_equal(both.at(theta, s).mode(), both.head(y[:-1]).mode())


def last_layer(model):
    """Shapes of W and b of the output layer."""
    *_, (W, b, *_) = model.layers(np.zeros(model.layout.size))
    return [x.shape for x in (W, b) if x is not None]


@given(st.integers(1, 3))
def test_spaces__of_one_environment_of_many_or_of_what_makes_them(N):
    class Closed(Scripted):
        open = 0

        def __init__(self):
            super().__init__(n=3)
            Closed.open += 1

        def close(self):
            Closed.open -= 1

    env = Closed()
    expected = Spaces(env.observation_space, env.action_space)
    envs = gymnasium.vector.SyncVectorEnv([Scripted] * N)
    assert spaces(env) == spaces(expected) == spaces(Closed) == expected
    assert spaces(envs) == spaces(Scripted()) and Closed.open == 1


def reshaped(space, shape):
    """The space of the same numbers in another shape."""
    if isinstance(space, Box):
        low, high = space.low.reshape(shape), space.high.reshape(shape)
        return Box(low, high, dtype=space.dtype)
    if isinstance(space, MultiDiscrete):
        return MultiDiscrete(space.nvec.reshape(shape), start=space.start.reshape(shape))
    return MultiBinary(shape)


class Shaped(gymnasium.Wrapper):
    """An environment with observations, and actions if these have a shape, of other shapes."""

    def __init__(self, env, seen, done):
        super().__init__(env)
        self.observation_space = reshaped(env.observation_space, seen)
        if env.action_space.shape:
            self.action_space = reshaped(env.action_space, done)

    def reset(self, **how):
        s, info = self.env.reset(**how)
        return s.reshape(self.observation_space.shape), info

    def step(self, action):
        assert self.action_space.contains(action)
        action = np.reshape(action, self.env.action_space.shape)
        s, *rest = self.env.step(action if action.shape else int(action))
        return s.reshape(self.observation_space.shape), *rest


TINY = Network(hidden=(3,))
PAGES = {
    "reinforce": (reinforce, reinforce.Config()),
    "reinforce-moving": (reinforce, reinforce.Config(form="moving")),
    "natural_actor_critic": (natural_actor_critic, natural_actor_critic.Config()),
    "actor_critic": (actor_critic, actor_critic.Traces()),
    "a3c": (a3c, a3c.Config(workers=2)),
    "a3c-shared": (a3c, a3c.Config(workers=2, trunk="shared")),
    "a2c": (a2c, a2c.Config(environments=2, precision="double")),
    "a2c-shared": (a2c, a2c.Config(environments=2, precision="double", trunk="shared")),
    "sarsa": (async_q, async_q.OneStepSarsa(workers=2)),
    "n_step_q": (async_q, async_q.NStepQ(workers=2)),
}
LOW = np.linspace(-2.0, 0.0, 6)
SIX = dict(
    discrete=Discrete(3),
    box=Box(LOW, LOW + 1.5, dtype=float),
    whole=Box(np.arange(-3, 3), np.arange(-3, 3) + 2, dtype=np.int64),
    several=MultiDiscrete([1, 2, 3, 2, 3, 1], start=[-1, 0, 1, 2, 3, 4]),
    binary=MultiBinary(6),
)
VALUES = "sarsa", "n_step_q"  # of each of finitely many actions
SHAPED = [(page, "discrete") for page in VALUES] + [("ddpg", "box")]
SHAPED += [(page, kind) for page in PAGES for kind in list(SIX)[1:] if page not in VALUES]


@pytest.mark.parametrize(("page", "kind"), SHAPED)
@given(seed=SEEDS)
@settings(max_examples=3)
def test_train__spaces_of_any_shape_are_flat_ones(page, kind, seed):
    """Bit for bit: in what is learned, and in what is done with it."""
    if page == "ddpg":
        nets, page = ddpg.Networks(hidden=(3, 2)), ddpg
        config = ddpg.Config(networks=nets, batch=3, warmup=3, replay=50)
    else:
        page, config = PAGES[page]
        config = replace(config, network=TINY)

    def flat():
        env = Wander(6, n=4)
        env.action_space = SIX[kind]
        return env

    expected = None
    for env in (flat(), Shaped(flat(), (2, 2), (2, 3)), Shaped(flat(), (4, 1), (6, 1, 1))):
        state = page.init(env, config, seed)
        list(islice(page.train(env, config, state), 8))
        parameters = {name: getattr(state, name) for name in state.parameters}
        s = np.array([0.3, -0.8, 0.5, 2.0]).reshape(env.observation_space.shape)
        a = page.actor(env, config)(parameters, s, np.random.default_rng(seed))
        assert env.action_space.contains(a)
        found = [np.ravel(a), *parameters.values()]
        expected = expected or found
        assert all(np.array_equal(x, y) for x, y in zip(found, expected))


# models and heads of one's own


class Sine:
    """A model of one's own, with what a model must have and no more."""

    def __init__(self, n, m):
        self.layout = Layout(W=(n, m), b=(m,))

    def init(self, rng):
        return 0.3 * rng.normal(size=self.layout.size)

    def __call__(self, theta, x):
        W, b = self.layout.views(theta)
        return np.sin(x) @ W + b


class Mine(Network):
    def model(self, n, m, one_hot=False):
        return Sine(n, m)


class Function(Network):
    def model(self, n, m, one_hot=False):
        sine = Sine(n, m)
        return from_function(sine.__call__, sine.layout, sine.init)


class Affine(Network):
    """The same of a world that shows sin(x)."""

    def model(self, n, m, one_hot=False):
        return linear(n, m)


class Shows(gymnasium.ObservationWrapper):
    """CartPole, or its first angle's sign; in sines, if asked to."""

    def __init__(self, discrete, sines):
        env = gymnasium.make("CartPole-v1").unwrapped
        env.spec = None  # so that its copies are as it is
        super().__init__(env)
        self.discrete, self.sines = discrete, sines
        n = 2 if discrete else 4
        self.observation_space = (
            Discrete(2, start=1) if discrete and not sines else Box(-np.inf, np.inf, (n,), float)
        )

    def observation(self, observation):
        x = np.asarray(observation, float)
        if self.discrete:
            k = int(x[2] > 0)
            return np.sin(np.eye(2)[k]) if self.sines else 1 + k
        return np.sin(x) if self.sines else x


def learned(page, config, env):
    """Parameters after some yields, from the same start for the same number of them."""
    state = page.init(env, config, 0)
    for name in {"theta", "w", "theta_target"} & vars(state).keys():
        x = getattr(state, name)
        x[:] = 0.3 * np.random.default_rng(1).normal(size=x.size)
    list(islice(page.train(env, config, state), 8))
    return {name: getattr(state, name) for name in state.parameters}


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize(("page", "config"), PAGES.values(), ids=PAGES)
def test_network__any_numpy_function_is_a_policy_in_every_method(page, config, discrete):
    """Linear in sin(x), by the tape, is the linear model of an environment that shows sin(x);
    a discrete observation comes as a one-hot vector x."""
    expected = learned(page, replace(config, network=Affine()), Shows(discrete, True))
    for network in (Mine(), Function()):
        found = learned(page, replace(config, network=network), Shows(discrete, False))
        for name, x in expected.items():
            np.testing.assert_allclose(found[name], x, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_network__npgrads_models_are_models_of_ones_own(discrete, trunk):
    """An mlp that was not told of one-hot vectors is what Network makes itself."""

    class Plain(Network):
        def model(self, n, m, one_hot=False):
            return mlp((n, *self.hidden, m))

    env = lambda: Shows(discrete, False)
    config = a2c.Config(environments=2, precision="double", trunk=trunk, network=Plain())
    one, two = (
        learned(a2c, replace(config, network=network), env())
        for network in (Plain(hidden=(3,)), Network(hidden=(3,)))
    )
    np.testing.assert_allclose(one["theta"], two["theta"], rtol=1e-7, atol=1e-9)


def without(name):
    """A Sine that lacks `name`."""
    body = {k: x for k, x in vars(Sine).items() if k not in (name, "__dict__", "__weakref__")}
    made = type("Lacking", (), body)
    if name == "layout":
        made.__init__ = lambda self, n, m: None
    return made


WIDE = dict(
    sine=lambda n, m: Sine(n, m + 1),
    mlp=lambda n, m: mlp((n, 4, m + 1)),
    narrow=lambda n, m: mlp((n + 1, m)),
    one=lambda n, m: from_function(lambda theta, x: np.sum(x, -1), n),
    flat=lambda n, m: from_function(lambda theta, x: np.zeros(m), n),
)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("make", WIDE.values(), ids=WIDE)
def test_network__of_another_shape_is_refused(make, discrete):
    class Wrong(Network):
        def model(self, n, m, one_hot=False):
            return make(n, m)

    found = Spaces(Discrete(3) if discrete else Box(-1.0, 1.0, (3,)), Discrete(2))
    makers = (
        lambda: make_policy(found, Wrong()),
        lambda: make_value(found, Wrong()),
        lambda: make_actor_critic(found, Wrong(), "shared"),
        lambda: make_actor_critic(found, Wrong(), "separate"),
    )
    for m, made in zip((2, 1, 3, 2), makers):
        with pytest.raises(ValueError, match=rf"^network.model gave .*{m},?\)") as caught:
            made()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["layout", "init", "__call__"])
def test_network__names_what_a_model_lacks(name):
    class Wrong(Network):
        def model(self, n, m, one_hot=False):
            return without(name)(n, m)

    with pytest.raises(ValueError, match=rf"^network.model gave .*: must have {name}") as caught:
        make_policy(Scripted(), Wrong())
    assert "\n" not in str(caught.value)


class Twice:
    """A distribution of one's own: the softmax of 2 h, with its chain rule."""

    def __init__(self, h):
        self.pi = Softmax(2.0 * h)

    def score(self, a):
        return 2.0 * self.pi.score(a)

    def entropy_gradient(self):
        return 2.0 * self.pi.entropy_gradient()

    def sample(self, noise):
        return self.pi.sample(noise)

    def log_prob(self, a):
        return self.pi.log_prob(a)

    def entropy(self):
        return self.pi.entropy()

    def mode(self):
        return self.pi.mode()


@given(SEEDS)
def test_head__any_distribution_is_a_policys(seed):
    """Softmax of 2 h of a linear model learns at θ what Softmax(h) learns at 2 θ, by sgd with a
    quarter of the step size."""

    class Own(Network):
        def head(self, space):
            plain = softmax(space.n)
            return Head(Twice, plain.size, plain.noise)

    config = reinforce.Config(optimizer="sgd", step_size=0.1, step_size_w=0.1, network=LINEAR)
    start, runs = np.random.default_rng(seed).normal(size=9), []
    for network, scale in ((Own(approximator="linear"), 1.0), (LINEAR, 2.0)):
        own = replace(config, network=network, step_size=0.1 * scale**2)
        env = Scripted()
        state = reinforce.init(env, own, seed)
        state.theta[:] = scale * start
        list(islice(reinforce.train(env, own, state), 4))
        runs.append(state.theta / scale)
    np.testing.assert_allclose(*runs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_head__names_what_a_distribution_lacks(name):
    body = {k: x for k, x in vars(Product).items() if k != name}
    lacking = type("Lacking", (), body)

    class Wrong(Network):
        def head(self, space):
            return Head(lacking, 3, lambda rng, k: rng.random((k, 3)))

    with pytest.raises(TypeError, match=f"^distribution Lacking: must have a method {name}$"):
        make_policy(Scripted(), Wrong())


@pytest.mark.parametrize("given", [Softmax, None, copy.copy])
def test_head__is_an_npgrad_head(given):
    class Wrong(Network):
        def head(self, space):
            return given

    makers = (
        lambda: make_policy(Scripted(), Wrong()),
        lambda: make_actor_critic(Scripted(), Wrong(), "shared"),
        lambda: make_actor_critic(Scripted(), Wrong(), "separate"),
    )
    for made in makers:
        with pytest.raises(TypeError, match=r"^head = .*: must be an npgrad\.Head$"):
            made()


def test_compiled__is_the_pages_own_gradient_for_npgrads_own_gaussian():
    """Whatever else may change between two calls runs as it is."""
    env_spaces = Spaces(Box(-1, 1, (2,)), Box(-1, 1, (1,)))

    class Tempered(Head):
        T = 1.0

        def __call__(self, h):
            return super().__call__(h / self.T)

    class Own(Network):
        def head(self, space):
            g = super().head(space)
            return Tempered(g.distribution, g.size, g.noise, g.action)

    @functools.wraps(actor_critic.gradient)
    def logged(*args):
        return actor_critic.gradient(*args)

    policy = make_policy(env_spaces, Network())
    assert policy.compiled(actor_critic.gradient) is not actor_critic.gradient
    assert policy.compiled(logged) is logged
    policy = make_policy(env_spaces, Own())
    assert policy.compiled(actor_critic.gradient) is actor_critic.gradient
