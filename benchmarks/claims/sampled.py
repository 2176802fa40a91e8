"""Claims decided by sampling: learning runs and rollouts, over seeds where they learn."""

import multiprocessing
import os
from functools import partial
from itertools import count
from unittest import mock

import gymnasium
import numpy as np

from algorithms import a2c, async_q, reinforce
from algorithms.common.policy import make_policy, make_value
from algorithms.common.world import Position, World
from algorithms.ddpg_noise import Noise
from algorithms.exact.laboratory import moments
from algorithms.exact.mdp import state_values
from algorithms.referee.estimators import weigh
from benchmarks import entropy, measure, study
from benchmarks.claims.claim import claim, differ, graded, result
from benchmarks.claims.exact import ratios, tabular
from npgrad import OPTIMIZERS, at

LEVELS = (100, 200, 300, 400, 475)
BASELINES = {
    "no baseline": dict(baseline="none", step_size=1e-3),  # its best of 5e-4, 1e-3, 2e-3
    "running mean": dict(baseline="mean"),
    "learned v̂": dict(baseline="value"),
}
CAP = 400_000  # steps; what is not reached by then counts as never
FACTORS = (1, 2, 4, 8, 16, 32, 64)


@claim("1.2.2.1", "on CartPole, by luck R(τ) = 1000 where most have 10")
def lucky(options):
    """Right if random play on CartPole now and then had 100 times its usual return."""
    env, rng, R, squares = gymnasium.make("CartPole-v1"), np.random.default_rng(0), [], []
    for k in range(2 if options.quick else 20):
        A = []
        T = measure.play(
            env, lambda S, A=A: A.append(rng.integers(2, size=1000)) or A[-1], 1000, seed=k
        )
        drift = np.cumsum(np.array(A) - 0.5, 0)[T.astype(int) - 1, np.arange(1000)]
        R += T.tolist()
        squares += ((T * drift) ** 2).tolist()  # drift: Σ_t ∂ln π/∂h of the second action
    R, share = np.array(R), np.sort(squares)[::-1]
    top = share[: len(R) // 100].sum() / share.sum()
    usual, most = np.median(R), R.max()
    number = (
        f"of {len(R):,} random episodes the median is {usual:.0f}, the most {most:.0f} "
        f"({most / usual:.0f} times; CartPole-v1 ends at 500). That the lucky ones dominate is "
        f"right: 1 % of the episodes carry {top:.0%} of the squared gradient"
    )
    return "right" if most >= 100 * usual else "partly", number, None


def over_seeds(options, run, *given):
    """Return [run(*given, seed)] of seeds 0, 1, ...."""
    return list(study.mapped(run, [(*given, k) for k in range(options.seeds)], options.jobs))


def fresh(env, policy, pi, rng, n):
    """Return n episodes of the policy whose network is pi."""
    world, played = World(env, Position(int(rng.integers(2**31))), record=True), []
    head = policy.head
    while len(played) < n:
        world.step(head(pi.forward(world.s)).sample(head.noise(rng, 1)[0]))
        played += [world.episode] if world.ended else []
    return played


def advantage_run(stages, n, seed):
    """Return G, G − v̂ of fresh episodes, and the ratio of tr Cov ĝ without and with v̂, at each
    stage."""
    env, config = gymnasium.make("CartPole-v1"), reinforce.Config()
    state, rows = reinforce.init(env, config, seed), []
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    training, test_env = reinforce.train(env, config, state), gymnasium.make("CartPole-v1")
    pi, v = at(policy.model, state.theta), at(value, state.w)
    for stage in stages:
        while state.steps < stage:
            next(training)
        g, pairs = ([], []), []
        for e in fresh(test_env, policy, pi, np.random.default_rng([seed, stage]), n):
            G, b = reinforce.targets(state, config, v, e)
            h, t = pi.forward(e.S), np.arange(len(G))
            for found, base in zip(g, (0 * b, b)):
                weight = reinforce.weights(t, G, base, config.gamma, config.weighting)
                d_h = reinforce.gradient(h, policy.head, e.A, weight)
                found.append(pi.backward(d_h).copy())
            pairs.append(np.stack([G, G - b]))
        without, with_v = (np.var(x, axis=0, ddof=1).sum() for x in g)
        G, A = np.concatenate(pairs, axis=1)
        rows.append(dict(stage=stage, ratio=float(without / with_v),
                         returns=np.quantile(G, [0.01, 0.99]).tolist(),
                         advantages=np.quantile(A, [0.01, 0.99]).tolist(),
                         histogram=[np.histogram(x, np.arange(-70, 110, 5), density=True)[0]
                                    .round(4).tolist() for x in (G, A)]))  # fmt: skip
    return rows


SHRINKS = "A = Q − V: the range shrinks, say from [0, 1000] to [−50, 50], and with it the variance"


@claim("1.2.2.1", SHRINKS)
def advantages(options):
    """Right if advantages span a fifth of what returns do, and the gradient's variance falls."""
    stages = (5_000,) if options.quick else (5_000, 20_000, 60_000)
    runs = over_seeds(options, advantage_run, stages, 60)
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
    number += "What falls is the mean square: the range is moved about 0, hardly narrowed. "
    number += f"Exactly, tr Cov ĝ with b = 0 over b = v: {exact}"
    narrow = [wide > 5 * thin for wide, thin, *_ in parts]
    less = all(ratio > 1 for *_, ratio, _ in parts)
    verdict = "right" if all(narrow) and less else "partly" if less else "wrong"
    last = np.mean([rows[-1]["histogram"] for rows in runs], 0).round(4).tolist()
    return verdict, number, dict(stage=stages[-1], histogram=last)


def baseline_run(name, cap, seed):
    """Return the training episodes until each level, within so many steps."""
    env, config = gymnasium.make("CartPole-v1"), reinforce.Config(**BASELINES[name])
    state, returns = reinforce.init(env, config, seed), []
    for metrics in reinforce.train(env, config, state):
        returns += metrics.returns
        solved = len(returns) >= 100 and sum(returns[-100:]) >= 100 * LEVELS[-1]
        if solved or metrics.steps >= cap:
            return [measure.episodes_until(returns, level) for level in LEVELS]


@claim("1.2.2.1", "without baseline REINFORCE needs 10 times the episodes on CartPole")
def baseline_cartpole(options):
    """Right if the interval of the ratio of medians at 475 is all above 10, wrong if below."""
    cap = 40_000 if options.quick else CAP
    runs = {name: over_seeds(options, baseline_run, name, cap) for name in BASELINES}
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
    show = lambda x: f"{x:.1f}" if np.isfinite(x) else "unknown"
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


def found_arm(rewards, runs, baseline=False, beta=0.0, alpha=0.3, episodes=1000):
    """Return in how many runs REINFORCE, begun at π = 0.98, 0.01, 0.01, ends with π > ½ of the
    third arm: h += α ((R − b) ∂ln π/∂h + β ∂H/∂h), b = v or 0."""
    rng, r = np.random.default_rng(0), np.array(rewards)
    h = np.tile(np.log([0.98, 0.01, 0.01]), (runs, 1))
    for _ in range(episodes):
        pi = np.exp(h - h.max(1, keepdims=True))
        pi /= pi.sum(1, keepdims=True)
        A = (pi.cumsum(1)[:, :2] < rng.random((runs, 1))).sum(1)
        advantage = r[A] - baseline * (pi @ r)
        h += alpha * advantage[:, None] * (np.eye(3)[A] - pi)
        if beta:
            log = np.log(pi)
            h -= alpha * beta * pi * (log - (pi * log).sum(1, keepdims=True))
    return int((pi[:, 2] > 0.5).sum())


@claim("1.2.2.1", "a baseline helps rarely sampled actions to be learned")
def rare_action(options):
    """Right if more runs learn an arm of π = 0.01 with a baseline, whatever the others pay; wrong
    if never."""
    runs, text, more = 200 if options.quick else 1000, [], []
    for rewards, what in (
        ((0.0, 0.0, 1.0), "it alone pays"),
        ((0.5, 0.0, 1.0), "the usual arm pays half"),
        ((1.0, 1.0, 2.0), "the others pay half"),
    ):
        without, with_v = (found_arm(rewards, runs, baseline) for baseline in (False, True))
        text.append(f"{what} {without} and {with_v}")
        more.append(with_v > without and differ(without, runs, with_v, runs))
    x = tabular(entropy.bandit([0.0, 0.0, 1.0]), np.r_[np.log([0.98, 0.01, 0.01]), np.zeros(3)])
    v = state_values(x.mdp, x.pi)
    gains = [moments(x, partial(weigh, gamma=1.0, baseline=b)).mean for b in (0 * v, v)]
    number = (
        f"three arms, the best at first of π = 0.01, α = 0.3, 1,000 episodes: of {runs:,} runs "
        f"that learn it without and with b = v, where {'; '.join(text)}. The update expected is "
        f"the same (difference {abs(gains[0] - gains[1]).max():.0e}); what b takes away is the "
        "noise of the rewards that usual arms pay, which drives π to them. What is never tried "
        f"(in 100 episodes with probability {0.99**100:.2f}) no baseline teaches"
    )
    return graded(more), number, None


@claim("3.2.3", "the entropy term makes the policy explore")
def explores(options):
    """Right if more runs learn an arm of π = 0.01 with the entropy term than without, with a
    baseline and without."""
    runs, text, more = 200 if options.quick else 1000, [], []
    for baseline, what in ((False, "b = 0"), (True, "b = v")):
        found = [found_arm((0.5, 0.0, 1.0), runs, baseline, beta) for beta in (0.0, 0.1)]
        text.append(f"{found[0]} and {found[1]} with {what}")
        more.append(found[1] > found[0] and differ(found[0], runs, found[1], runs))
    number = (
        "three arms that pay ½, 0 and 1, at first π = 0.98, 0.01, 0.01, α = 0.3, 1,000 episodes: "
        f"of {runs:,} runs that learn the best for β = 0 and 0.1: {'; '.join(text)}"
    )
    return graded(more, "unsupported"), number, None


class Seen(gymnasium.ObservationWrapper):
    """Adds every observation to a list."""

    def __init__(self, env, seen):
        super().__init__(env)
        self.seen = seen

    def observation(self, observation):
        self.seen.append(observation)
        return observation


def correlation_run(n, seed):
    """Return the correlation of one A3C update with the next, θ held after some learning: [one
    worker's, eight workers' in turn] of the actor's gradient, the critic's, and the states; of h
    and v̂ the biases'."""
    _, _, learned, _ = entropy.learned(0.01, entropy.T_MAX, seed, entropy.HALFWAY)
    found, states = [], []
    make = lambda: Seen(gymnasium.make("CartPole-v1"), states)

    def see(h, head, A, advantage):
        row = [*(advantage @ head(h).score(A)), advantage.sum(), *np.mean(states, 0)]
        states.clear()
        return row

    for workers in (1, 8):
        rows = entropy.held(learned.theta, seed, workers, n, see, make)
        x = np.array(rows[n // 4 :])  # all workers began together
        x -= x.mean(0)
        lagged = (x[1:] * x[:-1]).mean(0) / (x * x).mean(0)
        found.append([lagged[:2].mean(), lagged[2], lagged[3:].mean()])
    return found


@claim("3", "parallel workers decorrelate successive samples")
def correlation(options):
    """Right if one worker's successive updates are correlated, of eight in turn less."""
    n = 200 if options.quick else 800
    found = np.array(over_seeds(options, correlation_run, n))
    (one, many), spread = found.mean(0), found.std(0, ddof=1).max()
    text = ", ".join(
        f"{what} {a:+.2f} and {b:+.2f}"
        for what, a, b in zip(("actor's", "critic's", "mean state"), one, many)
    )
    number = (
        f"one A3C update (20 steps, CartPole, θ held) and the next, one worker and eight in turn; "
        f"of the gradients only that of the output biases: {text} (s.d. over seeds at most "
        f"{spread:.2f}). States do correlate, these gradients do not: given the past a score has "
        "mean 0, and so has a TD error of v̂ = v"
    )
    return "right" if (one[1:] > many[1:] + 0.1).all() else "partly", number, None


@claim("3.1.1", "an update when t mod I_AsyncUpdate = 0; all threads stop to copy θ⁻")
def everybody_stops(options):
    """Right if updates came only at multiples of I_AsyncUpdate; whether copies made others wait is
    not measured."""
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
        f"{T // 5:,}: an episode's end updates, too (Algorithm 1). This half is measured; the "
        "other is read off Algorithm 1: the worker that passes a multiple of I_target copies θ⁻, "
        "and nothing there makes the others wait"
    )
    return "wrong" if updates > 1.01 * T / 5 else "right", number, None


def push(shared, pushes):
    theta = np.frombuffer(shared)
    A = np.random.default_rng(0).standard_normal((60, 60))
    for _ in range(pushes):
        for _ in range(20):  # the rollout and the gradient, in place of which this stands
            A = np.tanh(A @ A)
        theta += 1.0


@claim("3.3.1", "workers overwrite the shared θ; locks are needed")
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
    races = result("asynchronous") or {}
    solved = ", ".join(
        f"{race.solved()} of {len(race.runs)} runs with {name[4:]}"
        for name, race in races.items()
        if name.startswith("a3c")
    )
    number = (
        f"{N} processes, {len(os.sched_getaffinity(0))} core(s), {pushes:,} pushes θ += Δθ each "
        f"without locks: {lost:.4%} of what they add is lost; overwriting would lose half. A3C "
        f"without locks evaluates at 475 by number of processes: {solved or 'not recorded'}"
    )
    return "wrong" if lost < 0.05 else "right", number, None


def gradients(updates):
    """Return dθ of A2C on CartPole-v1, 16 environments, mean reduction (updates, n)."""
    env, found, ascend = gymnasium.make("CartPole-v1"), [], a2c.ascend
    config = a2c.Config(environments=16, precision="double", vectorization="vector_entry_point")

    def watched(config, state, d):
        found.append(d.copy())
        ascend(config, state, d)

    state = a2c.init(env, config, 0)
    with mock.patch.object(a2c, "ascend", watched):
        for _, _ in zip(range(updates), a2c.train(env, config, state)):
            pass
    return np.array(found)


@claim("3.3.2", "A2C has 1/N where A3C has Σ")
def sum_or_mean(options):
    """Right if 1/N changed the step as it changes the gradient under all optimisers, wrong if under
    none."""
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
    as_much = [np.isclose(row[k], 16) for row in growth.values()]
    return graded(as_much), number, dict(factors=FACTORS, growth=growth)


def goals(noise, seed, n):
    """Return the share of episodes of MountainCarContinuous-v0 in which noise about u = 0 alone
    gets there: it pays 100 there, and all actions of an episode cost less."""
    rng, N, u, t = np.random.default_rng(seed), np.zeros(n), np.zeros(n), count()

    def act(S):
        if noise.noise == "epsilon":  # each environment draws for itself
            a = np.where(rng.random(n) < noise.epsilon, rng.uniform(-1, 1, n), 0.0)
        else:
            a = noise.explore(u, N, next(t), rng)
        return a[:, None].astype(np.float32)

    env = gymnasium.make("MountainCarContinuous-v0")
    return float(np.mean(measure.play(env, act, n, seed=seed) > 0))


@claim("4.2.1", "correlated noise suits systems with inertia")
def inertia(options):
    """Right if OU noise moves a car with inertia where noise of the same s.d. does not."""
    keep, spread = Noise(sigma=0.3).coefficients(0.3)
    sd = spread / np.sqrt(1 - keep**2)
    kinds = {
        "OU, σ = 0.3, ou_theta = 0.15": Noise(sigma=0.3),
        f"white, as strong ({sd:.2f})": Noise("white", float(sd)),
        "ε = 0.5, uniform": Noise("epsilon", epsilon=0.5),
    }
    n = 10 if options.quick else 40
    share = {name: goals(noise, 0, n) for name, noise in kinds.items()}
    text = ", ".join(f"{name} {x:.0%}" for name, x in share.items())
    number = f"MountainCarContinuous-v0, noise alone, {n} episodes that get to the goal: {text}"
    ou, *others = share.values()
    return "right" if ou > 2 * max(others) else "partly", number, None
