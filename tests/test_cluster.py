"""The driver `ray` without Ray; and, slow, both uses of Ray on a cluster of two nodes, one lost."""

import copy
import dataclasses

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from algorithms import a3c, async_q
from algorithms.common.asynchronous import total
from algorithms.common.cluster import SUMMED, Parameters, changes, work
from algorithms.common.policy import Network

SMALL = Network(hidden=(3,))
METHODS = {
    "a3c": (a3c, a3c.Config(workers=1, T_max=60, network=SMALL), a3c.worker),
    "one_step": (async_q, async_q.OneStepQ(workers=1, T_max=60, I_target=20, network=SMALL),
                 async_q.one_step),
    "n_step": (async_q, async_q.NStepQ(workers=1, T_max=60, I_target=20, network=SMALL),
               async_q.n_step),
}  # fmt: skip


@dataclasses.dataclass
class Two:
    """A State with an array that workers sum up and one that they assign."""

    theta: np.ndarray
    T: np.ndarray


whole = st.integers(-9, 9).map(float)  # whose sums are exact
vectors = arrays(np.float64, (2, 3), elements=whole)
states = st.builds(Two, vectors, vectors)


@given(states, states)
def test_changes__pushed_give_the_other_state(old, new):
    server = Parameters(vars(old))
    server.push(changes(new, vars(old)))
    for name, a in vars(new).items():
        np.testing.assert_array_equal(server.arrays[name], a)
    assert changes(new, vars(new)) == {}


@given(states, st.lists(states, max_size=4), st.randoms())
def test_push__adds_what_is_summed_in_any_order(start, others, random):
    one, two = Parameters(vars(start)), Parameters(vars(start))
    for state in others:
        one.push(changes(state, vars(start)))
    random.shuffle(others)
    for state in others:
        two.push(changes(state, vars(start)))
    total = start.theta + sum(state.theta - start.theta for state in others)
    np.testing.assert_array_equal(one.arrays["theta"], total)
    np.testing.assert_array_equal(two.arrays["theta"], total)
    assert "theta" in SUMMED and "T" not in SUMMED


def started(name, **how):
    module, config, worker = METHODS[name]
    env, config = gymnasium.make("CartPole-v1"), dataclasses.replace(config, **how)
    return module, env, config, worker, module.init(env, config, 0)


def array_fields(state):
    return {name: a.copy() for name, a in vars(state).items() if isinstance(a, np.ndarray)}


def serve(state):
    """A server, and its exchange as Ray has it: by copies."""
    server = Parameters(array_fields(state))
    return server, lambda changes: copy.deepcopy(server.exchange(changes))


@pytest.mark.parametrize("name", METHODS)
def test_work__of_one_worker_is_that_of_its_generator(name):
    module, env, config, worker, state = started(name)
    (server, exchange), options = serve(state), {"gradient": module.gradient}
    work(0, worker, env, config, state, options, exchange, server.push)
    _, env, _, _, alone = started(name)
    ended = [what for event, what in worker(0, env, config, alone, **options) if event == "pushed"]
    for field, a in array_fields(alone).items():
        np.testing.assert_allclose(server.arrays[field], a, rtol=1e-9, atol=1e-12, err_msg=field)
    assert server.drain()[0] == [episode for episodes in ended for episode in episodes]
    assert server.drain()[0] == [] and total(server.arrays["T"]) > 60


@settings(max_examples=5)
@given(st.integers(1, 4))
def test_work__counts_the_updates_of_others_as_staleness(others):
    """Each exchange finds that worker 1 has pushed `others` times meanwhile."""
    module, env, config, worker, state = started("a3c", workers=2)
    server, served = serve(state)

    def exchange(changes):
        server.push({"updates": (np.array([1]), server.arrays["updates"][1:] + others)})
        return served(changes)

    options = {"gradient": module.gradient}
    work(0, worker, env, config, state, options, exchange, server.push)
    histogram = server.arrays["staleness"][0]
    assert histogram[others] == server.arrays["updates"][0] == histogram.sum() > 0


def test_work__ends_when_the_server_stops():
    module, env, config, worker, state = started("a3c", T_max=10**9)
    (server, exchange), options = serve(state), {"gradient": module.gradient}

    def push(changes, ended):
        server.push(changes, ended)
        if total(server.arrays["T"]) > 20:
            server.stop()

    work(0, worker, env, config, state, options, exchange, push)
    assert 20 < total(server.arrays["T"]) <= 25
    work(0, worker, env, config, state, options, exchange, push)  # one that is late
    assert total(server.arrays["T"]) <= 25


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_sweep__goes_on_when_a_node_is_lost(tmp_path):
    pytest.importorskip("ray")
    from benchmarks.sweep import lost_node

    row = lost_node(3, 60_000, tmp_path)
    assert row["finished"] == 3 and row["the same bits"] == 3
    assert row["resumed elsewhere"] >= 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a3c__replaces_the_workers_of_a_node_that_is_lost():
    pytest.importorskip("ray")
    from benchmarks.sweep import lost_workers

    row = lost_workers(30_000)
    assert row["steps"] > 30_000 and row["episodes begun by its worker after"] > 0
