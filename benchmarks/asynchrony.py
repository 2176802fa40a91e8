"""Staleness and speed-up of A3C's workers on CartPole-v1: measured, and in simulated time.

    python -m benchmarks.asynchrony [--seeds 10] [--draw]

costs     median seconds of an environment step (with acting), of a segment's gradient (with the
          pull) and of a push, of one worker alone
clock     1 to 64 workers that learn in simulated time (drivers.virtual_clock). The costs are
          SECONDS, the workers' paces are spread over ± 5 %. Environment steps per simulated second,
          histograms of staleness, and the time until the mean of the last 100 training episodes
          reaches 475. Speed-up: the median time of one worker over that of N
bus       the same, but pushes wait for one another
serial    the same N workers, one at a time: pull, compute, push. No staleness, as many environments
processes staleness in real runs of 2 and 4 processes, after all of them have begun

The staleness of an update is the number of other updates between its pull and its push. Table 2 of
Mnih et al. 2016: A3C's time to a reference score, 1 thread over N, mean of seven Atari games.

Writes results/asynchrony.json, .md and .png.
"""

import os
import time
from contextlib import ExitStack, closing
from unittest import mock

import gymnasium
import numpy as np

from algorithms import a3c
from algorithms.common import drivers
from algorithms.common.asynchronous import LAST, Turns, total
from algorithms.runner.plot import COLOURS
from benchmarks import figures, study
from benchmarks.figures import dress
from benchmarks.study import Whole
from npgrad import ActorCritic

SECONDS = {5: (34e-6, 170e-6, 60e-6), 20: (25e-6, 210e-6, 53e-6)}  # t_max: step, gradient, push
SPREAD, WORKERS, FEW = 0.05, (1, 2, 4, 8, 16, 32, 64), (16, 64)
CARTPOLE = dict(step_size=2e-3, eps=1e-5, T_max=150_000)
THRESHOLD, MIDWAY, WINDOW, SHORT = 475.0, 75_000, 100, 15_000
KINDS = {"clock": "parallel", "serial": "one at a time", "bus": "parallel, pushes in line"}
TABLE_2 = {1: 1.0, 2: 2.1, 4: 3.7, 8: 6.9, 16: 12.5}
DIFFERENCE = """Times faster than one worker, median of the seeds. The paper measured times on 16
cores until a reference score, over seven Atari games. These times are simulated, on CartPole-v1: a
step costs the same for any number of workers, so that the throughput grows with their number, up to
1/push where pushes wait for one another. Where the time to 475 shrinks less than the throughput
grows, staleness costs steps; in the paper's times a real machine's losses are included."""
SETTINGS = dict(
    seconds=SECONDS, spread=SPREAD, config=CARTPOLE, t_max=20, short=SHORT, midway=MIDWAY
)


def costs(t_max, T_max=20_000):
    """Return the median seconds of a step, a gradient and a push, over the segments of t_max
    steps."""
    env, config = gymnasium.make("CartPole-v1"), a3c.Config(workers=1, t_max=t_max, T_max=T_max)
    state, rows, now = a3c.init(env, config, 0), [], time.perf_counter
    last = {"pushed": now()}

    class Timed(ActorCritic):
        def evaluate(self, S, k):  # acting is over: the gradient begins
            last["acted"] = now()
            return super().evaluate(S, k)

    with mock.patch.object(a3c, "ActorCritic", Timed):
        for event, what in a3c.worker(0, env, config, state, a3c.gradient):
            last[event] = now()
            if event == "pulled":
                pull = last["pulled"] - last["pushed"]
            elif event == "computed":
                k, acting = what, last["acted"] - last["pulled"]
                gradient = last["computed"] - last["acted"] + pull
            elif k == t_max:
                rows.append((acting / k, gradient, last["pushed"] - last["computed"]))
    return dict(zip(("step", "gradient", "push"), np.median(rows, 0).tolist()))


def clock(config, envs, state, bus):
    """Yield after every update (seconds of simulated time, its staleness, (return, length) of the
    episodes that ended)."""
    N = config.workers
    pace = np.linspace(1 - SPREAD, 1 + SPREAD, N + 2)[1:-1]
    workers = [a3c.worker(i, envs[i], config, state, a3c.gradient) for i in range(N)]
    updates, seen = 0, np.zeros(N, int)
    seconds = (x * pace for x in SECONDS[config.t_max])
    for now, i, event, what in drivers.virtual_clock(workers, *seconds, bus):
        if event == "pulled":
            seen[i] = updates
        if event == "pushed":
            yield now, updates - seen[i], what
            updates += 1


def serial(config, envs, state, rng):
    """Yield the same of workers of which one at a time pulls, computes and pushes; no time."""
    turns = (i for i in Turns(len(envs), rng) for _ in range(3))
    for metrics in a3c.train(envs[0], config, state, schedule=turns):
        yield None, 0, tuple(zip(metrics.returns, metrics.lengths))


def run(kind, N, seed, t_max=20, T=CARTPOLE["T_max"], until=THRESHOLD):
    """Return a run, to T steps or until the mean of the last 100 episodes is `until`."""
    config, score = a3c.Config(**CARTPOLE, workers=N, t_max=t_max), None
    returns, histogram, reached, midway = [], np.zeros(10 * N, int), False, None
    with ExitStack() as stack:
        envs = [stack.enter_context(closing(gymnasium.make("CartPole-v1"))) for _ in range(N)]
        state = a3c.init(envs[0], config, seed)
        if kind == "serial":
            updates = serial(config, envs, state, np.random.default_rng([seed, N]))
        else:
            updates = clock(config, envs, state, kind == "bus")
        for update in stack.enter_context(closing(updates)):
            seconds, staleness, ended = update
            histogram[min(staleness, len(histogram) - 1)] += 1
            returns += [G for G, _ in ended]
            steps = total(state.T)
            if ended:
                score = float(np.mean(returns[-WINDOW:]))
                reached = len(returns) >= WINDOW and score >= until
            if midway is None and (reached or steps >= MIDWAY):
                midway = score
            if reached or steps >= T:
                break
    counted = np.append(histogram, np.zeros(LAST, int))
    counted[LAST] = counted[LAST:].sum()
    assert (counted[: LAST + 1] == state.staleness.sum(0)).all()
    return dict(
        reached=bool(reached),
        steps=steps,
        seconds=seconds if seconds is None else float(seconds),
        score=score,
        score_midway=midway,
        mean_staleness=float(histogram @ np.arange(len(histogram)) / histogram.sum()),
        staleness=trimmed(histogram),
    )


def trimmed(histogram):
    return histogram[: int(np.flatnonzero(histogram)[-1]) + 1].tolist()


def short(kind, N, t_max):
    """Return throughput and staleness alone, of few steps, but more the longer all take to
    begin."""
    return run(kind, N, 0, t_max, SHORT * max(1, N // 16), np.inf)


def processes(N, t_max, T_max=30_000):
    """Return the staleness of N processes, without what came before all had begun; and how many
    processes the machine had to run meanwhile, these among them."""
    env = gymnasium.make("CartPole-v1")
    config = a3c.Config(**CARTPOLE | dict(T_max=T_max), workers=N, t_max=t_max, driver="processes")
    state, before = a3c.init(env, config, 0), 0
    for _ in a3c.train(env, config, state):
        if np.isscalar(before) and state.updates.min() > 0:
            before = state.staleness.copy()
    found = trimmed((state.staleness - before).sum(0))
    return dict(load=os.getloadavg()[0], staleness=found)


PARTS = dict(costs=costs, short=short, processes=processes, run=run)


def jobs(seeds):
    yield from (("costs", t_max) for t_max in SECONDS)
    yield from (
        ("short", kind, N, t) for t in SECONDS for kind in ("clock", "bus") for N in WORKERS
    )
    yield from (("processes", N, t_max) for t_max in SECONDS for N in (2, 4))
    for seed in range(seeds):
        yield from (("run", "clock", N, seed) for N in WORKERS)
        yield from (("run", kind, N, seed) for kind in list(KINDS)[1:] for N in FEW)


def of(runs, *job):
    """Return all runs recorded under these words and any seed."""
    words = [str(word) for word in job]
    return [run for key, run in runs.items() if key.split()[: len(words)] == words]


def quartiles(rows, name):
    """Return the quartiles of `name` over the seeds; None for what was never reached."""
    late = [row[name] if row["reached"] else np.inf for row in rows]
    found = np.quantile(late, (0.25, 0.5, 0.75), method="inverted_cdf").tolist()
    return [x if np.isfinite(x) else None for x in found]


def throughput(runs, kind, t_max):
    """Return environment steps per simulated second, over those of one worker, for each of
    WORKERS."""
    runs = [runs[f"short {kind} {N} {t_max}"] for N in WORKERS]
    rates = np.array([run["steps"] / run["seconds"] for run in runs])
    return rates / rates[0]


def summary(runs):
    """Return the numbers of the table and the picture, by kind and number of workers."""
    found = {}
    for kind in KINDS:
        for N in WORKERS:
            if rows := of(runs, "run", kind, N):
                timed = rows[0]["seconds"] is not None
                found.setdefault(kind, {})[str(N)] = dict(
                    seeds=len(rows),
                    reached=sum(row["reached"] for row in rows),
                    steps=quartiles(rows, "steps"),
                    seconds=quartiles(rows, "seconds") if timed else None,
                    score_midway=float(np.median([row["score_midway"] for row in rows])),
                    mean_staleness=float(np.mean([row["mean_staleness"] for row in rows])),
                )
    return found


def speed_up(found, kind, N):
    """Return [least, median, most] of the quartiles: median seconds of one worker over those of
    N."""
    (_, one, _), times = found["clock"]["1"]["seconds"], found[kind][str(N)]["seconds"]
    return [None if None in (one, x) else one / x for x in times[::-1]]


HEAD = "workers", "paper, Table 2", "steps per second", "the same, bus", "time to 475"
HEAD += "time to 475, bus", "seeds that reach 475", "steps until then"
HEAD += "return at 75,000 steps", "mean staleness"


def markdown(record):
    runs, found = record["runs"], record["summary"]
    rows, rates = [], [throughput(runs, kind, 20) for kind in ("clock", "bus")]
    for k, N in enumerate(WORKERS):
        row = found["clock"][str(N)]
        bus = speed_up(found, "bus", N)[1] if str(N) in found.get("bus", {}) else None
        low, middle, high = map(study.maybe, row["steps"])
        rows.append(
            [
                str(N),
                study.maybe(TABLE_2.get(N), ".1f"),
                *(f"{rate[k]:.1f}" for rate in rates),
                study.maybe(speed_up(found, "clock", N)[1], ".1f"),
                study.maybe(bus, ".1f"),
                f"{row['reached']} of {row['seeds']}",
                f"{middle} ({low} to {high})",
                study.maybe(row["score_midway"]),
                f"{row['mean_staleness']:.1f}",
            ]
        )
    return (
        f"{study.table(HEAD, rows)}\n{DIFFERENCE}\n\n{others(found)}\n{costs_and_staleness(runs)}"
    )


def others(found):
    """Return the steps until 475 at the same number of workers, with less staleness and with
    more."""
    rows = []
    for N in map(str, FEW):
        for kind in KINDS:
            if row := found.get(kind, {}).get(N):
                reached = f"{row['reached']} of {row['seeds']}"
                steps = study.maybe(row["steps"][1])
                rows.append([f"{N}, {kind}", reached, steps, f"{row['mean_staleness']:.1f}"])
    head = "workers, kind", "seeds that reach 475", "steps until then", "mean staleness"
    return study.table(head, rows)


def costs_and_staleness(runs):
    """Return costs, and the staleness of processes beside the simulated."""
    lines = []
    for t_max, seconds in SECONDS.items():
        x = runs[f"costs {t_max}"].values()
        now, taken = (", ".join(f"{1e6 * y:.0f}" for y in xs) for xs in (x, seconds))
        lines.append(
            f"t_max {t_max}: step, gradient, push in µs: {now} as measured, {taken} as simulated."
        )
    for t_max in SECONDS:
        for N in (2, 4):
            real, load = (runs[f"processes {N} {t_max}"][k] for k in ("staleness", "load"))
            mean = np.dot(real, np.arange(len(real))) / np.sum(real)
            simulated = runs[f"short clock {N} {t_max}"]["mean_staleness"]
            lines.append(
                f"t_max {t_max}, {N} processes: mean staleness {mean:.2f}, simulated "
                f"{simulated:.2f}; {real[0] / np.sum(real):.0%} of updates had none (the machine's "
                f"load was {load:.1f})."
            )
    return "\n".join(f"- {line}" for line in lines) + "\n"


def picture(record):
    runs, found = record["runs"], record["summary"]
    fig, axes = figures.subplots(2, 2, (12.5, 9))
    draw_speed_up(axes[0, 0], runs, found)
    draw_steps(axes[0, 1], runs)
    draw_simulated(axes[1, 0], runs)
    draw_measured(axes[1, 1], runs)
    for ax in axes[1]:
        ax.set(xlabel="staleness, updates", ylabel="share of the updates")
    fig.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return fig


def draw_speed_up(ax, runs, found):
    ax.plot(WORKERS, WORKERS, color="grey", ls=":", lw=1, label="as many times as workers")
    for kind, t_max, ls, label in (
        ("clock", 20, "-", "steps per second"),
        ("bus", 20, "--", "the same, pushes in line, t_max 20"),
        ("bus", 5, "-.", "the same, pushes in line, t_max 5"),
    ):
        rates = throughput(runs, kind, t_max)
        ax.plot(WORKERS, rates, color=COLOURS[0], ls=ls, lw=1.5, label=label)
    for kind, colour, text in (("clock", COLOURS[1], ""), ("bus", COLOURS[4], ", in line")):
        rows = {int(N): speed_up(found, kind, N) for N in found.get(kind, {})}
        rows = {N: row for N, row in rows.items() if row[1] is not None}
        if rows:
            N, (low, middle, high) = list(rows), np.array(list(rows.values()), float).T
            low = np.where(np.isnan(low), 0.5, low)  # below the axis
            label = f"time until 475, quartiles{text}"
            style = dict(fmt="o-", color=colour, capsize=3, label=label)
            ax.errorbar(N, middle, (middle - low, high - middle), **style)
    ax.plot(*zip(*TABLE_2.items()), "ks--", ms=5, lw=1, label="time to a score, Atari (the paper)")
    for axis in "xy":
        getattr(ax, f"set_{axis}scale")("log", base=2)
        getattr(ax, f"set_{axis}ticks")(WORKERS, WORKERS)
    dress(ax, "Simulated speed-up (bars to the bottom: a quarter of the seeds never)",
          dict(fontsize=8.5, loc="upper left"), xlabel="workers", ylim=(0.7, 90),
          ylabel="times faster than one worker")  # fmt: skip


def draw_steps(ax, runs):
    """Draw a dot for each seed, × if 475 was not reached; and each number of workers' median."""
    most, rng = CARTPOLE["T_max"], np.random.default_rng(0)
    for kind, colour, shift in zip(KINDS, COLOURS, (0.0, -0.27, 0.27)):
        middles = {}
        for k, N in enumerate(WORKERS):
            rows = of(runs, "run", kind, N)
            x = k + shift * (kind != "clock") + 0.09 * rng.uniform(-1, 1, len(rows))
            y = np.array([row["steps"] if row["reached"] else 1.06 * most for row in rows])
            there = np.array([row["reached"] for row in rows], bool)
            for at, marker, edge in ((there, "o", 0), (~there, "x", 1.2)):
                ax.plot(x[at], y[at], marker, color=colour, alpha=0.5, ms=5, mew=edge)
            if rows:
                middles[k + shift] = np.quantile(y, 0.5, method="inverted_cdf")
        if kind == "clock":
            ax.plot(middles.keys(), middles.values(), color=colour, lw=1.5)
        style = dict(color=colour, ms=16, mew=2.5, label=KINDS[kind])
        ax.plot(middles.keys(), middles.values(), "_", **style)
    ax.axhline(most, color="grey", ls=":", lw=1)
    ax.set_xticks(range(len(WORKERS)), WORKERS)
    dress(ax, "Steps it takes (×: more than were made)",
          dict(loc="lower left", ncols=2, fontsize=8.5), "y", xlabel="workers",
          ylabel="environment steps until 475", ylim=(0, 1.1 * most))  # fmt: skip


def shares(histogram):
    return np.array(histogram) / np.sum(histogram)


def draw_simulated(ax, runs):
    for N, colour in zip(WORKERS[1:], COLOURS):
        share = shares(runs[f"short clock {N} 20"]["staleness"])
        edges = np.arange(len(share) + 1) - 0.5
        ax.stairs(share, edges, color=colour, lw=1.5, label=f"{N} workers")
    dress(ax, "Simulated, t_max 20", dict(ncols=2))


def draw_measured(ax, runs):
    most = 10
    for j, N in enumerate((2, 4)):
        for k, (kind, alpha) in enumerate((("processes {} 20", 0.9), ("short clock {} 20", 0.35))):
            share = np.append(shares(runs[kind.format(N)]["staleness"]), np.zeros(most))
            share = np.append(share[:most], share[most:].sum())
            x = np.arange(most + 1) + 0.2 * (2 * j + k - 1.5)
            label = f"{N} {('processes, measured', 'workers, simulated')[k]}"
            ax.bar(x, share, 0.2, color=COLOURS[j], alpha=alpha, label=label)
    ax.set_xticks(range(most + 1), [*range(most), f"≥{most}"])
    dress(ax, "Measured, on 2 cores, t_max 20", {})


def measured(seeds, _):
    runs = study.gather(jobs(seeds), lambda part, *job: PARTS[part](*job))
    return dict(settings=SETTINGS, summary=summary(runs), runs=runs)


STUDIES = {"asynchrony": Whole(measured, markdown, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
