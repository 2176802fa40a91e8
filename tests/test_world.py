"""The boundary to the world: one contract, for one environment and for N in all autoreset modes."""

import copy
import os
import re
import tracemalloc
from itertools import islice
from math import inf, nan

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps
from worlds import LINEAR, SEEDS, Constant, Recorder, Scripted, Wander

from algorithms import a2c
from algorithms.common.copies import makers
from algorithms.common.events import WorkerError
from algorithms.common.world import MOST_ACTIONS, Position, World, decoder, encoder, entered, opened
from algorithms.common.worlds import Worlds, check_vector, close, vectorized
from algorithms.ddpg import Networks
from algorithms.exact.mdp import FiniteMDPEnv
from algorithms.runner.lookup import METHODS, load_method

MODES = st.sampled_from(AutoresetMode)
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


class Any(gymnasium.Env):
    """Observations and rewards of any spaces, drawn; every step may terminate or truncate. An
    action that is not in the space is an error."""

    def __init__(self, observations, actions, ends=0.3):
        self.observation_space, self.action_space, self.ends = observations, actions, ends

    def _observed(self):
        space = self.observation_space
        if isinstance(space, Discrete):
            return space.start + self.np_random.integers(space.n)
        return self.np_random.normal(size=space.shape).astype(space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observed(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action)), action
        over, truncated = self.np_random.random(2) < (self.ends, 0.5)
        r = self.np_random.normal() + float(np.sum(action))
        return self._observed(), r, over and not truncated, over and truncated, {}


OBSERVATIONS = st.one_of(
    st.builds(Discrete, st.integers(1, 5), start=st.integers(-3, 3)),
    st.builds(lambda shape, dtype: Box(-inf, inf, shape, dtype), SHAPES,
              st.sampled_from((np.float32, np.float64))),
)  # fmt: skip
ACTIONS = st.one_of(
    st.builds(Discrete, st.integers(1, 5), start=st.integers(-3, 3)),
    st.builds(MultiBinary, st.integers(1, 3) | SHAPES.filter(len).map(list)),
    st.builds(lambda n, start: MultiDiscrete(n, start=[start] * len(n)),
              st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(-2, 2)),
    st.builds(lambda shape: Box(-2.0, 1.0, shape), SHAPES),
    st.builds(lambda shape: Box(-2, 3, shape, np.int64), SHAPES),
)  # fmt: skip


def drawn(rng, space, k):
    """k actions as a method draws them."""
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=k)
    if isinstance(space, Box):
        return 2.0 * rng.normal(size=(k, int(np.prod(space.shape))))
    sizes = space.nvec if isinstance(space, MultiDiscrete) else np.full(space.shape, 2)
    return rng.integers(sizes.ravel(), size=(k, sizes.size))


def features(space, observation):
    if isinstance(space, Discrete):
        return int(observation) - int(space.start)
    return np.asarray(observation, float).ravel()


# one environment


@given(OBSERVATIONS, ACTIONS, st.integers(1, 20), SEEDS)
def test_world__is_the_loop_by_hand(observations, actions, k, seed):
    """Features, rewards, ends, returns, lengths and recorded episodes."""
    A = drawn(np.random.default_rng(seed), actions, k)
    env, decode = Any(observations, actions), decoder(actions)
    world, recorded = World(Any(observations, actions), Position(seed), record=True), []
    s, steps = env.reset(seed=seed)[0], []
    for a in A:
        assert world.t == len(steps)
        assert np.array_equal(world.s, features(observations, s))
        o, r, terminated, truncated, _ = env.step(decode(a))
        got = world.step(a)
        steps.append((features(observations, s), a, r))
        assert got[0] == r and type(got[0]) is float
        assert np.array_equal(got[1], features(observations, o))
        assert got[2:] == (terminated, truncated)
        s = o
        if terminated or truncated:
            recorded.append((world.episode, steps, features(observations, o), terminated))
            G = sum(r for *_, r in steps)
            ((total, length),) = world.ended
            assert length == len(steps) and total == pytest.approx(G, rel=1e-12, abs=1e-12)
            s, steps = env.reset()[0], []
        else:
            assert world.ended == () and world.episode is None
    assert world.position.episode == len(recorded) + 1 and not world.resumed
    for episode, steps, s_final, terminated in recorded:
        for found, known in zip(episode[:3], zip(*steps)):
            assert np.array_equal(found, np.array(known))
        assert np.array_equal(episode.s_final, s_final)
        assert episode.terminated == terminated


class SameArray(Wander):
    """Whose observations are all one array, overwritten."""

    def reset(self, **how):
        self.kept = np.array(super().reset(**how)[0])
        return self.kept, {}

    def step(self, action):
        s, *rest = super().step(action)
        self.kept[:] = s
        return self.kept, *rest


@given(SEEDS)
def test_world__features_stay_as_they_were(seed):
    world, kept = World(SameArray(), Position(seed)), []
    for _ in range(9):
        s = world.s
        kept.append((s, s.copy()))
        _, s2, *_ = world.step(0)
        kept.append((s2, s2.copy()))
    assert all(np.array_equal(*pair) for pair in kept)


@given(SEEDS, st.integers(1, 9))
def test_world__seeds_once(seed, k):
    env = Recorder(Scripted(T=1))
    world = World(env, Position(seed))
    for _ in range(k):
        world.step(0)
    assert env.seeds == [seed, *[None] * k]


@given(SEEDS)
def test_world__decodes_as_it_is_told(seed):
    env = Recorder(Scripted())
    World(env, Position(seed), decode=lambda a: a + 1).step(1)
    assert env.log[0][1] == 2


@given(st.integers(1, 6), st.integers(-3, 3))
def test_encoder__of_discrete_is_the_index(n, start):
    size, encode = encoder(Discrete(n, start=start))
    assert size == n
    assert [encode(start + k) for k in range(n)] == list(range(n))


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=2), st.sampled_from((np.int64, np.uint8)))
def test_decoder__rounds_and_clips_in_a_box_of_integers(a, dtype):
    """To the nearest integer, not towards 0."""
    space = Box(0, 5, (2,), dtype)
    decoded = decoder(space)(np.array(a))
    assert space.contains(decoded)
    assert np.abs(decoded - np.clip(a, 0, 5)).max() <= 0.5


# what does not fit, or is not finite


class Tampered(gymnasium.Wrapper):
    """Whose observation or reward is `value`, or value(...) of it, in step `at` (0: the reset) of
    episode `episode`."""

    def __init__(self, env, what, value, episode, at):
        super().__init__(env)
        self.what, self.value, self.when, self.count = what, value, (episode, at), 0

    def _changed(self, what, x):
        now = self.what == what and (self.count, self.t) == self.when
        return (self.value(x) if callable(self.value) else self.value) if now else x

    def reset(self, **how):
        s, info = self.env.reset(**how)
        self.count, self.t = self.count + 1, 0
        return self._changed("observation", s), info

    def step(self, action):
        s, r, *rest = self.env.step(action)
        self.t += 1
        return self._changed("observation", s), self._changed("reward", r), *rest


def spoil(s, bad):
    s = np.array(s, float)
    s.flat[-1] = bad
    return s


T = 3  # steps of an episode below
FAULTS = [
    ("observation", lambda s: s[:1], ValueError, r"observation of shape \(1,\): must be \(2,\)"),
    ("observation", lambda s: s[:, None], ValueError, r"observation of shape \(2, 1\): must be"),
    ("observation", lambda s: 1.0, ValueError, r"observation of shape \(\): must be \(2,\)"),
    ("observation", lambda s: spoil(s, nan), FloatingPointError, "observation = .*nan.*finite"),
    ("observation", lambda s: spoil(s, inf), FloatingPointError, "observation = .*inf.*finite"),
    ("reward", nan, FloatingPointError, "reward = nan: must be finite"),
    ("reward", np.float32(-inf), FloatingPointError, "reward = -inf: must be finite"),
    ("reward", np.ones(1), ValueError, r"reward = \[1.\]: must be a number"),
]


@pytest.mark.parametrize(("what", "value", "error", "message"), FAULTS)
@given(st.integers(1, 3), st.integers(0, T), st.booleans(), SEEDS)
def test_world__names_what_is_wrong(what, value, error, message, episode, at, truncate, seed):
    """Environment, episode, step and quantity, in the step where it comes."""
    at = max(at, int(what == "reward"))
    env = Tampered(Scripted(T=T, truncate=truncate), what, value, episode, at)
    with pytest.raises(error, match=f"^Scripted: episode {episode}, step {at}: {message}"):
        world = World(env, Position(seed))
        for _ in range((episode - 1) * T + at):
            assert (env.count, env.t) != (episode, at), "it went on"
            world.step(0)
    assert (env.count, env.t) == (episode, at)


@pytest.mark.parametrize("wrong", [0, 6, -1, nan, 1.5, np.array([1])])
@given(st.integers(0, 2), SEEDS)
def test_world__names_a_discrete_observation_that_is_none(wrong, at, seed):
    env = Tampered(Any(Discrete(5, start=1), Discrete(2), 0.0), "observation", wrong, 1, at)
    told = rf"observation = {re.escape(str(wrong))}: must be in Discrete\(5, start=1\)$"
    with pytest.raises(ValueError, match=rf"^Any: episode 1, step {at}: {told}"):
        world = World(env, Position(seed))
        for _ in range(2):
            world.step(0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@given(st.floats(1e307, 1.7e308), st.booleans(), SEEDS)
def test_world__lets_finite_numbers_pass_whose_sum_is_not(huge, low, seed):
    value = np.full(2, -huge if low else huge)
    env = Tampered(Scripted(), "observation", value, 1, 1)
    _, s2, *_ = World(env, Position(seed)).step(0)
    assert np.array_equal(s2, value)


def test_world__names_a_registered_environment_by_its_id():
    class Refused(gymnasium.ObservationWrapper):
        def observation(self, observation):
            return np.full(4, nan)

    with pytest.raises(FloatingPointError, match=r"^CartPole-v1: episode 1, step 0: observation"):
        World(Refused(gymnasium.make("CartPole-v1")), Position(0))


def test_entered__closes_what_a_factory_makes_and_nothing_else():
    class Closing(Scripted):
        closed = False

        def close(self):
            self.closed = True

    env, made = Closing(), []
    make = lambda: made.append(Closing()) or made[-1]
    for source in (env, make):
        with pytest.raises(ZeroDivisionError), entered(source, Position(0)) as world:
            world.step(0)
            raise ZeroDivisionError
    with opened(make) as other:
        assert not other.closed
    assert [x.closed for x in (env, *made)] == [False, True, True]


# a Position brings another environment to where the first one stands


class Private(gymnasium.Env):
    """Draws from a generator of its own, which no seed reaches, after `quiet` steps that show
    nothing of it: it does not repeat itself."""

    observation_space, action_space = Box(-inf, inf, (2,)), Discrete(2)

    def __init__(self, ends=0.0, quiet=0):
        self.rng, self.ends, self.quiet, self.t = np.random.default_rng(), ends, quiet, 0

    def seen(self):
        return self.rng.normal(size=2) * (self.t >= self.quiet)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.t += 1
        return self.seen(), 0.0, bool(self.rng.random() < self.ends), False, {}


def limited(env, steps):
    return gymnasium.wrappers.TimeLimit(env, steps)


@st.composite
def repeating(draw):
    """A function that makes an environment which repeats itself when it is seeded."""
    kind = draw(st.sampled_from(("CartPole-v1", "Pendulum-v1", "mdp", "scripted", "wander", "any")))
    steps = draw(st.integers(1, 30))
    if "-v" in kind:
        return lambda: limited(gymnasium.make(kind).unwrapped, steps)
    if kind == "mdp":
        mdp = draw(mdps(kinds=("continuing", "unsure")))
        return lambda: limited(FiniteMDPEnv(mdp), steps)
    if kind == "any":
        spaces = draw(OBSERVATIONS), draw(ACTIONS)
        return lambda: Any(*spaces, 0.1)
    d, truncate = draw(st.integers(0, 2)), draw(st.booleans())
    wrap = draw(st.sampled_from((lambda env: env, NormalizeObservation, NormalizeReward)))
    return lambda: wrap(Wander(d) if kind == "wander" else Scripted(steps, d=d, truncate=truncate))


def equal(one, two):
    """Two of (r, s2, terminated, truncated), bit by bit."""
    return one[0] == two[0] and np.array_equal(one[1], two[1]) and one[2:] == two[2:]


@given(repeating(), st.integers(0, 50), st.integers(1, 40), st.booleans(), SEEDS)
def test_position__brings_an_environment_to_the_same_bits(make, before, after, record, seed):
    """Within an episode or between two, an environment that others were played in before."""
    env, other = make(), make()
    A = drawn(np.random.default_rng(seed), env.action_space, before + after)
    world = World(env, Position(seed), record)
    for a in A[:before]:
        world.step(a)
    position = copy.deepcopy(world.position)
    World(other, Position(seed + 1)).step(A[0])
    again = World(other, position, record)
    assert again.resumed
    assert (again.t, again.G, again.ended) == (world.t, world.G, ())
    for a in A[before:]:
        assert np.array_equal(world.s, again.s)
        assert equal(world.step(a), again.step(a))
        assert world.ended == again.ended
        if record and world.episode is not None:
            for one, two in zip(world.episode, again.episode):
                assert np.array_equal(one, two)
    assert world.position.episode == again.position.episode
    assert world.position.generator == again.position.generator
    assert world.position.actions == again.position.actions


@given(st.integers(0, 9), st.booleans(), st.integers(0, 20), SEEDS)
def test_position__of_an_environment_that_does_not_repeat_itself_warns(before, ends, quiet, seed):
    """And a new episode begins, the next by number if there was a step in the one before, whatever
    the environment did meanwhile, and whatever the steps so far have shown."""
    world = World(Private(quiet=quiet), Position(seed))
    for _ in range(before):
        world.step(0)
    env = Recorder(Private(1.0 if ends else 0.0, quiet))
    with pytest.warns(RuntimeWarning, match="^Private does not repeat its episodes: a new one"):
        again = World(env, copy.deepcopy(world.position))
    assert not again.resumed and again.t == 0 and again.ended == ()
    assert again.position.episode == 1 + (before > 0) and len(again.position.actions) == 0
    assert np.array_equal(again.s, env.s)


@pytest.mark.parametrize("make", [Private, Scripted])
def test_position__without_an_episode_begins_the_first(make):
    world = World(make(), Position(5))
    assert not world.resumed and world.position.episode == 1


def test_position__remembers_a_bounded_number_of_actions():
    """A world that never ends grows no further; what is too long to replay says so."""
    env = Any(Box(-inf, inf, (1,)), Discrete(2), ends=0.0)
    world = World(env, Position(0))
    world.most = 5
    for _ in range(9):
        world.step(1)
    assert len(world.position.actions) == 5 < MOST_ACTIONS
    with pytest.warns(RuntimeWarning, match="does not repeat its episodes"):
        World(Any(Box(-inf, inf, (1,)), Discrete(2), 0.0), world.position)


@pytest.mark.parametrize("reward", [1.0, 0.0])
def test_position__too_long_to_replay_is_not_taken_for_a_shorter_one(reward):
    """Also where all observations are the same, and all rewards."""

    class Same(Constant):
        def step(self, action):
            s, _, *rest = super().step(action)
            return s, reward, *rest

    world = World(Same(100), Position(0))
    world.most = 5
    for _ in range(9):
        world.step(1)
    with pytest.warns(RuntimeWarning, match="does not repeat its episodes"):
        again = World(Same(100), world.position)
    assert again.t == 0


# N environments


def stream(env, seed, A, k):
    """k steps of World: [(s, r, s2, terminated, truncated)], and the episodes that ended."""
    world, steps, ended = World(env, Position(seed)), [], []
    for a in A[:k]:
        s = world.s
        steps.append((s, *world.step(a)))
        ended += world.ended
    return steps, ended


def streams(envs, mode, seed, A, k):
    """The same of Worlds, for each environment, without the steps that were not real; ended ones as
    they came. Each environment is given its own actions, one after the other."""
    worlds = Worlds(SyncVectorEnv(envs, autoreset_mode=mode), Position(seed))
    N = worlds.N
    steps, ended = [[] for _ in range(N)], [[] for _ in range(N)]
    while min(map(len, steps)) < k:
        taken = [min(len(own), len(A[0]) - 1) for own in steps]
        s = np.array(worlds.s)
        step = worlds.step(np.array([A[i][taken[i]] for i in range(N)]))
        assert step.r.shape == step.real.shape == (N,) and len(step.s2) == N
        over = []
        for i in np.flatnonzero(step.real):
            r, *flags = (x[i].item() for x in (step.r, step.terminated, step.truncated))
            steps[i].append((s[i], r, np.array(step.s2[i]), *flags))
            over += [i] if any(flags) else []
        for i, end in zip(over, worlds.take_ended(), strict=True):
            ended[i].append(end)
        assert mode is AutoresetMode.NEXT_STEP or step.real.all()
    return steps, ended


@given(OBSERVATIONS, ACTIONS, MODES, st.integers(1, 3), st.integers(1, 12), SEEDS)
def test_worlds__is_n_times_world_in_all_autoreset_modes(observations, actions, mode, N, k, seed):
    """s, r, final observations, ends and `real`, returns and lengths of each environment."""
    make = lambda: Any(observations, actions)
    rng = np.random.default_rng(seed)
    A = [drawn(rng, actions, 4 * k + 9) for _ in range(N)]
    found, ended = streams([make] * N, mode, seed, A, k)
    for i in range(N):
        n = min(len(found[i]), len(A[i]))
        known, known_ended = stream(make(), seed + i, A[i], n)
        for one, two in zip(found[i][:n], known):
            for x, y in zip(one, two):
                np.testing.assert_array_equal(x, y)
        if n == len(found[i]):
            assert [length for _, length in ended[i]] == [length for _, length in known_ended]
            totals = ([G for G, _ in ends] for ends in (ended[i], known_ended))
            np.testing.assert_allclose(*totals, rtol=1e-12, atol=1e-12)


@given(MODES, st.integers(1, 4), SEEDS)
def test_worlds__a_reset_is_no_step_but_takes_one_in_next_step(mode, T, seed):
    worlds = Worlds(SyncVectorEnv([lambda: Scripted(T=T)] * 2, autoreset_mode=mode), Position(seed))
    gap = mode is AutoresetMode.NEXT_STEP
    real = [worlds.step(np.zeros(2, int)).real.copy() for _ in range(3 * (T + gap))]
    period = [True] * T + [False] * gap
    assert np.array_equal(real, np.repeat([period * 3], 2, axis=0).T)


@given(MODES, st.integers(1, 3), st.integers(1, 3), SEEDS)
def test_worlds__seeds_once(mode, N, k, seed):
    made = [Recorder(Scripted(T=1)) for _ in range(N)]
    envs = SyncVectorEnv([lambda env=env: env for env in made], autoreset_mode=mode)
    worlds = Worlds(envs, Position(seed))
    for _ in range(2 * k):
        worlds.step(np.zeros(N, int))
    for i, env in enumerate(made):
        first, *rest = env.seeds
        assert first == seed + i and len(rest) >= k and not any(x is not None for x in rest)


@pytest.mark.parametrize(("what", "bad"), [("observation", nan), ("observation", inf),
                                           ("reward", nan), ("reward", -inf)])  # fmt: skip
@given(MODES, st.integers(1, 3), st.integers(0, T), st.integers(0, 1), st.booleans(), SEEDS)
def test_worlds__names_what_is_not_finite(what, bad, mode, episode, at, which, truncate, seed):
    """Environment, episode, step and quantity, as World does, in the call where it comes."""
    at = max(at, int(what == "reward"))
    value = bad if what == "reward" else lambda s: spoil(s, bad)
    wrong = Tampered(Scripted(T=T, truncate=truncate), what, value, episode, at)
    others = Scripted(T=5)
    made = [others, others]
    made[which] = wrong
    envs = SyncVectorEnv([lambda env=env: env for env in made], autoreset_mode=mode)
    place = rf"environment {which}, episode {episode}, step {at}"
    told = f"(?s)^SyncVectorEnv: {place}: {what} = .*(nan|inf).*: must be finite$"
    with pytest.raises(FloatingPointError, match=told):
        worlds = Worlds(envs, Position(seed))
        for _ in range(episode * (T + 1)):
            assert (wrong.count, wrong.t) != (episode, at), "it went on"
            worlds.step(np.zeros(2, int))
    over = mode is AutoresetMode.SAME_STEP and at == T  # it resets in the same call
    assert (wrong.count, wrong.t) == ((episode + 1, 0) if over else (episode, at))


class Told(VectorEnv):
    """Two environments that give what they are told."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    num_envs = 2

    def __init__(self, space, first, *then):
        self.single_observation_space, self.single_action_space = space, Discrete(2)
        self.observation_space = batch_space(space, 2)
        self.action_space = batch_space(Discrete(2), 2)
        self.first, self.then = first, iter(then)

    def reset(self, *, seed=None, options=None):
        return self.first, {}

    def step(self, actions):
        s, r = next(self.then)
        return s, r, np.zeros(2, bool), np.zeros(2, bool), {}


NUMBERS = Box(-inf, inf, (3,))
GOOD = np.zeros((2, 3)), np.zeros(2)


@pytest.mark.parametrize(
    ("space", "first", "then", "message"),
    [
        (NUMBERS, np.zeros((2, 3, 1)), [], r"observations of shape \(3, 1\): must be \(3,\)"),
        (NUMBERS, np.zeros(2), [], r"observations of shape \(\): must be \(3,\)"),
        (NUMBERS, np.zeros((3, 3)), [], r"observations "),
        (NUMBERS, GOOD[0], [(np.zeros((2, 4)), GOOD[1])], r"observations of shape \(4,\)"),
        (NUMBERS, GOOD[0], [(GOOD[0], np.zeros((2, 1)))], r"rewards of shape \(2, 1\): must be "),
        (NUMBERS, GOOD[0], [(GOOD[0], 1.0)], r"rewards of shape \(\): must be \(2,\)"),
        (Discrete(5, start=1), np.array([1, 0]), [], r"observations = \[1 0\]: must be in"),
        (Discrete(5, start=1), np.array([6, 1]), [], r"observations = \[6 1\]: must be in"),
        (Discrete(5), np.array([0.5, 1.0]), [], r"observations = \[0.5 1. \]: must be in"),
    ],
)  # fmt: skip
def test_worlds__names_what_does_not_fit(space, first, then, message):
    with pytest.raises(ValueError, match=f"^Told: {message}"):
        worlds = Worlds(Told(space, first, *then), Position(0))
        worlds.step(np.zeros(2, int))


def test_worlds__names_a_final_observation_that_is_missing():
    class Silent(gymnasium.vector.VectorWrapper):
        def step(self, actions):
            s, r, terminated, truncated, _ = self.env.step(actions)
            return s, r, terminated, truncated, {}

    envs = SyncVectorEnv([lambda: Scripted(T=1)], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match=r'info\["final_obs"\] is missing'):
        Worlds(Silent(envs), Position(0)).step(np.zeros(1, int))


@pytest.mark.parametrize("mode", [None, "next_step", 1])
def test_check_vector__names_a_mode_that_is_none(mode):
    envs = SyncVectorEnv([Scripted])
    envs.metadata = {**envs.metadata, "autoreset_mode": mode}
    with pytest.raises(
        ValueError, match=r'metadata\["autoreset_mode"\] = .*: must be an Autoreset'
    ):
        check_vector(envs)


def test_check_vector__refuses_uneven_spaces():
    envs = SyncVectorEnv([Scripted] * 2)
    envs.action_space = batch_space(Discrete(3), 3)
    with pytest.raises(ValueError, match=r"^action_space = .*: must be 2 times Discrete\(3\)"):
        check_vector(envs)


# making environments


def test_vectorized__uses_the_object_handed_over_as_the_first():
    env = Scripted()
    for n in (1, 3):
        envs = vectorized(env, n, "sync")
        assert envs[0] is env and len(set(map(id, envs))) == n
        close(envs, env)
    envs = SyncVectorEnv([Scripted])
    assert vectorized(envs, 5, "sync") is envs
    assert vectorized(lambda: envs, 5, "sync") is envs


def test_makers__copies_have_what_was_set_on_the_object():
    env = Scripted()
    env.T = 7
    assert [make().T for make in makers(env, 3)] == [7, 7, 7]
    assert makers(Scripted, 2) == [Scripted, Scripted]


def test_makers__copies_draw_other_numbers():
    env = Scripted()
    env.reset(seed=0)
    envs = SyncVectorEnv(makers(env, 2))
    s = Worlds(envs, Position(0)).s
    assert not np.array_equal(s[0], s[1])


class Nested(Scripted):
    """A private generator inside something else."""

    def __init__(self):
        super().__init__()
        self.parts = {"noise": [np.random.default_rng(0)]}


class Locked(Scripted):
    def __deepcopy__(self, memo):
        raise TypeError("it cannot be copied")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Private(), "attribute rng is a random generator.*all copies would draw the same numbers"),
        (gymnasium.Wrapper(Private()), r"attribute env\.rng is a random generator"),
        (Nested(), "a random generator"),
        (Locked(), r"cannot be copied \(it cannot be copied\)"),
    ],
)
def test_makers__refuses_copies_that_would_not_be_faithful(env, message):
    with pytest.raises(ValueError, match=message + r".*hand in a function \(\) -> environment"):
        makers(env, 2)
    assert len(makers(env, 1)) == 1, "which copies nothing"


class Dying(Scripted):
    """Whose process dies in its second step, if it is not that of `alive`."""

    def __init__(self, alive):
        super().__init__(T=9)
        self.alive = alive

    def step(self, action):
        if self.t == 1 and os.getpid() != self.alive:
            os._exit(7)
        return super().step(action)


@pytest.mark.filterwarnings("ignore:.*Calling `close`:UserWarning")  # while a step is under way
def test_worlds__a_process_that_dies_is_an_error_that_names_it():
    """And closing what is left hides it behind no other."""
    pid = os.getpid()
    config = a2c.Config(environments=2, vectorization="async", network=LINEAR)
    state = a2c.init(Dying(pid), config, 0)
    with pytest.raises(WorkerError, match=r"^environment 0: its process died"):
        next(a2c.train(lambda: Dying(pid), config, state))


# many states cost O(n)


class Walk(gymnasium.Env):
    """n states; every step leads to one of them at random. 64 steps."""

    def __init__(self, n, d=0):
        self.observation_space = Discrete(n)
        self.action_space = Box(-1.0, 1.0, (d,)) if d else Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return int(self.np_random.integers(self.observation_space.n)), {}

    def step(self, action):
        self.t += 1
        s = int(self.np_random.integers(self.observation_space.n))
        return s, 1.0, False, self.t == 64, {}


STATES = 10**5
MANY = {
    "reinforce": dict(network=LINEAR),
    "td-lambda": {},
    "actor-critic-traces": dict(network=LINEAR),
    "a2c": dict(network=LINEAR, environments=4, n_steps=16),
    "a3c": dict(network=LINEAR, workers=1, t_max=64),
    "async-n-step-q": dict(network=LINEAR, workers=1, t_max=64),
    "ddpg": dict(networks=Networks(hidden=(2, 2)), replay=64, warmup=0),
}


@pytest.mark.parametrize("name", MANY)
def test_discrete__memory_and_work_are_those_of_the_parameters(name):
    """θ's row of a state is read: memory does not grow with the rows of 64 steps. 16 arrays of θ's
    length hold θ, gradients, statistics and what an update needs for a moment."""
    method = load_method(name, METHODS)
    config, env = method.Config(**MANY[name]), Walk(STATES, d=2 * (name == "ddpg"))
    tracemalloc.start()
    state = method.init(env, config, 0)
    for _ in islice(method.train(env, config, state), 5):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    parameters = sum(getattr(state, p).size for p in ("theta", "w") if hasattr(state, p))
    assert parameters <= 6 * STATES
    assert peak <= 16 * 8 * parameters
