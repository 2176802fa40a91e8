"""The pages' speed: one command for every race, and for what explains their outcomes.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.speed [METHOD ...] [--rounds N]
                                                                        [--quick] [--draw]

reinforce, natural_actor_critic, actor_critic, async_q, a3c, a2c, ddpg, tape   races against torch
            lean and as usually written, Stable-Baselines3 (A2C, DDPG), HIPS autograd (tape): see
            entries and tape
scaling     an update's time against batch, width, depth and number of environments
footprint   peak memory and import time of a process that trains
roofline    an update's arithmetic, bytes and NumPy calls at this machine's rates, beside its time

All of them, if none is named. Before a race, torch's gradients must equal the page's, in float64.
Then, in every round, all take one turn each, in random order. Seconds are this process's processor
time, one BLAS and one torch thread, warm-up left out; "× page" is a contestant's time over the
page's in the same round, median and range of the middle 90 % of the rounds. "environment" only
steps and resets, which all must do; with it left out, both sides are what remains after that.

Each method writes results/speed_METHOD.json; speed.md, .json and .png are made anew from all that
are there (--draw: only that): ours, theirs, ratio and limit, then every table. --quick records
nothing, unless NPGRAD_RESULTS names a folder. Needs the extra `bench`: pip install -e '.[bench]'.
"""

import argparse
import json
import os
from importlib import import_module

import torch

from benchmarks.record import RESULTS, save
from benchmarks.speed import contestants, race, summary, tape

RACES = (*contestants.ROUNDS, "tape")
STUDIES = ("scaling", "footprint", "roofline")
PACKAGES = ("numpy", "gymnasium", "torch", "stable-baselines3", "autograd")
THREADS = dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


def run(method, rounds, quick):
    """Measure one method: (rounds, results)."""
    module = None if method in contestants.ROUNDS else import_module(f"benchmarks.speed.{method}")
    own = module.ROUNDS if module else contestants.ROUNDS[method]
    rounds = rounds or (3 if quick else own)
    if method in RACES:
        results = {}
        for one in tape.races(quick) if module else contestants.races(method, quick):
            results[one.setting] = race.outcome(one, rounds)
            print(race.markdown(one.setting, results[one.setting]), flush=True)
    else:
        results = module.measure(rounds, quick)
        print(module.markdown(results), flush=True)
    return dict(rounds=rounds, results=results)


def collect():
    """Tables and pictures from what is recorded."""
    tables, settings = [], {}
    for method in (*RACES, *STUDIES):
        path = RESULTS / f"speed_{method}.json"
        if not path.exists():
            continue
        results = json.loads(path.read_text())["results"]
        if method in RACES:
            settings |= results
            tables += [race.markdown(setting, result) for setting, result in results.items()]
        else:
            module = import_module(f"benchmarks.speed.{method}")
            tables.append(module.markdown(results))
            if hasattr(module, "draw"):
                module.draw(results)
    summary.write(settings, tables)


def main():
    parser = argparse.ArgumentParser(
        "python -m benchmarks.speed", description=__doc__.split("\n")[0]
    )
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(RACES + STUDIES))
    parser.add_argument("--rounds", type=int, help="instead of each method's own number")
    parser.add_argument("--quick", action="store_true", help="few, short rounds")
    parser.add_argument("--draw", action="store_true", help="only from what is recorded")
    arguments = parser.parse_args()
    if odd := set(arguments.methods) - {*RACES, *STUDIES}:
        parser.error(f"METHOD = {', '.join(odd)}: must be of {', '.join(RACES + STUDIES)}")
    if any(os.environ.get(name) != n for name, n in THREADS.items()):
        settings = " ".join(f"{name}={n}" for name, n in THREADS.items())
        parser.error(f"set {settings}: several threads mislead by a factor of 2")
    torch.set_num_threads(1)
    recorded = not arguments.quick or "NPGRAD_RESULTS" in os.environ
    for method in () if arguments.draw else arguments.methods or RACES + STUDIES:
        results = run(method, arguments.rounds, arguments.quick)
        if recorded:
            save(f"speed_{method}", "benchmarks.speed", results, PACKAGES)
    if recorded:
        collect()


if __name__ == "__main__":
    main()
