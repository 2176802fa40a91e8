"""Claims decided by what other benchmarks recorded in benchmarks/results/."""

import re
from functools import partial

import numpy as np

from benchmarks import study
from benchmarks.claims import claim as claims
from benchmarks.claims.claim import CLAIMED, UNRECORDED, Claim, claim, differ, exact_test, graded
from benchmarks.corridor import WITH, WITHOUT
from benchmarks.ddpg import averages, reached

WORDS = {  # of the tables of traces and entropy
    "imprecise": "partly",
    "not as a rule": "wrong",
    "so up to a point": "partly",
    "not yet at β = 1 on CartPole-v1": "unsupported",
    "plausible on CartPole-v1": "unsupported",
}


@claim("1.2.2.1", "a large R(τ) drives π to 1 for one action; the policy collapses", "corridor",
       how="corridor", pictures=("corridor_13_1",))  # fmt: skip
def collapse(options, record):
    """Partly right if more runs stick without a baseline than with it, by an exact test; a large R,
    which the notes blame, cannot occur where every reward is −1."""
    runs = record["runs"]
    stuck = {name: round(runs * curve["runs_stuck"]) for name, curve in record["curves"].items()}
    text = ", ".join(f"{name}: {x}" for name, x in stuck.items())
    without = max(x for name, x in stuck.items() if name != WITH)
    number = (
        f"short corridor, of {runs} runs stuck at one action: {text} (p = "
        f"{exact_test(without, runs, stuck[WITH], runs):.2f}, Fisher). All rewards are −1 there, "
        "so that no R is large by luck"
    )
    more = without > stuck[WITH] and differ(without, runs, stuck[WITH], runs)
    return "partly" if more else "unsupported", number, None


@claim("1.2.2.1", "the same, on the short corridor", "corridor", how="corridor",
       pictures=("corridor_13_2",))  # fmt: skip
def baseline_corridor(options, record):
    """Right if about ten times as many episodes are needed without."""
    curves = [record["curves"][name] for name in (WITHOUT, WITH)]
    value, returns = ([curve[f"episodes_until_{by}_reaches"] for curve in curves]
                      for by in ("value", "smoothed_return"))  # fmt: skip
    bold = record["curves"]["α = 2⁻¹²"]
    if None in (*value, *returns):
        return "unmeasured", "the runs on record are too short to reach −12.5", None
    number = (
        f"episodes until {record['threshold']}, mean of {record['runs']} runs, Sutton & Barto's α: "
        f"{value[0]} and {value[1]}, {value[0] / value[1]:.1f} times, by the policies' exact "
        f"value; {returns[0]} and {returns[1]}, {returns[0] / returns[1]:.1f} times, by returns. "
        f"With α = 2⁻¹² and no baseline {bold['episodes_until_value_reaches']}, but "
        f"{100 * bold['runs_stuck']:.0f} % of the runs stick"
    )
    data = {name: curve["mean_value"][::5] for name, curve in zip(("without", "with"), curves)}
    return graded([value[0] >= 10 * value[1], returns[0] >= 10 * returns[1]]), number, data


@claim("3", "parallel workers shorten training", "speed_a3c", "asynchrony", "asynchronous",
       how="speed a3c; … .asynchrony; … .asynchronous",
       pictures=("asynchrony", "asynchronous"))  # fmt: skip
def parallel(options, speed, asynchrony, asynchronous):
    """Right if two processes make over 1.5 times the steps per second and reach 475 over 1.5 times
    sooner, partly if they are faster at all."""
    races, found = speed["results"], asynchrony["summary"]["clock"]
    real = {
        name.split(", ")[2]: race["rows"]["one process"]["over"]["two processes"][0]
        for name, race in races.items()
        if name.startswith("A3C, processes")
    }
    until = {}
    for n in (1, 2, 4):
        seconds = asynchronous[f"a3c-{n}"].of("seconds_until_reached")
        until[n] = np.median([np.inf if x is None else x for x in seconds])
    one, many = found["1"], found["16"]
    first, last = one["seconds"][1], many["seconds"][1]
    never = [f"{x['seeds'] - x['reached']} of {x['seeds']}" for x in (one, many)]
    text = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in real.items())
    number = (
        f"two processes on two cores: {text} times the steps per second; median seconds until 475 "
        f"on CartPole of 1, 2 and 4 processes: {', '.join(f'{x:.2f}' for x in until.values())} "
        f"({len(seconds)} runs each). Simulated, {never[1]} seeds of 16 workers never reach 475, "
        f"of one worker {never[0]}; the median of 16 is there "
    )
    number += f"{first / last:.1f} times sooner (the paper: 12.5)" if first and last else "never"
    pace, sooner = min(real.values(), default=0.0), until[1] > 1.5 * until[2]
    faster = pace > 1 or until[1] > until[2]
    verdict = "right" if pace > 1.5 and sooner else "partly" if faster else "wrong"
    return verdict, number, None


@claim("3.3.1", "inconsistent policies cost A3C sample efficiency", "asynchrony", how="asynchrony",
       pictures=("asynchrony",))  # fmt: skip
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
    number = "CartPole, 475 reached by, and median steps: " + "; ".join(shown)
    data = {
        kind: {N: [row["steps"], row["reached"], row["seeds"]] for N, row in found[kind].items()}
        for kind in ("clock", "serial")
    }
    return graded(fewer, "unsupported"), number, data


@claim("3.3.1", "A3C uses resources well, A2C waits for the slowest", "asynchronous", "learning",
       how="asynchronous a3c-1 a3c-2; … .learning a2c")  # fmt: skip
def waiting(options, asynchronous, learning):
    """Right if A2C makes fewer steps per second than A3C of one process and of two, partly if only
    of two; that the slowest is waited for is not measured."""
    sync = learning["a2c, CartPole-v1, npgrad"]
    races = [asynchronous[f"a3c-{n}"] for n in (1, 2)]
    one, two = (np.median(race.of("steps_per_second")) for race in races)
    ends = ([x[-1] for x in sync.of("curve", name)] for name in ("steps", "seconds"))
    a2c = np.median(np.divide(*ends))
    ours, theirs = (re.search(r"precision='(\w+)'", x.config)[1] for x in (races[0], sync))
    number = (
        f"CartPole, median steps/s: A3C {one:,.0f} with one process, {two:,.0f} with two on two "
        f"cores, {two / one:.2f} times ({ours} precision, {len(races[0].runs)} and "
        f"{len(races[1].runs)} runs, by the clock); A2C of 8 environments in one process "
        f"{a2c:,.0f} ({theirs} precision, {len(sync.runs)} runs, by processor time): there nobody "
        "waits, one batch serves all, and the second core idles. Where environments differ in "
        "speed A2C does wait for the slowest; that is not measured"
    )
    return "right" if a2c < one else "partly" if a2c < two else "wrong", number, None


@claim("3.3.1", "A3C suits fast exploration (Atari), A2C continuous control", "asynchronous",
       "a2c_acrobot", "a2c_pendulum",
       how="asynchronous acrobot pendulum; … .a2c acrobot pendulum",
       pictures=("asynchronous", "a2c_acrobot", "a2c_pendulum"))  # fmt: skip
def scenarios(options, asynchronous, *synchronous):
    """Right if A3C scores higher on Acrobot, where the goal is to be found, and A2C on Pendulum,
    where actions are continuous, each by more than a 95 % bootstrap interval; partly if one does,
    wrong if both are reversed."""
    rng, signs, text = np.random.default_rng(0), [], []
    for name, record, sign in zip(("acrobot", "pendulum"), synchronous, (1, -1)):
        runs = asynchronous[name].of("evaluation"), record[name].of("evaluation")
        drawn = [rng.choice(x, (2000, len(x))).mean(1) for x in runs]
        low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
        several = min(map(len, runs)) > 1
        signs.append(sign * several * (int(low > 0) - int(high < 0)))
        a, b = map(np.mean, runs)
        text.append(
            f"{asynchronous[name].env}: A3C {a:.0f} ({len(runs[0])} seeds), A2C {b:.0f} "
            f"({len(runs[1])}), difference {a - b:+.1f} [{low:+.1f}, {high:+.1f}]"
        )
    number = (
        f"return of π at the end, {'; '.join(text)}. Steps and settings differ, each tuned by "
        "itself, and both compute the same gradient of a segment; Atari is not measured"
    )
    verdict = "right" if min(signs) > 0 else "wrong" if max(signs) < 0 else "unsupported"
    return "partly" if min(signs) <= 0 < max(signs) else verdict, number, None


@claim("3.3.2", "Δθ_A3C = Σ_i over the workers", "asynchrony", how="asynchrony",
       pictures=("asynchrony",))  # fmt: skip
def every_worker(options, record):
    """Wrong if others' updates come between the pull and the push of one: a sum has none."""
    found = record["summary"]["clock"]
    between = {N: found[N]["mean_staleness"] for N in ("2", "4", "16", "64")}
    text = ", ".join(f"{N}: {x:.1f}" for N, x in between.items())
    number = "an update is one worker's segment, and others' come between its pull and its push "
    number += f"(mean number by workers: {text}); there is no Σ over workers"
    return "wrong" if min(between.values()) > 0 else "right", number, None


def gap(better, row, by_goal):
    """Return (mean of the gaps between two variants, seed by seed, their interval, its sign)."""
    x, n = averages(better) - averages(row), len(better.runs)
    low, high = study.interval(x)
    sign = (int(low > 0) - int(high < 0)) * (n > 1)
    if by_goal:
        a, b = reached(better), reached(row)
        sign = np.sign(a - b) * differ(a, n, b, len(row.runs))
    return x.mean(), low, high, sign


def compared(name, first, others, by_goal, options):
    """Decide a claim on DDPG: right if each variant of `first` beats all `others` of
    results/ddpg_NAME, partly if only some do, wrong if none does and another beats one, else
    unsupported.

    One beats another if the 95 % bootstrap interval of the mean over seeds of the gap, in the
    return of μ averaged over the run, is above 0: benchmarks.ddpg's. By goal: if more of its seeds
    reach the threshold, by an exact test; that is for a sparse reward, where what is spent on the
    way hides who gets there. Variants are given by how their names begin."""
    rows = claims.result(f"ddpg_{name}") or {}
    chosen = [next((rows[x] for x in rows if x.startswith(start)), None) for start in first]
    worse = [x for label, x in rows.items() if label.startswith(others) and x not in chosen]
    if None in chosen or not all(any(x.label.startswith(y) for x in worse) for y in others):
        return UNRECORDED
    found, gaps = [], []
    for better in chosen:
        each = [(row, *gap(better, row, by_goal)) for row in worse]
        gaps += [f"{better.label} less {row.label} {x:+.0f} [{low:+.0f}, {high:+.0f}]"
                 for row, x, low, high, _ in each]  # fmt: skip
        signs = [sign for *_, sign in each]
        found.append("right" if min(signs) > 0 else "wrong" if min(signs) < 0 else "")
    ends = "; ".join(
        f"{row.label} {reached(row)} of {len(row.runs)}, {np.median(row.of('evaluation')):.0f} "
        f"({min(row.of('evaluation')):.0f})"
        for row in rows.values()
    )
    rate = re.search(r"ou_theta=([\d.]+)", chosen[0].config)
    rate = f" (OU: ou_theta = {rate[1]})" if rate and chosen[0].label.startswith("OU") else ""
    number = (
        f"{better.env}, {len(better.runs)} seeds{rate}. Return of μ averaged over "
        f"{better.steps:,} steps, {'; '.join(gaps)}. Seeds that reach {better.goal:g}, and at the "
        f"end, median (worst): {ends}"
    )
    verdict = next((x for x in ("wrong", "right") if x in found), "unsupported")
    if "right" in found and set(found) != {"right"}:
        verdict = "partly"
    mean = lambda row: np.mean(row.of("curve", "scores"), 0).round().tolist()
    steps = next(iter(rows.values())).runs[0]["curve"]["steps"]
    data = {label: [steps, mean(row)] for label, row in rows.items()}
    return verdict, number, data


for name, notes, says, part, *contest in (
    ("noise", "4.2", "OU noise explores better than the others",
     "noise", ("OU",), ("white", "ε-greedy"), False),
    ("noise_car", "4.2", "the same, in MountainCarContinuous-v0",
     "noise_car", ("OU",), ("white", "ε-greedy"), True),
    ("no_noise", "4.2.1", "without noise a better action nearby is missed",
     "noise", ("OU",), ("none",), False),
    ("annealing", "4.2.1", "large noise first (σ = 0.3), small later (0.01)",
     "annealing", ("σ = 0.3 →",), ("σ = 0.3", "σ = 0.01"), False),
    ("soft", "4.3", "soft target updates are more stable than hard copies",
     "targets", ("soft",), ("hard", "none"), False),
    ("tau", "4.3", "τ between 0.001 and 0.01",
     "tau", ("τ = 0.001", "τ = 0.01"), ("τ = 0.05", "τ = 0.2"), False),
):  # fmt: skip
    how = f"python -m benchmarks.ddpg {part}"
    CLAIMED[name] = Claim(notes, says, partial(compared, part, *contest), how, (f"ddpg_{part}",))


def tabled(module, section, shown):
    """Return the rows of benchmarks.traces or .entropy, from what they recorded; the picture has
    those `shown`."""
    name = module.__name__.split(".")[-1]
    if (record := claims.result(name)) is None:
        return {}
    return {
        f"{name}_{k}": dict(
            notes=section,
            says=says,
            verdict=WORDS.get(verdict, verdict),
            number=f"{so}: {measured}",
            how=f"python -m benchmarks.{name}",
            pictures=[name] if k in shown else [],
        )
        for k, (says, verdict, so, measured) in enumerate(module.table(record), 1)
    }
