"""Claims decided by sampling: three-armed bandits, noise alone, DDPG's targets on one run."""

from dataclasses import replace
from functools import partial
from itertools import count

import gymnasium
import numpy as np

from algorithms import ddpg
from algorithms.ddpg_noise import Noise
from algorithms.ddpg_replay import Replay
from algorithms.exact.laboratory import moments
from algorithms.exact.mdp import state_values
from algorithms.referee.estimators import weigh
from benchmarks import entropy, measure
from benchmarks.claims.claim import Found, claim, differ, graded
from benchmarks.claims.exact import tabular
from benchmarks.ddpg import SWING
from npgrad import at


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


@claim(
    "1.2.2.1.2", "Without a baseline, good actions of small probability are hardly ever learned."
)
def rare_action(options):
    """Right if more runs learn an arm of π = 0.01 with a baseline, whatever the others pay, partly
    for some payments; wrong if never."""
    runs, text, more, half = 200 if options.quick else 1000, [], [], None
    for rewards, what in (
        ((0.0, 0.0, 1.0), "it alone pays"),
        ((0.5, 0.0, 1.0), "the usual arm pays half"),
        ((1.0, 1.0, 2.0), "the others pay half"),
    ):
        without, with_v = (found_arm(rewards, runs, baseline) for baseline in (False, True))
        text.append(f"{what} {without} and {with_v}")
        half = (without, with_v) if "usual" in what else half
        more.append(with_v > without and differ(without, runs, with_v, runs))
    x = tabular(entropy.bandit([0.0, 0.0, 1.0]), np.r_[np.log([0.98, 0.01, 0.01]), np.zeros(3)])
    v = state_values(x.mdp, x.pi)
    gains = [moments(x, partial(weigh, gamma=1.0, baseline=b)).mean for b in (0 * v, v)]
    rest = (
        f"three arms, the best at first of π = 0.01, α = 0.3, 1,000 episodes: of {runs:,} runs "
        f"that learn it without and with b = v, where {'; '.join(text)}. The update expected is "
        f"the same (difference {abs(gains[0] - gains[1]).max():.0e}); what b takes away is the "
        "noise of the rewards that usual arms pay, which drives π to them. What is never tried "
        f"(in 100 episodes with probability {0.99**100:.2f}) no baseline teaches"
    )
    number = f"{half[0]} of {runs:,} runs learn one without a baseline, {half[1]} with"
    return Found(graded(more), number, rest)


@claim("3.2.3", "The entropy term makes the policy explore.")
def explores(options):
    """Right if more runs learn an arm of π = 0.01 with the entropy term than without, with a
    baseline and without."""
    runs, text, more = 200 if options.quick else 1000, [], []
    for baseline, what in ((False, "b = 0"), (True, "b = v")):
        found = [found_arm((0.5, 0.0, 1.0), runs, baseline, beta) for beta in (0.0, 0.1)]
        text.append(f"{found[0]} and {found[1]} with {what}")
        more.append(found[1] > found[0] and differ(found[0], runs, found[1], runs))
    rest = (
        "three arms that pay ½, 0 and 1, at first π = 0.98, 0.01, 0.01, α = 0.3, 1,000 episodes: "
        f"of {runs:,} runs that learn the best for β = 0 and 0.1: {'; '.join(text)}"
    )
    number = (
        f"{found[1]} of {runs:,} runs find the best arm for β = 0.1, {found[0]} for β = 0 (b = v)"
    )
    return Found(graded(more, "unsupported"), number, rest)


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


@claim("4.2.1", "Correlated noise suits systems with inertia.")
def inertia(options):
    """Right if OU noise alone gets a car with inertia up its hill in over twice as many episodes as
    noise of the same s.d. and ε-greedy noise; else partly."""
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
    rest = f"MountainCarContinuous-v0, noise alone, {n} episodes that get to the goal: {text}"
    ou, *others = share.values()
    number = (
        f"{ou:.0%} of the episodes reach the goal by OU noise alone, {max(others):.0%} by others"
    )
    return Found("right" if ou > 2 * max(others) else "partly", number, rest)


RULES = {  # of the target networks, as changes to DDPG's config
    "none": dict(tau=1.0),
    "hard, C = 200": dict(target="hard", copy_every=200),
    "hard, C = 400": dict(target="hard", copy_every=400),
    "soft, τ = 0.005": dict(tau=0.005),
}


def targets_along(path, config, batch):
    """Return {rule: y (updates, batch)}: DDPG's targets of a fixed batch, by target parameters that
    follow the same path [(θ, w)] of learned ones by each rule of RULES."""
    env, (S2, r, terminated) = gymnasium.make("Pendulum-v1"), batch
    mu, q = (at(model, x.copy()) for model, x in zip(ddpg.models(env, config), path[0]))
    found = {}
    for name, rule in RULES.items():
        following, ys = replace(config, **rule), []
        for target, x in zip((mu.theta, q.theta), path[0]):
            target[:] = x
        for k, pair in enumerate(path[1:], 1):
            for target, x in zip((mu.theta, q.theta), pair):
                ddpg.follow(target, x, following, k)
            q2 = q.forward(S2, u=mu.forward(S2))[:, 0]
            ys.append(ddpg.targets(config, r, terminated, q2))
        found[name] = np.array(ys)
    return found


@claim("4.3", "If the target networks change often and by much, the TD targets y jitter.")
def jitter(options):
    """Right if y of fixed transitions, for the same learned parameters, moves more in an update
    (r.m.s.) without target networks and with hard copies than with soft ones, partly if in one of
    both cases."""
    steps, config = 1_500 if options.quick else 4_000, SWING.config
    env, path = gymnasium.make("Pendulum-v1"), []
    state = ddpg.init(env, config, 0)

    def watched(*given):
        path.append((state.theta.copy(), state.w.copy()))
        return ddpg.critic_gradient(*given)

    for metrics in ddpg.train(env, config, state, critic_gradient=watched):
        if metrics.steps >= steps:
            break
    replay = Replay(state.ring, 1, 100)
    _, _, r, S2, terminated = (
        x.copy() for x in replay.sample(state.steps, np.random.default_rng(0))
    )
    moves = {}
    for name, y in targets_along(path, config, (S2, r, terminated)).items():
        step = np.sqrt((np.diff(y, axis=0) ** 2).mean(1))
        moves[name] = float(np.sqrt((step**2).mean())), float(step.max())
    text = "; ".join(f"{name} {x:.3f} (largest {top:.2f})" for name, (x, top) in moves.items())
    none, *hard, soft = (x for x, _ in moves.values())
    number = (
        f"{none / soft:.0f} times soft targets' change of y in an update, without target networks; "
        f"{min(hard) / soft:.0f} times with hard copies"
    )
    rest = (
        f"Pendulum-v1, {len(path):,} updates of one run, whose θ and w each rule follows: r.m.s. "
        f"change of y in an update, 100 transitions, and in the update that changes it most: {text}"
    )
    return Found(graded([none > soft, min(hard) > soft]), number, rest)
