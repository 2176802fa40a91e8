"""The picture of benchmarks.claims: a panel for each of the main claims."""

import numpy as np

from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM
from algorithms.runner.plot import COLOURS
from benchmarks import figures


def draw(found):
    """Draw what the claims in PANELS recorded for the picture."""
    there = {name: f for name, f in PANELS.items() if found.get(name, {}).get("data")}
    fig, axes = figures.subplots(4, 2, (11, 15))
    for ax, (name, (panel, title)) in zip(axes.flat, there.items()):
        panel(ax, found[name]["data"])
        title = f"{found[name]['notes']} {title}: {found[name]['verdict']}"
        figures.dress(ax, title, dict(fontsize=9))
    for ax in axes.flat[len(there) :]:
        ax.remove()
    fig.get_layout_engine().set(w_pad=0.08, h_pad=0.1)
    return fig


def draw_baseline(ax, data):
    for (name, rows), colour in zip(data["runs"].items(), COLOURS):
        late = np.array([[np.inf if x is None else x for x in row] for row in rows])
        low, middle, high = np.quantile(late, [0.25, 0.5, 0.75], axis=0, method="nearest")
        ax.semilogy(data["levels"], middle, "o-", color=colour, label=name)
        ax.fill_between(data["levels"], low, np.minimum(high, 1e5), color=colour, alpha=0.15, lw=0)
    ax.set(xlabel="mean return of 100 training episodes", ylabel="episodes: median, quartiles")
    ax.set(ylim=(80, 5000), xticks=data["levels"])


def draw_corridor(ax, data):
    for (name, values), colour in zip(data.items(), (COLOURS[0], COLOURS[2])):
        ax.plot(5 * np.arange(len(values)), values, color=colour, label=f"{name} baseline")
    ax.axhline(SHORT_CORRIDOR_OPTIMUM[1], color="black", ls=":", lw=1)
    ax.set(xlabel="episode", ylabel="exact value of the policy, mean of 100 runs")


def draw_advantages(ax, data):
    for row, colour, label in zip(data["histogram"], COLOURS, ("G", "G − v̂")):
        ax.stairs(row, np.arange(-70, 110, 5), fill=True, color=colour, alpha=0.5, label=label)
    ax.set(xlabel=f"discounted, after {data['stage']:,} steps", ylabel="density, mean of the seeds")


def draw_variance(ax, data):
    for k, name in enumerate(next(iter(data.values()))):
        heights = [row[name] for row in data.values()]
        ax.bar(np.arange(len(data)) + 0.2 * (k - 1.5), heights, 0.2, color=COLOURS[k], label=name)
    ax.set_xticks(range(len(data)), [world.replace("Short", "") for world in data])
    ax.set(yscale="log", ylabel="tr Cov ĝ of one episode", ylim=(0.2, 4000))


def draw_staleness(ax, data):
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
    figures.dress(ax, steps="y", xlabel="A3C workers; beside: seeds that reach it",
                  ylabel="steps: median, quartiles")  # fmt: skip


def draw_factor(ax, data):
    for (name, row), colour in zip(data["growth"].items(), COLOURS):
        style = "--" if name in ("momentum", "Adam") else "-"
        ax.loglog(data["factors"], row, style, color=colour, base=2, label=name)
    ax.set(xlabel="N, times the gradient", ylabel="times the length of the steps")
    ax.set_xticks(data["factors"], data["factors"])
    ax.set_yticks(data["factors"], data["factors"])


def draw_noise(ax, data):
    t = np.arange(len(data["path"]))
    ax.plot(t, data["path"], color=COLOURS[0], lw=1, label="OU, ou_theta = 0.15, σ = 0.2")
    ax.plot(t, 0.05 * np.sin(0.1 * t), color=COLOURS[1], lw=2, label="0.05 sin(0.1 t)")
    ax.set(xlabel="t", ylabel="N, in half ranges of the action")


def draw_targets(ax, data):
    for (name, (steps, returns)), colour in zip(data.items(), COLOURS):
        ax.plot(steps, returns, color=colour, lw=1.8, label=name)
    figures.dress(
        ax, steps="x", xlabel="environment steps", ylabel="return of μ, mean of the seeds"
    )


PANELS = {
    "baseline_cartpole": (draw_baseline, "Episodes to each level on CartPole"),
    "baseline_corridor": (draw_corridor, "Baseline, short corridor"),
    "advantages": (draw_advantages, "Returns and advantages, CartPole"),
    "critic_variance": (draw_variance, "Variance of the gradient, exactly"),
    "staleness": (draw_staleness, "Steps until 475, workers"),
    "sum_or_mean": (draw_factor, "How a step changes with Σ in place of 1/N"),
    "sinus": (draw_noise, "OU noise is no sine"),
    "soft": (draw_targets, "DDPG's targets, Pendulum-v1"),
}
