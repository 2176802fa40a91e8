"""The whole set of benchmarks, made anew in a folder of its own.

    python -m benchmarks [--quick]

Learning is measured in steps, so two of those parts run at a time; then what is timed or takes both
cores, each alone; then what reads what others recorded. Every part is a command that can be given
by itself; here with as few seeds and rounds as let the set end within 45 minutes on two cores
(--quick: a little of everything, two parts at a time, within five minutes). What stands in
benchmarks/results/ may have more: each file names its command.

Results go to the folder NPGRAD_RESULTS, or else runs/benchmarks (runs/quick), which begins as a
copy of benchmarks/results/; command, seconds and exit status of each part to all.md there, what it
printed to logs/. The exit status is 1 if that of any part is not 0.
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import study

RECORDED = Path(__file__).parent / "results"
THREADS = dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
# (command, command of --quick), "" for not at all
LEARNING = (
    ("parity", "parity --updates 20"),  # the longest first
    ("asynchronous --seeds 3", "asynchronous a3c-1 async-n-step-q --seeds 1 --steps 20000"),
    ("actor_critic --seeds 3", "actor_critic queue --seeds 1"),
    ("ddpg pendulum mountain_car regulator noise noise_car targets tau annealing --seeds 3",
     "ddpg regulator tau --seeds 1 --steps 1500"),
    ("ddpg inverted_pendulum --seeds 3", ""),
    ("a2c acrobot pendulum lunarlander --seeds 3", "a2c acrobot --seeds 1 --steps 20000"),
    ("entropy --seeds 3", ""),
    ("corridor", "corridor --seeds 3"),
    ("td_lambda", "td_lambda --seeds 2"),
    ("natural --seeds 3", "natural path corridor --seeds 1"),
    ("regulator", "regulator"),
)  # fmt: skip
ALONE = (
    ("learning --seeds 2 --jobs 2", "learning --seeds 2 --steps 2500 --jobs 2"),
    ("asynchrony --seeds 1", ""),
    ("a2c cartpole", "a2c cartpole --seeds 1"),
    ("a2c baseline --seeds 3", ""),
    ("laboratory", "laboratory"),
    ("updates --seeds 300", "updates --seeds 200"),
    ("checker --seeds 3", "checker --seeds 1"),
    ("speed --rounds 7", "speed --quick"),
)
READING = (("traces", "traces"), ("claims --seeds 3 --jobs 2", "claims --quick"))


def run(part, folder):
    """Run one part; return [command, seconds, exit status]. Its output goes to a log."""
    command, start = f"python -m benchmarks.{part}", time.perf_counter()
    environment = os.environ | THREADS | dict(NPGRAD_RESULTS=str(folder))
    with open(folder / "logs" / f"{part.replace(' ', '_')}.txt", "w") as log:
        done = subprocess.run(
            [sys.executable, *command.split()[1:]], env=environment, stdout=log, stderr=log
        )
    seconds = time.perf_counter() - start
    print(f"{seconds:7.1f} s, exit {done.returncode}: {command}", flush=True)
    return command, seconds, done.returncode


def main():
    quick = study.options(__doc__, quick=False).quick
    folder = Path(os.environ.get("NPGRAD_RESULTS") or f"runs/{'quick' if quick else 'benchmarks'}")
    if folder.resolve() != RECORDED.resolve():
        shutil.copytree(RECORDED, folder, dirs_exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    rows, start = [], time.perf_counter()
    for parts, at_once in ((LEARNING, 2), (ALONE, 1), (READING, 1)):
        with ThreadPoolExecutor(2 if quick else at_once) as pool:
            rows += pool.map(lambda part: run(part[quick], folder), [x for x in parts if x[quick]])
    minutes, failed = (time.perf_counter() - start) / 60, sum(code != 0 for *_, code in rows)
    cells = [[f"`{command}`", f"{seconds:.0f}", str(code)] for command, seconds, code in rows]
    total = f"{len(rows)} parts in {minutes:.1f} minutes, {failed} failed."
    text = study.table(("command", "seconds", "exit status"), cells)
    (folder / "all.md").write_text(f"{text}\n{total}\n")
    print(total)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
