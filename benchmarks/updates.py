"""What A3C and A2C expect of their updates, exactly, in six finite worlds; and staleness.

    python -m benchmarks.updates [--seeds 3000] [--draw]

parts      as npgrad laboratory has them: θ ~ N(0, 1) of seed 0, a tabular softmax, β = 0.01 and
           v̂ = v/2; for segments of n = 1, ..., 8 steps. Worlds that need not end are cut after 6
           steps (the corridor after 10), by an end or by a time limit
staleness  A3C's own workers in the chain, sgd, t_max = 5: k others push between the last one's pull
           and its push, or all before its pull. The mean gap between its two dθ, with the same
           random numbers, along the exact first-order bias and over its length: 1 but for O(η)

Writes results/updates.json, .md and .png.
"""

from functools import partial

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401  (the worlds by their ids)
from algorithms import a3c, reinforce
from algorithms.common.drivers import interleave
from algorithms.common.policy import Network, make_policy
from algorithms.exact.laboratory import finite_horizon, score_table
from algorithms.exact.mdp import FiniteMDPEnv
from algorithms.exact.worlds import chain
from algorithms.referee.updates import expected_update, staleness, updates_table
from algorithms.runner.plot import COLOURS
from benchmarks import figures, laboratory, study
from benchmarks.study import Whole

LINEAR = Network(approximator="linear")
WORLDS = {env_id: horizon for env_id, (horizon, _) in laboratory.WORLDS.items()}
WORLDS |= {"npgrad/RandomWalk19-v0": None}
N, CRITIC, BETA = range(1, 9), 0.5, 0.01
ETAS, OTHERS = (0.2, 0.1), (1, 2, 4)
SHOWN = ("unseen", "undiscounted", "bootstrap", "cut", "entropy")


def parts(env_id, horizon):
    """Return {end of episodes: {n: [Term as a dict]}} of one world."""
    mdp = gymnasium.make(env_id).unwrapped.mdp
    policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
    theta = np.random.default_rng(0).standard_normal(policy.model.layout.size)
    ways = {"end": (mdp if horizon is None else finite_horizon(mdp, horizon), None)}
    if horizon is not None:
        ways["time limit"] = (mdp, horizon)
    found = {}
    for end, (world, limit) in ways.items():
        x = world.observation
        pi = policy.at(theta, x).probs()
        scores = score_table(reinforce.gradient, theta, policy, x, pi.shape[1])
        of = partial(updates_table, world, pi, scores, theta, CRITIC)
        found[end] = {f"{n}": [row._asdict() for row in of(n, BETA, limit)] for n in N}
    return found


def last_update(theta, eta, k, seed, late):
    """Return dθ of the last of k + 1 workers in the chain; late: it pulls after the others."""
    config = a3c.Config(workers=k + 1, beta=0.1, gamma=0.9, step_size=eta, optimizer="sgd",
                        annealed=False, network=LINEAR)  # fmt: skip
    state = a3c.init(FiniteMDPEnv(chain()), config, seed)
    state.theta[:] = theta
    envs = [FiniteMDPEnv(chain()) for _ in range(k + 1)]
    workers = [a3c.worker(i, env, config, state, a3c.gradient) for i, env in enumerate(envs)]
    others = [i for _ in range(3) for i in range(k)]  # in lock-step: all pull, compute, push
    for _ in interleave(workers, [*others, k, k] if late else [k, *others, k]):
        pass
    return state.learners[k].d


def gap(eta, k, seeds):
    """Return the gap along the first-order bias, over its length: (mean, standard error)."""
    rng = np.random.default_rng(0)
    theta = np.append(rng.standard_normal(10), np.zeros(5))
    update = partial(expected_update, mdp=chain(), n=5, beta=0.1)
    first = staleness(update, theta, eta, k)
    gaps = [
        np.subtract(*(last_update(theta, eta, k, seed, late) for late in (False, True)))
        for seed in range(seeds)
    ]
    along = np.array(gaps) @ first / (first @ first)
    return dict(eta=eta, k=k, mean=float(along.mean()), error=float(along.std() / seeds**0.5),
                first=float(np.linalg.norm(first)))  # fmt: skip


def markdown(record):
    worlds, stale = record["worlds"], record["staleness"]
    text = ["# What A3C and A2C expect of their updates, exactly\n"]
    text.append(f"Segments of n = 5 steps, β = {BETA}, v̂ = v/2, θ ~ N(0, 1) of seed 0. Lengths of")
    text.append(
        "the parts of an episode's updates, over |∇J|; cosines of their sum with ∇J, and of"
    )
    text.append("the entropy term with ∇E Σ_t γ^t H_t. A3C, A2C where they differ.\n")
    head = "world, end of episodes", *SHOWN, "sum", "entropy's"
    rows = []
    for env_id, ends in worlds.items():
        for end, by_n in ends.items():
            horizon = WORLDS[env_id]
            how = "its own" if horizon is None else f"{end}, {horizon} steps"
            of = {row["term"]: both(row) for row in by_n["5"]}
            cells = [of[name] for name in (*SHOWN, *list(of)[6:8])]
            rows.append([f"{env_id.removeprefix('npgrad/')}: {how}", *cells])
    text.append(study.table(head, rows))
    text.append("\n## Staleness\n")
    text.append("A3C's workers in the chain: the mean gap between an update that is k updates old")
    text.append("and a fresh one, along −η k (∂u/∂θ) u and over its length, ± standard error.\n")
    cells = [
        [f"{x['eta']:g}", str(x["k"]), f"{x['first']:.4f}", f"{x['mean']:.3f} ± {x['error']:.3f}"]
        for x in stale
    ]
    text.append(study.table(("η", "k", "|η k (∂u/∂θ) u|", "measured"), cells))
    return "\n".join(text) + "\n"


def both(row):
    """Return "A3C" or "A3C, A2C" of a row."""
    texts = ["-" if row[page] is None else f"{row[page]:.3f}" for page in ("a3c", "a2c")]
    texts = [study.minus(text).replace("−0.000", "0.000") for text in texts]
    return texts[0] if texts[0] == texts[1] else ", ".join(texts)


def picture(record):
    """Draw parts against n: A3C solid, A2C dashed; a panel for each end of each world."""
    ends = {f"{env_id[7:-3]}: {end}": by_n for env_id, ends in record["worlds"].items()
            for end, by_n in ends.items()}  # fmt: skip
    rows = -(-len(ends) // 2)
    fig, axes = figures.subplots(rows, 2, (10, 3 * rows))
    for ax, (title, by_n) in zip(axes.flat, ends.items()):
        for name, colour in zip(SHOWN, COLOURS):
            for page, style in (("a3c", "-"), ("a2c", "--")):
                y = [next(row[page] for row in by_n[str(n)] if row["term"] == name) for n in N]
                label = name if page == "a3c" else None
                y = np.where(np.array(y) > 1e-12, y, np.nan)  # rounding is left out
                if np.isfinite(y).any():
                    ax.semilogy(N, y, style, marker="o", ms=3, color=colour, label=label)
        figures.dress(ax, title, ylim=(1e-4, 20), xlabel="n", ylabel="part / |∇J|")
    for ax in axes.flat[len(ends) :]:
        ax.remove()
    handles = {}
    for ax in axes.flat:
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1]))
    fig.legend(handles.values(), handles, loc="outside lower center", ncols=3, frameon=False)
    fig.suptitle(
        "What an episode's updates of A3C (solid) and A2C (dashed) have besides ∇J:\n"
        "n steps, β = 0.01, v̂ = v/2; 0 where nothing is drawn", x=0.01, ha="left"
    )  # fmt: skip
    return fig


def measured(seeds, jobs):
    worlds = {env_id: parts(env_id, horizon) for env_id, horizon in WORLDS.items()}
    stale = [gap(eta, k, seeds) for eta in ETAS for k in OTHERS]
    return dict(seeds=seeds, worlds=worlds, staleness=stale)


STUDIES = {"updates": Whole(measured, markdown, picture, 3000)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
