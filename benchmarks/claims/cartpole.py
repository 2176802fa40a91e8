"""Claims decided by runs on CartPole: returns by luck, baselines, correlation of updates."""

import gymnasium
import numpy as np

from algorithms import reinforce
from algorithms.common.policy import make_policy, make_value
from algorithms.common.world import Position, World
from benchmarks import entropy, measure, study
from benchmarks.claims.claim import Found, claim
from benchmarks.claims.exact import ratios, variances
from npgrad import at

LEVELS = (100, 200, 300, 400, 475)
BASELINES = {
    "no baseline": dict(baseline="none", step_size=1e-3),  # its best of 5e-4, 1e-3, 2e-3
    "running mean": dict(baseline="mean"),
    "learned v̂": dict(baseline="value"),
}
CAP = 400_000  # steps; what is not reached by then counts as never


@claim(
    "1.2.2.1.1",
    "On CartPole, luck gives some random episodes a return of 1,000 where most have 10.",
)
def lucky(options):
    """Right if random play on CartPole now and then has 100 times its usual return, else partly."""
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
    rest = (
        "CartPole-v1 ends an episode at 500. That the lucky episodes dominate is right: "
        f" 1 % of the episodes carry {top:.0%} of the squared gradient"
    )
    number = f"{most:.0f} is the largest of {len(R):,} random returns; the median is {usual:.0f}"
    return Found("right" if most >= 100 * usual else "partly", number, rest)


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


@claim("1.2.2.1.2", "Advantages Q − V have a much smaller range than returns, say [−50, 50] for "
       "[0, 1000]; therefore the gradient has less variance.")  # fmt: skip
def advantages(options):
    """Right if the middle 98 % of the advantages span at most a fifth of what returns do, and the
    gradient's variance falls; partly if it falls."""
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
    exact, _ = ratios(variances(options), "reward to go", "reward to go − v")
    rest = f"CartPole, γ = 0.99, 1st to 99th percentile: {'; '.join(p[3] for p in parts)}. "
    rest += "What falls is the mean square: the range is moved about 0, hardly narrowed. "
    rest += f"Exactly, tr Cov ĝ with b = 0 over b = v: {exact}"
    wide, thin, *_ = parts[len(parts) // 2]
    at = f"{stages[len(stages) // 2]:,}"
    number = f"{thin / wide:.2f} of the width of the range is left, after {at} steps"
    narrow = [wide > 5 * thin for wide, thin, *_ in parts]
    less = all(ratio > 1 for *_, ratio, _ in parts)
    verdict = "right" if all(narrow) and less else "partly" if less else "wrong"
    last = np.mean([rows[-1]["histogram"] for rows in runs], 0).round(4).tolist()
    return Found(verdict, number, rest, dict(stage=stages[-1], histogram=last))


def baseline_run(name, cap, seed):
    """Return the training episodes until each level, within so many steps."""
    env, config = gymnasium.make("CartPole-v1"), reinforce.Config(**BASELINES[name])
    state, returns = reinforce.init(env, config, seed), []
    for metrics in reinforce.train(env, config, state):
        returns += metrics.returns
        solved = len(returns) >= 100 and sum(returns[-100:]) >= 100 * LEVELS[-1]
        if solved or metrics.steps >= cap:
            return [measure.episodes_until(returns, level) for level in LEVELS]


@claim(
    "1.2.2.1.2", "Without a baseline REINFORCE needs at least 10 times the episodes on CartPole."
)
def baseline_cartpole(options):
    """Right if the 95 % interval of the ratio of medians to a return of 475 is all above 10, wrong
    if below."""
    cap = 40_000 if options.quick else CAP
    runs = {name: over_seeds(options, baseline_run, name, cap) for name in BASELINES}
    return by_episodes(runs, cap)


def by_episodes(runs, cap):
    """Decide baseline_cartpole by {baseline: episodes until each level, or None, by run}."""
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
    ratio = [f"{show(m)} [{show(a)}, {show(b)}]" for m, a, b in zip(middle, low, high)]
    text = ", ".join(f"to {level} {x}" for level, x in zip(LEVELS, ratio))
    solved = ", ".join(f"{name} {np.isfinite(x[:, -1]).sum()}" for name, x in until.items())
    constant = np.median(mean[:, -1]) / np.median(value[:, -1])
    rest = (
        f"episodes without over with v̂ (medians, 95 %): {text}; a running mean instead of v̂ takes "
        f"{show(constant)} times as many to 475. Of {n} runs reach 475 within {cap:,} steps: "
        f"{solved}"
    )
    verdict = "right" if low[-1] >= 10 else "wrong" if high[-1] < 10 else "unsupported"
    number = f"{ratio[-1]} times the episodes until a mean return of 475"
    return Found(verdict, number, rest, dict(levels=LEVELS, runs=runs))


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


@claim("3", "Parallel workers decorrelate successive updates, as experience replay does.")
def correlation(options):
    """Right if one worker's successive gradients, critic's and states' means, are correlated, and
    those of eight in turn less, by 0.1; else partly."""
    n = 200 if options.quick else 800
    found = np.array(over_seeds(options, correlation_run, n))
    (one, many), spread = found.mean(0), found.std(0, ddof=1).max()
    text = ", ".join(
        f"{what} {a:+.2f} and {b:+.2f}"
        for what, a, b in zip(("actor's", "critic's", "mean state"), one, many)
    )
    rest = (
        f"one A3C update (20 steps, CartPole, θ held) and the next, one worker and eight in turn; "
        f"of the gradients only that of the output biases: {text} (s.d. over seeds at most "
        f"{spread:.2f}). States do correlate, these gradients do not: given the past a score has "
        "mean 0, and so has a TD error of v̂ = v"
    )
    number = (
        f"{one[2]:+.2f}, with eight workers {many[2]:+.2f}: correlation of the mean states of "
        "successive updates"
    )
    verdict = "right" if (one[1:] > many[1:] + 0.1).all() else "partly"
    return Found(verdict, number, rest)
