"""Environments like one: the object itself, faithful copies of it, or a refusal that says why."""

import copy
import pickle
import random
import threading

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium.utils import EzPickle, RecordConstructorArgs
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import LINEAR, SEEDS, Recorder, Wander

from algorithms import a3c
from algorithms.common.copies import makers, picklable_makers

NUMBERS = st.integers(2, 4)
IDS = st.sampled_from(("CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Acrobot-v1"))
GENERATORS = (np.random.default_rng(0), np.random.RandomState(0), random.Random(0))


def made(env, n):
    return [make() for make in makers(env, n)]


def sent(env, n):
    """As `made`, each of them in what stands for a process of its own."""
    luggage = cloudpickle.dumps(picklable_makers(env, n))
    return [pickle.loads(luggage)[i]() for i in range(n)]


EITHER = pytest.mark.parametrize("how", [made, sent])


class Wind(gymnasium.Wrapper):
    """A user's own wrapper: it adds `strength` to each reward."""

    strength = 0.0

    def step(self, action):
        s, r, *rest = super().step(action)
        return s, r + self.strength, *rest


class Locked(Wander):
    """Can be neither copied nor pickled."""

    gravity = 9.8

    def __init__(self, mass=1.0, name="arm", limits=(1, 2)):
        super().__init__()
        self.mass, self.name, self.limits, self.friction = mass, name, limits, None
        self.table, self.lock = np.ones(2), threading.Lock()


class CopyLocked(Locked):
    """Can be copied, but not pickled."""

    def __deepcopy__(self, memo):
        twin = CopyLocked()
        vars(twin).update({k: x for k, x in vars(self).items() if k != "lock"})
        return twin


class Rebuilt(Wander, EzPickle):
    """Copied and pickled by its constructor's arguments, as Gymnasium's physics engines are."""

    def __init__(self, mass=1.0):
        EzPickle.__init__(self, mass)
        Wander.__init__(self)
        self.mass = mass


class Misplaced(Locked, EzPickle):
    """Rebuilt with an argument in another one's place, as Gymnasium's InvertedPendulum-v5 is."""

    def __init__(self, mass=1.0, name="arm", limits=(1, 2)):
        EzPickle.__init__(self, mass, limits)
        Locked.__init__(self, mass, name, limits)


KINDS = dict(locked=Locked, copylocked=CopyLocked, rebuilt=Rebuilt, misplaced=Misplaced)


@pytest.fixture(autouse=True, scope="module")
def registered():
    for name, make in KINDS.items():
        gymnasium.register(f"copies/{name}-v0", make, max_episode_steps=7)
    yield
    for name in KINDS:
        del gymnasium.registry[f"copies/{name}-v0"]


def played(env, actions, **how):
    """All that a run of these actions shows, from a reset on."""
    rows = [env.reset(**how)[0]]
    for a in actions:
        rows.append(env.step(a)[:4])
        if rows[-1][2] or rows[-1][3]:
            rows.append(env.reset()[0])
    return [np.hstack([np.ravel(x) for x in (row if type(row) is tuple else (row,))])
            for row in rows]  # fmt: skip


def same(one, other):
    return all(map(np.array_equal, one, other)) and len(one) == len(other)


# faithful copies


@given(NUMBERS)
def test_makers__give_the_object_itself_and_others_beside_it(n):
    env = Wander(n=3)
    assert made(env, 1) == [env]
    first, *others = made(env, n)
    assert first is env and len({id(each) for each in (env, *others)}) == n
    assert all(type(other) is Wander for other in others)
    assert all(other.observation_space.shape == (3,) for other in others)


@given(NUMBERS)
def test_makers__call_a_factory_for_each(n):
    calls = []
    make = lambda: calls.append(Recorder(Wander())) or calls[-1]
    assert made(make, n) == calls and len({id(env) for env in calls}) == n
    assert len(sent(lambda: Recorder(Wander()), n)) == n


@EITHER
@settings(max_examples=10)
@given(IDS, NUMBERS, SEEDS, st.integers(0, 20))
def test_makers__copies_go_on_as_the_object_does(how, id, n, seed, before):
    """A user's own wrapper around a registered environment that was played in, and changed."""
    env = Wind(gymnasium.make(id))
    env.action_space.seed(seed)
    draw = lambda k: [env.action_space.sample() for _ in range(k)]
    played(env, draw(before), seed=seed)
    env.strength = 0.5
    vars(env.unwrapped).update(force_mag=3.0, g=3.0, LINK_LENGTH_1=3.0)
    actions, expected, envs = draw(20), None, how(env, n)
    for each in envs:
        assert type(each).__name__ == "Wind" and each.strength == 0.5
        run = played(copy.deepcopy(each), actions)
        expected = run if expected is None else expected
        assert same(run, expected), "the same generator, at the same place"
    one, other = envs[:2]
    first = played(one, actions, seed=seed)
    assert same(played(other, actions, seed=seed), first), "nothing that one does moves another"


@EITHER
def test_makers__copies_keep_what_a_wrapper_has_learned(how):
    env = gymnasium.wrappers.NormalizeObservation(Wander())
    played(env, [0] * 20, seed=0)
    for each in how(env, 3):
        assert each.obs_rms.count == env.obs_rms.count
        assert np.array_equal(each.obs_rms.mean, env.obs_rms.mean)


@EITHER
def test_makers__take_lambdas_and_local_classes(how):
    class Local(Wander):
        def __init__(self, bonus):
            super().__init__()
            self.bonus = bonus

        def step(self, action):
            s, r, *rest = super().step(action)
            return s, r + self.bonus(action), *rest

    runs = [played(env, [1] * 5, seed=0) for env in how(Local(lambda a: 10.0 * a), 3)]
    assert same(runs[0], runs[1]) and same(runs[0], runs[2])
    assert not same(runs[0], played(Wander(), [1] * 5, seed=0))


# made from their spec


@EITHER
@pytest.mark.parametrize("name", ["locked", "copylocked", "misplaced"])
@given(n=NUMBERS, mass=st.floats(1, 2), label=st.sampled_from(("arm", "leg")))
def test_makers__what_cannot_be_copied_is_made_from_its_spec(how, name, n, mass, label):
    env = gymnasium.make(f"copies/{name}-v0", mass=mass, name=label)
    played(env, [0] * 10, seed=0)  # which changes nothing that a reset does not
    for each in how(env, n):
        assert each.unwrapped.mass == mass and each.unwrapped.name == label
        assert each.spec == env.spec and each.spec.max_episode_steps == 7


@EITHER
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("mass", 3.0),
        ("name", "leg"),
        ("gravity", 1.6),
        ("friction", 0.5),
        ("limits", (3, 4)),
        ("table", np.zeros(2)),
    ],
)
def test_makers__what_was_changed_is_not_made_from_its_spec(how, attribute, value):
    env = gymnasium.make("copies/locked-v0")
    setattr(env.unwrapped, attribute, value)
    with pytest.raises(ValueError, match=rf"^env = .*attribute ([\w.]+\.)?{attribute}\b.*function"):
        how(env, 2)
    assert made(env, 1) == [env]


@given(st.integers(1, 3))
def test_makers__what_can_be_copied_but_not_pickled_is_refused_by_processes_if_changed(n):
    env = gymnasium.make("copies/copylocked-v0")
    env.unwrapped.mass = 3.0
    assert [each.unwrapped.mass for each in made(env, n)] == [3.0] * n
    with pytest.raises(ValueError, match=r"^env = .*attribute ([\w.]+\.)?mass = 3.0.*function"):
        sent(env, n)


@EITHER
def test_makers__a_wrapper_that_was_changed_is_not_made_from_its_spec(how):
    env = Scaled(gymnasium.make("copies/locked-v0"), 2.0)
    assert [each.scale for each in how(env, 2)] == [2.0, 2.0]
    env.scale = 3.0
    with pytest.raises(ValueError, match=r"^env = .*attribute ([\w.]+\.)?scale\b.*function"):
        how(env, 2)


class Scaled(gymnasium.RewardWrapper, RecordConstructorArgs):
    """Of which Gymnasium keeps the arguments in the spec."""

    def __init__(self, env, scale):
        RecordConstructorArgs.__init__(self, scale=scale)
        super().__init__(env)
        self.scale = scale

    def reward(self, r):
        return self.scale * r


@EITHER
def test_makers__a_wrapper_whose_arguments_are_lost_is_refused(how):
    env = Wind(gymnasium.make("copies/locked-v0"))
    with pytest.raises(ValueError, match=r"^env = .*: its spec makes no environment"):
        how(env, 2)


@EITHER
@pytest.mark.parametrize("name", ["", "copies/rebuilt-v0"])
def test_makers__what_is_copied_by_its_arguments_keeps_its_changes_or_is_refused(how, name):
    env = gymnasium.make(name, mass=2.0) if name else Rebuilt(2.0)
    played(env, [0] * 10, seed=0)
    assert [each.unwrapped.mass for each in how(env, 3)] == [2.0] * 3
    env.unwrapped.mass = 5.0
    try:
        masses = [each.unwrapped.mass for each in how(env, 3)]
    except ValueError as error:
        assert "mass" in str(error)
    else:
        assert masses == [5.0] * 3


@EITHER
def test_makers__what_has_no_spec_and_cannot_be_copied_is_refused(how):
    env = Locked()
    with pytest.raises(ValueError, match=r"^env = .*: cannot be copied \(.*lock.*\): .*function"):
        how(env, 2)
    assert made(env, 1) == [env]
    assert [each.mass for each in how(Locked, 2)] == [1.0, 1.0]


# random generators of their own


class Private(Wander):
    def __init__(self, **held):
        super().__init__()
        vars(self).update(held)


class Simulator:
    def __init__(self, rng):
        self.rng = rng


@EITHER
@pytest.mark.parametrize("rng", GENERATORS, ids=lambda rng: type(rng).__name__)
@pytest.mark.parametrize("wrapped", [False, True])
def test_makers__a_private_generator_is_refused_by_name(how, rng, wrapped):
    """Copies would all draw the same. One environment may have it, and so may a factory's."""
    env = gymnasium.wrappers.TimeLimit(Private(rng=rng), 5) if wrapped else Private(rng=rng)
    message = r"^env = .*: its attribute ([\w.]+\.)?rng is a random generator.*function"
    with pytest.raises(ValueError, match=message):
        how(env, 2)
    assert len(how(env, 1)) == 1 and len(how(lambda: Private(rng=rng), 2)) == 2


@EITHER
@pytest.mark.parametrize(
    "held",
    [
        dict(rngs=[GENERATORS[0]]),
        dict(rngs={0: GENERATORS[0]}),
        dict(rngs=Simulator(GENERATORS[0])),
    ],
)
def test_makers__a_private_generator_is_found_in_what_the_environment_holds(how, held):
    with pytest.raises(ValueError, match=r"^env = .*: its attribute rngs.* is a random generator"):
        how(Private(**held), 2)


@EITHER
def test_makers__a_wrappers_private_generator_is_refused_by_name(how):
    env = Wind(Wander())
    env.rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"^env = .*: its attribute rng is a random generator"):
        how(env, 2)


@EITHER
def test_makers__gymnasiums_generator_is_no_private_one(how):
    """Every environment has one once it was reset; each worker's is seeded anew."""
    env = Wander()
    env.reset(seed=0)
    env.action_space.seed(0), env.action_space.sample()
    assert len(how(env, 3)) == 3


@EITHER
@pytest.mark.parametrize("value", ["CartPole", 3, np.ones(2)])
def test_makers__an_attribute_env_may_be_anything(how, value):
    assert [str(each.env) for each in how(Private(env=value), 2)] == [str(value)] * 2


# as methods see it


@pytest.mark.parametrize("driver", ["round-robin", "threads"])
def test_train__one_workers_wrappers_see_every_step(driver):
    """NormalizeObservation around the object that was handed over counts what was observed."""
    config = a3c.Config(workers=1, T_max=100, network=LINEAR, driver=driver)
    env = gymnasium.wrappers.NormalizeObservation(Wander())
    state, start = a3c.init(env, config, 0), env.obs_rms.count
    list(a3c.train(env, config, state))
    resets = 1 + state.episodes
    assert env.obs_rms.count - start == pytest.approx(state.T.sum() + resets, abs=1e-9)


@pytest.mark.parametrize("driver", ["round-robin", "threads", "processes"])
def test_train__refuses_before_anything_is_made(driver):
    config = a3c.Config(workers=2, network=LINEAR, driver=driver)
    env = Private(rng=np.random.default_rng(0))
    state = a3c.init(env, config, 0)
    with pytest.raises(ValueError, match="its attribute rng is a random generator"):
        next(a3c.train(env, config, state))
    assert not state.begun.any()
