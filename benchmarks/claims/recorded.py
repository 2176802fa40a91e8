"""Claims decided by what other benchmarks recorded in benchmarks/results/."""

import json

import numpy as np

from benchmarks.corridor import WITH, WITHOUT
from benchmarks.record import RESULTS

WORDS = {  # of the tables of traces and entropy
    "imprecise": "partly",
    "not as a rule": "wrong",
    "so up to a point": "partly",
    "not yet at β = 1 on CartPole-v1": "unsupported",
    "plausible on CartPole-v1": "unsupported",
}


def result(name):
    """results/NAME.json, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def collapse(options):
    """Right if runs stick without a baseline, and none does with it at a larger step."""
    record = result("corridor")
    stuck = {name: curve["runs_stuck"] for name, curve in record["curves"].items()}
    text = ", ".join(f"{name}: {100 * x:.0f} %" for name, x in stuck.items())
    without = max(x for name, x in stuck.items() if name != WITH)
    number = f"short corridor, of {record['runs']} runs stuck at one action: {text}"
    return "right" if without > stuck[WITH] == 0 else "partly", number, None


def baseline_corridor(options):
    """Right if about ten times as many episodes are needed without."""
    record = result("corridor")
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


def parallel(options):
    """Right if two processes come near twice the steps per second of one."""
    races, found = result("speed_a3c")["results"], result("asynchrony")["summary"]["clock"]
    real = {
        name.split(", ")[2]: race["rows"]["one process"]["over"]["two processes"][0]
        for name, race in races.items()
        if name.startswith("A3C, processes")
    }
    one, many = (found[N]["seconds"][1] for N in ("1", "16"))
    text = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in real.items())
    number = (
        f"two processes on two cores: {text} times the steps per second; simulated, 16 workers "
    )
    number += f"reach 475 on CartPole {one / many:.1f} times sooner than one (the paper: 12.5)"
    return "right" if min(real.values()) > 1.5 else "partly", number, None


def staleness(options):
    """Right if stale workers need more steps than the same number without staleness."""
    found, shown = result("asynchrony")["summary"], []
    at = lambda kind, N: found[kind][str(N)]
    for N in (16, 64):
        for kind, what in (("clock", "stale"), ("serial", "not")):
            row = at(kind, N)
            middle = row["steps"][1]
            steps = "not within 150,000" if middle is None else f"{middle:,.0f}"
            shown.append(f"{N} workers, {what}: {row['reached']} of {row['seeds']} runs, {steps}")
    little = at("clock", 16)["steps"][1] < 1.25 * at("serial", 16)["steps"][1]
    much = at("clock", 64)["reached"] < at("serial", 64)["reached"]
    number = "CartPole, 475 reached by, and median steps: " + "; ".join(shown)
    data = {
        kind: {N: [row["steps"], row["reached"], row["seeds"]] for N, row in found[kind].items()}
        for kind in ("clock", "serial")
    }
    return "partly" if little and much else "right" if much else "unsupported", number, data


def waiting(options):
    """Right if A2C were the slower per second of processor."""
    record = result("learning")["contestants"]
    pace = {}
    for name in ("a3c", "a2c"):
        runs = record[f"{name}, CartPole-v1, npgrad"]["runs"]
        pace[name] = np.median([r["steps"][-1] / r["seconds"][-1] for r in runs])
    number = (
        f"one core, CartPole: A2C of 8 environments {pace['a2c']:,.0f} steps/s, A3C "
        f"{pace['a3c']:,.0f}: no worker waits where one process steps all environments and one "
        "batch serves them. Where environments differ in speed A2C does wait for the slowest; that "
        "is not measured here"
    )
    return "partly" if pace["a2c"] > pace["a3c"] else "right", number, None


def scenarios(options):
    """Right if A2C did better on a continuous task, A3C on an exploratory one: not measured."""
    runs = result("asynchronous")["results"]["pendulum"]["runs"]
    scores = np.array([r["score"] for r in runs])
    number = (
        f"A3C on Pendulum-v1 (continuous): {np.sum(scores >= -300)} of {len(runs)} seeds at −300 "
        f"or more, median {np.median(scores):.0f}. A2C computes the same gradient of a segment; "
        "nothing here tells them apart by task"
    )
    return "unsupported", number, None


def every_worker(options):
    """Right if one A3C update were the sum over all workers."""
    found = result("asynchrony")["summary"]["clock"]
    text = ", ".join(f"{N}: {found[N]['mean_staleness']:.1f}" for N in ("2", "4", "16", "64"))
    number = "an update is one worker's segment, and others' come between its pull and its push "
    return "wrong", f"{number}(mean number by workers: {text}); there is no Σ over workers", None


def compared(name, first, others):
    """A claim on DDPG: right if the variant `first` beats all `others` of results/ddpg_NAME.json,
    wrong if one of them beats it, else unsupported. It beats another if the 95 % bootstrap interval
    of the mean over seeds of the gap, in the return of μ averaged over the run, is above 0.
    Variants are given by how their names begin."""

    def run(options):
        record = result(f"ddpg_{name}")
        labels = list(record["variants"]) if record else []
        better = next((label for label in labels if label.startswith(first)), None)
        worse = [x for x in labels if x.startswith(others) and x != better]
        if better is None or not all(any(x.startswith(start) for x in worse) for start in others):
            return "unmeasured", "not recorded yet", None
        runs = {label: variant["runs"] for label, variant in record["variants"].items()}
        final = {label: np.array([r["evaluation"] for r in row]) for label, row in runs.items()}
        curves = {
            label: np.array([r["curve"]["returns"] for r in row]) for label, row in runs.items()
        }
        rng, signs, gaps = np.random.default_rng(0), [], []
        for label in worse:
            gap = curves[better].mean(1) - curves[label].mean(1)
            low, high = np.quantile(rng.choice(gap, (2000, len(gap))).mean(1), [0.025, 0.975])
            signs.append(int(low > 0) - int(high < 0))
            gaps.append(f"{label} {gap.mean():+.0f} [{low:+.0f}, {high:+.0f}]")
        ends = "; ".join(f"{k} {np.median(x):.0f} ({x.min():.0f})" for k, x in final.items())
        number = (
            f"{record['env']}, {len(gap)} seeds. Return of μ averaged over {record['steps']:,} "
            f"steps, {better} less {'; '.join(gaps)}. At the end, median (worst): {ends}"
        )
        verdict = "right" if min(signs) > 0 else "wrong" if min(signs) < 0 else "unsupported"
        steps = next(iter(runs.values()))[0]["curve"]["steps"]
        data = {label: [steps, x.mean(0).round().tolist()] for label, x in curves.items()}
        return verdict, number, data

    return run


def tabled(module, section):
    """The rows of benchmarks.traces or .entropy, from what they recorded."""
    name = module.__name__.split(".")[-1]
    return {
        f"{name}_{k}": dict(
            notes=section,
            says=says,
            verdict=WORDS.get(verdict, verdict),
            number=f"{so}: {measured}",
            how=f"python -m benchmarks.{name}",
        )
        for k, (says, verdict, so, measured) in enumerate(module.table(result(name)), 1)
    }
