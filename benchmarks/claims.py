"""The founding notes' measurable statements, each against a small experiment: one table.

    python -m benchmarks.claims [CLAIM ...] [--seeds 10] [--jobs 2] [--quick] [--draw]

A claim is one function: (verdict, number, data for the picture). Its docstring says what would make
the statement right; the verdict follows from the number wherever a number can decide. Verdicts:
right, wrong, partly, unsupported (nothing measured here bears it out). Some numbers are what other
benchmarks recorded (the last column says which command makes them); traces and entropy are tables
of their own, repeated here. Seeds are 0, 1, ...; step sizes were chosen on seeds from 100 up.

Writes results/claims.json, .md and .png; of claims not named, what is recorded stays. --quick runs
everything, a little of it, and records nothing.
"""

import argparse
import json
import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from typing import NamedTuple

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter

import algorithms.common.register  # noqa: F401
from algorithms import a2c, async_q, reinforce
from algorithms.common.episode import play
from algorithms.common.laboratory import expectation, moments
from algorithms.common.mdp import FiniteMDPEnv, expected_return, state_values
from algorithms.common.noise import Noise
from algorithms.common.policy import Network, make_policy, make_value
from algorithms.common.worlds import SHORT_CORRIDOR_OPTIMUM, chain, short_corridor_value
from algorithms.runner.laboratory import n_step, open_study, weigh
from algorithms.runner.plot import COLOURS
from benchmarks import entropy, traces
from benchmarks.laboratory import WORLDS
from benchmarks.record import RESULTS, save
from npgrad import OPTIMIZERS
from npgrad.optimizers import rmsprop, rmsprop_outside

LINEAR = Network(approximator="linear")
LEVELS = (100, 200, 300, 400, 475)
BASELINES = {
    "no baseline": dict(baseline="none", step_size=1e-3),  # its best of 5e-4, 1e-3, 2e-3
    "running mean": dict(baseline="mean"),
    "learned v̂": dict(baseline="value"),
}
CAP = 400_000  # steps; what is not reached by then counts as never
FACTORS = (1, 2, 4, 8, 16, 32, 64)


class Options(NamedTuple):
    seeds: int
    jobs: int
    quick: bool


class Claim(NamedTuple):
    notes: str  # section
    says: str
    run: object  # (options) -> (verdict, number, data or None)
    how: str = ""  # the command, if it is not this one


def recorded(name):
    """results/NAME.json, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def study(mdp, theta, horizon=None):
    """The laboratory's Study of a tabular softmax."""
    return open_study(mdp, make_policy(FiniteMDPEnv(mdp), LINEAR), theta, horizon)


@lru_cache
def studies():
    """{world: Study} of the laboratory's worlds, θ ~ N(0, 1) of seed 0."""
    found = {}
    for env_id, (horizon, _) in WORLDS.items():
        mdp = gymnasium.make(env_id).unwrapped.mdp
        size = make_policy(FiniteMDPEnv(mdp), LINEAR).model.layout.size
        found[env_id.split("/")[1].removesuffix("-v0")] = study(
            mdp, np.random.default_rng(0).standard_normal(size), horizon
        )
    return found


@lru_cache
def variances():
    """{world: {estimator: tr Cov ĝ of one episode}}, exactly."""
    table = {}
    for world, x in studies().items():
        v, of = state_values(x.mdp, x.pi), partial(weigh, gamma=x.mdp.gamma)
        estimators = {
            "total return": partial(of, weighting="total", baseline=0 * v),
            "reward to go": partial(of, baseline=0 * v),
            "reward to go − v": partial(of, baseline=v),
            "actor–critic, v̂ = v": n_step(v, x.mdp.gamma, 1),
        }
        table[world] = {name: moments(x, w).total_variance for name, w in estimators.items()}
    return table


def ratios(above, below):
    """ "world ratio, ..." of two estimators' variances, and the ratios."""
    found = {world: row[above] / row[below] for world, row in variances().items()}
    return ", ".join(f"{world} {x:.3g}" for world, x in found.items()), list(found.values())


def ascent(options):
    """Right if J rose along −∇J."""
    theta, J = np.random.default_rng(0).standard_normal(10), []
    g = expectation(study(chain(), theta))
    for step in (0.0, 0.01, -0.01):
        x = study(chain(), theta + step * g)
        J.append(expected_return(x.mdp, x.pi))
    up, down = J[1] - J[0], J[2] - J[0]
    verdict = "right" if down > 0 else "wrong"
    return verdict, f"chain: J + {up:.2e} along 0.01 ∇J, {down:.2e} along −0.01 ∇J: ascent", None


def stochastic(options):
    """Right if some stochastic policy of the corridor beats all deterministic ones."""
    greedy = max(short_corridor_value(p) for p in (0.05, 0.95))
    p, best = SHORT_CORRIDOR_OPTIMUM
    number = (
        f"short corridor: both deterministic policies never end (−∞), the better 0.1-greedy one "
        f"has {greedy:.1f}, π(right) = {p:.3f} has {best:.3f}"
    )
    return "right" if best > greedy else "wrong", number, None


def total_return(options):
    """Right if E ĝ is ∇J in every world; the sums run to T − 1, where T counts the actions."""
    worst = 0.0
    for x in studies().values():
        v = 0 * state_values(x.mdp, x.pi)
        of = partial(weigh, gamma=x.mdp.gamma, weighting="total", baseline=v)
        worst = max(worst, np.linalg.norm(moments(x, of).bias) / np.linalg.norm(expectation(x)))
    number = f"|E ĝ − ∇J|/|∇J| at most {worst:.0e} in five worlds, every episode enumerated, "
    return "right" if worst < 1e-9 else "wrong", number + "t = 0 … T − 1", None


def to_go(options):
    """Unsupported if some world has more variance by rewards to go than by total returns."""
    text, values = ratios("total return", "reward to go")
    verdict = "partly" if min(values) > 1 - 1e-9 else "unsupported"
    number = f"R(τ) for every action: variance over that of rewards to go: {text}"
    return verdict, f"{number}. A right formula, not the best", None


def lucky(options):
    """Right if random play on CartPole now and then had 100 times its usual return."""
    envs = gymnasium.make_vec("CartPole-v1", 1000, vectorization_mode="vector_entry_point")
    rng, R, squares = np.random.default_rng(0), [], []
    for k in range(2 if options.quick else 20):
        envs.reset(seed=k)
        total, drift, going = np.zeros(1000), np.zeros(1000), np.ones(1000, bool)
        while going.any():
            A = rng.integers(2, size=1000)
            drift += going * (A - 0.5)  # Σ_t ∂ln π/∂h of the second action
            _, r, terminated, truncated, _ = envs.step(A)
            total += going * r
            going &= ~(terminated | truncated)
        R += total.tolist()
        squares += ((total * drift) ** 2).tolist()
    R, share = np.array(R), np.sort(squares)[::-1]
    top = share[: len(R) // 100].sum() / share.sum()
    usual, most = np.median(R), R.max()
    number = (
        f"of {len(R):,} random episodes the median is {usual:.0f}, the most {most:.0f} "
        f"({most / usual:.0f} times; CartPole-v1 ends at 500). That the lucky ones dominate is "
        f"right: 1 % of the episodes carry {top:.0%} of the squared gradient"
    )
    return "right" if most >= 100 * usual else "partly", number, None


def collapse(options):
    """Right if runs stick without a baseline, and none does with it at a larger step."""
    record = recorded("corridor")
    from benchmarks.corridor import CURVES, WITH

    stuck = {name: curve["runs_stuck"] for name, curve in record["curves"].items()}
    text = ", ".join(f"{name}: {100 * x:.0f} %" for name, x in stuck.items())
    without = max(x for name, x in stuck.items() if name != WITH)
    number = f"short corridor, of {record['runs']} runs stuck at one action: {text}"
    assert set(stuck) == set(CURVES)
    return "right" if without > stuck[WITH] == 0 else "partly", number, None


def advantage_run(seed, stages, episodes):
    """G, G − v̂ of fresh episodes, and the ratio of tr Cov ĝ without and with v̂, at each stage."""
    env, config = gymnasium.make("CartPole-v1"), reinforce.Config()
    state, rows = reinforce.init(env, config, seed), []
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    training = reinforce.train(env, config, state)
    for stage in stages:
        while state.steps < stage:
            next(training)
        rng, g, pairs = np.random.default_rng([seed, stage]), ([], []), []
        for _ in range(episodes):
            e = play(env, policy, state.theta, rng)
            G, b = reinforce.targets(state, config, value, e)
            t = np.arange(len(G))
            for found, base in zip(g, (0 * b, b)):
                weight = reinforce.weights(t, G, base, config.gamma, config.weighting)
                found.append(reinforce.gradient(state.theta, policy, e.S, e.A, weight))
            pairs.append(np.stack([G, G - b]))
        without, with_v = (np.var(x, axis=0, ddof=1).sum() for x in g)
        G, A = np.concatenate(pairs, axis=1)
        rows.append(dict(stage=stage, ratio=float(without / with_v),
                         returns=np.quantile(G, [0.01, 0.99]).tolist(),
                         advantages=np.quantile(A, [0.01, 0.99]).tolist(),
                         histogram=[np.histogram(x, np.arange(-70, 110, 5), density=True)[0]
                                    .round(4).tolist() for x in (G, A)]))  # fmt: skip
    return rows


def advantages(options):
    """Right if advantages span a tenth of what returns do, and the gradient's variance falls."""
    stages = (5_000,) if options.quick else (5_000, 20_000, 60_000)
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(advantage_run, k, stages, 60) for k in range(options.seeds)]
        runs = [job.result() for job in jobs]
    parts = []
    for rows in zip(*runs):
        (a, b), (c, d) = (np.median([r[k] for r in rows], 0) for k in ("returns", "advantages"))
        ratio = np.quantile([r["ratio"] for r in rows], [0.25, 0.5, 0.75])
        text = (
            f"{rows[0]['stage']:,} steps: G in [{a:.0f}, {b:.0f}], G − v̂ in [{c:.0f}, {d:.0f}], "
            f"tr Cov ĝ falls {ratio[1]:.1f} times ({ratio[0]:.1f} to {ratio[2]:.1f})"
        )
        parts.append((b - a, d - c, ratio[1], text))
    exact, _ = ratios("reward to go", "reward to go − v")
    number = f"CartPole, γ = 0.99, 1st to 99th percentile: {'; '.join(p[3] for p in parts)}. "
    number += f"Exactly, tr Cov ĝ with b = 0 over b = v: {exact}"
    narrow = [wide > 5 * thin for wide, thin, *_ in parts]
    less = all(ratio > 1 for *_, ratio, _ in parts)
    verdict = "right" if all(narrow) and less else "partly" if less else "wrong"
    last = np.mean([rows[-1]["histogram"] for rows in runs], 0).round(4).tolist()
    return verdict, number, dict(stage=stages[-1], histogram=last)


def episodes_until(returns, levels):
    """Number of episodes until the mean of the last 100 is at each level; None: never."""
    means = np.convolve(returns, np.full(100, 0.01), "valid") if len(returns) >= 100 else []
    at = [np.flatnonzero(np.array(means) >= level - 1e-9) for level in levels]
    return [int(k[0]) + 100 if k.size else None for k in at]


def baseline_run(name, seed, cap):
    """Training episodes until each level, within so many steps."""
    env, config = gymnasium.make("CartPole-v1"), reinforce.Config(**BASELINES[name])
    state, returns = reinforce.init(env, config, seed), []
    for metrics in reinforce.train(env, config, state):
        returns += metrics.returns
        solved = len(returns) >= 100 and sum(returns[-100:]) >= 100 * LEVELS[-1]
        if solved or metrics.steps >= cap:
            return episodes_until(returns, LEVELS)


def baseline_cartpole(options):
    """Right if the interval of the ratio of medians at 475 is all above 10, wrong if below."""
    cap = 10_000 if options.quick else CAP
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = {
            name: [pool.submit(baseline_run, name, k, cap) for k in range(options.seeds)]
            for name in BASELINES
        }
        runs = {name: [job.result() for job in row] for name, row in jobs.items()}
    until = {
        name: np.array([[np.inf if x is None else x for x in row] for row in rows])
        for name, rows in runs.items()
    }
    without, mean, value = until.values()
    rng, n = np.random.default_rng(0), len(value)
    draws = rng.integers(n, size=(2, 2000, n))
    with np.errstate(invalid="ignore"):
        middle = np.median(without, 0) / np.median(value, 0)
        drawn = np.median(without[draws[0]], 1) / np.median(value[draws[1]], 1)
        low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0, method="nearest")
    show = lambda x: f"{x:.1f}" if np.isfinite(x) else "more than can be told"
    text = ", ".join(
        f"to {level} {show(m)} [{show(a)}, {show(b)}]"
        for level, m, a, b in zip(LEVELS, middle, low, high)
    )
    solved = ", ".join(f"{name} {np.isfinite(x[:, -1]).sum()}" for name, x in until.items())
    constant = np.median(mean[:, -1]) / np.median(value[:, -1])
    number = (
        f"episodes without over with v̂ (medians, 95 %): {text}; a running mean instead of v̂ "
        f"takes {show(constant)} times as many to 475. Of {n} runs reach 475 within {cap:,} steps: "
        f"{solved}"
    )
    verdict = "right" if low[-1] >= 10 else "wrong" if high[-1] < 10 else "unsupported"
    return verdict, number, dict(levels=LEVELS, runs=runs)


def baseline_corridor(options):
    """Right if about ten times as many episodes are needed without."""
    record = recorded("corridor")
    from benchmarks.corridor import WITH, WITHOUT

    curves = [record["curves"][name] for name in (WITHOUT, WITH)]
    value, returns = (
        [curve[f"episodes_until_{by}_reaches"] for curve in curves]
        for by in ("value", "smoothed_return")
    )
    bold = record["curves"]["α = 2⁻¹²"]
    number = (
        f"episodes until {record['threshold']}, mean of {record['runs']} runs, Sutton & Barto's α: "
        f"{value[0]} and {value[1]}, {value[0] / value[1]:.1f} times, by the policies' exact "
        f"value; {returns[0]} and {returns[1]}, {returns[0] / returns[1]:.1f} times, by returns. "
        f"With α = 2⁻¹² and no baseline {bold['episodes_until_value_reaches']}, but "
        f"{100 * bold['runs_stuck']:.0f} % of the runs stick"
    )
    ratio = value[0] / value[1], returns[0] / returns[1]
    verdict = "right" if min(ratio) >= 10 else "partly" if max(ratio) >= 10 else "wrong"
    data = {name: curve["mean_value"][::5] for name, curve in zip(("without", "with"), curves)}
    return verdict, number, data


def rare_action(options):
    """Right if a baseline changed what a rarely taken action expects to gain."""
    mdp = entropy.bandit([0.0, 0.0, 1.0])
    x = study(mdp, np.concatenate([np.log([0.98, 0.01, 0.01]), np.zeros(3)]))
    v, gains = state_values(mdp, x.pi), []
    for b in (0 * v, v):
        gains.append(moments(x, partial(weigh, gamma=1.0, baseline=b)).mean)
    number = (
        f"best of three arms, π = 0.01: its preference expects {gains[0][2]:.5f} per episode "
        f"without and {gains[1][2]:.5f} with b = v, difference "
        f"{abs(gains[0] - gains[1]).max():.0e}; in 100 episodes it is never tried with probability "
        f"{0.99**100:.2f}, whatever b is. The problem is real, but no baseline solves it"
    )
    return "wrong" if np.allclose(*gains) else "right", number, None


def parallel(options):
    """Right if two processes come near twice the steps per second of one."""
    real, found = recorded("a3c_processes")["table"], recorded("asynchrony")["summary"]["clock"]
    one, many = (found[N]["seconds"][1] for N in ("1", "16"))
    text = ", ".join(f"{row['ratio'][0]:.2f} ({name})" for name, row in real.items())
    number = (
        f"two processes on two cores: {text} times the steps per second; simulated, 16 workers "
    )
    number += f"reach 475 on CartPole {one / many:.1f} times sooner than one (the paper: 12.5)"
    return "right" if min(r["ratio"][0] for r in real.values()) > 1.5 else "partly", number, None


def correlation_run(seed, workers, n):
    """Lag-one correlation of successive segments' gradients, and tr Var of the sum of 8 successive
    over 8 tr Var of one: of one stream, and of several in turn."""
    env, config, state, _ = entropy.learned(0.01, entropy.T_MAX, seed, entropy.HALFWAY)
    policy = entropy.make_actor_critic(env, config.network, config.trunk)
    streams = [
        [g for g, *_ in entropy.several(env, config, policy, state.theta,
                                        np.random.default_rng([seed, k]), n)]
        for k in range(workers)
    ]  # fmt: skip
    rows = []
    for g in (np.concatenate(streams), np.stack(streams, 1).reshape(workers * n, -1)):
        g = g - g.mean(0)
        one = (g * g).sum() / len(g)
        eight = (g.reshape(-1, 8, g.shape[-1]).sum(1) ** 2).sum() / (len(g) // 8)
        rows.append([(g[1:] * g[:-1]).sum() / len(g) / one, eight / (8 * one)])
    return rows


def correlation(options):
    """Right if successive updates of one worker are correlated, of eight in turn less."""
    n = 64 if options.quick else 240
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(correlation_run, k, 8, n) for k in range(options.seeds)]
        one, many = np.median([job.result() for job in jobs], 0)
    number = (
        f"successive A3C segments of 20 steps on CartPole, θ held: correlation of their gradients "
        f"{one[0]:+.2f} of one worker, {many[0]:+.2f} of eight in turn; variance of the sum of "
        f"eight, independent ones having 1: {one[1]:.2f} and {many[1]:.2f}"
    )
    return "right" if one[0] > 0.1 > abs(many[0]) else "partly", number, None


def everybody_stops(options):
    """Right if updates came only at multiples of I_AsyncUpdate, and copies made others wait."""
    steps = 3_000 if options.quick else 20_000
    env, config = (
        gymnasium.make("CartPole-v1"),
        async_q.OneStepQ(workers=8, I_async_update=5, T_max=steps),
    )
    state = async_q.init(env, config, 0)
    for _ in async_q.train(env, config, state):
        pass
    T, updates = int(state.T.sum()), int(np.sum(state.updates))
    number = (
        f"8 workers, I = 5: {updates:,} updates in {T:,} steps, where t mod I = 0 alone makes "
        f"{T // 5:,}: an episode's end updates, too (Algorithm 1). θ⁻ is copied by the worker that "
        "passes the multiple of I_target; nobody waits"
    )
    return "wrong" if updates > 1.01 * T / 5 else "right", number, None


def inside(options):
    """Right by A3C's eqs 8–9; how much it matters where |Δθ| is small beside √ε."""
    text = []
    for d in (1e-3, 1e-2, 1e-1, 1.0):
        m = np.array([[d * d]])  # g at rest
        steps = [f(np.array([d]), m.copy(), 1, 1.0, eps=0.1)[0] for f in (rmsprop, rmsprop_outside)]
        text.append(f"{d:g}: {steps[0]:.4f} and {steps[1]:.4f}")
    number = "step per η for ε = 0.1 inside and outside the root, Δθ steady at " + "; ".join(text)
    return "right", f"{number}. It does more than prevent division by zero", None


def push(shared, pushes):
    theta = np.frombuffer(shared)
    A = np.random.default_rng(0).standard_normal((60, 60))
    for _ in range(pushes):
        for _ in range(20):  # the rollout and the gradient, in place of which this stands
            A = np.tanh(A @ A)
        theta += 1.0


def overwrite(options):
    """Right if pushes without locks lost much of what they add."""
    N, pushes = 2, 500 if options.quick else 4000
    shared = multiprocessing.RawArray("d", 4675)
    workers = [multiprocessing.Process(target=push, args=(shared, pushes)) for _ in range(N)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lost = 1 - np.frombuffer(shared).mean() / (N * pushes)
    runs = recorded("asynchronous")["results"]
    solved = {n: sum(r["score"] >= 475 for r in runs[f"a3c-{n}"]["runs"]) for n in (1, 2, 4)}
    number = (
        f"{N} processes, {len(os.sched_getaffinity(0))} core(s), {pushes:,} pushes θ += Δθ each "
        f"without locks: {lost:.4%} of what they add is lost; overwriting would lose half. A3C "
        f"without locks evaluates at 475 in {solved[1]}, {solved[2]} and {solved[4]} of 10 runs "
        "with 1, 2 and 4 processes"
    )
    return "wrong" if lost < 0.05 else "right", number, None


def staleness(options):
    """Right if stale workers need more steps than the same number without staleness."""
    found, shown = recorded("asynchrony")["summary"], []
    at = lambda kind, N: found[kind][str(N)]
    for N in (16, 64):
        for kind, what in (("clock", "stale"), ("serial", "not")):
            row = at(kind, N)
            middle = row["steps"][1]
            steps = "not within 150,000" if middle is None else f"{middle:,.0f}"
            shown.append(f"{N} workers, {what}: {row['reached']} of {row['seeds']} runs, {steps}")
    little = at("clock", 16)["steps"][1] < 1.25 * at("serial", 16)["steps"][1]
    much = at("clock", 64)["reached"] < at("serial", 64)["reached"]
    number = "CartPole, 475 reached by, and median steps: " + "; ".join(shown)
    data = {
        kind: {N: [row["steps"], row["reached"], row["seeds"]] for N, row in found[kind].items()}
        for kind in ("clock", "serial")
    }
    return "partly" if little and much else "right" if much else "unsupported", number, data


def waiting(options):
    """Right if A2C were the slower per second of processor."""
    record = recorded("learning")["contestants"]
    pace = {}
    for name in ("a3c", "a2c"):
        runs = record[f"{name}, CartPole-v1, npgrad"]["runs"]
        pace[name] = np.median([r["steps"][-1] / r["seconds"][-1] for r in runs])
    number = (
        f"one core, CartPole: A2C of 8 environments {pace['a2c']:,.0f} steps/s, A3C "
        f"{pace['a3c']:,.0f}: no worker waits where one process steps all environments and one "
        "batch serves them. Where environments differ in speed A2C does wait for the slowest; that "
        "is not measured here"
    )
    return "partly" if pace["a2c"] > pace["a3c"] else "right", number, None


def scenarios(options):
    """Right if A2C did better on a continuous task, A3C on an exploratory one: not measured."""
    runs = recorded("asynchronous")["results"]["pendulum"]["runs"]
    scores = np.array([r["score"] for r in runs])
    number = (
        f"A3C on Pendulum-v1 (continuous): {np.sum(scores >= -300)} of {len(runs)} seeds at −300 "
        f"or more, median {np.median(scores):.0f}. A2C computes the same gradient of a segment; "
        "nothing here tells them apart by task"
    )
    return "unsupported", number, None


def every_worker(options):
    """Right if one A3C update were the sum over all workers."""
    found = recorded("asynchrony")["summary"]["clock"]
    text = ", ".join(f"{N}: {found[N]['mean_staleness']:.1f}" for N in ("2", "4", "16", "64"))
    number = "an update is one worker's segment, and others' come between its pull and its push "
    return "wrong", f"{number}(mean number by workers: {text}); there is no Σ over workers", None


def gradients(updates):
    """dθ of A2C on CartPole-v1, 16 environments, mean reduction (updates, n)."""
    env, found = gymnasium.make("CartPole-v1"), []
    config = a2c.Config(environments=16, precision="double", vectorization="vector_entry_point")

    def gradient(*arguments):
        found.append(a2c.gradient(*arguments))
        return found[-1]

    state = a2c.init(env, config, 0)
    for _, _ in zip(range(updates), a2c.train(env, config, state, gradient)):
        pass
    return np.array(found)


def sum_or_mean(options):
    """Right if 1/N changed the step as it changes the gradient, for the optimiser in use."""
    d = gradients(50 if options.quick else 300)
    rules = {"SGD": ("sgd", {}), "momentum": ("momentum", {}), "Adam": ("adam", {})}
    rules |= {
        f"RMSProp, ε = {eps:g}": ("rmsprop", dict(eps=eps)) for eps in (0.1, 1e-3, 1e-5, 1e-10)
    }
    lengths = {}
    for name, (rule, settings) in rules.items():
        optimizer, lengths[name] = OPTIMIZERS[rule], []
        for N in FACTORS:
            m, total = optimizer.statistics(d[0]), 0.0
            for t, row in enumerate(d, 1):
                total += np.linalg.norm(optimizer.step(N * row, m, t, 1.0, **settings))
            lengths[name].append(total)
    growth = {name: (np.array(x) / x[0]).round(4).tolist() for name, x in lengths.items()}
    k = FACTORS.index(16)
    text = ", ".join(f"{name} {row[k]:.3g}" for name, row in growth.items())
    number = (
        f"the same {len(d)} gradients of A2C (r.m.s. entry {np.sqrt((d**2).mean()):.1e}) times 16 "
        f"make the steps longer by: {text}. Under Adam, and RMSProp with ε → 0, Σ and 1/N are the "
        "same update (RMSProp's Σ with ε is its 1/N with ε/N²); else 1/N is a step N times smaller"
    )
    return "partly", number, dict(factors=FACTORS, growth=growth)


def critic_variance(options):
    """Right if actor–critic has less variance in every world; biased where v̂ is wrong."""
    text, values = ratios("reward to go", "actor–critic, v̂ = v")
    cosines = []
    for x in studies().values():
        v = state_values(x.mdp, x.pi)
        cosines.append(moments(x, n_step(0.5 * v, x.mdp.gamma, 1)).cosine)
    number = (
        f"exactly, tr Cov ĝ of REINFORCE over that of one-step actor–critic with v̂ = v: {text}. "
        f"Bought with bias: with v̂ = v/2 the cosine of E ĝ with ∇J falls to {min(cosines):.2f} "
        "(chain)"
    )
    return "right" if min(values) > 1 else "partly", number, variances()


def sinus(options):
    """Right if N_t = 0.05 sin(0.1 t) looked like OU noise with the paper's values."""
    stationary = lambda form: np.divide(*(lambda k, s: (s, np.sqrt(1 - k * k)))(
        *Noise(ou_form=form).coefficients(0.2)))  # fmt: skip
    exact, euler = stationary("exact"), stationary("euler")
    rng, u, N, path = np.random.default_rng(0), np.zeros(1), np.zeros(1), []
    noise = Noise(ou_form="exact")
    for t in range(100_000):
        noise.explore(u, N, t, rng)
        path.append(N[0])
    path = np.array(path)
    number = (
        f"OU is random: s.d. {exact:.3f} (exact discretisation) or {euler:.3f} (Euler–Maruyama), "
        f"{path.std():.3f} over {len(path):,} steps; |N| ≤ 0.05 {np.mean(abs(path) <= 0.05):.0%} "
        f"of the time, ≤ 0.02 {np.mean(abs(path) <= 0.02):.0%}; correlation at lag 10 "
        f"{np.exp(-1.5):.2f}, at lag 31 {np.exp(-4.65):.2f}, of the sine {np.cos(1):.2f} and −1.00"
    )
    return "wrong", number, dict(path=path[:200].round(4).tolist())


def sudden(options):
    """Right if OU noise changes the action less from step to step than noise of the same s.d."""
    noise = Noise(ou_form="exact")
    keep, spread = noise.coefficients(0.2)
    sd = spread / np.sqrt(1 - keep**2)
    ou, white = sd * np.sqrt(2 * (1 - keep)), sd * np.sqrt(2)
    number = (
        f"r.m.s. change of N in a step, same s.d. {sd:.3f}: OU {ou:.3f}, white {white:.3f}; a "
        f"uniform action where u = 0 jumps by {1 / np.sqrt(3):.3f} (units of half the range)"
    )
    return "right" if ou < white else "wrong", number, None


def goals(noise, seed, episodes):
    """Share of episodes of MountainCarContinuous-v0 in which noise about u = 0 alone gets there."""
    envs = gymnasium.make_vec("MountainCarContinuous-v0", episodes, vectorization_mode="sync")
    rng, N, u = np.random.default_rng(seed), np.zeros(episodes), np.zeros(episodes)
    reached, over, t = np.zeros(episodes, bool), np.zeros(episodes, bool), 0
    envs.reset(seed=seed)
    while not over.all():
        if noise.noise == "epsilon":  # each environment draws for itself
            a = np.where(rng.random(episodes) < noise.epsilon, rng.uniform(-1, 1, episodes), 0.0)
        else:
            a = noise.explore(u, N, t, rng)
        _, _, terminated, truncated, _ = envs.step(a[:, None].astype(np.float32))
        reached |= terminated & ~over
        over |= terminated | truncated
        t += 1
    return float(reached.mean())


def inertia(options):
    """Right if OU noise moves a car with inertia where noise of the same s.d. does not."""
    keep, spread = Noise(sigma=0.3).coefficients(0.3)
    sd = spread / np.sqrt(1 - keep**2)
    kinds = {
        "OU, σ = 0.3": Noise(sigma=0.3),
        f"white, as strong ({sd:.2f})": Noise("white", float(sd)),
        "ε = 0.5, uniform": Noise("epsilon", epsilon=0.5),
    }
    n = 10 if options.quick else 40
    share = {name: goals(noise, 0, n) for name, noise in kinds.items()}
    text = ", ".join(f"{name} {x:.0%}" for name, x in share.items())
    number = f"MountainCarContinuous-v0, noise alone, {n} episodes that get to the goal: {text}"
    ou, *others = share.values()
    return "right" if ou > 2 * max(others) else "partly", number, None


def compared(name, better, worse):
    """A claim on DDPG: right if `better` beats each of `worse` in results/ddpg_NAME.json, wrong if
    one of them beats it, else unsupported. It beats the other if the 95 % bootstrap interval of the
    mean over seeds of the gap, in the return of μ averaged over the run, is above 0."""

    def run(options):
        record = recorded(f"ddpg_{name}")
        if record is None or not {better, *worse} <= set(record["variants"]):
            return "unsupported", "not recorded yet", None
        runs = {label: variant["runs"] for label, variant in record["variants"].items()}
        final = {label: np.array([r["evaluation"] for r in row]) for label, row in runs.items()}
        curves = {
            label: np.array([r["curve"]["returns"] for r in row]) for label, row in runs.items()
        }
        rng, signs, gaps = np.random.default_rng(0), [], []
        for label in worse:
            gap = curves[better].mean(1) - curves[label].mean(1)
            low, high = np.quantile(rng.choice(gap, (2000, len(gap))).mean(1), [0.025, 0.975])
            signs.append((low > 0) - (high < 0))
            gaps.append(f"{label} {gap.mean():+.0f} [{low:+.0f}, {high:+.0f}]")
        ends = "; ".join(f"{k} {np.median(x):.0f} ({x.min():.0f})" for k, x in final.items())
        number = (
            f"{record['env']}, {len(gap)} seeds. Return of μ averaged over {record['steps']:,} "
            f"steps, {better} less {'; '.join(gaps)}. At the end, median (worst): {ends}"
        )
        verdict = "right" if min(signs) > 0 else "wrong" if min(signs) < 0 else "unsupported"
        steps = next(iter(runs.values()))[0]["curve"]["steps"]
        data = {label: [steps, x.mean(0).round().tolist()] for label, x in curves.items()}
        return verdict, number, data

    return run


def low_pass(options):
    """Right: θ⁻ is the mean of past θ, their ages distributed geometrically."""
    text = []
    for tau in (0.001, 0.005, 0.01):
        age, half = (1 - tau) / tau, np.log(0.5) / np.log(1 - tau)
        text.append(f"τ = {tau:g}: mean age {age:.0f} updates, half gone after {half:.0f}")
    number = (
        "; ".join(text) + ". A hard copy every C has mean age (C − 1)/2, and jumps C steps at once"
    )
    return "right", number, None


DDPG = "python -m benchmarks.ddpg {}"
CLAIMS = {
    "ascent": Claim("1.1", "the policy is adjusted by gradient descent", ascent),
    "stochastic": Claim("1.1", "the best policy may have to be stochastic", stochastic),
    "total_return": Claim("1.2.1", "∇J = E[Σ_t ∇ln π_t · Σ_t γ^t r_t], sums to T", total_return),
    "to_go": Claim("1.2.1", "R(τ) weighs every action of an episode", to_go),
    "lucky": Claim("1.2.2.1", "on CartPole, by luck R(τ) = 1000 where most have 10", lucky),
    "collapse": Claim(
        "1.2.2.1", "a large R(τ) drives π to 1 for one action; the policy collapses", collapse,
        "python -m benchmarks.corridor"),
    "advantages": Claim(
        "1.2.2.1", "A = Q − V: the range shrinks, say from [0, 1000] to [−50, 50], and with it the "
        "variance", advantages),
    "baseline_cartpole": Claim(
        "1.2.2.1", "without baseline REINFORCE needs 10 times the episodes on CartPole",
        baseline_cartpole),
    "baseline_corridor": Claim(
        "1.2.2.1", "the same, on the short corridor", baseline_corridor,
        "python -m benchmarks.corridor"),
    "rare_action": Claim("1.2.2.1", "a baseline helps rarely sampled actions to be learned",
                         rare_action),
    "parallel": Claim("3", "parallel workers shorten training", parallel,
                      "python -m benchmarks.a3c_speed processes; … .asynchrony"),
    "correlation": Claim("3", "parallel workers decorrelate successive samples", correlation),
    "everybody_stops": Claim(
        "3.1.1", "an update when t mod I_AsyncUpdate = 0; all threads stop to copy θ⁻",
        everybody_stops),
    "inside": Claim("3.2.2", "RMSProp: ε inside the root, against division by zero", inside),
    "critic_variance": Claim("3.3", "A2C lessens the high variance of REINFORCE", critic_variance),
    "overwrite": Claim("3.3.1", "workers overwrite the shared θ; locks are needed", overwrite),
    "staleness": Claim(
        "3.3.1", "inconsistent policies cost A3C sample efficiency", staleness,
        "python -m benchmarks.asynchrony"),
    "waiting": Claim("3.3.1", "A3C uses resources well, A2C waits for the slowest", waiting,
                     "python -m benchmarks.learning a3c a2c"),
    "scenarios": Claim("3.3.1", "A3C suits fast exploration (Atari), A2C continuous control",
                       scenarios, "python -m benchmarks.asynchronous pendulum"),
    "every_worker": Claim("3.3.2", "Δθ_A3C = Σ_i over the workers", every_worker,
                          "python -m benchmarks.asynchrony"),
    "sum_or_mean": Claim("3.3.2", "A2C has 1/N where A3C has Σ", sum_or_mean),
    "sinus": Claim("4.2", "OU noise, e.g. N_t = 0.05 sin(0.1 t); changes of ± 0.02", sinus),
    "sudden": Claim("4.2.2", "OU changes actions little by little, ε-greedy suddenly", sudden),
    "inertia": Claim("4.2.1", "correlated noise suits systems with inertia", inertia),
    "noise": Claim(
        "4.2", "OU noise explores better than the others",
        compared("noise", "OU, σ = 0.2", ("white, as strong (0.38)", "ε-greedy, ε = 0.1")),
        DDPG.format("noise")),
    "no_noise": Claim(
        "4.2.1", "without noise a better action nearby is missed",
        compared("noise", "OU, σ = 0.2", ("none after the warm-up",)), DDPG.format("noise")),
    "annealing": Claim(
        "4.2.1", "large noise first (σ = 0.3), small later (0.01)",
        compared("annealing", "σ = 0.3 → 0.01", ("σ = 0.3", "σ = 0.01")),
        DDPG.format("annealing")),
    "soft": Claim(
        "4.3", "soft target updates are more stable than hard copies",
        compared("targets", "soft, τ = 0.005", ("hard, C = 200 (as old)", "hard, C = 1000")),
        DDPG.format("targets")),
    "tau": Claim(
        "4.3", "τ between 0.001 and 0.01",
        compared("tau", "τ = 0.01", ("τ = 0.05", "τ = 0.2")), DDPG.format("tau")),
    "low_pass": Claim("4.3", "θ⁻ is an exponential moving average, a low-pass filter", low_pass),
}  # fmt: skip

WORDS = {  # of the tables of traces and entropy
    "imprecise": "partly",
    "not as a rule": "wrong",
    "so up to a point": "partly",
    "not yet at β = 1 on CartPole-v1": "unsupported",
    "plausible on CartPole-v1": "unsupported",
}


def tabled(module, section):
    """The rows of benchmarks.traces or .entropy, from what they recorded."""
    name = module.__name__.split(".")[-1]
    return {
        f"{name}_{k}": dict(
            notes=section,
            says=says,
            verdict=WORDS.get(verdict, verdict),
            number=f"{so}: {measured}",
            how=f"python -m benchmarks.{name}",
        )
        for k, (says, verdict, so, measured) in enumerate(module.table(recorded(name)), 1)
    }


def examine(names, options):
    """{name: row} of claims, in the order of the notes, printed as they come."""
    found = {}
    for name in names:
        claim = CLAIMS[name]
        verdict, number, data = claim.run(options)
        how = claim.how or f"python -m benchmarks.claims {name}"
        found[name] = dict(
            notes=claim.notes, says=claim.says, verdict=verdict, number=number, how=how, data=data
        )
        print(f"{name}: {verdict}. {number}", flush=True)
    return found


def in_order(found):
    """All rows, those of traces and entropy among them, by section."""
    rows = found | tabled(traces, "2.1.1") | tabled(entropy, "3.2.3")
    section = lambda row: [int(k) for k in row["notes"].split(".")]
    return {name: row for name, row in sorted(rows.items(), key=lambda item: section(item[1]))}


def minus(text):
    """Minus signs for the hyphens before numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def markdown(rows):
    lines = ["| the notes | say | verdict | measured | by |", "|---|---|---|---|---|"]
    for row in rows.values():
        number = minus(row["number"])
        cells = row["notes"], row["says"], f"**{row['verdict']}**", number, f"`{row['how']}`"
        lines.append(f"| {' | '.join(cells)} |")
    verdicts = [row["verdict"] for row in rows.values()]
    count = ", ".join(
        f"{verdicts.count(v)} {v}" for v in ("right", "partly", "wrong", "unsupported")
    )
    return "\n".join(lines) + f"\n\n{len(rows)} statements: {count}.\n"


def draw(found):
    """What the claims in PANELS left for the picture, as far as it is there."""
    there = {name: f for name, f in PANELS.items() if found.get(name, {}).get("data")}
    fig, axes = plt.subplots(2, 4, figsize=(19, 8.6), layout="constrained")
    for ax, (name, panel) in zip(axes.flat, there.items()):
        panel(ax, found[name]["data"])
        title = f"{found[name]['notes']} {panel.__doc__.rstrip('.')}: {found[name]['verdict']}"
        ax.set_title(title, loc="left", fontsize=10.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    for ax in axes.flat[len(there) :]:
        ax.remove()
    fig.get_layout_engine().set(w_pad=0.08, h_pad=0.1)
    fig.savefig(RESULTS / "claims.png", dpi=130)


def draw_baseline(ax, data):
    """Episodes to each level on CartPole."""
    for (name, rows), colour in zip(data["runs"].items(), COLOURS):
        late = np.array([[np.inf if x is None else x for x in row] for row in rows])
        low, middle, high = np.quantile(late, [0.25, 0.5, 0.75], axis=0, method="nearest")
        ax.semilogy(data["levels"], middle, "o-", color=colour, label=name)
        ax.fill_between(data["levels"], low, np.minimum(high, 1e5), color=colour, alpha=0.15, lw=0)
    ax.set(xlabel="mean return of 100 training episodes", ylabel="episodes: median, quartiles")
    ax.set(ylim=(80, 5000), xticks=data["levels"])


def draw_corridor(ax, data):
    """Baseline, short corridor."""
    for (name, values), colour in zip(data.items(), (COLOURS[0], COLOURS[2])):
        ax.plot(5 * np.arange(len(values)), values, color=colour, label=f"{name} baseline")
    ax.axhline(SHORT_CORRIDOR_OPTIMUM[1], color="black", ls=":", lw=1)
    ax.set(xlabel="episode", ylabel="exact value of the policy, mean of 100 runs")


def draw_advantages(ax, data):
    """Returns and advantages, CartPole."""
    for row, colour, label in zip(data["histogram"], COLOURS, ("G", "G − v̂")):
        ax.stairs(row, np.arange(-70, 110, 5), fill=True, color=colour, alpha=0.5, label=label)
    ax.set(xlabel=f"discounted, after {data['stage']:,} steps", ylabel="density, mean of the seeds")


def draw_variance(ax, data):
    """Variance of the gradient, exactly."""
    for k, name in enumerate(next(iter(data.values()))):
        heights = [row[name] for row in data.values()]
        ax.bar(np.arange(len(data)) + 0.2 * (k - 1.5), heights, 0.2, color=COLOURS[k], label=name)
    ax.set_xticks(range(len(data)), [world.replace("Short", "") for world in data])
    ax.set(yscale="log", ylabel="tr Cov ĝ of one episode", ylim=(0.2, 4000))


def draw_staleness(ax, data):
    """Steps until 475, workers."""
    for (kind, rows), colour, label in zip(data.items(), COLOURS, ("stale", "one at a time")):
        N = [int(n) for n in rows]
        for n, ((low, middle, high), reached, seeds) in zip(N, rows.values()):
            top = 150_000  # the end of a run
            low, middle, high = (top if x is None else x for x in (low, middle, high))
            at = n * (1.06 if kind == "serial" else 1.0)
            ax.plot([at, at], [low, high], color=colour, lw=1)
            ax.plot(at, middle, "o", color=colour, label=label if n == N[0] else None)
            ax.annotate(f"{reached}/{seeds}", (at, middle), (5, 5), fontsize=8, color=colour,
                        textcoords="offset points")  # fmt: skip
    ax.axhline(150_000, color="grey", ls=":", lw=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks([2**k for k in range(7)], [2**k for k in range(7)])
    ax.set(xlabel="A3C workers; n/6: seeds that reach it", ylabel="steps: median, quartiles")
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))


def draw_factor(ax, data):
    """What Σ for 1/N does to a step."""
    for (name, row), colour in zip(data["growth"].items(), COLOURS):
        style = "--" if name in ("momentum", "Adam") else "-"
        ax.loglog(data["factors"], row, style, color=colour, base=2, label=name)
    ax.set(xlabel="N, times the gradient", ylabel="times the length of the steps")
    ax.set_xticks(data["factors"], data["factors"])
    ax.set_yticks(data["factors"], data["factors"])


def draw_noise(ax, data):
    """OU noise is no sine."""
    t = np.arange(len(data["path"]))
    ax.plot(t, data["path"], color=COLOURS[0], lw=1, label="OU, ou_theta = 0.15, σ = 0.2")
    ax.plot(t, 0.05 * np.sin(0.1 * t), color=COLOURS[1], lw=2, label="0.05 sin(0.1 t)")
    ax.set(xlabel="t", ylabel="N, in half ranges of the action")


def draw_targets(ax, data):
    """DDPG's targets, Pendulum-v1."""
    for (name, (steps, returns)), colour in zip(data.items(), COLOURS):
        ax.plot(steps, returns, color=colour, lw=1.8, label=name)
    ax.set(xlabel="environment steps", ylabel="return of μ, mean of the seeds")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


PANELS = {
    "baseline_cartpole": draw_baseline,
    "baseline_corridor": draw_corridor,
    "advantages": draw_advantages,
    "critic_variance": draw_variance,
    "staleness": draw_staleness,
    "sum_or_mean": draw_factor,
    "sinus": draw_noise,
    "soft": draw_targets,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=", ".join(CLAIMS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="a little of everything, not recorded")
    parser.add_argument("--draw", action="store_true", help="from what is recorded, run nothing")
    given = parser.parse_args()
    if odd := set(given.claims) - set(CLAIMS):
        parser.error(f"CLAIM = {', '.join(odd)}: must be of {', '.join(CLAIMS)}")
    options = Options(2 if given.quick else given.seeds, given.jobs, given.quick)
    if given.quick:
        return examine(given.claims or CLAIMS, options)
    found = (recorded("claims") or {"claims": {}})["claims"]
    if not given.draw:
        found |= examine(given.claims or CLAIMS, options)
        found = {name: found[name] for name in CLAIMS if name in found}
        save("claims", "benchmarks.claims", dict(claims=found))
    text = markdown(in_order(found))
    (RESULTS / "claims.md").write_text(text)
    print(text)
    draw(found)


if __name__ == "__main__":
    main()
