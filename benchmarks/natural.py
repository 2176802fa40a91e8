"""The natural gradient: its path, and natural actor–critic beside vanilla methods.

    python -m benchmarks.natural [PART ...] [--seeds 10] [--jobs 2] [--draw]

The path, exact: a world of two states with two actions, a softmax of one preference θ_s for each
state, and the same policy with θ = Mϑ, from one start. Natural actor–critic and vanilla methods on
the corridor and on CartPole-v1: seeds 10, 11, ..., none of which was used for tuning (0 to 4 were).
On CartPole-v1 all have one hidden layer of 16 and γ = 0.99; "equal settings" is REINFORCE as like
natural actor–critic as can be, with step sizes of its own. On the corridor all are linear, have γ =
1, and start at π(right) = 0.05; REINFORCE has the step sizes of Sutton & Barto's figures.
"""

import numpy as np

from algorithms import policy_gradient_theorem as theorem
from algorithms.common.policy import Network, make_policy
from algorithms.exact.mdp import expected_return
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM, garnet, short_corridor_value
from algorithms.runner.plot import COLOURS
from benchmarks import figures, measure, study
from benchmarks.measure import Row
from npgrad import linear_preferences

FIRST = 10  # seed that is reported
CARTPOLE, STEPS, GOAL = "CartPole-v1", 100_000, 475.0
CORRIDOR, EPISODES, STUCK = "npgrad/ShortCorridor-v0", 1000, -1e4
SMALL = dict(network=Network(hidden=(16,)))
EQUAL = dict(optimizer="sgd", episodes_per_update=5, step_size=1e-3, step_size_w=1e-4)
CAR = lambda method, changes: Row(method, CARTPOLE, GOAL, None, changes, STEPS)
METHODS = {
    CARTPOLE: {
        "natural actor–critic": CAR("natural-actor-critic", {}),
        "REINFORCE, equal settings, sgd": CAR("reinforce", SMALL | EQUAL),
        "REINFORCE, adam": CAR("reinforce", SMALL),
        "actor–critic with traces, rmsprop": CAR("actor-critic-traces", SMALL),
    },
    CORRIDOR: {
        "natural actor–critic": Row("natural-actor-critic", CORRIDOR),
        "REINFORCE with baseline": Row("reinforce", CORRIDOR),
        "REINFORCE": Row("reinforce", CORRIDOR, variant="none"),
    },
}


def cartpole(label, seed):
    """Return a run: its training returns, and 100 episodes or more with the policy learned."""
    return dict(seed=seed) | measure.learned(METHODS[CARTPOLE][label], seed)


def corridor(label, seed):
    """Return the exact value of the policy after each episode; its last one goes on if it sticks,
    which can be within an episode that then never ends."""
    row = METHODS[CORRIDOR][label]
    (env, state), values = row.begin(seed), []
    policy = make_policy(env, row.config.network)
    state.theta[:] = 1.47, -1.47
    for metrics in row.page.train(env, row.config, state):
        p = float(policy.at(state.theta, 0).probs()[1])
        value = short_corridor_value(p) if 0 < p < 1 else -np.inf
        if metrics.returns or value < STUCK:
            values.append(value)
        if value < STUCK or len(values) == EPISODES:
            break
    values = np.append(values, np.full(EPISODES - len(values), values[-1]))
    reached = np.flatnonzero(values >= -12.5)
    return dict(
        seed=seed,
        stuck=bool(values[-1] < STUCK),
        value_last=float(max(values[-1], STUCK)),
        episodes_until_reached=int(reached[0]) + 1 if reached.size else None,
        curve=dict(steps=list(range(1, EPISODES + 1, 10)),
                   means=np.maximum(values, STUCK)[::10].round(3).tolist()),
    )  # fmt: skip


def paths(updates=400):
    """Return (p₀, p₁) of the policy at some of 400 exact updates, for each direction and each
    parameterisation; and J of all policies."""
    mdp, found = garnet(8, states=2), {}
    x = np.zeros((2, 2, 2))  # h(s, 1) = θ_s, h(s, 0) = 0
    x[[0, 1], 1, [0, 1]] = 1.0
    M = np.array([[1.0, 0.0], [2.0, 0.5]])
    theta, policy = np.array([0.5, -2.5]), theorem.gibbs(linear_preferences(2))
    for name, features, start in (
        ("θ", x, theta),
        ("ϑ, θ = Mϑ", x @ M, np.linalg.solve(M, theta)),
    ):
        for direction, step_size in (("natural", 0.02), ("gradient", 0.05)):
            config = theorem.Config(direction=direction, step_size=step_size, decay=1e-9)
            state, path = theorem.State(start.copy(), np.zeros(2)), []
            for _ in zip(range(updates), theorem.iterate(mdp, policy, features, config, state)):
                path.append(policy(state.theta, features)[:, 1].round(5).tolist())
            found[f"{direction}, in {name}"] = path[:40] + path[40::6]
    grid = np.linspace(0.005, 0.995, 34)
    pi = lambda p, q: np.array([[1 - p, p], [1 - q, q]])
    J = np.array([[expected_return(mdp, pi(p, q)) for p in grid] for q in grid])
    return dict(paths=found, grid=grid.tolist(), J=J.round(5).tolist())


def spread(x):
    """Return the standard deviation over seeds; 0 of one seed."""
    return np.std(x, ddof=min(1, len(x) - 1))


def row(label, runs):
    """Return the label, then medians and spread over seeds of the runs of one method on one
    task."""
    if "value_last" in runs[0]:
        ends = [run["value_last"] for run in runs if not run["stuck"]]
        scores = f"{np.mean(ends):.2f} ± {spread(ends):.2f}" if ends else "–"
        worst = f"{min(ends):.2f}" if ends else "–"
        stuck = len(runs) - len(ends)
        when = study.maybe(study.median([run["episodes_until_reached"] for run in runs]))
        return label, scores, worst, when, f"{stuck} of {len(runs)}"
    ends = [run["evaluation"] for run in runs]
    when = study.maybe(study.median([run["steps_until_reached"] for run in runs]))
    solved = sum(end >= GOAL for end in ends)
    seconds = np.median([run["seconds"] for run in runs])
    return (label, f"{np.mean(ends):.0f} ± {spread(ends):.0f}", f"{min(ends):.0f}", when,
            f"{solved} of {len(runs)}", f"{seconds:.1f}")  # fmt: skip


HEADS = {
    CARTPOLE: ("method", f"return after {STEPS:,} steps", "worst", "steps until 475",
               "seeds at 475", "seconds of a processor"),
    CORRIDOR: ("method", f"v(p) after {EPISODES:,} episodes", "worst", "episodes until v ≥ −12.5",
               "stuck"),
}  # fmt: skip


def draw(found):
    fig, (plane, left, right) = figures.subplots(1, 3, (16, 4.8))
    world = found["path"]
    plane.contour(world["grid"], world["grid"], world["J"], 14, colors="#c9c9c9", linewidths=0.8)
    for (name, path), style in zip(world["paths"].items(), ("-", "-", "--", "--")):
        colour = COLOURS[2 if name.startswith("natural") else 1]
        how = dict(lw=4.0, alpha=0.5) if style == "-" else dict(lw=2.0)
        plane.plot(*np.transpose(path), style, color=colour, label=name, **how)
    plane.set_title("two states, exact: natural paths are one", loc="left")
    plane.set(xlabel="π(1|0)", ylabel="π(1|1)", xlim=(0, 1), ylim=(0, 1))
    plane.legend(frameon=True, loc="best", fontsize=9)
    for ax, task, title in (
        (left, CORRIDOR, "short corridor: exact value of the policies"),
        (right, CARTPOLE, "CartPole-v1: return, mean of the last 100 episodes"),
    ):
        for (label, runs), colour in zip(
            found.get(task, {}).items(), (COLOURS[2], *COLOURS[:2], COLOURS[3])
        ):
            curves = [run["curve"] for run in runs]
            grid = np.linspace(
                max(c["steps"][0] for c in curves), min(c["steps"][-1] for c in curves), 200
            )
            values = np.array([np.interp(grid, c["steps"], c["means"]) for c in curves])
            figures.band(ax, grid, values, colour, label)
        ax.set_title(title, loc="left")
        ax.set(xlabel="episodes" if task == CORRIDOR else "environment steps")
        ax.legend(frameon=False, loc="lower right", fontsize=9)
    left.axhline(SHORT_CORRIDOR_OPTIMUM[1], color="black", ls="--", lw=1)
    left.set(ylim=(-60, -8))
    figures.dress(right, right.get_title("left"), steps="x")
    return fig


def markdown(found):
    text = "# Natural actor–critic beside vanilla methods\n\nMean ± s.d. over seeds that were not "
    text += "used for tuning; the bands are 95 % bootstrap intervals of the mean.\n"
    for task, head in HEADS.items():
        rows = [row(label, runs) for label, runs in found.get(task, {}).items()]
        text += f"\n## {task}\n\n{study.table(head, rows)}"
    return study.minus(text) + "\n![](natural.png)\n"


def made(given):
    """Yield (what is recorded, results) of the parts."""
    if "path" in given.parts:
        yield "path", paths()
    for part, task, run in (("corridor", CORRIDOR, corridor), ("cartpole", CARTPOLE, cartpole)):
        if part in given.parts:
            jobs = [(label, FIRST + k) for label in METHODS[task] for k in range(given.seeds)]
            runs = list(study.mapped(run, jobs, given.jobs))
            n = given.seeds
            yield task, {x: runs[i * n :][:n] for i, x in enumerate(METHODS[task])}


def main():
    given = study.options(__doc__, ("path", "corridor", "cartpole"), seeds=10, jobs=2, draw=False)
    each = () if given.draw else made(given)
    found = study.kept("natural", "found", ("path", *METHODS), each)
    study.publish("natural", None, markdown(found), draw(found))


if __name__ == "__main__":
    main()
