"""Time the pages of two checkouts in turns: `python -m benchmarks.speed.before_after OLD`.

OLD is the folder of another checkout of this project. Every case trains with the shipped defaults
in a process of its own, one BLAS thread, the two checkouts in turns; its number is the median over
the rounds of (processor seconds per environment step, here) / (the same, in OLD). The first fifth
of the steps is not timed.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

PENDULUM, CARTPOLE = "Pendulum-v1", "CartPole-v1"
OWN = dict(vectorization="vector_entry_point", T_max=10**8)
ONE = dict(workers=1, T_max=10**8)
SINGLE = dict(precision="single")
# name: (page, Config, fields, environment, steps)
CASES = {
    "theorem": ("policy_gradient_theorem", "Config", {}, "npgrad/ShortCorridor-v0", 400),
    "reinforce": ("reinforce", "Config", {}, CARTPOLE, 30_000),
    "reinforce, moving": ("reinforce", "Config", {"form": "moving"}, CARTPOLE, 3000),
    "td-lambda": ("td_lambda", "Config", {}, "npgrad/RandomWalk19-v0", 20_000),
    "actor-critic": ("actor_critic", "OneStep", {}, CARTPOLE, 12_000),
    "actor-critic, single": ("actor_critic", "OneStep", SINGLE, CARTPOLE, 12_000),
    "actor-critic-traces": ("actor_critic", "Traces", {}, CARTPOLE, 12_000),
    "actor-critic-continuing": ("actor_critic", "Continuing", {}, "npgrad/Garnet0-v0", 12_000),
    "a3c, t_max 5": ("a3c", "Config", ONE, CARTPOLE, 20_000),
    "a3c, t_max 20, single": ("a3c", "Config", ONE | SINGLE | {"t_max": 20}, CARTPOLE, 30_000),
    "a3c, Gaussian": ("a3c", "Config", ONE, PENDULUM, 10_000),
    "async-q": ("async_q", "OneStepQ", ONE, CARTPOLE, 12_000),
    "async-sarsa": ("async_q", "OneStepSarsa", ONE, CARTPOLE, 12_000),
    "async-n-step-q": ("async_q", "NStepQ", ONE, CARTPOLE, 20_000),
    "a2c, sync of 8": ("a2c", "Config", {"T_max": 10**8}, CARTPOLE, 40_000),
    "a2c, CartPole's own of 8": ("a2c", "Config", OWN, CARTPOLE, 60_000),
    "a2c, CartPole's own of 64": ("a2c", "Config", OWN | {"environments": 64}, CARTPOLE, 250_000),
    "ddpg": ("ddpg", "Config", {}, PENDULUM, 2000),
    "ddpg, batch normalisation": ("ddpg", "Config", {"norm": True}, PENDULUM, 1600),
}  # fmt: skip


def microseconds(name):
    """Processor time per step of a case, in the checkout that is imported."""
    warnings.simplefilter("ignore")
    import gymnasium

    module, Config, fields, env_id, steps = CASES[name]
    for worlds in ("algorithms.exact.register", "algorithms.common.register"):  # as it was once
        try:
            importlib.import_module(worlds)
        except ImportError:
            continue
        break
    page, fields = importlib.import_module(f"algorithms.{module}"), dict(fields)
    if fields.pop("norm", False):
        fields["networks"] = page.Networks(batch_norm=True)
    config, env = getattr(page, Config)(**fields), gymnasium.make(env_id)
    begun = None
    for metrics in page.train(env, config, page.init(env, config, 0)):
        if begun is None and metrics.steps >= steps // 5:
            begun, first = time.process_time(), metrics.steps
        if metrics.steps >= steps + steps // 5:
            return (time.process_time() - begun) / (metrics.steps - first) * 1e6


def timed(name, checkout):
    """`microseconds` of a case in a process that imports the pages of a checkout."""
    threads = {f"{blas}_NUM_THREADS": "1" for blas in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, str(Path(__file__)), "--case", name]
    path = dict(PYTHONPATH=str(checkout), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, cwd=checkout, env=os.environ | threads | path,
                          capture_output=True, text=True, check=True)  # fmt: skip
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", nargs="?", type=Path, help="folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=5, help="of both, in turns")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(microseconds(options.case)))
        return
    if options.old is None:
        parser.error("OLD: must be the folder of another checkout")
    here, old = Path(__file__).parents[2], options.old.resolve()
    print("| case | before, µs a step | now | now / before | range |\n|---|---|---|---|---|")
    for name in CASES:
        pairs = []
        for k in range(options.rounds):
            order = (old, here) if k % 2 else (here, old)
            times = {checkout: timed(name, checkout) for checkout in order}
            pairs.append((times[old], times[here]))
        ratios = [now / before for before, now in pairs]
        before, now = (statistics.median(column) for column in zip(*pairs))
        row = f"{before:.1f} | {now:.1f} | {statistics.median(ratios):.2f}"
        print(f"| {name} | {row} | {min(ratios):.2f}-{max(ratios):.2f} |", flush=True)


if __name__ == "__main__":
    main()
