"""Claims decided by what other benchmarks recorded in benchmarks/results/."""

import re
from functools import partial

import numpy as np

from benchmarks import study
from benchmarks.claims import claim as claims
from benchmarks.claims.claim import (
    CLAIMED,
    UNRECORDED,
    Claim,
    Found,
    claim,
    differ,
    exact_test,
    graded,
)
from benchmarks.corridor import WITH, WITHOUT
from benchmarks.ddpg import PUBLISHED, averages, reached


@claim("1.2.2.1.1", "A very large return drives π to 1 for one action: the policy collapses.",
       "corridor", how="corridor", pictures=("corridor_13_1",))  # fmt: skip
def collapse(options, record):
    """Right if more runs stick without a baseline than with it, by an exact test, and because of a
    large return; partly if they do, for none is large where every reward is −1."""
    runs = record["runs"]
    stuck = {name: round(runs * curve["runs_stuck"]) for name, curve in record["curves"].items()}
    text = ", ".join(f"{name}: {x}" for name, x in stuck.items())
    without = max(x for name, x in stuck.items() if name != WITH)
    p = exact_test(without, runs, stuck[WITH], runs)
    rest = (
        f"short corridor, of {runs} runs stuck at one action: {text}. All rewards are −1 there, so "
        "that no return is large by luck"
    )
    number = (
        f"{without} of {runs} runs stick at one action, {stuck[WITH]} with a baseline (p = {p:.2f})"
    )
    more = without > stuck[WITH] and differ(without, runs, stuck[WITH], runs)
    return Found("partly" if more else "unsupported", number, rest)


@claim("1.2.2.1.2", "Without a baseline REINFORCE needs at least 10 times the episodes on the "
       "short corridor.", "corridor", how="corridor",
       pictures=("corridor_13_2",))  # fmt: skip
def baseline_corridor(options, record):
    """Right if ten times as many episodes are needed without, by the policies' exact values and by
    returns, partly if by one."""
    curves = [record["curves"][name] for name in (WITHOUT, WITH)]
    value, returns = ([curve[f"episodes_until_{by}_reaches"] for curve in curves]
                      for by in ("value", "smoothed_return"))  # fmt: skip
    bold = record["curves"]["α = 2⁻¹²"]
    if None in (*value, *returns):
        return Found("unmeasured", "the runs on record are too short to reach −12.5")
    rest = (
        f"episodes until {record['threshold']}, mean of {record['runs']} runs, Sutton & Barto's α: "
        f"{value[0]} and {value[1]}, {value[0] / value[1]:.1f} times, by the policies' exact "
        f"value; {returns[0]} and {returns[1]}, {returns[0] / returns[1]:.1f} times, by returns. "
        f"With α = 2⁻¹² and no baseline {bold['episodes_until_value_reaches']}, but "
        f"{100 * bold['runs_stuck']:.0f} % of the runs stick"
    )
    data = {name: curve["mean_value"][::5] for name, curve in zip(("without", "with"), curves)}
    ratios = value[0] / value[1], returns[0] / returns[1]
    number = f"{ratios[0]:.1f} times by the policies' exact values, {ratios[1]:.1f} by returns"
    return Found(graded([ratio >= 10 for ratio in ratios]), number, rest, data)


def paces(speed):
    """Return {setting: steps per second of two A3C processes over those of one}, raced in turn."""
    return {
        name.split(", ")[2]: race["rows"]["one process"]["over"]["two processes"][0]
        for name, race in speed["results"].items()
        if name.startswith("A3C, processes")
    }


@claim("3", "Parallel workers shorten training.", "speed_a3c", "asynchrony", "asynchronous",
       how="speed a3c; … .asynchrony; … .asynchronous",
       pictures=("asynchrony", "asynchronous"))  # fmt: skip
def parallel(options, speed, asynchrony, asynchronous):
    """Right if two processes make over 1.5 times the steps per second, and with the steps that one
    and two take to 475 are there over 1.5 times sooner; partly if they are faster at all."""
    real, found, steps = paces(speed), asynchrony["summary"]["clock"], {}
    for n in (1, 2, 4):
        taken = asynchronous[f"a3c-{n}"].of("steps_until_reached")
        steps[n] = np.median([np.inf if x is None else x for x in taken])
    one, many = found["1"], found["16"]
    first, last = one["seconds"][1], many["seconds"][1]
    never = [f"{x['seeds'] - x['reached']} of {x['seeds']}" for x in (one, many)]
    text = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in real.items())
    pace = min(real.values(), default=0.0)
    sooner = pace * steps[1] / steps[2]
    rest = (
        f"two processes on two cores: {text} times the steps per second, raced in turn; median "
        f"steps until 475 on CartPole of 1, 2 and 4 processes: "
        f"{', '.join(f'{x:,.0f}' for x in steps.values())} ({len(taken)} runs each): "
        f"{sooner:.1f} times sooner. Simulated, {never[1]} seeds of 16 workers never reach 475, of "
        f"one worker {never[0]}; the median of 16 is there "
    )
    rest += f"{first / last:.1f} times sooner (the paper: 12.5)" if first and last else "never"
    verdict = "right" if min(pace, sooner) > 1.5 else "partly" if max(pace, sooner) > 1 else "wrong"
    number = f"{pace:.2f} times the steps per second with two processes on two cores"
    return Found(verdict, number, rest)


@claim("3.3.1", "A3C's workers act with outdated policies, and this costs it sample efficiency.",
       "asynchrony", how="asynchrony", pictures=("asynchrony",))  # fmt: skip
def staleness(options, record):
    """Right if fewer runs of stale workers reach 475 than of the same number without staleness, by
    an exact test, of 16 and of 64; partly if of one."""
    found, shown, fewer = record["summary"], [], []
    for N in ("16", "64"):
        for kind, what in (("clock", "stale"), ("serial", "not")):
            row = found[kind][N]
            middle = row["steps"][1]
            steps = "not within 150,000" if middle is None else f"{middle:,.0f}"
            shown.append(f"{N} workers, {what}: {row['reached']} of {row['seeds']} runs, {steps}")
        both = (found[kind][N] for kind in ("clock", "serial"))
        (a, n), (b, m) = ((row["reached"], row["seeds"]) for row in both)
        shown[-1] += f" (p = {exact_test(a, n, b, m):.2f}, Fisher)"
        fewer.append(a / n < b / m and differ(a, n, b, m))
    rest = "CartPole, 475 reached by, and median steps: " + "; ".join(shown)
    stale, fresh = (found[kind]["64"] for kind in ("clock", "serial"))
    number = (
        f"{stale['reached']} of {stale['seeds']} runs of 64 workers reach 475, "
        f"{fresh['reached']} of {fresh['seeds']} without staleness"
    )
    data = {
        kind: {N: [row["steps"], row["reached"], row["seeds"]] for N, row in found[kind].items()}
        for kind in ("clock", "serial")
    }
    return Found(graded(fewer, "unsupported"), number, rest, data)


@claim("3.3.1", "A3C's workers act with different versions of the policy, A2C's always with one.",
       "asynchrony", how="asynchrony", pictures=("asynchrony",))  # fmt: skip
def versions(options, record):
    """Right if others' updates come between a worker's pull and its push in A3C. (In A2C nothing is
    updated while the environments play.)"""
    found = record["summary"]["clock"]
    between = {N: found[N]["mean_staleness"] for N in ("2", "4", "16", "64")}
    text = ", ".join(f"{N}: {x:.1f}" for N, x in between.items())
    number = f"{between['16']:.1f} updates of others come between pull and push, of 16 workers"
    rest = f"simulated, with equal speeds, mean number by workers: {text}. In A2C it is 0"
    return Found("right" if min(between.values()) > 0 else "wrong", number, rest)


@claim("3.3.1", "A3C uses all processors; A2C waits for its slowest worker.", "speed_a3c",
       how="speed a3c")  # fmt: skip
def waiting(options, speed):
    """Right if two processes of A3C make over 1.5 times the steps per second of one, and a step of
    8 workers who wait for one another takes over 1.5 times the mean (by exponential times)."""
    real, N = paces(speed), 8
    slowest = sum(1 / k for k in range(1, N + 1))  # the mean of the largest of N exponential times
    text = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in real.items())
    rest = (
        f"the mean of the largest of {N} independent exponential times of mean 1 is Σ_k 1/k; of "
        "equal times it is 1. A2C here computes its environments in one process, where nobody "
        f"waits. Two A3C processes on two cores make {text} times the steps per second of one"
    )
    number = f"{slowest:.2f} times one worker's mean: a step of {N} that wait (exponential times)"
    return Found(graded([min(real.values(), default=0.0) > 1.5, slowest > 1.5]), number, rest)


@claim("3.3.1", "A3C suits tasks that need exploration, A2C continuous control.", "asynchronous",
       "a2c_acrobot", "a2c_pendulum",
       how="asynchronous acrobot pendulum; … .a2c acrobot pendulum",
       pictures=("asynchronous", "a2c_acrobot", "a2c_pendulum"))  # fmt: skip
def scenarios(options, asynchronous, *synchronous):
    """Right if A3C scores higher on Acrobot, where the goal is to be found, and A2C on Pendulum,
    where actions are continuous, each by more than a 95 % bootstrap interval; partly if one does,
    wrong if both are reversed."""
    rng, signs, text, gaps = np.random.default_rng(0), [], [], []
    for name, record, sign in zip(("acrobot", "pendulum"), synchronous, (1, -1)):
        runs = asynchronous[name].of("evaluation"), record[name].of("evaluation")
        drawn = [rng.choice(x, (2000, len(x))).mean(1) for x in runs]
        low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
        several = min(map(len, runs)) > 1
        signs.append(sign * several * (int(low > 0) - int(high < 0)))
        a, b = map(np.mean, runs)
        gap = f"{a - b:+.1f} [{low:+.1f}, {high:+.1f}]"
        gaps.append(gap)
        text.append(
            f"{asynchronous[name].env}: A3C {a:.0f} ({len(runs[0])} seeds), A2C {b:.0f} "
            f"({len(runs[1])}), difference {gap}"
        )
    rest = (
        f"return of π at the end, {'; '.join(text)}. Steps and settings differ, each tuned by "
        "itself, and both compute the same gradient of a segment; Atari is not measured"
    )
    verdict = "right" if min(signs) > 0 else "wrong" if max(signs) < 0 else "unsupported"
    number = f"{gaps[0]} is A3C's return less A2C's on Acrobot, {gaps[1]} on Pendulum"
    return Found("partly" if min(signs) <= 0 < max(signs) else verdict, number, rest)


@claim("4", "DDPG handles continuous actions of many dimensions.", "ddpg_halfcheetah",
       how="ddpg halfcheetah", pictures=("ddpg_halfcheetah",))  # fmt: skip
def many_dimensions(options, record):
    """Right if several seeds reach what is published for HalfCheetah's six dimensions; one seed
    supports nothing."""
    (row,) = record.values()
    scores = [curve[-1] for curve in row.of("curve", "scores")]
    least = min(PUBLISHED.values())
    several = len(scores) > 1 and min(scores) > least
    number = f"{np.mean(scores):,.0f} of return in {row.env}, six dimensions; {len(scores)} seed"
    rest = (
        f"after {row.steps:,} steps; published after 1,000,000 in earlier versions: "
        + ", ".join(f"{name} {x:,}" for name, x in PUBLISHED.items())
    )
    return Found("right" if several else "unsupported", number, rest)


def gap(better, row, by):
    """Return what one variant is ahead of another, in words, and its sign; 0 unless it is certain
    at 95 %."""
    a, b, n = reached(better), reached(row), len(better.runs)
    if by == "goal":
        ahead = f"{a} of {n} seeds reach {better.goal:g}; {row.label}: {b}"
        return ahead, float(a - b), int(np.sign(a - b)) * differ(a, n, b, len(row.runs))
    measure = averages if by == "run" else lambda row: np.array(row.of("evaluation"))
    x = measure(better) - measure(row)
    low, high = study.interval(x)
    ahead = f"{x.mean():+.0f} [{low:+.0f}, {high:+.0f}] of return over {row.label}"
    return ahead, low, (int(low > 0) - int(high < 0)) * (n > 1)


def compared(name, first, others, by, options):
    """Right if each variant that the statement prefers beats all others, partly if some of them do,
    else unsupported: a defeat in one task does not refute advice.

    One beats another by the 95 % bootstrap interval of the mean gap over seeds, in the return of μ
    averaged over the run, or after it (“end”); or by how many seeds reach the threshold at some
    time, by an exact test (“goal”: for a sparse reward, where what is spent on the way hides who
    gets there)."""
    rows = claims.result(f"ddpg_{name}") or {}
    chosen = [next((rows[x] for x in rows if x.startswith(start)), None) for start in first]
    worse = [x for label, x in rows.items() if label.startswith(others) and x not in chosen]
    if None in chosen or not all(any(x.label.startswith(y) for x in worse) for y in others):
        return UNRECORDED
    found, closest, gaps = [], [], []
    for better in chosen:
        each = [gap(better, row, by) for row in worse]
        gaps += [f"{better.label}: {ahead}" for ahead, *_ in each]
        closest.append(f"{better.label}: {min(each, key=lambda x: x[1])[0]}")
        found.append(min(sign for *_, sign in each) > 0)
    ends = "; ".join(
        f"{row.label} {reached(row)} of {len(row.runs)}, {np.median(row.of('evaluation')):.0f} "
        f"({min(row.of('evaluation')):.0f})"
        for row in rows.values()
    )
    rate = re.search(r"ou_theta=([\d.]+)", chosen[0].config)
    rate = f" (OU: ou_theta = {rate[1]})" if rate and chosen[0].label.startswith("OU") else ""
    what = dict(run="Averaged over the run", end="After it", goal="At some time")[by]
    rest = (
        f"{better.env}, {better.steps:,} steps, {len(better.runs)} seeds{rate}. {what}, "
        f"{'; '.join(gaps)}. "
        f"Seeds that reach {better.goal:g}, and return of μ at the end, median (worst): {ends}"
    )
    mean = lambda row: np.mean(row.of("curve", "scores"), 0).round().tolist()
    steps = next(iter(rows.values())).runs[0]["curve"]["steps"]
    data = {label: [steps, mean(row)] for label, row in rows.items()}
    return Found(graded(found, "unsupported"), "; ".join(closest), rest, data)


for name, notes, says, part, *contest in (
    ("noise", "4.2", "Correlated (OU) noise lets DDPG learn more than independent noise "
     "(Pendulum).", "noise", ("OU",), ("white", "ε-greedy"), "run"),
    ("noise_car", "4.2", "Correlated (OU) noise lets DDPG find a far goal more often than "
     "independent noise (MountainCarContinuous).",
     "noise_car", ("OU",), ("white", "ε-greedy"), "goal"),
    ("no_noise", "4.2.1", "Without noise DDPG's policy misses a better action nearby.",
     "noise", ("OU",), ("none",), "end"),
    ("annealing", "4.2.1", "Noise should be strong at first (σ = 0.3) and weak later (0.01).",
     "annealing", ("σ = 0.3 →",), ("σ = 0.3", "σ = 0.01"), "run"),
    ("soft", "4.3", "Soft target updates make DDPG more stable than hard copies (Pendulum).",
     "targets", ("soft",), ("hard", "none"), "run"),
    ("tau", "4.3", "τ should be between 0.001 and 0.01.",
     "tau", ("τ = 0.001", "τ = 0.01"), ("τ = 0.05", "τ = 0.2"), "run"),
):  # fmt: skip
    how = f"python -m benchmarks.ddpg {part}"
    asks = " ".join(compared.__doc__.split())
    CLAIMED[name] = Claim(
        notes, says, partial(compared, part, *contest), how, (f"ddpg_{part}",), asks
    )


def tabled(module, section):
    """Return the rows of benchmarks.traces or .entropy, from what they recorded. The rest is in
    their own table."""
    name = module.__name__.split(".")[-1]
    if (record := claims.result(name)) is None:
        return {}
    return {
        f"{name}_{k}": dict(notes=section, says=says, verdict=verdict, number=number, more=name)
        for k, (says, verdict, number, *_) in enumerate(module.table(record), 1)
    }
