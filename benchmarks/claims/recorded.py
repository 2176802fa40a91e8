"""Claims decided by what other benchmarks recorded in benchmarks/results/."""

import re
from functools import wraps
from math import comb

import numpy as np

from benchmarks import study
from benchmarks.claims.claim import CLAIMED, Claim, claim
from benchmarks.corridor import WITH, WITHOUT
from benchmarks.record import load as result

UNRECORDED = "unmeasured", "not recorded yet", None
WORDS = {  # of the tables of traces and entropy
    "imprecise": "partly",
    "not as a rule": "wrong",
    "so up to a point": "partly",
    "not yet at β = 1 on CartPole-v1": "unsupported",
    "plausible on CartPole-v1": "unsupported",
}


def reads(*names):
    """A claim that is given what others recorded; unmeasured where that is not there."""

    def of(claim):
        @wraps(claim)
        def run(options):
            records = [result(name) for name in names]
            if None in records:
                return UNRECORDED
            try:
                return claim(options, *records)
            except KeyError as error:
                return "unmeasured", f"not recorded yet: {error.args[0]}", None

        return run

    return of


def differ(a, n, b, m):
    """Whether a of n and b of m are apart by Fisher's exact test, two-sided, at 5 %."""
    return exact_test(a, n, b, m) < 0.05


def exact_test(a, n, b, m):
    """p of Fisher's exact test, two-sided, for a of n and b of m."""
    ways = [comb(n, k) * comb(m, a + b - k) for k in range(a + b + 1)]
    return sum(x for x in ways if x <= ways[a]) / sum(ways)


def interval(x):
    """The 95 % bootstrap interval of the mean, as benchmarks.ddpg has it."""
    return study.bootstrap_band(np.reshape(x, (-1, 1)), np.random.default_rng(0))[:, 0]


@claim(
    "1.2.2.1",
    "a large R(τ) drives π to 1 for one action; the policy collapses",
    "python -m benchmarks.corridor",
    ("corridor_13_1",),
)
@reads("corridor")
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


@claim(
    "1.2.2.1",
    "the same, on the short corridor",
    "python -m benchmarks.corridor",
    ("corridor_13_2",),
)
@reads("corridor")
def baseline_corridor(options, record):
    """Right if about ten times as many episodes are needed without."""
    curves = [record["curves"][name] for name in (WITHOUT, WITH)]
    value, returns = (
        [curve[f"episodes_until_{by}_reaches"] for curve in curves]
        for by in ("value", "smoothed_return")
    )
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
    ratio = value[0] / value[1], returns[0] / returns[1]
    verdict = "right" if min(ratio) >= 10 else "partly" if max(ratio) >= 10 else "wrong"
    data = {name: curve["mean_value"][::5] for name, curve in zip(("without", "with"), curves)}
    return verdict, number, data


@claim(
    "3",
    "parallel workers shorten training",
    "python -m benchmarks.speed a3c; … .asynchrony; … .asynchronous",
    ("asynchrony", "asynchronous"),
)
@reads("speed_a3c", "asynchrony", "asynchronous")
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
        runs = asynchronous["results"][f"a3c-{n}"]["runs"]
        until[n] = np.median([r["reached"]["seconds"] if r["reached"] else np.inf for r in runs])
    one, many = found["1"], found["16"]
    first, last = one["seconds"][1], many["seconds"][1]
    never = [f"{x['seeds'] - x['reached']} of {x['seeds']}" for x in (one, many)]
    text = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in real.items())
    number = (
        f"two processes on two cores: {text} times the steps per second; median seconds until 475 "
        f"on CartPole of 1, 2 and 4 processes: {', '.join(f'{x:.2f}' for x in until.values())} "
        f"({len(runs)} runs each). Simulated, {never[1]} seeds of 16 workers never reach 475, of "
        f"one worker {never[0]}; the median of 16 is there "
    )
    number += f"{first / last:.1f} times sooner (the paper: 12.5)" if first and last else "never"
    pace, sooner = min(real.values(), default=0.0), until[1] > 1.5 * until[2]
    faster = pace > 1 or until[1] > until[2]
    verdict = "right" if pace > 1.5 and sooner else "partly" if faster else "wrong"
    return verdict, number, None


@claim(
    "3.3.1",
    "inconsistent policies cost A3C sample efficiency",
    "python -m benchmarks.asynchrony",
    ("asynchrony",),
)
@reads("asynchrony")
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
        (a, n), (b, m) = (
            (found[x][N]["reached"], found[x][N]["seeds"]) for x in ("clock", "serial")
        )
        shown[-1] += f" (p = {exact_test(a, n, b, m):.2f}, Fisher)"
        fewer.append(a / n < b / m and differ(a, n, b, m))
    number = "CartPole, 475 reached by, and median steps: " + "; ".join(shown)
    data = {
        kind: {N: [row["steps"], row["reached"], row["seeds"]] for N, row in found[kind].items()}
        for kind in ("clock", "serial")
    }
    verdict = "right" if all(fewer) else "partly" if any(fewer) else "unsupported"
    return verdict, number, data


@claim(
    "3.3.1",
    "A3C uses resources well, A2C waits for the slowest",
    "python -m benchmarks.asynchronous a3c-1 a3c-2; … .learning a2c",
)
@reads("asynchronous", "learning")
def waiting(options, asynchronous, learning):
    """Right if A2C makes fewer steps per second than A3C of one process and of two, partly if only
    of two; that the slowest is waited for is not measured."""
    sync = learning["contestants"]["a2c, CartPole-v1, npgrad"]
    races = [asynchronous["results"][f"a3c-{n}"] for n in (1, 2)]
    one, two = (np.median([r["steps_per_second"] for r in race["runs"]]) for race in races)
    a2c = np.median([r["steps"][-1] / r["seconds"][-1] for r in sync["runs"]])
    precision = re.search(r"precision='(\w+)'", sync["config"])[1]
    number = (
        f"CartPole, median steps/s: A3C {one:,.0f} with one process, {two:,.0f} with two on two "
        f"cores, {two / one:.2f} times ({races[0]['config']['precision']} precision, "
        f"{len(races[0]['runs'])} and {len(races[1]['runs'])} runs, by the clock); A2C of 8 "
        f"environments in one process {a2c:,.0f} ({precision} precision, {len(sync['runs'])} runs, "
        "by processor time): there nobody waits, one batch serves all, and the second core idles. "
        "Where environments differ in speed A2C does wait for the slowest; that is not measured"
    )
    return "right" if a2c < one else "partly" if a2c < two else "wrong", number, None


@claim(
    "3.3.1",
    "A3C suits fast exploration (Atari), A2C continuous control",
    "python -m benchmarks.asynchronous acrobot pendulum; … .a2c acrobot pendulum",
    ("asynchronous", "a2c_acrobot", "a2c_pendulum"),
)
@reads("asynchronous", "a2c_acrobot", "a2c_pendulum")
def scenarios(options, asynchronous, *synchronous):
    """Right if A3C scores higher on Acrobot, where the goal is to be found, and A2C on Pendulum,
    where actions are continuous, each by more than a 95 % bootstrap interval; partly if one does,
    wrong if both are reversed."""
    rng, signs, text = np.random.default_rng(0), [], []
    for name, record, sign in zip(("acrobot", "pendulum"), synchronous, (1, -1)):
        race = asynchronous["results"][name]
        runs = [r["score"] for r in race["runs"]], [r["evaluation"] for r in record["runs"]]
        drawn = [rng.choice(x, (2000, len(x))).mean(1) for x in runs]
        low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
        several = min(map(len, runs)) > 1
        signs.append(sign * several * (int(low > 0) - int(high < 0)))
        a, b = map(np.mean, runs)
        text.append(
            f"{race['environment']}: A3C {a:.0f} ({len(runs[0])} seeds), A2C {b:.0f} "
            f"({len(runs[1])}), difference {a - b:+.1f} [{low:+.1f}, {high:+.1f}]"
        )
    number = (
        f"return of π at the end, {'; '.join(text)}. Steps and settings differ, each tuned by "
        "itself, and both compute the same gradient of a segment; Atari is not measured"
    )
    verdict = "right" if min(signs) > 0 else "wrong" if max(signs) < 0 else "unsupported"
    return "partly" if min(signs) <= 0 < max(signs) else verdict, number, None


@claim("3.3.2", "Δθ_A3C = Σ_i over the workers", "python -m benchmarks.asynchrony", ("asynchrony",))
@reads("asynchrony")
def every_worker(options, record):
    """Wrong if others' updates come between the pull and the push of one: a sum has none."""
    found = record["summary"]["clock"]
    between = {N: found[N]["mean_staleness"] for N in ("2", "4", "16", "64")}
    text = ", ".join(f"{N}: {x:.1f}" for N, x in between.items())
    number = "an update is one worker's segment, and others' come between its pull and its push "
    number += f"(mean number by workers: {text}); there is no Σ over workers"
    return "wrong" if min(between.values()) > 0 else "right", number, None


def compared(name, first, others, by_goal=False):
    """A claim on DDPG: right if each variant of `first` beats all `others` of results/ddpg_NAME,
    partly if only some do, wrong if none does and another beats one, else unsupported.

    One beats another if the 95 % bootstrap interval of the mean over seeds of the gap, in the
    return of μ averaged over the run, is above 0: benchmarks.ddpg's. By goal: if more of its seeds
    reach the threshold, by an exact test; that is for a sparse reward, where what is spent on the
    way hides who gets there. Variants are given by how their names begin."""

    def run(options):
        record = result(f"ddpg_{name}")
        labels = list(record["variants"]) if record else []
        chosen = [next((x for x in labels if x.startswith(start)), None) for start in first]
        worse = [x for x in labels if x.startswith(others) and x not in chosen]
        starts = [any(x.startswith(start) for x in worse) for start in others]
        if None in chosen or not all(starts):
            return UNRECORDED
        variants = record["variants"]
        runs = {label: variant["runs"] for label, variant in variants.items()}
        final = {label: np.array([r["evaluation"] for r in row]) for label, row in runs.items()}
        curves = {
            label: np.array([r["curve"]["returns"] for r in row]) for label, row in runs.items()
        }
        goal = record["threshold"]
        reached = {label: int((x >= goal).any(1).sum()) for label, x in curves.items()}
        found, gaps = [], []
        for better in chosen:
            signs, n = [], len(curves[better])
            for label in worse:
                gap = curves[better].mean(1) - curves[label].mean(1)
                low, high = interval(gap)
                sign = (int(low > 0) - int(high < 0)) * (n > 1)
                if by_goal:
                    sign = np.sign(reached[better] - reached[label])
                    sign *= differ(reached[better], n, reached[label], len(curves[label]))
                signs.append(sign)
                gaps.append(f"{better} less {label} {gap.mean():+.0f} [{low:+.0f}, {high:+.0f}]")
            found.append("right" if min(signs) > 0 else "wrong" if min(signs) < 0 else "")
        ends = "; ".join(
            f"{k} {reached[k]} of {len(x)}, {np.median(x):.0f} ({x.min():.0f})"
            for k, x in final.items()
        )
        rate = re.search(r"ou_theta=([\d.]+)", variants[chosen[0]].get("config", ""))
        rate = f" (OU: ou_theta = {rate[1]})" if rate and chosen[0].startswith("OU") else ""
        number = (
            f"{record['env']}, {n} seeds{rate}. Return of μ averaged over {record['steps']:,} "
            f"steps, {'; '.join(gaps)}. Seeds that reach {goal:g}, and at the end, median (worst): "
            f"{ends}"
        )
        verdict = next((x for x in ("wrong", "right") if x in found), "unsupported")
        if "right" in found and set(found) != {"right"}:
            verdict = "partly"
        steps = next(iter(runs.values()))[0]["curve"]["steps"]
        data = {label: [steps, x.mean(0).round().tolist()] for label, x in curves.items()}
        return verdict, number, data

    return run


for name, notes, says, part, *contest in (
    ("noise", "4.2", "OU noise explores better than the others",
     "noise", ("OU",), ("white", "ε-greedy")),
    ("noise_car", "4.2", "the same, in MountainCarContinuous-v0",
     "noise_car", ("OU",), ("white", "ε-greedy"), True),
    ("no_noise", "4.2.1", "without noise a better action nearby is missed",
     "noise", ("OU",), ("none",)),
    ("annealing", "4.2.1", "large noise first (σ = 0.3), small later (0.01)",
     "annealing", ("σ = 0.3 →",), ("σ = 0.3", "σ = 0.01")),
    ("soft", "4.3", "soft target updates are more stable than hard copies",
     "targets", ("soft",), ("hard", "none")),
    ("tau", "4.3", "τ between 0.001 and 0.01",
     "tau", ("τ = 0.001", "τ = 0.01"), ("τ = 0.05", "τ = 0.2")),
):  # fmt: skip
    how = f"python -m benchmarks.ddpg {part}"
    CLAIMED[name] = Claim(notes, says, compared(part, *contest), how, (f"ddpg_{part}",))


def tabled(module, section, shown):
    """The rows of benchmarks.traces or .entropy, from what they recorded; the picture has those
    `shown`."""
    name = module.__name__.split(".")[-1]
    if (record := result(name)) is None:
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
