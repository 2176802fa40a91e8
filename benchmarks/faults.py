"""Every fault against real command lines, and what was lost: benchmarks/results/faults.md.

    python -m benchmarks.faults [--minutes 5] [--strangers 10000] [--times 5]

--times is how often each fault is made, at random moments. A run that can go on is resumed, and
then compared with one that nothing happened to: parameters and rows must be the same to the bit.
What is left of --minutes goes to one long run that is killed and resumed again and again; its
memory, open files, processes and shared memory are counted. Full and read-only disks are small file
systems in memory, for which this needs the right to mount; without it they are left out, and the
table says so.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from algorithms.runner import folder as folders
from algorithms.runner import training
from algorithms.runner.checkpoint import read_arrays
from algorithms.runner.environments import Environment
from algorithms.runner.lookup import METHODS, load_method
from benchmarks import record, strangers

ROOT = Path(__file__).parent.parent
MAIN = "import sys; from algorithms.runner.cli import main; sys.exit(main())"
SETTINGS = "train reinforce --env CartPole-v1 --hidden 8 --checkpoint-every 0 --run run".split()
LONG, PATIENCE = 10**9, 120.0  # steps that no run reaches; seconds for a command to end


class Command:
    """A command line in a session of its own, whose output goes to files."""

    def __init__(self, *arguments, code=MAIN, redirect="", ignore=False, **options):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        if redirect:
            command = ["sh", "-c", f'"$@" {redirect}', "sh", *command]
        python = dict(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, stdout=self.out, stderr=self.err, start_new_session=True,
            env=os.environ | python | options.pop("env", {}), **options,
        )  # fmt: skip

    def end(self, patience=PATIENCE):
        """(exit status, the lines of stderr that a user would call messages)."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired as error:
            self.kill(signal.SIGKILL, group=True)
            text = f"{rows()} rows after {patience:g} s; its last words: {self.messages()[-200:]}"
            raise AssertionError(text) from error
        lines = self.messages().splitlines()
        assert not any("Traceback" in line for line in lines), lines
        return status, [line for line in lines if line.startswith("npgrad: ")]

    def messages(self):
        self.err.seek(0)
        return self.err.read().decode(errors="replace")

    def kill(self, number, group=False):
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)

    def children(self):
        found = []
        for place in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                name, _, rest = place.read_text().rpartition(") ")
                if int(rest.split()[1]) == self.process.pid:
                    found.append(int(name.split()[0]))
        return sorted(found)

    def wait_for(self, condition):
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and not condition():
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.02)
        assert condition(), self.end()


def rows(path="run"):
    with suppress(OSError):
        return Path(path, "metrics.csv").read_bytes().count(b"\n")
    return 0


def session_is_empty(pid):
    """Whether no process of a session is left, after at most some seconds."""
    for _ in range(200):
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def learned(path):
    arrays = read_arrays(Path(path) / "checkpoint.npz")
    return arrays["theta"].tobytes(), [row[:4] + row[5:] for row in folders._rows(Path(path))]


def behind():
    """Episodes in metrics.csv that the checkpoint does not have: they have to be played again."""
    text = read_arrays(Path("run/checkpoint.npz"))["_json"].item()
    return max(0, rows() - 1) - json.loads(text)["tally"]["episodes"]


def goes_on():
    """Resume the run, or begin it if it never had a config.json; compare it with a whole one.
    Return how many episodes were played again."""
    steps, again = 1, 0
    if Path("run/config.json").exists():
        again = behind()
        text = read_arrays(Path("run/checkpoint.npz"))["_json"].item()
        steps = json.loads(text)["tally"]["steps"] + 300
        command = Command("train", "--resume", "run", "--steps", steps)
    else:
        command = Command(*SETTINGS, "--steps", steps)
    assert command.end() == (0, []), command.end()
    whole = [{"run": "whole"}.get(word, word) for word in SETTINGS]
    patience = PATIENCE + steps / 500  # seconds: a long run takes as long again
    assert Command(*whole, "--steps", steps).end(patience)[0] == 0
    assert learned("run") == learned("whole"), "the resumed run is another one"
    return f"{again} episodes, played again; then the same to the bit"


def said(given, status, count):
    assert given[0] == status and len(given[1]) == count, given


# faults: each makes one in the working directory, an empty one, and returns what was lost


def killed(rng):
    """SIGKILL at a random moment from the start on, checkpoint at every update"""
    command = Command(*SETTINGS, "--steps", LONG)
    time.sleep(rng.uniform(0, 5))
    command.kill(signal.SIGKILL)
    said(command.end(), -signal.SIGKILL, 0)
    return goes_on()


def stopped(number, times, rng):
    """{} at a random moment while it learns"""
    command = Command(*SETTINGS, "--steps", LONG)
    command.wait_for(lambda: rows() > 1)
    time.sleep(rng.uniform(0, 1))
    for _ in range(times):
        command.kill(number, group=True)
        time.sleep(rng.uniform(0, 0.02))
    status, lines = command.end()
    assert status in (128 + number, -number) and len(lines) <= 1, (status, lines)
    assert times > 1 or status == 128 + number, status
    return goes_on()


def stopped_early(rng):
    """Ctrl-C at a random moment of the start, while modules are imported too"""
    command = Command(*SETTINGS, "--steps", LONG)
    time.sleep(rng.uniform(0.3, 2.5))
    command.kill(signal.SIGINT, group=True)
    status = command.process.wait(PATIENCE)
    told = command.messages()
    assert status == 130 or (status in (1, -signal.SIGINT) and rows() == 0), (status, told)
    tidy = "Traceback" not in told and len(told.splitlines()) <= 2
    return goes_on() if tidy else f"{goes_on()}; Python's own traceback, before npgrad had begun"


@contextmanager
def small_disk(options="size=256k"):
    """A file system in memory at ./run."""
    Path("run").mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", "run"], capture_output=True
    )
    if done.returncode:
        raise PermissionError("no right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", "run"], check=True)


def full_disk(rng):
    """The disk fills up while it learns (a file system of 256 kB)"""
    with small_disk():
        command = Command(*SETTINGS, "--steps", LONG)
        command.wait_for(lambda: rows() > 1)
        with suppress(OSError), open("run/filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
        status, lines = command.end()
        said((status, lines), 1, 1)
        assert "No space left" in lines[0] and "saved up to step" in lines[0], lines
        os.unlink("run/filler")
        return goes_on()


def file_limit(rng):
    """A file may not grow (ulimit -f), so metrics.csv is full at a random row"""
    limit = int(rng.integers(8, 16)) * 1024
    shell = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    command = Command(*SETTINGS, "--steps", LONG, preexec_fn=shell)
    status, lines = command.end()
    said((status, lines), 2 if "--run" in lines[0] else 1, 1)
    return goes_on()


def read_only(rng):
    """The file system is read-only when a run is to be resumed, after SIGTERM"""
    with small_disk("size=8m"):
        command = Command(*SETTINGS, "--steps", LONG)
        command.wait_for(lambda: rows() > 1)
        command.kill(signal.SIGTERM)
        assert command.end()[0] == 143
        subprocess.run(["mount", "-o", "remount,ro", "run"], check=True)
        said(Command("train", "--resume", "run", "--steps", LONG).end(), 2, 1)
        said(Command("evaluate", "run", "--episodes", "2").end(), 0, 0)
        subprocess.run(["mount", "-o", "remount,rw", "run"], check=True)
        return goes_on()


def deleted(rng):
    """The run folder is deleted while it learns"""
    command = Command(*SETTINGS, "--steps", LONG)
    command.wait_for(lambda: rows() > 1)
    while Path("run").exists():
        shutil.rmtree("run", ignore_errors=True)
    said(command.end(), 1, 1)
    return "the folder; one line says so"


def second(rng):
    """A second process in the run folder, by --resume and by --run"""
    command = Command(*SETTINGS, "--steps", LONG)
    command.wait_for(lambda: rows() > 1)
    said(Command("train", "--resume", "run", "--steps", LONG).end(), 2, 1)
    said(Command(*SETTINGS, "--steps", LONG).end(), 2, 1)
    said(Command("evaluate", "run", "--episodes", "2").end(), 0, 0)
    command.kill(signal.SIGTERM)
    assert command.end()[0] == 143
    return goes_on()


def streams(redirect, rng):
    """stdout or stderr is closed, full or has no reader:"""
    command = Command(*SETTINGS, "--steps", 300, redirect=redirect)
    status, lines = command.end()
    assert status == 0 and len(lines) <= 1, (status, lines)
    return goes_on()


def letters(rng):
    """A terminal that is not UTF-8 (PYTHONIOENCODING=ascii, LC_ALL=C), every command"""
    commands = ["--help", "list", "list --json", "evaluate n\u00f6", "plot n\u00f6", "train --help"]
    commands += ["train reinforce --help", "laboratory --env npgrad/Chain-v0 --critic nan --json"]
    for line in commands:
        command = Command(*line.split(), env=dict(LC_ALL="C", PYTHONIOENCODING="ascii"))
        status, lines = command.end()
        assert (status, len(lines)) in ((0, 0), (2, 1)), (line, status, lines)
    return "nothing"


def patched(code, rng):
    """In the process:"""
    command = Command(*SETTINGS, "--steps", 300, code=f"{code}; {MAIN}")
    status, lines = command.end()
    assert status == 0 and len(lines) <= 1, (status, lines)
    return goes_on()


CLOCK = "import time, random; real = time.{0}; time.{0} = lambda: real() + random.gauss(0, 1e6)"
PROGRESS = "from algorithms.runner.progress import Progress; Progress.{} = lambda *_: 1 / 0"
PICTURE = "from algorithms.runner import plot; plot.learning_curve = lambda path: 1 / 0"

A3C = "train a3c --driver processes --workers 2 --hidden 8 --env CartPole-v1 --run run".split()
A2C = "train a2c --vectorization async --environments 3 --hidden 8 --env CartPole-v1 --run run"


def environment_killed(rng):
    """kill -9 of one of 3 environment processes (a2c, async)"""
    command = Command(*A2C.split(), "--steps", LONG)
    command.wait_for(lambda: rows() > 1)
    os.kill(strangers.pick(rng, command.children()), signal.SIGKILL)
    status, lines = command.end()
    said((status, lines), 1, 1)
    assert "environment " in lines[0] and session_is_empty(command.process.pid), lines
    return f"{behind()} episodes of the record (not resumed and compared); no process is left"


def environments_stopped(number, rng):
    """{} to all processes of a2c, async"""
    command = Command(*A2C.split(), "--steps", LONG)
    command.wait_for(lambda: rows() > 1)
    command.kill(number, group=True)
    status, lines = command.end()
    assert status in (128 + number, -number) and len(lines) == (status > 0), (status, lines)
    assert session_is_empty(command.process.pid)
    return f"{behind()} episodes of the record (not resumed and compared); no process is left"


def workers_killed(rng):
    """kill -9 of workers (a3c, processes), 6 times in one run"""
    command = Command(*A3C, "--steps", LONG)
    command.wait_for(lambda: rows() > 1)
    counts = []
    for _ in range(6):
        time.sleep(0.5)
        counts.append(handles(command.process.pid))
        before, at = rows(), command.children()
        worker = next(p for p in at if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes())
        os.kill(worker, signal.SIGKILL)
        command.wait_for(lambda b=before, w=worker: rows() > b and w not in command.children())
    command.kill(signal.SIGTERM)
    status, _ = command.end()
    assert status == 143 and session_is_empty(command.process.pid)
    assert max(counts) - min(counts) <= 3, counts
    assert behind() == 0, behind()
    return (
        f"0 episodes of the record; the workers' open segments; handles {counts[0]} to {counts[-1]}"
    )


def worker_hung(rng):
    """A worker (a3c, processes) is stopped (SIGSTOP); the other one finishes"""
    command = Command(*A3C, "--steps", 20000)
    command.wait_for(lambda: rows() > 1)
    workers = [
        p for p in command.children() if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()
    ]
    os.kill(workers[0], signal.SIGSTOP)
    status, lines = command.end()
    said((status, lines), 0, 1)
    assert "does not end by itself" in lines[0] and session_is_empty(command.process.pid), lines
    assert behind() == 0, behind()
    return "0 episodes of the record; the worker's open segment; one line says so"


def handles(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


SIGNALS = (signal.SIGTERM, signal.SIGINT)
FAULTS = [
    (killed, ""),
    *((partial(stopped, number, times), f"{number.name}, {times} time{'s' * (times > 1)}")
      for number in SIGNALS for times in (1, 2)),
    (stopped_early, ""),
    (full_disk, ""), (file_limit, ""), (read_only, ""), (deleted, ""), (second, ""),
    *((partial(streams, text), f"`{text}`") for text in (
        "| true", ">/dev/full", ">&-", "2>&-", "2>/dev/full", ">&- 2>&-", "2>&1 | head -1")),
    (letters, ""),
    *((partial(patched, code), what) for code, what in (
        (CLOCK.format("time"), "time.time jumps by days"),
        (CLOCK.format("monotonic"), "time.monotonic jumps by days"),
        (PROGRESS.format("_draw"), "the progress display raises"),
        (PICTURE, "the picture raises"))),
    (environment_killed, ""),
    *((partial(environments_stopped, each), each.name) for each in (*SIGNALS, signal.SIGKILL)),
    (workers_killed, ""), (worker_hung, ""),
]  # fmt: skip


@contextmanager
def scratch():
    """A new working directory, in memory if there is such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    before = os.getcwd()
    with tempfile.TemporaryDirectory(dir=place) as path:
        os.chdir(path)
        try:
            yield
        finally:
            os.chdir(before)


def made(fault, what):
    """Return in words how the fault was made."""
    text = (fault.func if isinstance(fault, partial) else fault).__doc__
    return text.format(what) if "{}" in text else f"{text} {what}".strip()


def try_all(times, rng):
    """Rows of the table: how the fault was made, times tried, what was lost."""
    table = []
    for fault, what in FAULTS:
        lost, tried = {}, 0
        for _ in range(times):
            with scratch():
                try:
                    result = fault(rng)
                except PermissionError as error:
                    result = f"not tried: {error}"
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    result = f"**FAILED**: {' '.join(str(error).split())[:300]}"
            tried += not result.startswith("not tried")
            lost[result] = lost.get(result, 0) + 1
        text = "; ".join(
            f"{name} ({n} times)" if len(lost) > 1 else name for name, n in lost.items()
        )
        table.append((made(fault, what), tried, text))
        print(*table[-1], sep=" | ", flush=True)
    return table


def strange(count):
    """A row of the table, for run folders from strangers, which this process opens itself."""
    said, wrong, start = Counter(), [], time.monotonic()
    with scratch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [small_run(*given) for given in RUNS]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in range(count):
            rng = np.random.default_rng(seed)
            try:
                said[strangers.outcome(*strangers.trial(*runs[seed % len(runs)], rng))] += 1
            except AssertionError as error:
                wrong.append(f"{seed}: {error}"[:300])
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    for line in wrong[:20]:
        print(line)
    judged = f"{len(wrong)} wrong{' (FAILED)' * bool(wrong)}"
    text = (
        f"{said['refused']} refused in one line; {said['not read']} taken by a command that reads "
        f"none of what was changed; {said['taken']} read and taken, not judged further; {judged}; "
        f"no code executed; memory grew by {peak:.0f} MB; {time.monotonic() - start:.0f} s"
    )
    return "Files from strangers (benchmarks/strangers.py)", count, text


RUNS = (
    ("reinforce", "CartPole-v1", "network"),
    ("ddpg", "Pendulum-v1", "networks"),
    ("td-lambda", "npgrad/RandomWalk19-v0", ""),
    ("actor-critic-traces", "Pendulum-v1", "network"),
    ("a3c", "CartPole-v1", "network"),
)


def small_run(name, env, network):
    """Make a small run; return its folder and a number of steps to resume it to."""
    method = load_method(name, METHODS)
    values = vars(method.Config())
    if network:
        values[network] = type(values[network])(hidden=(4, 4))
    values |= dict(replay=99, warmup=40) if name == "ddpg" else {}
    config = training.ending(method, values, 300)
    session = training.begin(name, method, Environment(env), config, 0, name)
    return Path(name).absolute(), training.learn(session, 300)["steps"] + 40


def shared_memory():
    """Names that Python gives to shared memory and semaphores, of the whole machine."""
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else ()
    return {name for name in names if name.startswith(("pym", "psm_", "sem."))}


def killed_again_and_again(seconds, rng):
    """Lines on one run that is killed and resumed for so long."""
    samples, shared, start = [], shared_memory(), time.monotonic()
    with scratch():
        begun = [*SETTINGS, "--steps", LONG]
        while time.monotonic() - start < seconds:
            command = Command(*begun)
            before = rows()
            command.wait_for(lambda b=before: rows() > b + 1)
            time.sleep(rng.uniform(0, 4))
            pid = command.process.pid
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            memory = pages * resource.getpagesize() / 1e6
            samples.append((memory, handles(pid), len(command.children())))
            command.kill(signal.SIGKILL)
            command.end()
            assert session_is_empty(pid)
            begun = ["train", "--resume", "run", "--steps", LONG, "--checkpoint-every", 0]
        lost = goes_on()
        steps = rows()
    left = shared_memory() - shared
    memory, files, children = np.array(samples).T
    half = len(samples) // 2
    return [
        f"One run, killed and resumed {len(samples)} times in {seconds / 60:.1f} minutes, of "
        f"{steps - 1} episodes in the end. Lost: {lost}.",
        f"Memory at the kills: {memory[:half].mean():.1f} MB on average in the first half, "
        f"{memory[half:].mean():.1f} MB in the second, {memory.max():.1f} MB at most. Open files: "
        f"{files.min():.0f} to {files.max():.0f}. Child processes: {children.max():.0f}. "
        f"Processes left: 0. New names of shared memory: {len(left)}.",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="in all, at least")
    parser.add_argument("--strangers", type=int, default=10000, help="damaged run folders")
    parser.add_argument("--times", type=int, default=5, help="of every other fault")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # for the commands, too
    rng, start = np.random.default_rng(0), time.monotonic()
    table = [*try_all(options.times, rng), strange(options.strangers)]
    left = max(30.0, 60 * options.minutes - (time.monotonic() - start))
    endurance = killed_again_and_again(left, rng)
    keep(table, endurance)
    return any("FAILED" in lost for _, _, lost in table)


def keep(table, endurance):
    """Write results/faults.md and .json."""
    rows = [dict(fault=fault, times=times, lost=lost) for fault, times, lost in table]
    path = record.save("faults", "benchmarks.faults", dict(faults=rows, endurance=endurance))
    lines = [
        "# Faults",
        "",
        "`python -m benchmarks.faults`: every fault against real command lines. The command, the "
        "machine and versions: [faults.json](faults.json).",
        "",
        "| fault, and how it was made | times tried | what was lost |",
        "|---|---|---|",
        *(
            f"| {a.replace('|', chr(92) + '|')} | {n} | {b.replace('|', chr(92) + '|')} |"
            for a, n, b in table
        ),
        "",
        *endurance,
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
