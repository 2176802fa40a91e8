"""The notes' comparison of eligibility traces (2.1.1) against numbers, in one table.

    python -m benchmarks.traces

The notes contrast TD(λ)'s trace, "visit count + decay", with actor–critic's, "gradient accumulation
+ decay". Each row: what they say, whether it is right, what was measured.

same        actor_critic's z^w and td_lambda's z, both pages learning from the same ten walks, and
            the count e(s) ← γλ e(s) + 1{s = S} written out
revisited   e(A) in A B A A C at γλ = 1/2, by every kind, and where only the unvisited decay
forward     Σ_t δ_t z_t of a walk at fixed w against Σ_t (G^λ_t − v̂(S_t)) ∇v̂(S_t), γ = 0.9, λ = 0.8
discount    z ← γλz + ∇ against z ← λz + ∇ on the 19-state walk with γ = 0.9: RMS error of 19 values
            against the exact v^π, mean of 10 episodes, π fixed; each at the α that is best on seeds
            100–119, reported on seeds 0–9
kinds       the best RMS error of each kind on the 19-state walk, as benchmarks.td_lambda recorded
continuing  actor_critic's z^w in the continuing box against z ← λz + ∇, on the queue; and what it
            earns there, as benchmarks.actor_critic recorded
actor       the expectation of an episode's update Σ_t δ_t z^θ_t, every episode of a world played by
            the page's own box with v̂ = v^π, against ∇J; and with I = 1 at every step

Writes results/traces.json, .md and .png. Takes seconds.
"""

from dataclasses import replace
from itertools import cycle, islice

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms import actor_critic, td_lambda
from algorithms.common.policy import Network
from algorithms.exact.laboratory import enumerate_episodes, lambda_returns
from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv, expected_return, state_values
from algorithms.exact.worlds import chain, random_walk_19
from algorithms.policy_gradient_theorem import exact_gradient, score, world
from algorithms.runner.plot import COLOURS
from benchmarks import figures, measure, study
from benchmarks.figures import dress
from benchmarks.study import Whole
from benchmarks.td_lambda import EPISODES, ONLINE, STATES, learn, rms_error, walks

GAMMA, LAM, SEEDS, TUNING = 0.9, 0.8, range(10), range(100, 120)
LAMBDAS = np.array([0.8, 0.9, 1.0])
ALPHAS = np.geomspace(0.002, 1.0, 40)
VISITS, UNVISITED = "ABAAC", "only the unvisited decay"
LINEAR = Network(approximator="linear")


def lure() -> FiniteMDP:
    """Return a world of two steps that look alike, γ = 1/2: right pays 1 in the first and −1.5 in
    the second, left 0. J(p) = p − 0.75 p with p = π(right); undiscounted it would be p − 1.5 p."""
    P = np.repeat(np.eye(3)[[1, 2, 2]][:, None], 2, axis=1)
    r = np.array([[0.0, 1.0], [0.0, -1.5], [0.0, 0.0]])
    return FiniteMDP(P, r, np.eye(3)[0], 0.5, np.arange(3) == 2, np.zeros(3, int))


class Replay(gymnasium.Env):
    """Plays recorded episodes again and again, whatever the agent does."""

    observation_space = gymnasium.spaces.Discrete(STATES)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, episodes):
        self.episodes = cycle(episodes)

    def reset(self, *, seed=None, options=None):
        states, rewards = next(self.episodes)
        self.rest = iter(zip(states[1:], rewards, range(len(rewards))[::-1]))
        return states[0], {}

    def step(self, action):
        s, R, left = next(self.rest)
        return s, R, left == 0, False, {}


def watch(env, page, config, trace, reports):
    """Return states (n,) and traces (n, d) of a run of a page, both as a step begins: z has not
    seen S."""
    env = measure.Watched(env, lambda: getattr(state, trace).copy())
    state = page.init(env, config, 0)
    for _ in islice(measure.episodes(page.train(env, config, state)), reports):
        pass
    states = [s for episode in env.episodes for s in episode[0][: len(episode[1])]]
    return np.array(states), np.array([z for episode in env.episodes for z in episode[2]])


def same():
    episodes, decay = walks(0), GAMMA * LAM
    td = td_lambda.Config(gamma=GAMMA, lam=LAM)
    ac = actor_critic.Traces(network=LINEAR, optimizer="sgd", gamma=GAMMA, lambda_w=LAM)
    states, z_td = watch(Replay(episodes), td_lambda, td, "z", EPISODES)
    _, z_ac = watch(Replay(episodes), actor_critic, ac, "z_w", EPISODES)
    counts = []
    for S, _ in episodes:
        e = np.zeros(STATES)
        for s in S[:-1]:
            counts.append(e.copy())
            e *= decay
            e[s] += 1
    return dict(
        steps=len(states),
        actor_critic_minus_td_lambda=float(np.abs(z_ac - z_td).max()),
        count_minus_td_lambda=float(np.abs(counts - z_td).max()),
        largest_trace=float(z_td.max()),
    )


def mark(kind, z, x, decay):
    """Let z decay and mark x, by td_lambda (α = 1/2 for dutch); or as the notes word it: 1 is added
    where visited, the rest decays."""
    if kind == UNVISITED:
        z[:] = np.where(x == 1, z + 1, decay * z)
    else:
        config = td_lambda.Config(gamma=1.0, lam=decay, trace=kind, step_size=0.5)
        td_lambda.move_trace(z, x, config)


def revisited():
    """Return e(A) after each visit, by kind."""
    table = {}
    for kind in (*ONLINE, UNVISITED):
        z, table[kind] = np.zeros(3), []
        for name in VISITS:
            mark(kind, z, np.eye(3)["ABC".index(name)], 0.5)
            table[kind].append(float(z[0]))
    return table


def forward():
    """Return the largest entry of the difference between Σ_t δ_t z_t and the λ-return's update, per
    walk."""
    x, gaps = np.eye(STATES), {"accumulating": [], UNVISITED: []}
    w = np.append(np.random.default_rng(0).normal(size=STATES - 1), 0.0)
    for S, R in walks(0):
        v = w[S]
        deltas = R + GAMMA * v[1:] - v[:-1]
        exact = (lambda_returns(np.array(R), v, GAMMA, LAM) - v[:-1]) @ x[S[:-1]]
        for kind, found in gaps.items():
            z, total = np.zeros(STATES), np.zeros(STATES)
            for s, delta in zip(S, deltas):
                mark(kind, z, x[s], GAMMA * LAM)
                total += delta * z
            found.append(float(np.abs(total - exact).max()))
    return gaps


def discount():
    """Return the RMS error (10 seeds) for each λ, decay γλ and decay λ; and the error of v̂ = 0."""
    mdp = replace(random_walk_19(), gamma=GAMMA)
    v = state_values(mdp, np.full((STATES, 2), 0.5))[: STATES - 1]
    decays = np.append(GAMMA * LAMBDAS, LAMBDAS)
    trained = lambda seed: learn(walks(seed), "accumulating", decays, ALPHAS, GAMMA)
    errors = lambda seeds: np.array([rms_error(trained(seed), v) for seed in seeds])
    mean = errors(TUNING).mean(0)
    tuned = np.where(np.isfinite(mean), mean, np.inf).argmin(-1)
    check_learn(decays, tuned, trained(0))
    found = errors(SEEDS)[:, np.arange(len(decays)), tuned]
    rows = [
        dict(step_size=float(ALPHAS[j]), rms_error=e.tolist(), mean=e.mean(), sd=e.std(ddof=1))
        for j, e in zip(tuned, found.T)
    ]
    table = {}
    for lam, right, wrong in zip(LAMBDAS, rows, rows[len(LAMBDAS) :]):
        worse = int(np.greater(wrong["rms_error"], right["rms_error"]).sum())
        table[f"{lam:g}"] = {"γλ": right, "λ": wrong, "seeds_worse": worse}
    return dict(gamma=GAMMA, error_of_zero=float(np.sqrt((v**2).mean())), by_lambda=table)


def check_learn(decays, chosen, path):
    """Assert that the path of w over the walks of seed 0 is that of td_lambda's page: with γλ; and
    with decay λ ≤ γ, as TD of λ/γ."""
    for i, (decay, j) in enumerate(zip(decays, chosen)):
        if decay <= GAMMA:
            config = td_lambda.Config(gamma=GAMMA, lam=decay / GAMMA, step_size=ALPHAS[j])
            env = Replay(walks(0))
            state = td_lambda.init(env, config, 0)
            training = measure.episodes(td_lambda.train(env, config, state))
            for w, _ in zip(path[:, i, j], training):
                np.testing.assert_allclose(w, state.w, rtol=0, atol=1e-12)


def kinds():
    """Return per kind the best λ and α, RMS error and standard error, and the curve over α at that
    λ."""
    record = study.load("td_lambda")
    best = {}
    for kind in ONLINE:
        lam, row = min(record["curves"][kind].items(), key=lambda item: item[1]["rms_error"])
        best[kind] = dict(lam=lam, **row)
    return dict(step_sizes=record["step_sizes"], repetitions=record["repetitions"], best=best)


def continuing():
    config = actor_critic.Continuing(
        network=LINEAR, optimizer="sgd", step_size=0.02, step_size_w=0.02, report_every=5000
    )
    env = gymnasium.make("npgrad/AccessControl-v0")
    states, z = watch(env, actor_critic, config, "z_w", 1)
    x = np.eye(env.observation_space.n)[states]
    gap = np.abs(z[1:] - (config.lambda_w * z[:-1] + x[:-1])).max()
    learned = study.load("actor_critic_queue")["share_of_optimum"]
    return dict(steps=len(z), largest_difference=float(gap), share_of_optimum=learned)


def expected_update(mdp, theta, with_I):
    """Return (E Σ_t δ_t z^θ_t, ∇J): λ = 0.8, exact v^π, π at this θ. The page's box adds the update
    up in the State's own θ, which starts at 0 and on which nothing here depends."""
    env = FiniteMDPEnv(mdp)
    config = actor_critic.Traces(
        network=LINEAR, optimizer="sgd", step_size=1.0, gamma=mdp.gamma, lambda_theta=LAM
    )
    _, policy, x = world(env, config)
    pi, scores = policy(theta, x), score(theta, policy, x)
    v, total = state_values(mdp, pi), np.zeros_like(theta)
    for tau in enumerate_episodes(mdp, pi, scores).episodes:
        state = actor_critic.init(env, config, 0)
        for s, s2, a, R in zip(tau.states, tau.states[1:], tau.actions, tau.rewards):
            dv, dlogpi = lambda c: 0.0, lambda c, x=scores[s, a]: c * x
            actor_critic.traces(config, state, R, v[s], v[s2], dv, dlogpi)
            if not with_I:
                state.I = 1.0
        total += tau.probability * state.theta
    return total, exact_gradient(theta, mdp, policy, x)


def actor():
    """Return bias and cosine with ∇J, with and without I, on the chain and on the lure; and J(θ) on
    the lure along 100 expected updates of α = 1 from θ = 0."""
    theta = np.random.default_rng(0).standard_normal(10)
    worlds = {"chain": (chain(), theta), "lure": (lure(), np.zeros(2))}
    found, climb = {}, {}
    for with_I in (True, False):
        label = "with I" if with_I else "without I"
        for name, (mdp, theta) in worlds.items():
            g, exact = expected_update(mdp, theta, with_I)
            cosine = float(g @ exact / np.linalg.norm(g) / np.linalg.norm(exact))
            row = dict(bias=float(np.linalg.norm(g - exact)), cosine=cosine)
            found[f"{name}, {label}"] = row
        at, climb[label] = np.zeros(2), []
        for _ in range(100):
            p = 1 / (1 + np.exp(at[0] - at[1]))
            climb[label].append(expected_return(lure(), [[1 - p, p]] * 3))
            at += expected_update(lure(), at, with_I)[0]
    return dict(found, lure_J=climb)


def table(found):
    """Return (statement, verdict, number, what is so, measured), row by row. Statements that hold
    in another case than the one they are made of, or in other words, are partly right."""
    same, forward, discount, actor = (found[k] for k in ("same", "forward", "discount", "actor"))
    e = {kind: ", ".join(f"{x:g}" for x in row) for kind, row in found["revisited"].items()}
    right, wrong = (max(gaps) for gaps in forward.values())
    best = "; ".join(
        f"{kind} {row['rms_error']:.3f} ± {row['standard_error']:.3f}"
        for kind, row in found["kinds"]["best"].items()
    )
    spread = lambda row: f"{row['mean']:.3f} ± {row['sd']:.3f}"
    errors = "; ".join(
        f"λ = {lam}: {spread(row['γλ'])}, without γ {spread(row['λ'])} "
        f"(worse on {row['seeds_worse']} of {len(SEEDS)})"
        for lam, row in discount["by_lambda"].items()
    )
    cosine = {
        name: study.minus(f"{row['cosine']:.3f}") for name, row in actor.items() if name != "lure_J"
    }
    final = {name: f"{J[-1]:.2f}" for name, J in actor["lure_J"].items()}
    return [
        (
            "The replacing trace of TD(λ) adds 1 to e(s) whenever s is visited.",
            "partly",
            f"{found['revisited']['accumulating'][3]:g} is e(A) after A B A A by adding 1, "
            f"{found['revisited']['replacing'][3]:g} by replacing (γλ = ½)",
            "right formula, wrong name: +1 accumulates; a replacing trace is set to 1",
            f"e(A) in A B A A C at γλ = ½: accumulating {e['accumulating']}; replacing "
            f"{e['replacing']}; dutch, α = ½, {e['dutch']}",
        ),
        (
            "When a state is not visited, traces decay by γλ.",
            "partly",
            f"{wrong:.1f} off the λ-return's update, if only the unvisited decay",
            "every trace decays at every step, that of the state visited too",
            f"Σ δz minus the update of the λ-return: at most {right:.0e}; if only the unvisited "
            f"decay, up to {wrong:.1f}, and e(A) is {e[UNVISITED]}",
        ),
        (
            "TD(λ) counts visits and lets the counts decay, actor–critic adds up gradients and "
            "lets the sum decay.",
            "partly",
            f"{same['count_minus_td_lambda']:g} is the largest difference of the two, for a table",
            "one mechanism: ∇v̂ of a one-hot state is the count",
            f"largest difference over {same['steps']} steps: actor–critic − TD(λ) "
            f"{same['actor_critic_minus_td_lambda']:g}, count − TD(λ) "
            f"{same['count_minus_td_lambda']:g} (e(s) up to {same['largest_trace']:.2f})",
        ),
        (
            "Counts suit the update of a value function, sums of gradients that of parameters.",
            "partly",
            f"{found['kinds']['best']['replacing']['rms_error']:.3f} to "
            f"{found['kinds']['best']['accumulating']['rms_error']:.3f}: the best errors of v̂ by "
            "the kinds of traces",
            "a count needs one-hot states, a gradient any v̂; what differs is the kind of trace",
            f"RMS error on the 19-state walk, each at its best α and λ = 0.8: {best} "
            f"(standard error of {found['kinds']['repetitions']} runs)",
        ),
        (
            "Without episodes, and for the average reward, traces are z ← λz + ∇.",
            "right",
            f"{found['continuing']['largest_difference']:g} is the largest difference from the box "
            "of the book",
            "there is no γ and no I: the box of p. 333",
            f"the page's z^w minus it: {found['continuing']['largest_difference']:g} over "
            f"{found['continuing']['steps']} steps of the queue, where it earns "
            f"{found['continuing']['share_of_optimum']['median']:.1%} of the optimum, median of 10",
        ),
        (
            "The critic's trace is z^w ← λz^w + ∇v̂ (said without naming the case; with episodes "
            "it lacks γ).",
            "partly",
            f"{discount['by_lambda']['0.9']['λ']['mean']:.3f} instead of "
            f"{discount['by_lambda']['0.9']['γλ']['mean']:.3f} of error in v̂, with episodes "
            "(γ = λ = 0.9)",
            "z^w ← γλz^w + ∇v̂; without γ it is TD(λ/γ), and for λ > γ no λ-return at all",
            f"RMS error at γ = {GAMMA}, each at its best α, {len(SEEDS)} seeds ± s.d. — {errors}; "
            f"v̂ = 0 has {discount['error_of_zero']:.3f}",
        ),
        (
            "The actor's trace is z^θ ← λz^θ + ∇ln π (said without naming the case; with episodes "
            "it lacks γ and I).",
            "partly",
            f"{cosine['lure, without I']}: cosine with ∇J where I = γ^t is left out, at worst",
            "z^θ ← γλz^θ + I ∇ln π, I = γ^t",
            "cosine of the expected update of an episode with ∇J: with I "
            f"{cosine['chain, with I']} (chain) and {cosine['lure, with I']} (two steps that look "
            f"alike); without {cosine['chain, without I']} and {cosine['lure, without I']}: there "
            f"J goes from 0.125 to {final['with I']} with I, to {final['without I']} without",
        ),
    ]


def picture(found):
    fig, axes = figures.subplots(2, 2, (11, 8))
    draw_visits(axes[0, 0], found["revisited"])
    draw_kinds(axes[0, 1], found["kinds"])
    draw_discount(axes[1, 0], found["discount"])
    ax = axes[1, 1]
    for (name, J), colour in zip(found["actor"]["lure_J"].items(), COLOURS):
        cosine = study.minus(f"{found['actor'][f'lure, {name}']['cosine']:+.0f}")
        ax.plot(J, color=colour, lw=2, label=f"{name}: cosine with ∇J is {cosine}")
    dress(ax, "Actor's trace, where two steps look alike (γ = ½)", "center right",
          xlabel="expected updates of the box", ylabel="J", ylim=(-0.01, 0.27))  # fmt: skip
    return fig


def draw_visits(ax, kinds):
    steps = range(1, len(VISITS) + 1)
    for i, (kind, row) in enumerate(kinds.items()):
        style = dict(ls=":", marker="x", color="grey") if kind not in ONLINE else dict(marker="o")
        ax.plot(steps, row, label=kind, **dict(color=COLOURS[i]) | style)
    ax.set_xticks(steps, [f"{name}\n{t}" for t, name in zip(steps, VISITS)])
    dress(ax, "The trace of state A, γλ = ½ (dutch: α = ½)", {}, xlabel="state visited, step",
          ylabel="e(A)", yticks=(0, 0.5, 1, 1.5, 2, 2.5))  # fmt: skip


def draw_kinds(ax, kinds):
    for (kind, row), colour in zip(kinds["best"].items(), COLOURS):
        error = np.array(row["curve"], float)
        ax.plot(kinds["step_sizes"], error, color=colour, label=f"{kind}, {row['rms_error']:.3f}")
        ax.plot(row["best_step_size"], row["rms_error"], "o", color=colour)
    dress(ax, "19-state walk, λ = 0.8, by kind of trace", "upper center", xlabel="α",
          ylabel="RMS error of 19 values", xlim=(0, 1), ylim=(0.24, 0.55))  # fmt: skip


def draw_discount(ax, discount):
    for i, row in enumerate(discount["by_lambda"].values()):
        for j, (decay, colour) in enumerate(zip(("γλ", "λ"), COLOURS)):
            at, errors = i + 0.24 * (j - 0.5), row[decay]["rms_error"]
            ax.plot(np.full(len(errors), at), errors, "o", color=colour, alpha=0.35, mew=0)
            label = f"z ← {decay}z + ∇v̂" if i == 0 else None
            ax.plot([at - 0.09, at + 0.09], [row[decay]["mean"]] * 2, color=colour, label=label)
    figures.goal_line(ax, discount["error_of_zero"], label="v̂ = 0")
    ax.set_xticks(range(len(LAMBDAS)), [f"λ = {lam}" for lam in discount["by_lambda"]])
    dress(ax, f"19-state walk, γ = {GAMMA}, each at its best α",
          dict(loc="lower right", ncols=3), ylabel="RMS error of 19 values, 10 seeds",
          ylim=(0, None))  # fmt: skip


def measured(*_):
    parts = same, revisited, forward, discount, kinds, continuing, actor
    return {part.__name__: part() for part in parts}


HEAD = "statement (notes, 2.1.1)", "verdict", "number", "what is so", "measured"
text = lambda found: study.table(HEAD, table(found))
STUDIES = {"traces": Whole(measured, text, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
