"""Claims decided exactly on finite worlds, every episode enumerated."""

from dataclasses import replace
from functools import lru_cache, partial

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms.common.policy import Network, make_policy
from algorithms.common.world import returns
from algorithms.exact.average_reward import average_reward, differential_action_values
from algorithms.exact.laboratory import expectation, moments
from algorithms.exact.mdp import (
    FiniteMDPEnv,
    action_values,
    discounted_occupancy,
    expected_return,
    state_values,
)
from algorithms.exact.optimal import optimal_policy
from algorithms.exact.queueing import access_control
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM, chain, short_corridor_value
from algorithms.referee.estimators import n_step, open_study, weigh
from benchmarks.claims.claim import Found, claim, graded
from benchmarks.entropy import bandit
from benchmarks.laboratory import WORLDS

LINEAR = Network(approximator="linear")
ROUNDING = 1e-12  # a weight or an advantage below this counts as 0
N = 5  # A2C's default steps of a segment


def tabular(mdp, theta, horizon=None):
    """Return the laboratory's Study of a tabular softmax."""
    return open_study(mdp, make_policy(FiniteMDPEnv(mdp), LINEAR), theta, horizon)


def studies(options):
    """Return {world: Study} of the laboratory's worlds; if quick, of the two of fewest episodes."""
    found = opened()
    return {world: found[world] for world in ("ShortCorridor", "Chain")} if options.quick else found


@lru_cache
def opened():
    """Return {world: Study} of all the laboratory's worlds, θ ~ N(0, 1) of seed 0."""
    found = {}
    for env_id, (horizon, _) in WORLDS.items():
        mdp = gymnasium.make(env_id).unwrapped.mdp
        size = make_policy(FiniteMDPEnv(mdp), LINEAR).model.layout.size
        found[env_id.split("/")[1].removesuffix("-v0")] = tabular(
            mdp, np.random.default_rng(0).standard_normal(size), horizon
        )
    return found


def segment(v_hat, gamma, n, phase):
    """Return the weights γ^t (R_t − v̂(S_t)) of A2C: R_t sums the rewards up to the end of the
    segment of n steps, and bootstraps there. The episode begins `phase` steps into a segment."""

    def target(r, states):
        R, t = np.empty(len(r)), 0
        while t < len(r):
            end = min(t + n - (t + phase) % n, len(r))
            R[t:end] = returns(r[t:end], gamma, v_hat[states[end]])
            t = end
        return R

    return partial(weigh, gamma=gamma, baseline=v_hat, target=target)


def variances(options):
    """Return {world: {estimator: tr Cov ĝ of one episode}}, exactly; A2C's episodes begin equally
    often at each step of a segment (all ĝ have the mean ∇J)."""
    table = {}
    for world, x in studies(options).items():
        v, of = state_values(x.mdp, x.pi), partial(weigh, gamma=x.mdp.gamma)
        estimators = {
            "total return": [partial(of, weighting="total", baseline=0 * v)],
            "reward to go": [partial(of, baseline=0 * v)],
            "reward to go − v": [partial(of, baseline=v)],
            f"A2C, n = {N}, v̂ = v": [segment(v, x.mdp.gamma, N, k) for k in range(N)],
        }
        table[world] = {
            name: float(np.mean([moments(x, w).total_variance for w in ways]))
            for name, ways in estimators.items()
        }
    return table


def ratios(table, above, below):
    """Return "world ratio, ..." of two estimators' variances in such a table, and the ratios."""
    found = {world: row[above] / row[below] for world, row in table.items()}
    return by_world(found, ".3g"), list(found.values())


def by_world(found, form):
    """Return "world number, ..."."""
    return ", ".join(f"{world} {x:{form}}" for world, x in found.items())


def span(values, form, unit=""):
    """Return "least to greatest"."""
    return f"{min(values):{form}}{unit} to {max(values):{form}}{unit}"


@claim("1.1", "The policy's parameters follow gradient descent on the expected return J.")
def ascent(options):
    """Right if J rises along −∇J."""
    theta, J = np.random.default_rng(0).standard_normal(10), []
    g = expectation(tabular(chain(), theta))
    for step in (0.0, 0.01, -0.01):
        x = tabular(chain(), theta + step * g)
        J.append(expected_return(x.mdp, x.pi))
    up, down = J[1] - J[0], J[2] - J[0]
    rest = f"In the chain J changes by {up:+.2e} along 0.01 ∇J. What is descended is the loss −J"
    number = f"{down:+.2e}: what J gains from the step −0.01 ∇J"
    return Found("right" if down > 0 else "wrong", number, rest)


@claim("1.1", "Every sample moves the policy in a better direction.")
def every_sample(options):
    """Right if ĝ·∇J > 0 in every episode of every world, ĝ being the notes' estimate."""
    found = {name: {} for name in ("total return", "rewards to go − v")}
    for world, x in studies(options).items():
        v, of = state_values(x.mdp, x.pi), partial(weigh, gamma=x.mdp.gamma)
        weights = partial(of, weighting="total", baseline=0 * v), partial(of, baseline=v)
        for row, weight in zip(found.values(), weights):
            row[world] = moments(x, weight).uphill
    total, centred = found.values()
    rest = (
        "Pr(ĝ·∇J > 0), the chance that a small step along one episode's estimate raises J, by "
        f"total return: {by_world(total, '.2f')}; by rewards to go less v: "
        f"{by_world(centred, '.2f')}. In the mean every unbiased estimate points uphill"
    )
    number = f"{span(total.values(), '.2f')}: the chance that one episode's step raises J"
    return Found(graded([p > 1 - 1e-9 for p in total.values()]), number, rest)


@claim("1.1", "The best policy may have to be stochastic.")
def stochastic(options):
    """Right if some stochastic policy of the corridor beats all deterministic ones."""
    greedy = max(short_corridor_value(p) for p in (0.05, 0.95))
    p, best = SHORT_CORRIDOR_OPTIMUM
    rest = (
        "Short corridor, three states that look alike. Both deterministic policies never end "
        f"(−∞); the better 0.1-greedy one has {greedy:.1f}"
    )
    number = f"{best:.3f} at π(right) = {p:.3f}; −∞ for every deterministic policy"
    return Found("right" if best > greedy else "wrong", number, rest)


@claim("1.1", "A policy that is learned directly is spared the errors of value functions.")
def errors_of_v(options):
    """Right if E ĝ is ∇J for a wrong v̂ in REINFORCE and actor–critic alike, partly if in one."""
    errors = []
    for x in studies(options).values():
        v, gamma = state_values(x.mdp, x.pi), x.mdp.gamma
        size = np.linalg.norm(expectation(x))
        weights = partial(weigh, gamma=gamma, baseline=0.5 * v), n_step(0.5 * v, gamma, 1)
        errors.append([np.linalg.norm(moments(x, w).bias) / size for w in weights])
    baseline, critic = np.max(errors, 0)
    rest = (
        f"v̂ = v/2, five worlds: |E ĝ − ∇J|/|∇J| is at most {baseline:.0e} where v̂ is REINFORCE's "
        "baseline, and the number above where one-step actor–critic bootstraps from it"
    )
    number = f"{critic:.2f} |∇J| of bias in an actor–critic with v̂ = v/2; REINFORCE has 0"
    return Found(graded([error < 1e-9 for error in (baseline, critic)]), number, rest)


@claim("1.2.1", "∇J is the mean of Σ_t ∇ln π(a_t|s_t) times Σ_t γ^t r_t, both sums from 0 to T, "
       "where the episode has the actions 0 to T − 1.")  # fmt: skip
def total_return(options):
    """Right if E ĝ is ∇J in every world, and the limits of the sums agree with the actions'."""
    worst = 0.0
    for x in studies(options).values():
        v = 0 * state_values(x.mdp, x.pi)
        of = partial(weigh, gamma=x.mdp.gamma, weighting="total", baseline=v)
        worst = max(worst, np.linalg.norm(moments(x, of).bias) / np.linalg.norm(expectation(x)))
    number = f"{worst:.0e} |∇J| of bias: right, with sums to T − 1"
    rest = "Five worlds, every episode enumerated; t = 0 … T − 1 in sums and product alike"
    return Found("partly" if worst < 1e-9 else "wrong", number, rest)


@claim("1.2.1", "Every action of an episode is weighed by the return of the whole episode.",
       pictures=("claims",))  # fmt: skip
def to_go(options):
    """Right if that has the least variance; partly, if it is unbiased but the rewards that come
    after an action have no more in any world."""
    text, values = ratios(variances(options), "total return", "reward to go")
    verdict = "partly" if min(values) > 1 - 1e-9 else "unsupported"
    number = f"{max(values):.1f} times the variance of rewards to go, at most"
    rest = f"tr Cov ĝ by total return over that by rewards to go: {text}. Both have the mean ∇J"
    return Found(verdict, number, rest)


@claim("1.2.2.1.1", "Without a baseline, an unusually large return can reinforce a bad action.")
def bad_action(options):
    """Right if an action with q < v is made more probable in some world, without a baseline."""
    table = {}
    for world, x in studies(options).items():
        v, of = state_values(x.mdp, x.pi), partial(weigh, gamma=x.mdp.gamma)
        weights = partial(of, weighting="total", baseline=0 * v), partial(of, baseline=v)
        table[world] = [reinforced(x, weight) for weight in weights]
    without, with_v = (dict(zip(table, column)) for column in zip(*table.values()))
    number = f"{max(without.values()):.0%} of the bad actions, in the worst of five worlds"
    rest = (
        "share of the actions with q < v that are given a weight above 0, by total return: "
        f"{by_world(without, '.0%')}; by rewards to go less v: {by_world(with_v, '.0%')}. A "
        "baseline does not rule it out, and where all returns are negative it makes it possible"
    )
    return Found("right" if max(without.values()) > 0 else "wrong", number, rest)


def reinforced(x, weight):
    """Return the share of the actions with q < v whose weight is above 0."""
    worse = action_values(x.mdp, x.pi) - state_values(x.mdp, x.pi)[:, None] < -ROUNDING
    bad = pushed = 0.0
    for tau in x.episodes:
        there = worse[tau.states[:-1], tau.actions]
        bad += tau.probability * there.sum()
        pushed += tau.probability * (there & (weight(tau) > ROUNDING)).sum()
    return pushed / bad


@claim("2.1", "Problems without end need the average reward, and γ = 1.")
def continuing(options):
    """Right if the best discounted policy of the queue has less average reward than the best one
    for every γ < 1 tried, partly if for some; less: by over 0.1 %."""
    mdp, share = access_control(), {}
    best = average_reward(mdp, optimal_policy(mdp, differential_action_values))
    for gamma in (0.5, 0.9, 0.99):
        pi = optimal_policy(replace(mdp, gamma=gamma))
        share[f"γ = {gamma:g}"] = average_reward(mdp, pi) / best
    half, high = share["γ = 0.5"], share["γ = 0.99"]
    number = f"{high:.2%} of the best average reward with γ = 0.99, {half:.0%} with γ = 0.5"
    rest = (
        f"Access-control queue, exactly, best {best:.4f}: {by_world(share, '.4%')}. With γ = 1 the "
        "sum of all rewards diverges, and the average is needed; with γ < 1 it is another aim, "
        "which the policy-gradient theorem covers too"
    )
    return Found(graded([x < 0.999 for x in share.values()]), number, rest)


@claim("3.2.2", "A3C maximises the expected return plus β times the policy's entropy.")
def objective(options):
    """Right if E Σ_t ∇H(π(s_t)), which A3C adds, is everywhere along the gradient of E Σ_t γ^t H,
    partly if in some worlds (cosines)."""
    cosines, alone = {}, tabular(bandit([0.0, 0.0, 1.0]), np.log([0.9, 0.05, 0.05, 1.0, 1.0, 1.0]))
    for world, x in (studies(options) | {"a bandit": alone}).items():
        minus_log = -np.log(x.pi)
        H = np.broadcast_to((x.pi * minus_log).sum(1)[:, None, None], x.mdp.P.shape)
        visits, d = (discounted_occupancy(replace(x.mdp, gamma=g), x.pi) for g in (1, x.mdp.gamma))
        bonus = lambda d, x=x, y=minus_log: np.einsum("s,sa,san->n", d, x.pi * y, x.scores)
        added, full = bonus(visits), bonus(d) + expectation(x._replace(mdp=replace(x.mdp, r=H)))
        cosines[world] = added @ full / np.linalg.norm(added) / np.linalg.norm(full)
    rest = (
        f"cosine of the entropy term's expected update with ∇E Σ_t γ^t H: "
        f"{by_world(cosines, '.3f')}. The term leaves out that actions lead to states of more or "
        "less entropy, and leaves out γ^t. A3C and A2C count the entropy to come with entropy = "
        "“return”"
    )
    least = min(cosines, key=cosines.get)
    number = f"{cosines[least]:.3f}: cosine of the entropy term with ∇E Σ_t γ^t H ({least})"
    return Found(graded([c > 1 - 1e-9 for c in cosines.values()]), number, rest)


@claim("3.3", "A2C lessens the high variance of REINFORCE.")
def critic_variance(options):
    """Right if A2C's estimate, with v̂ = v and the n of its default, has less variance in every
    world, partly if in some."""
    table = variances(options)
    text, values = ratios(table, "reward to go", f"A2C, n = {N}, v̂ = v")
    cosines = {}
    for world, x in studies(options).items():
        v, exact = state_values(x.mdp, x.pi), expectation(x)
        each = [moments(x, segment(0.5 * v, x.mdp.gamma, N, k)).mean for k in range(N)]
        g = np.mean(each, 0)
        cosines[world] = g @ exact / np.linalg.norm(g) / np.linalg.norm(exact)
    least = min(cosines, key=cosines.get)
    number = f"{span(values, '.3g')} times less variance"
    rest = (
        f"tr Cov ĝ of REINFORCE (rewards to go) over A2C's, n = {N} steps, v̂ = v: {text}. It is "
        f"bought with bias where v̂ is wrong: with v̂ = v/2 the cosine of E ĝ with ∇J is "
        f"{by_world(cosines, '.3f')} (least: {least})"
    )
    return Found(graded([ratio > 1 for ratio in values]), number, rest, table)
