"""Fourier and polynomial features and tiles against their definitions; the laws of tilings."""

import re
from itertools import islice, product

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st
from worlds import LINEAR, Scripted

from algorithms import actor_critic, td_lambda
from algorithms.common.features import BASES, Features
from algorithms.common.world import Position, World


class Bounded(Scripted):
    def __init__(self, low, high):
        super().__init__(n=len(low))
        self.observation_space = Box(np.array(low, np.float32), np.array(high, np.float32))


@given(st.sampled_from(("fourier", "polynomial")), st.integers(1, 3), st.integers(1, 3), st.data())
def test_features__are_the_basis(basis, d, order, data):
    low = np.array(data.draw(st.lists(st.integers(-4, 0), min_size=d, max_size=d)))
    high = low + data.draw(st.integers(1, 4))
    s = np.array(data.draw(st.lists(st.floats(0, 1), min_size=d, max_size=d)))
    env = Features(Bounded(low, high), basis, order)
    x = env.observation(low + s * (high - low))
    if basis == "fourier":
        expected = [np.cos(np.pi * sum(c * s)) for c in product(range(order + 1), repeat=d)]
    else:
        expected = [np.prod((2 * s - 1) ** c) for c in product(range(order + 1), repeat=d)]
    assert env.observation_space.shape == x.shape == ((order + 1) ** d,)
    np.testing.assert_allclose(x, expected, atol=1e-6)


@st.composite
def tilings(draw):
    """(tiles, N, n, d), tiles(s) the active ones of a point s of [0, 1]^d, in order. With n a power
    of two, every multiple of the least distance between edges, 1/(N n), is exact."""
    d, n = draw(st.sampled_from(((1, 1), (1, 8), (2, 4), (2, 8), (3, 1), (3, 4), (5, 2))))
    env = Features(Bounded([0.0] * d, [1.0] * d), "tiles", n)
    return lambda s: np.flatnonzero(env.observation(s)), {1: 4, 2: 8, 3: 16, 5: 32}[d], n, d


def points(size, d):
    return st.lists(st.integers(0, size), min_size=d, max_size=d).map(np.array)


@given(tilings(), st.data())
def test_tiles__are_the_tilings(tiling, data):
    """Cell by cell, in whole numbers, wherever between the edges; and at the edges, which belong to
    the tile that they begin."""
    tiles, N, n, d = tiling
    s, between = data.draw(points(N * n, d)), data.draw(st.floats(0, 0.9))
    expected = [
        np.ravel_multi_index(
            [(m + k * (2 * j + 1) % N) // N for j, m in enumerate(s)], (n + 1,) * d
        )
        + k * (n + 1) ** d
        for k in range(N)
    ]
    inside = np.where(s < N * n, s + between, s)
    np.testing.assert_array_equal(tiles(inside / (N * n)), expected)


@given(tilings(), st.data())
def test_tiles__one_of_each_tiling_is_active(tiling, data):
    tiles, N, n, d = tiling
    s = data.draw(st.lists(st.floats(0, 1), min_size=d, max_size=d))
    np.testing.assert_array_equal(tiles(np.array(s)) // (n + 1) ** d, np.arange(N))


@given(tilings(), st.data())
def test_tiles__neighbours_share_all_but_one_tile_per_dimension(tiling, data):
    """Nearer than 1/(N n) in each: at most one edge is crossed in each."""
    tiles, N, n, d = tiling
    elements = st.lists(st.floats(0, 1), min_size=d, max_size=d)
    s, apart = np.array(data.draw(elements)), 0.99 * (2 * np.array(data.draw(elements)) - 1)
    near = np.clip(s + apart / (N * n), 0, 1)
    assert (tiles(s) != tiles(near)).sum() <= d


@given(tilings(), st.data())
def test_tiles__as_many_change_as_steps_are_taken(tiling, data):
    """m steps of 1/(N n) along one dimension: min(m, N) other tiles, whichever the dimension."""
    tiles, N, n, d = tiling
    s, j = data.draw(points(N * n, d)), data.draw(st.integers(0, d - 1))
    s2 = s.copy()
    s2[j] = data.draw(st.integers(0, N * n))
    changed = (tiles(s / (N * n)) != tiles(s2 / (N * n))).sum()
    assert changed == min(abs(s2[j] - s[j]), N)


@given(tilings(), st.data())
def test_tiles__lie_apart_by_the_displacement_vector(tiling, data):
    """Two points share a tile of tiling k + 1 as they, moved by (1, 3, 5, ...)/(N n), do of k."""
    tiles, N, n, d = tiling
    odd = 2 * np.arange(d) + 1
    inside = st.tuples(*(st.integers(0, N * n - i) for i in odd)).map(np.array)
    s, s2 = data.draw(inside), data.draw(inside)
    shared = tiles(s / (N * n)) == tiles(s2 / (N * n))
    moved = tiles((s + odd) / (N * n)) == tiles((s2 + odd) / (N * n))
    np.testing.assert_array_equal(shared[1:], moved[:-1])


@given(st.sampled_from(BASES), st.data())
def test_features__beyond_the_bounds_are_those_at_the_bounds(basis, data):
    low, high = np.array([-1.0, 2.0]), np.array([3.0, 2.5])
    o = np.array(data.draw(st.lists(st.floats(-10, 10), min_size=2, max_size=2)))
    env = Features(Bounded(low, high), basis, 3)
    x = env.observation(o)
    np.testing.assert_array_equal(x, env.observation(np.clip(o, low, high)))
    assert env.observation_space.contains(x)


@given(st.sampled_from(BASES), st.floats(-(2.0**99), 2.0**99, width=32), st.data())
def test_features__of_a_constant_dimension_are_those_of_its_lower_bound(basis, constant, data):
    """low = high: that dimension has s = 0, whatever is observed of it."""
    j, o = data.draw(st.integers(0, 1)), np.array(data.draw(st.tuples(*[st.floats(-9, 9)] * 2)))
    low, high = np.array([[-1.0, 2.0], [3.0, 2.5]])
    at_low = np.where(np.arange(2) == j, low, o)
    expected = Features(Bounded(low, high), basis, 3).observation(at_low)
    low[j] = high[j] = constant
    x = Features(Bounded(low, high), basis, 3).observation(o)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features__of_what_is_not_finite_stop_a_world(basis, bad):
    """They are NaN, also where clipping would have made a bound of it."""
    env = Features(Bounded([0.0] * 2, [1.0] * 2), basis, 2)
    assert np.isnan(env.observation(np.array([0.5, bad]))).all()
    world = World(env, Position(0))
    env.unwrapped.S[1] = 0.5, bad
    with pytest.raises(FloatingPointError, match=r"^Bounded: episode 1, step 1: observation = "):
        world.step(0)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2)])
def test_features__refuse_observations_of_another_shape(shape):
    env = Features(Bounded([0.0] * 2, [1.0] * 2), "fourier", 2)
    with pytest.raises(ValueError, match=rf"^Bounded: .* {re.escape(str(shape))}: must be \(2,\)"):
        env.observation(np.zeros(shape))


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features__refuse_what_has_no_bounds(basis, dtype):
    """Infinite ones, and the largest numbers, which stand for none; also on one side alone."""
    for largest in (np.inf, np.finfo(dtype).max, np.finfo(np.float32).max):
        for low, high in ((-largest, largest), (0.0, largest), (-largest, 0.0)):
            env = Scripted()
            env.observation_space = Box(np.array([0, low], dtype), np.array([1, high], dtype),
                                        dtype=dtype)  # fmt: skip
            with pytest.raises(ValueError, match=f"observation_space = Box.*for {basis} features"):
                Features(env, basis, 2)


@pytest.mark.parametrize("space", [Discrete(3), Box(0.0, 1.0, (2, 2))])
def test_features__refuse_what_is_no_flat_box(space):
    env = Scripted()
    env.observation_space = space
    with pytest.raises(ValueError, match=r"observation_space = .*must be a flat Box"):
        Features(env, "tiles", 2)


def test_features__refuse_more_than_ten_thousand():
    with pytest.raises(ValueError, match="order = 99: must be less, it gives 1000000 features"):
        Features(Bounded([0.0] * 3, [1.0] * 3), "polynomial", 99)
    with pytest.raises(ValueError, match="order = 9: must be less, it gives 16000 features"):
        Features(Bounded([0.0] * 3, [1.0] * 3), "tiles", 9)


@pytest.mark.parametrize(("basis", "n"), [("fourier", 27), ("polynomial", 27), ("tiles", 432)])
def test_actor_critic__sees_features_in_training_and_in_acting(basis, n):
    env = gymnasium.make("Pendulum-v1")
    config = actor_critic.Traces(features=basis, order=2, network=LINEAR)
    state = actor_critic.init(env, config, 0)
    assert state.w.size == n + 1
    next(actor_critic.train(env, config, state))
    act = actor_critic.actor(env, config)
    observation, _ = env.reset(seed=0)
    action = act({"theta": state.theta}, observation, np.random.default_rng(0), greedy=True)
    x = Features(env, basis, 2).observation(observation)
    mean = np.append(x, 1.0) @ state.theta.reshape(n + 1, 2)[:, 0]
    assert action == pytest.approx(np.clip(mean, -2, 2), rel=1e-5)


def test_td_lambda__replaces_traces_of_tiles_and_of_no_other_basis():
    config = td_lambda.Config(trace="replacing", step_size=0.01, gamma=0.9)
    world = gymnasium.make("MountainCar-v0", max_episode_steps=50)
    for basis in BASES:
        env = Features(world, basis, 2)
        state = td_lambda.init(env, config, 0)
        if basis == "tiles":
            next(td_lambda.train(env, config, state))
            assert set(state.z[state.z > 0.73]) == {1.0}  # or else at most γλ = 0.72
            assert (state.z == 1.0).sum() == 8 + 1  # the tiles and the bias
        else:
            with pytest.raises(ValueError, match="must be 0 or 1 for replacing traces"):
                list(islice(td_lambda.train(env, config, state), 1))
