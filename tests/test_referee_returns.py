"""The judge of advantages and returns: its definition, its mistakes, and what a user sees."""

import inspect
import json
import sys
from itertools import combinations, product

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps, policies
from worlds import SEEDS

from algorithms import a2c
from algorithms.exact.laboratory import lambda_returns, n_step_returns
from algorithms.exact.mdp import advantages, state_values, trajectories
from algorithms.referee import returns
from algorithms.referee.advantages import CATALOGUE, KNOWN, definition, definition_by_returns
from algorithms.referee.guard import Unusable
from algorithms.referee.returns import judge, possible
from algorithms.referee.segments import MODES, Segment, draw, drawn, signature
from algorithms.runner.cli import main

MISTAKES = list(CATALOGUE)


# the definition


@st.composite
def segments(draw_):
    """Any Segment of up to 6 steps of up to 3 environments."""
    rng = np.random.default_rng(draw_(SEEDS))
    kinds = rng.integers(0, 4, (draw_(st.integers(1, 6)), draw_(st.integers(1, 3))))
    kinds *= rng.random(kinds.shape) < draw_(st.sampled_from((0.0, 0.3, 1.0)))
    rate = st.sampled_from((0.0, 1.0)) | st.floats(0, 1)
    return draw(rng, draw_(st.sampled_from(MODES)), kinds, draw_(rate), draw_(rate))


def fragments(s):
    """(i, slice) of all steps between two stops."""
    for i in range(s.rewards.shape[1]):
        start = 0
        for t in range(len(s.rewards)):
            if s.ends[t, i] or t == len(s.rewards) - 1:
                yield i, slice(start, t + 1)
                start = t + 1


def by_fragments(s, returns):
    """A, returns(R (T,), v (T+1,)) being the returns of one fragment."""
    A = np.empty_like(s.rewards)
    for i, steps in fragments(s):
        v = np.where(s.terminated[steps, i], 0.0, s.next_values[steps, i])
        A[steps, i] = returns(s.rewards[steps, i], np.append(s.values[steps.start, i], v))
    return A - s.values


def forward(R, v, gamma, lam):
    """λ-returns as the mixture of all n-step returns (Sutton & Barto 2018, 12.3): no recursion."""
    T, G = len(R), np.zeros(len(R))
    for t in range(T):
        for n in range(1, T - t + 1):
            G_n = sum(gamma**k * R[t + k] for k in range(n)) + gamma**n * v[t + n]
            G[t] += G_n * (lam ** (n - 1) if n == T - t else (1 - lam) * lam ** (n - 1))
    return G


def close(x, y):
    return np.allclose(x, y, rtol=1e-12, atol=1e-12 * 6 * 3 * 6)  # n terms of at most n numbers < 3


@given(segments())
def test_definition__is_the_mixture_of_n_step_returns(s):
    assert close(definition(s), by_fragments(s, lambda R, v: forward(R, v, s.gamma, s.lam)))


@given(segments())
def test_definition__is_the_laboratorys_on_each_fragment(s):
    exact = by_fragments(s, lambda R, v: lambda_returns(R, v, s.gamma, s.lam))
    assert close(definition(s), exact) and close(definition_by_returns(s), exact)
    for lam, n in ((0.0, 1), (1.0, len(s.rewards))):
        exact = by_fragments(s, lambda R, v, n=n: n_step_returns(R, v, s.gamma, n))
        assert close(definition(s._replace(lam=lam)), exact)


@given(segments())
def test_definition__with_lambda_1_is_that_of_a2c(s):
    stops, v_next = s.ends, np.where(s.terminated, 0.0, s.next_values)
    stops[-1] = True
    R = a2c.returns(s.rewards, s.gamma, stops, v_next)
    assert close(definition(s._replace(lam=1.0)), R - s.values)


@given(segments(), st.sampled_from((-3.0, 0.5, 10.0)))
def test_definition__scales_with_rewards_and_values(s, c):
    names = "rewards", "values", "next_values"
    scaled = s._replace(**{name: c * getattr(s, name) for name in names})
    assert close(definition(scaled), c * definition(s))


@given(st.data(), st.sampled_from((0.0, 0.7, 1.0)))
def test_definition__expects_the_exact_advantage_if_a_time_limit_cuts_the_world(data, lam):
    """Whatever λ, since v is right: at a truncation too, by v of the final observation."""
    mdp = data.draw(mdps())
    pi, limit = data.draw(policies(mdp)), data.draw(st.integers(1, 3))
    v, exact = state_values(mdp, pi), advantages(mdp, pi)
    total, seen = np.zeros_like(exact), np.zeros_like(exact)
    for tau in trajectories(mdp, pi, limit):
        if not len(tau.rewards):
            continue
        n = len(tau.rewards)
        last = np.arange(n)[:, None] == n - 1
        x = v[tau.states][:, None]
        flags = last & tau.terminated, last & (n == limit)
        s = Segment(tau.rewards[:, None], x[:-1], x[1:], *flags, x[-1], np.zeros(1, bool),
                    np.ones((n, 1), bool), mdp.gamma, lam, "SAME_STEP")  # fmt: skip
        first = tau.states[0], tau.actions[0]
        total[first] += tau.probability * definition(s)[0, 0]
        seen[first] += tau.probability
    size = 1 + np.abs(exact).max() + np.abs(v).max()
    assert np.all(np.abs(total - seen * exact) <= 1e-9 * size)


# the segments


def test_drawn__are_the_same_each_time_and_hold_every_case():
    S = drawn()
    assert all(map(same, S, drawn.__wrapped__()))
    assert {s.autoreset for s in S} == set(MODES) and {s.rewards.shape[1] for s in S} == {1, 2, 3}
    assert {0.0, 1.0} < {s.gamma for s in S} and {0.0, 1.0} < {s.lam for s in S}
    assert any(s.rewards.shape == (1, 1) for s in S)
    assert any(len(s.rewards) > 1 and s.ends.all() for s in S)  # episodes of one step
    assert any((s.terminated & s.truncated).any() for s in S)
    sizes = [s.rewards.size for s in S]
    assert sizes == sorted(sizes)


def same(s, other):
    return all(np.array_equal(a, b) for a, b in zip(s, other))


class Numbered(gymnasium.Env):
    """Observations are 1, 2, ..., and never come again; kinds[row] says how the step ends."""

    observation_space, action_space = Box(0, np.inf, ()), Discrete(2)

    def __init__(self, kinds):
        self.kinds, self.row, self.shown = kinds, 0, 0

    def reset(self, *, seed=None, options=None):
        self.shown += 1
        return np.float32(self.shown), {}

    def step(self, action):
        kind = self.kinds[self.row]
        return self.reset()[0], 1.0, bool(kind & 1), bool(kind & 2), {}


def played(mode, kinds):
    """(observations (n+1,), those that the steps led to (n,), rewards (n,), ends (n,)): by
    Gymnasium, in this autoreset mode."""
    env = Numbered(kinds)
    envs = SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode[mode])
    seen, led_to, rewards, ends = [envs.reset()[0][0]], [], [], []
    for env.row in range(len(kinds)):
        o, r, terminated, truncated, info = envs.step(np.zeros(1, int))
        over = terminated | truncated
        led_to.append(info["final_obs"][0] if "final_obs" in info else o[0])
        if mode == "DISABLED" and over and env.row < len(kinds) - 1:
            o, _ = envs.reset(options={"reset_mask": over})
        seen.append(o[0])
        rewards.append(r[0])
        ends.append(over[0])
    return map(np.array, (seen, led_to, rewards, ends))


@pytest.mark.parametrize("mode", MODES)
def test_draw__has_the_rows_that_gymnasium_has(mode):
    """Which steps end, which only reset, and where the next row shows another state."""
    for kinds in product(range(4), repeat=3):
        seen, led_to, rewards, ends = played(mode, kinds)
        for seed in range(20):
            s = draw(np.random.default_rng(seed), mode, np.array(kinds)[:, None], 1.0, 1.0)
            if mode == "NEXT_STEP" and s.before[0]:
                continue  # the segment begins with a reset step
            other = (s.next_values != s.observed)[:, 0]
            assert np.array_equal(s.ends[:, 0], ends)
            assert np.array_equal(s.real[:, 0], rewards != 0)
            assert np.array_equal(other, seen[1:] != led_to) or repeats(s)
            assert not s.rewards[~s.real].any()


def repeats(s):
    """Whether two drawn values happen to be equal."""
    values = np.concatenate([s.values, s.last_value[None], s.next_values[s.ends][:, None]])
    return len(np.unique(values)) < values.size


def test_known__takes_what_cannot_be_told_for_a_termination():
    """No end is lost, and every truncation that is left has its v among the arguments."""
    for name in ("dones", "cleanrl", "sb3", "n_step_dones", "separate", "gae"):
        names = signature(made(*RIGHT[name][:1], np), RIGHT[name][1])
        for s in drawn():
            known = names.known(s)
            assert np.array_equal(known.ends, s.ends)
            assert name in ("separate", "gae") or not known.truncated.any()
            told = s.next_values == (s.next_values if name == "gae" else s.observed)
            if name in ("separate", "gae"):
                assert np.array_equal(known.terminated, s.terminated | s.ends & ~told)


# functions of users: right ones, and edits of their text, each of which is a mistake

GAE = """
def f(rewards, values, next_values, terminated, truncated, gamma, lam):
    n = len(rewards)
    A, after = lib.zeros_like(rewards), 0.0
    for t in reversed(range(n)):
        v = (1.0 - terminated[t]) * next_values[t]
        delta = rewards[t] + gamma * v - values[t]
        on = (1.0 - terminated[t]) * (1.0 - truncated[t])
        after = delta + gamma * lam * on * after
        A[t] = after
    return A
"""
DONES = """
def f(rewards, values, last_value, dones, gamma, lam):
    n = len(rewards)
    A, after = lib.zeros_like(rewards), 0.0
    for t in reversed(range(n)):
        following = last_value if t == n - 1 else values[t + 1]
        delta = rewards[t] + gamma * following * (1.0 - dones[t]) - values[t]
        after = delta + gamma * lam * (1.0 - dones[t]) * after
        A[t] = after
    return A
"""
CLEANRL = """
def f(rewards, values, dones, next_done, next_value, gamma, gae_lambda):
    n = len(rewards)
    A, after = lib.zeros_like(rewards), 0.0
    for t in reversed(range(n)):
        if t == n - 1:
            going, following = 1.0 - next_done, next_value
        else:
            going, following = 1.0 - dones[t + 1], values[t + 1]
        delta = rewards[t] + gamma * following * going - values[t]
        after = delta + gamma * gae_lambda * going * after
        A[t] = after
    return A
"""
SB3 = CLEANRL.replace("dones", "episode_starts").replace("next_done", "dones")
N_STEP = """
def f(rewards, next_values, terminated, truncated, gamma):
    n = len(rewards)
    G = lib.zeros_like(rewards)
    R = next_values[n - 1]
    for t in reversed(range(n)):
        stop = 1.0 - (1.0 - terminated[t]) * (1.0 - truncated[t])
        v = (1.0 - terminated[t]) * next_values[t]
        R = rewards[t] + stop * gamma * v + (1.0 - stop) * gamma * R
        G[t] = R
    return G
"""
N_STEP_DONES = """
def f(rewards, last_value, dones, gamma):
    n = len(rewards)
    R, G = last_value, lib.zeros_like(rewards)
    for t in reversed(range(n)):
        R = rewards[t] + gamma * R * (1.0 - dones[t])
        G[t] = R
    return G
"""
N_STEP_ADVANTAGES = """
def f(rewards, values, last_value, dones, gamma):
    n = len(rewards)
    R, A = last_value, lib.zeros_like(rewards)
    for t in reversed(range(n)):
        R = rewards[t] + gamma * R * (1.0 - dones[t])
        A[t] = R - values[t]
    return A
"""
FLAT = """
def f(rewards, gamma):
    G, R = lib.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        R = rewards[t] + gamma * R
        G[t] = R
    return G
"""
NO_BOOTSTRAP = """
def f(rewards, dones, gamma):
    R, G = 0.0, lib.zeros_like(rewards)
    for t in reversed(range(len(rewards))):
        R = rewards[t] + gamma * R * (1.0 - dones[t])
        G[t] = R
    return G
"""
SEPARATE = """
def f(rewards, values, last_value, terminated, truncated, gamma, lam):
    n = len(rewards)
    A, after = lib.zeros_like(rewards), 0.0
    for t in reversed(range(n)):
        following = last_value if t == n - 1 else values[t + 1]
        delta = rewards[t] + gamma * following * (1.0 - terminated[t]) - values[t]
        on = (1.0 - terminated[t]) * (1.0 - truncated[t])
        after = delta + gamma * lam * on * after
        A[t] = after
    return A
"""
RIGHT = {
    "gae": (GAE, "advantages"),
    "dones": (DONES, "advantages"),
    "cleanrl": (CLEANRL, "advantages"),
    "sb3": (SB3, "advantages"),
    "n_step": (N_STEP, "returns"),
    "n_step_dones": (N_STEP_DONES, "returns"),
    "n_step_advantages": (N_STEP_ADVANTAGES, "advantages"),
    "flat": (FLAT, "returns"),
    "no_bootstrap": (NO_BOOTSTRAP, "returns"),
    "separate": (SEPARATE, "advantages"),
}
SHORT = ("range(n)", "range(n - 1)")
EDITS = [
    ("no_bootstrap", "through_reset", (" * (1.0 - dones[t])", "")),
    ("gae", "truncation_as_termination", ("* next_values", "* (1.0 - truncated[t]) * next_values")),
    ("gae", "bootstraps_at_termination", ("(1.0 - terminated[t]) * next_values", "next_values")),
    ("gae", "exchanged_flags", ("v = (1.0 - terminated", "v = (1.0 - truncated")),
    ("gae", "no_lambda", ("gamma * lam", "gamma")),
    ("gae", "no_recursion", (" + gamma * lam * on * after", "")),
    ("gae", "returns_or_advantages", ("= after\n", "= after + values[t]\n")),
    ("gae", "wrong_sign", ("return A", "return -A")),
    ("dones", "no_lambda", ("gamma * lam", "gamma")),
    ("dones", "returns_or_advantages", ("return A", "return A + values")),
    ("cleanrl", "bootstraps_at_termination", ("1.0 - next_done", "1.0 - 0.0 * next_done")),
    ("n_step", "wrong_sign", ("return G", "return -G")),
    ("n_step_advantages", "no_recursion",
     ("gamma * R *", "gamma * (values[t + 1] if t < n - 1 else R) *")),
    ("gae", "bootstraps_next_episode",
     ("next_values[t]", "(values[t + 1] if t < n - 1 else next_values[t])")),
    ("gae", "through_reset", ("(1.0 - truncated[t])", "1.0")),
    ("gae", "through_reset", ("(1.0 - truncated[t])", "1.0"), ("(1.0 - terminated[t])", "1.0")),
    ("gae", "drops_last_step", SHORT),
    ("gae", "drops_last_step", ("* next_values[t]", "* next_values[t] * (t < n - 1)")),
    ("gae", "shifted_done", ("terminated[t]", "terminated[t - 1]"),
     ("truncated[t]", "truncated[t - 1]")),
    ("gae", "shifted_done", ("terminated[t]", "terminated[min(t + 1, n - 1)]"),
     ("truncated[t]", "truncated[min(t + 1, n - 1)]")),
    ("gae", "gamma_twice", ("gamma * v", "gamma**2 * v")),
    ("gae", "gamma_twice", ("gamma * lam", "gamma**2 * lam")),
    ("gae", "gamma_twice", ("n = len(rewards)", "n = len(rewards); gamma = gamma**2")),
    ("gae", "no_gamma", ("gamma * v", "v")),
    ("gae", "no_gamma", ("n = len(rewards)", "n = len(rewards); gamma = 1.0")),
    ("gae", "lambda_without_gamma", ("gamma * lam", "lam")),
    ("gae", "not_reset", (" * on", "")),
    ("dones", "through_reset", ("(1.0 - dones[t])", "1.0")),
    ("dones", "drops_last_step", SHORT),
    ("dones", "drops_last_step", ("last_value if", "0.0 if")),
    ("dones", "shifted_done", ("dones[t]", "dones[t - 1]")),
    ("dones", "shifted_done", ("dones[t]", "dones[(t + 1) % n]")),
    ("dones", "gamma_twice", ("gamma * following", "gamma * gamma * following")),
    ("dones", "no_gamma", ("gamma * following", "following")),
    ("dones", "lambda_without_gamma", ("gamma * lam", "lam")),
    ("dones", "not_reset", ("lam * (1.0 - dones[t])", "lam")),
    ("cleanrl", "through_reset", ("1.0 - dones[t + 1]", "1.0"), ("1.0 - next_done", "1.0")),
    ("cleanrl", "drops_last_step", SHORT),
    ("cleanrl", "shifted_done", ("dones[t + 1]", "dones[t]"), ("- next_done", "- dones[t]")),
    ("cleanrl", "shifted_done", ("dones[t + 1]", "dones[t]")),
    ("cleanrl", "gamma_twice", ("gamma * gae", "gamma**2 * gae")),
    ("cleanrl", "no_gamma", ("gamma * following", "following")),
    ("cleanrl", "lambda_without_gamma", ("gamma * gae", "gae")),
    ("cleanrl", "not_reset", ("gae_lambda * going", "gae_lambda")),
    ("sb3", "through_reset", ("1.0 - episode_starts[t + 1]", "1.0"), ("1.0 - dones", "1.0")),
    ("sb3", "drops_last_step", SHORT),
    ("sb3", "shifted_done", ("starts[t + 1]", "starts[t]")),
    ("sb3", "gamma_twice", ("gamma * following", "gamma**2 * following")),
    ("sb3", "no_gamma", ("gamma * following", "following")),
    ("sb3", "lambda_without_gamma", ("gamma * gae", "gae")),
    ("sb3", "not_reset", ("gae_lambda * going", "gae_lambda")),
    ("n_step", "truncation_as_termination",
     ("* next_values", "* (1.0 - truncated[t]) * next_values")),
    ("n_step", "through_reset", ("* (1.0 - truncated[t])", "")),
    ("n_step", "drops_last_step", SHORT),
    ("n_step", "shifted_done", ("terminated[t]", "terminated[t - 1]"),
     ("truncated[t]", "truncated[t - 1]")),
    ("n_step", "gamma_twice", ("gamma * v", "gamma**2 * v"), ("gamma * R", "gamma**2 * R")),
    ("n_step", "no_gamma", ("gamma * v", "v"), ("gamma * R", "R")),
    ("n_step_dones", "through_reset", (" * (1.0 - dones[t])", "")),
    ("n_step_dones", "drops_last_step", SHORT),
    ("n_step_dones", "drops_last_step", ("R, G = last_value", "R, G = 0.0 * last_value")),
    ("n_step_dones", "shifted_done", ("dones[t]", "dones[t - 1]")),
    ("n_step_dones", "gamma_twice", ("gamma * R", "gamma**2 * R")),
    ("n_step_dones", "no_gamma", ("gamma * R", "R")),
    ("n_step_advantages", "through_reset", (" * (1.0 - dones[t])", "")),
    ("n_step_advantages", "drops_last_step", SHORT),
    ("n_step_advantages", "shifted_done", ("dones[t]", "dones[min(t + 1, n - 1)]")),
    ("n_step_advantages", "no_gamma", ("gamma * R", "R")),
    ("flat", "gamma_twice", ("gamma * R", "gamma**2 * R")),
    ("flat", "no_gamma", ("gamma * R", "R")),
    ("flat", "drops_last_step", ("len(rewards)", "len(rewards) - 1")),
    ("separate", "truncation_as_termination",
     ("(1.0 - terminated[t]) - values", "(1.0 - terminated[t]) * (1.0 - truncated[t]) - values")),
    ("separate", "through_reset", ("(1.0 - truncated[t])", "1.0")),
    ("separate", "not_reset", (" * on", "")),
]  # fmt: skip


def edited(text, *edits):
    """The text after edits (old, new), each of which it has."""
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def made(text, library):
    """The function that a text defines, its arrays being those of a library."""
    module = {"lib": library}
    exec(text, module)
    return module["f"]


@pytest.fixture(params=("numpy", "torch"))
def library(request):
    return pytest.importorskip(request.param)


@pytest.mark.parametrize("name", RIGHT)
def test_judge__agrees_with_what_is_right(name, library):
    text, what = RIGHT[name]
    verdict = judge(made(text, library), what)
    assert (verdict.agrees, verdict.mistake, verdict.counterexample) == (True, None, None)
    assert verdict.segments == len(drawn()) and str(verdict).startswith(
        "agrees with the definition"
    )
    assert bool(verdict.cannot) == (name not in ("gae", "n_step"))


@pytest.mark.parametrize("name, mistake, edits", [(a, b, c) for a, b, *c in EDITS])
def test_judge__names_each_mistake_in_each_signature(name, mistake, edits):
    text, what = RIGHT[name]
    verdict = judge(made(edited(text, *edits), np), what)
    assert (verdict.agrees, verdict.mistake) == (False, mistake)
    assert str(verdict).startswith(f"{mistake}: ")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_judge__names_each_mistake_of_torch(mistake):
    torch = pytest.importorskip("torch")
    edits = next(edits for name, named, *edits in EDITS if (name, named) == ("gae", mistake))
    single = ("lib.zeros_like(rewards)", "lib.zeros(rewards.shape)")  # in single precision
    assert judge(made(edited(GAE, *edits), torch)).mistake == mistake
    assert judge(made(edited(GAE, *edits, single), torch)).mistake == mistake


ONE = [  # pairs that are one mistake: one hides the other, or both together are its variant
    ("truncation_as_termination", "bootstraps_next_episode"),
    ("truncation_as_termination", "through_reset"),
    ("bootstraps_next_episode", "through_reset"),
    ("through_reset", "not_reset"),
    ("no_gamma", "lambda_without_gamma"),
    ("gamma_twice", "no_gamma"),  # one undoes the other
    ("through_reset", "shifted_done"),  # the same flag
    ("truncation_as_termination", "bootstraps_at_termination"),  # together, exchanged_flags
    ("truncation_as_termination", "exchanged_flags"),
    ("bootstraps_at_termination", "exchanged_flags"),
    ("bootstraps_at_termination", "not_reset"),  # together, through_reset
    ("through_reset", "no_recursion"),
    ("lambda_without_gamma", "no_lambda"),
    ("lambda_without_gamma", "no_recursion"),
    ("no_lambda", "no_recursion"),
    ("no_recursion", "not_reset"),
    ("bootstraps_next_episode", "bootstraps_at_termination"),  # a variant of through_reset
    ("shifted_done", "bootstraps_at_termination"),  # the flag of no step is another's
]
PAIRS = [pair for pair in combinations(MISTAKES, 2) if set(pair) not in map(set, ONE)]


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_judge__names_none_for_two_at_once(pair):
    one = {named: edits for name, named, *edits in reversed(EDITS) if name == "gae"}
    text = edited(GAE, *one[pair[0]], *one[pair[1]])
    verdict = judge(made(text, np))
    assert (verdict.agrees, verdict.mistake) == (False, None)
    assert str(verdict).startswith("departs from the definition, by no one mistake")


@pytest.mark.parametrize("name", ("gae", "dones"))
def test_catalogue__no_variant_is_taken_for_another_mistake(name):
    """Nor is any equal to the definition, if the signature knows all."""
    text, what = RIGHT[name]
    names = signature(made(text, np), what)
    known = [names.known(s) for s in drawn()]
    real = np.concatenate([s.real.ravel() for s in known])
    all_of = lambda answers: np.concatenate([A.ravel() for A in answers])[real]
    right = all_of(map(definition, known))
    found = [(mistake, all_of(answers)) for mistake in possible(names)
             for answers in zip(*map(CATALOGUE[mistake], known))]  # fmt: skip
    wrong = [(mistake, A) for mistake, A in found if np.abs(A - right).max() > 1e-3]
    assert name != "gae" or len(wrong) == len(found)
    for (mistake, A), (other, B) in combinations(wrong, 2):
        assert mistake == other or np.abs(A - B).max() > 1e-3


def test_judge__names_none_if_two_mistakes_explain_the_answers(monkeypatch):
    f = made(edited(GAE, (" * on", "")), np)
    assert judge(f).mistake == "not_reset"
    monkeypatch.setitem(CATALOGUE, "another", CATALOGUE["not_reset"])
    assert judge(f).mistake == "not_reset"  # the one that is well known
    monkeypatch.setattr(returns, "KNOWN", KNOWN | {"another"})
    assert judge(f).mistake is None


def test_counterexample__is_the_smallest_and_says_where():
    verdict = judge(made(edited(GAE, ("gamma * lam", "lam")), np))
    found = verdict.counterexample
    assert found.theirs.shape == (2, 1) and found.entry == [0, 0]
    assert set(found.inputs) == set(inspect.signature(made(GAE, np)).parameters)
    assert np.allclose(found.right, made(GAE, np)(**found.inputs))
    assert found.theirs[0, 0] != found.right[0, 0] and found.theirs[1, 0] == found.right[1, 0]
    lines = str(found).splitlines()
    assert lines[1].split() == ["t", "r", "v", "next", "v", "end", "yours", "right"]
    assert len(lines) == 4 and lines[2].endswith("<")


def test_counterexample__says_that_an_episode_ended_before_if_the_function_is_told():
    edits = next(edits for name, named, *edits in EDITS if (name, named) == ("sb3", "shifted_done"))
    found = judge(made(edited(SB3, *edits), np)).counterexample
    assert found.inputs["episode_starts"][0].all() and "ended just before" in str(found)


def test_judge__ignores_reset_steps():
    text = edited(GAE, ("    return A", "    A[(rewards == 0)] = 7.0\n    return A"))
    assert judge(made(text, np)).agrees


def test_judge__takes_pairs_keywords_and_booleans():
    pair = edited(GAE, ("return A", "return A, A + values"), (", gamma, lam", ", *, gamma, lam"))
    assert judge(made(pair, np)).agrees and judge(made(pair, np), "returns").agrees
    boolean = edited(GAE, ("(1.0 - terminated[t]) * (1.0 - truncated[t])",
                           "~(terminated[t] | truncated[t])"))  # fmt: skip
    assert judge(made(boolean, np)).agrees


def test_judge__asks_for_one_environment_at_a_time_if_all_at_once_fails():
    one = edited(GAE, ("n = len(rewards)", "(n,) = rewards.shape"))
    assert judge(made(one, np)).agrees
    assert judge(made(edited(one, ("gamma * lam", "lam")), np)).mistake == "lambda_without_gamma"
    with pytest.raises(Unusable, match=r"shape \(1, 1, 1\): must be \(1, 1\)"):
        judge(lambda rewards, values, gamma: rewards[None] if rewards.ndim > 1 else rewards[:0])


def test_judge__agrees_if_a_part_is_in_single_precision():
    text = edited(DONES, ("n = len(rewards)", "n = len(rewards); lam = float(lib.float32(lam))"))
    assert judge(made(text, np)).agrees


def test_judge__agrees_with_the_page():
    assert judge(a2c.returns, "returns").agrees


# bad input, and the command line

CODE = """
import numpy as lib
{right}
wrong = {wrong}
def changes(rewards, values, last_value, dones, gamma, lam):
    rewards *= 2
    return rewards
def shaped(rewards, values, last_value, dones, gamma, lam): return rewards[0]
def nan(rewards, values, last_value, dones, gamma, lam): return rewards / 0 * 0
def random(rewards, values, last_value, dones, gamma, lam): return rewards + lib.random.random()
def raises(rewards, values, last_value, dones, gamma, lam): raise KeyError("here")
def endless(rewards, values, last_value, dones, gamma, lam):
    while True: pass
def nothing(rewards, values, last_value, dones, gamma, lam): return None
def unknown(rewards, values, discount): return rewards
def many(*args): return args
def twice(rewards, r, values, gamma): return rewards
def no_rewards(values, gamma): return values
def no_values(rewards, dones, gamma): return rewards
def half(rewards, values, next_values, truncated, gamma): return rewards
def starts(rewards, values, last_value, episode_starts, gamma): return rewards
def zero(rewards, values, last_value, dones, gamma, lam): return 0 * rewards
"""


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    """(exit status, stdout, stderr's lines) of npgrad referee returns, beside the file mine.py."""
    code = CODE.replace("wrong = {wrong}", edited(GAE, ("gamma * lam", "lam"), ("f(", "wrong(")))
    (tmp_path / "mine.py").write_text(code.replace("{right}", DONES))
    monkeypatch.chdir(tmp_path)

    def run(line):
        status = main(["referee", "returns", *line.split()])
        out, err = capfd.readouterr()
        return status, out, err.splitlines()

    yield run
    sys.modules.pop("checked_mine", None)


def test_command__says_the_verdict_the_table_and_what_cannot_be_known(run):
    status, out, err = run("mine.py:f")
    first, cannot = out.splitlines()
    assert (status, err) == (
        0,
        [],
    ) and first == f"agrees with the definition on {len(drawn())} segments"
    assert cannot.startswith(
        "dones only: cannot tell truncation from termination; at a truncation "
    )
    status, out, err = run("mine.py:wrong")
    assert (status, err) == (1, []) and out.startswith("lambda_without_gamma: the recursion has λ ")
    assert "yours" in out and "<" in out


def test_command__json_is_one_line_that_says_the_same(run):
    status, out, _ = run("mine.py:wrong --json")
    result = json.loads(out)
    assert (status, out.count("\n")) == (1, 1)
    assert (result["agrees"], result["mistake"]) == (False, "lambda_without_gamma")
    found = result["counterexample"]
    f = made(GAE, np)
    right = f(**{k: np.array(x) if isinstance(x, list) else x for k, x in found["inputs"].items()})
    assert np.allclose(right, found["right"]) and found["entry"] == [0, 0]
    assert np.shape(found["theirs"]) == (2, 1)
    result = json.loads(run("mine.py:f --json")[1])
    assert result["agrees"] and result["mistake"] is None and result["counterexample"] is None
    result = json.loads(run("mine.py:zero --json")[1])
    assert not result["agrees"] and result["mistake"] is None and result["counterexample"]


BAD = {
    "mine.py:changes": (3, "changes changes its arguments"),
    "mine.py:shaped": (3, "shaped returns shape (1,): must be (1, 1)"),
    "mine.py:nan": (3, "nan returns nan: must be finite"),
    "mine.py:random": (3, "random gives two answers to one question"),
    "mine.py:raises": (3, "raises raises KeyError: 'here'"),
    "mine.py:endless --timeout 0.05": (3, "endless does not end in time"),
    "mine.py:nothing": (3, "nothing returns None: must be an array of numbers"),
    "mine.py:unknown": (2, "unknown has a parameter discount: must be among rewards, values, "),
    "mine.py:many": (2, "many has a parameter args: must be among"),
    "mine.py:twice": (2, "twice has parameters rewards and r, which mean the same: must have one"),
    "mine.py:no_rewards": (2, "no_rewards(values, gamma) has no parameter rewards: must have it"),
    "mine.py:no_values": (2, "no_values(rewards, dones, gamma) has no parameter values"),
    "mine.py:half": (
        2,
        "half(rewards, values, next_values, truncated, gamma) has no parameter term",
    ),
    "mine.py:starts": (
        2,
        "starts(rewards, values, last_value, episode_starts, gamma) has no param",
    ),
    "mine.py:nowhere": (2, "mine.py has no nowhere"),
    "none.py:f": (2, "FILE = none.py: cannot be imported: FileNotFoundError"),
    "mine.py": (2, "FILE:f = mine.py: must be like mine.py:f"),
    "mine.py:f --what else": (2, "--what = else: must be one of"),
    "": (2, "missing: FILE:f"),
}


@pytest.mark.parametrize("line", BAD)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_command__bad_input_is_one_line(run, line):
    status, out, err = run(line)
    message = [text for text in err if "warning" not in text]
    assert (status, out, len(message)) == (BAD[line][0], "", 1)
    assert message[0].startswith("npgrad: " + BAD[line][1])


def test_command__help_says_what_names_mean(run):
    status, out, _ = run("--help")
    assert status == 0 and all(name in out for name in (*MISTAKES, "next_done", "episode_starts"))


def test_command__says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    assert run("mine.py:f --framework jax")[::2] == (
        2,
        ["npgrad: jax is not installed: pip install 'jax'"],
    )


def test_judge__says_what_is_wrong_with_tensors():
    torch = pytest.importorskip("torch")
    graph = edited(DONES, ("return A", "return A.requires_grad_()"))
    with pytest.raises(Unusable, match="f returns a tensor that requires a gradient"):
        judge(made(graph, torch))
