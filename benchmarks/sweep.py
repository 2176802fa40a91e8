"""Many seeds at once: how long they take, and what is lost when processes or machines are killed.

    python -m benchmarks.sweep [PART ...] [--seeds 10] [--steps 100000] [--jobs 2]

jobs      the seconds of a sweep of REINFORCE on CartPole-v1, by jobs and one after another
killed    the same while a process of it is killed every 3 s
node      the same on Ray's local cluster of two nodes, one of which is killed after 8 s
workers   a3c with the driver ray on such a cluster, one node killed
pushes    a3c's pushes per second by driver, for environments of several milliseconds a step

"The same bits": runs whose parameters equal those of an uninterrupted run of the same seed.
Writes results/sweep.json and .md; of parts not named, what is recorded stays. RAY_TMPDIR should be
a short path.
"""

import json
import multiprocessing
import os
import random
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path

import gymnasium

from algorithms import a3c
from algorithms.common.asynchronous import total
from algorithms.runner.cli import main as npgrad
from benchmarks import study

DELAYS = 0.0, 1.0, 10.0  # milliseconds
DRIVERS = "round-robin", "processes", "ray"


def sweep(out, seeds, steps, jobs, *more):
    """Run a sweep; return (its record, seconds)."""
    line = f"sweep reinforce --env CartPole-v1 --steps {steps} --seeds {seeds} --jobs {jobs}"
    start = time.perf_counter()
    npgrad([*line.split(), "--checkpoint-every", "1", "--out", str(out), *more])
    return json.loads((out / "sweep.json").read_text()), time.perf_counter() - start


def outcome(out, record, seconds, straight):
    """Return a row of the table: what became of the runs in `out`."""
    runs = [out / key for key, result in record["trials"].items() if "score" in result]
    bits = lambda path: (path / "parameters.npz").read_bytes()
    same = sum(bits(path) == bits(straight / path.relative_to(out)) for path in runs)
    return {"finished": len(runs), "the same bits": same, "seconds": round(seconds, 1)}


@contextmanager
def meanwhile(work):
    """Call work(stop) in a thread during the block."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def two_nodes():
    """Make a Ray cluster of two nodes of one CPU each, as (cluster, the second)."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    node = cluster.add_node(num_cpus=1)
    try:
        yield cluster, node
    finally:
        cluster.shutdown()


def jobs(seeds, steps, n, folder):
    """Time one after another, and n at once."""
    seconds = {k: sweep(folder / f"{k}", seeds, steps, k)[1] for k in (1, n)}
    return {f"seconds, {k} at once": round(x, 1) for k, x in seconds.items()}


def killed(seeds, steps, n, folder, every=3.0):
    """Kill a process every few seconds, at random."""
    deaths, rng = [], random.Random(0)

    def kill(stop):
        while not stop.wait(every):
            children = multiprocessing.active_children()
            if children:
                deaths.append(rng.choice(children))
                deaths[-1].kill()

    sweep(folder / "straight", seeds, steps, n)
    with meanwhile(kill):
        record, seconds = sweep(folder / "killed", seeds, steps, n)
    row = outcome(folder / "killed", record, seconds, folder / "straight")
    return {"processes killed": len(deaths), **row}


def lost_node(seeds, steps, folder, after=8.0):
    """Kill a node some seconds after two runs have begun."""
    sweep(folder / "straight", seeds, steps, 2)
    out, begun = folder / "out", {}

    def kill(stop):
        while len(list(out.glob("*/*/metrics.csv"))) < 2 and not stop.wait(0.1):
            pass
        stop.wait(after)
        begun.update({path: path.stat().st_mtime_ns for path in out.glob("*/*/config.json")})
        cluster.remove_node(node, allow_graceful=False)

    with two_nodes() as (cluster, node), meanwhile(kill):
        record, seconds = sweep(out, seeds, steps, 2, "--cluster", cluster.address)
    row = outcome(out, record, seconds, folder / "straight")
    kept = all(path.stat().st_mtime_ns == at for path, at in begun.items())
    again = (out / "ray.log").read_text().count("Task run_away failed")
    return {**row, "resumed elsewhere": again if kept else 0}


def lost_workers(steps):
    """Run A3C on two nodes, and kill that of one worker once both have pushed."""
    import ray

    with two_nodes() as (cluster, node):
        os.environ["RAY_ADDRESS"] = cluster.address
        env, config = gymnasium.make("CartPole-v1"), a3c.Config(driver="ray", T_max=steps)
        state, before = a3c.init(env, config, 0), None
        try:
            for _ in a3c.train(env, config, state):
                if before is None and state.T.min() > 100:
                    before = state.T.copy(), state.begun.copy()
                    cluster.remove_node(node, allow_graceful=False)
        finally:
            del os.environ["RAY_ADDRESS"]
            ray.shutdown()
    more, begun = state.T - before[0], state.begun - before[1]
    return {
        "steps": total(state.T),
        "steps of each worker after": more.tolist(),
        "episodes begun by its worker after": int(begun.min()),
    }


class Slow(gymnasium.Wrapper):
    """An environment that takes so many milliseconds more at every step."""

    def __init__(self, env, milliseconds):
        super().__init__(env)
        self.milliseconds = milliseconds

    def step(self, action):
        if self.milliseconds:
            time.sleep(self.milliseconds / 1e3)
        return self.env.step(action)


def pushes(driver, milliseconds, seconds=5.0):
    """Time A3C with two workers for some seconds after its first update."""
    env = Slow(gymnasium.make("CartPole-v1"), milliseconds)
    config = a3c.Config(driver=driver, T_max=10**9)
    state, first = a3c.init(env, config, 0), None
    with closing(a3c.train(env, config, state)) as updates:
        for _ in updates:
            now = time.perf_counter()
            if first is None and state.T.min() > 0:
                first = now, total(state.updates), total(state.T)
            if first and now >= first[0] + seconds:
                break
        spent, count, steps = now - first[0], total(state.updates), total(state.T)
    count, steps = count - first[1], steps - first[2]
    return {
        "pushes per second": round(count / spent, 1),
        "ms per push of a worker": round(1e3 * config.workers * spent / count, 2),
        "steps per second": round(steps / spent, 1),
    }


PARTS = {  # {words: row of the table}, of the options and an empty folder
    "jobs": lambda o, at: {f"{o.seeds} seeds": jobs(o.seeds, o.steps, o.jobs, at)},
    "killed": lambda o, at: {
        f"{o.seeds} seeds, processes killed": killed(o.seeds, o.steps, o.jobs, at)},
    "node": lambda o, at: {
        f"{o.seeds} seeds on two nodes, one lost": lost_node(o.seeds, o.steps, at)},
    "workers": lambda o, at: {"a3c on two nodes, one lost": lost_workers(o.steps // 2)},
    "pushes": lambda o, at: {
        f"a3c, {driver}, {delay:g} ms more a step": pushes(driver, delay)
        for delay, driver in product(DELAYS, DRIVERS)},
}  # fmt: skip


def table(found):
    """Return the table of all parts."""
    lines = [
        [part, words, "; ".join(f"{name} {value}" for name, value in row.items())]
        for part, results in found.items()
        for words, row in results.items()
    ]
    return study.table(["part", "what", "measured"], lines)


def made(given):
    """Yield (part, its rows)."""
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            yield part, PARTS[part](given, Path(folder))


def main():
    given = study.options(__doc__, PARTS, seeds=10, steps=100_000, jobs=2)
    packages = "numpy", "gymnasium", "ray"
    found = study.kept("sweep", "found", PARTS, made(given), packages=packages)
    study.publish("sweep", text=table(found))


if __name__ == "__main__":
    main()
