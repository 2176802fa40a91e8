"""What wrappers remember of earlier episodes is returned, put back, and held."""

import json

import numpy as np
import pytest
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, OrderEnforcing
from hypothesis import given
from hypothesis import strategies as st
from worlds import SEEDS, Scripted, Wander

from algorithms.common.remembered import freeze, pooled, remembered, remind

WRAPPERS = {
    "observation": NormalizeObservation,
    "reward": NormalizeReward,
    "neither": OrderEnforcing,
}
CHAINS = st.lists(st.sampled_from(sorted(WRAPPERS)), max_size=4)
REMEMBERS = {"observation", "reward"}


def world(chain, kind=Wander):
    """An environment in these wrappers, the first of them innermost."""
    env = kind()
    for name in chain:
        env = WRAPPERS[name](env)
    return env


def play(env, steps, seed=None):
    """All numbers that env shows in some steps."""
    shown = [env.reset(seed=seed)[0]]
    for k in range(steps):
        s, r, terminated, truncated, _ = env.step(k % 3)
        shown += [s, r]
        if terminated or truncated:
            shown.append(env.reset()[0])
    return np.concatenate([np.ravel(x) for x in shown]).astype(float)


@given(CHAINS, st.sampled_from([Scripted, Wander]), st.integers(0, 30), SEEDS)
def test_remind__makes_another_environment_show_the_same_bits(chain, kind, steps, seed):
    """Of float32 (Scripted) and float64 observations, also with a wrapper more on top."""
    env, other = world(chain, kind), world([*chain, "neither"], kind)
    play(env, steps, seed)
    memory = json.loads(json.dumps(remembered(env)))
    assert len(memory) == chain.count("observation") + 2 * chain.count("reward")
    remind(other, memory)
    assert remembered(other) == memory
    np.testing.assert_array_equal(play(env, 20, seed), play(other, 20, seed))
    assert remembered(other) == remembered(env)


@given(CHAINS.filter(REMEMBERS.intersection), SEEDS)
def test_freeze__holds_the_moments(chain, seed):
    env = world(chain)
    play(env, 20, seed)
    before = {k: x for k, x in remembered(env).items() if k.endswith("_rms")}
    freeze(env)
    play(env, 20)
    assert before.items() <= remembered(env).items()


PARTS = st.lists(st.lists(st.floats(-9, 9), min_size=1, max_size=5), min_size=1, max_size=4)


@given(PARTS)
def test_pooled__is_the_moments_of_all_together(parts):
    entry = lambda x: ["float64", [np.mean(x)], [np.var(x)], float(len(x))]
    (found,) = pooled([{"1.obs_rms": entry(x)} for x in parts]).values()
    together = np.concatenate(parts)
    assert (found[0], found[3]) == ("float64", len(together))
    np.testing.assert_allclose(found[1], together.mean(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[2], together.var(), rtol=0, atol=1e-11)


WRONG = [  # (what stands in for the moments of the observations, the error)
    (3.0, "must be [dtype, numbers ...]"),
    (["object", [0, 0], [1, 1], 1], "must be [dtype, numbers ...]"),
    (["float64", ["x", 0], [1, 1], 1], "must be [dtype, numbers ...]"),
    (["float64", [0, 0], [1, 1], "x"], "must be [dtype, numbers ...]"),
    (["float64", [0, 0, 0], [1, 1], 1], "shapes [(3,), (2,), ()]: must be [(2,), (2,), ()]"),
    (["float64", [0, 0], [1, 1]], "shapes [(2,), (2,)]: must be [(2,), (2,), ()]"),
    (["float64", [0, np.nan], [1, 1], 1], "must be finite"),
]


@pytest.mark.parametrize("entry, message", WRONG)
def test_remind__refuses_in_one_line_what_does_not_fit_and_changes_nothing(entry, message):
    env = world(["reward", "observation"])
    play(env, 5, 0)
    before = remembered(env)
    cases = {f"memory of 2.obs_rms: {message}": before | {"2.obs_rms": entry}}
    cases["must be of 1.return_rms, 1.discounted_reward, 2.obs_rms"] = {"2.obs_rms": entry}
    cases["memory of nothing"] = None
    for text, memory in cases.items():
        with pytest.raises(ValueError) as error:
            remind(env, memory)
        assert text in str(error.value) and "\n" not in str(error.value)
        assert remembered(env) == before
