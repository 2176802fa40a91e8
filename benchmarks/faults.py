"""Every fault against real command lines, and what was lost: benchmarks/results/faults.md.

    python -m benchmarks.faults [--minutes 5] [--strangers 10000] [--times 5]

--times is how often each fault is made, at random moments. A run that can go on is resumed, and
then compared with one that nothing happened to: parameters and rows must be the same to the bit.
What is left of --minutes goes to one long run that is killed and resumed again and again; its
memory, open files, processes and shared memory are counted. Full and read-only disks are small file
systems in memory, for which this needs the right to mount; without it they are left out, and the
table says so.
"""

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
from benchmarks import strangers, study

ROOT = Path(__file__).parent.parent
MAIN = "import sys; from algorithms.runner.cli import main; sys.exit(main())"
SETTINGS = "train reinforce --env CartPole-v1 --hidden 8 --checkpoint-every 0 --run run"
A3C = "train a3c --driver processes --workers 2 --hidden 8 --env CartPole-v1 --run run"
A2C = "train a2c --vectorization async --environments 3 --hidden 8 --env CartPole-v1 --run run"
RESUMED, EVALUATED = "train --resume run", "evaluate run --episodes 2"
LONG, PATIENCE = 10**9, 120.0  # steps that no run reaches; seconds for a command to end


class Command:
    """A command line in a session of its own, whose output goes to files."""

    def __init__(self, line=SETTINGS, steps=LONG, code=MAIN, redirect="", env=None, **options):
        words = [*line.split(), *(["--steps", str(steps)] if steps else [])]
        command = [sys.executable, "-c", code, *words]
        if redirect:
            command = ["sh", "-c", f'"$@" {redirect}', "sh", *command]
        python = dict(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
        self.err = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, stdout=tempfile.TemporaryFile(), stderr=self.err, start_new_session=True,
            env=os.environ | python | (env or {}), **options,
        )  # fmt: skip
        self.pid = self.process.pid

    def end(self, patience=PATIENCE):
        """Return (exit status, the lines of stderr that a user would call messages)."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired as error:
            self.kill(signal.SIGKILL, group=True)
            text = f"{rows()} rows after {patience:g} s; its last words: {self.messages()[-200:]}"
            raise AssertionError(text) from error
        lines = self.messages().splitlines()
        assert not any("Traceback" in line for line in lines), lines
        return status, [line for line in lines if line.startswith("npgrad: ")]

    def ends(self, status, count):
        """Assert how it ends, and the number of its messages; return these."""
        given = self.end()
        assert given[0] == status and len(given[1]) == count, given
        return given[1]

    def messages(self):
        self.err.seek(0)
        return self.err.read().decode(errors="replace")

    def kill(self, number, group=False):
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def children(self):
        found = []
        for place in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                name, _, rest = place.read_text().rpartition(") ")
                if int(rest.split()[1]) == self.pid:
                    found.append(int(name.split()[0]))
        return sorted(found)

    def workers(self):
        spawned = lambda pid: b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return list(filter(spawned, self.children()))

    def wait_for(self, condition):
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and not condition():
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.02)
        assert condition(), self.end()

    def is_gone(self):
        """Tell whether no process of its session is left, after at most some seconds."""
        for _ in range(200):
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.1)
        return False


def learning(*given, **options):
    """Return a Command that has begun to learn."""
    command = Command(*given, **options)
    command.wait_for(lambda: rows() > 1)
    return command


def rows(path="run"):
    with suppress(OSError):
        return Path(path, "metrics.csv").read_bytes().count(b"\n")
    return 0


def learned(path):
    arrays = read_arrays(Path(path) / "checkpoint.npz")
    return arrays["theta"].tobytes(), [row[:4] + row[5:] for row in folders._rows(Path(path))]


def tally():
    return json.loads(read_arrays(Path("run/checkpoint.npz"))["_json"].item())["tally"]


def behind():
    """Return how many episodes in metrics.csv the checkpoint does not have: to be played again."""
    return max(0, rows() - 1) - tally()["episodes"]


def goes_on():
    """Resume the run, or begin it if it never had a config.json; compare it with a whole one.
    Return in words how many episodes were played again."""
    begun = Path("run/config.json").exists()
    steps, again = (tally()["steps"] + 300, behind()) if begun else (1, 0)
    Command(RESUMED if begun else SETTINGS, steps).ends(0, 0)
    patience = PATIENCE + steps / 500  # seconds: a long run takes as long again
    assert Command(SETTINGS.replace("--run run", "--run whole"), steps).end(patience)[0] == 0
    assert learned("run") == learned("whole"), "the resumed run is another one"
    return f"{again} episodes, played again; then the same to the bit"


def only_recorded(command):
    """Return in words what a run lost that is not resumed and compared."""
    assert command.is_gone()
    return f"{behind()} episodes of the record (not resumed and compared); no process is left"


# faults: each makes one in the working directory, an empty one, and returns what was lost


def killed(rng):
    command = Command()
    time.sleep(rng.uniform(0, 5))
    command.kill(signal.SIGKILL)
    command.ends(-signal.SIGKILL, 0)
    return goes_on()


def stopped(number, times, rng):
    command = learning()
    time.sleep(rng.uniform(0, 1))
    for _ in range(times):
        command.kill(number, group=True)
        time.sleep(rng.uniform(0, 0.02))
    status, lines = command.end()
    assert status in (128 + number, -number) and len(lines) <= 1, (status, lines)
    assert times > 1 or status == 128 + number, status
    return goes_on()


def stopped_early(rng):
    command = Command()
    time.sleep(rng.uniform(0.3, 2.5))
    command.kill(signal.SIGINT, group=True)
    status = command.process.wait(PATIENCE)
    told = command.messages()
    assert status == 130 or (status in (1, -signal.SIGINT) and rows() == 0), (status, told)
    tidy = "Traceback" not in told and len(told.splitlines()) <= 2
    return goes_on() if tidy else f"{goes_on()}; Python's own traceback, before npgrad had begun"


@contextmanager
def small_disk(options="size=256k"):
    """Make a file system in memory at ./run; yield what mounts it again with other options."""
    Path("run").mkdir()
    mount = lambda options: subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", "run"], capture_output=True
    )
    if mount(options).returncode:
        raise PermissionError("no right to mount")
    try:
        yield lambda how: subprocess.run(["mount", "-o", f"remount,{how}", "run"], check=True)
    finally:
        subprocess.run(["umount", "-l", "run"], check=True)


def full_disk(rng):
    with small_disk():
        command = learning()
        with suppress(OSError), open("run/filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
        (line,) = command.ends(1, 1)
        assert "No space left" in line and "saved up to step" in line, line
        os.unlink("run/filler")
        return goes_on()


def file_limit(rng):
    limit = int(rng.integers(8, 16)) * 1024
    shell = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    status, lines = Command(preexec_fn=shell).end()
    assert len(lines) == 1 and status == (2 if "--run" in lines[0] else 1), (status, lines)
    return goes_on()


def read_only(rng):
    with small_disk("size=8m") as remount:
        command = learning()
        command.kill(signal.SIGTERM)
        assert command.end()[0] == 143
        remount("ro")
        Command(RESUMED).ends(2, 1)
        Command(EVALUATED, 0).ends(0, 0)
        remount("rw")
        return goes_on()


def deleted(rng):
    command = learning()
    while Path("run").exists():
        shutil.rmtree("run", ignore_errors=True)
    command.ends(1, 1)
    return "the folder; one line says so"


def second(rng):
    command = learning()
    Command(RESUMED).ends(2, 1)
    Command().ends(2, 1)
    Command(EVALUATED, 0).ends(0, 0)
    command.kill(signal.SIGTERM)
    assert command.end()[0] == 143
    return goes_on()


def finishes(rng, **options):
    """Run a command that ends well, with one message at most."""
    status, lines = Command(steps=300, **options).end()
    assert status == 0 and len(lines) <= 1, (status, lines)
    return goes_on()


def letters(rng):
    commands = ["--help", "list", "list --json", "evaluate n\u00f6", "plot n\u00f6", "train --help"]
    commands += ["train reinforce --help", "laboratory --env npgrad/Chain-v0 --critic nan --json"]
    for line in commands:
        status, lines = Command(line, 0, env=dict(LC_ALL="C", PYTHONIOENCODING="ascii")).end()
        assert (status, len(lines)) in ((0, 0), (2, 1)), (line, status, lines)
    return "nothing"


def environment_killed(rng):
    command = learning(A2C)
    os.kill(strangers.pick(rng, command.children()), signal.SIGKILL)
    (line,) = command.ends(1, 1)
    assert "environment " in line, line
    return only_recorded(command)


def environments_stopped(number, rng):
    command = learning(A2C)
    command.kill(number, group=True)
    status, lines = command.end()
    assert status in (128 + number, -number) and len(lines) == (status > 0), (status, lines)
    return only_recorded(command)


def workers_killed(rng):
    command, counts = learning(A3C), []
    for _ in range(6):
        time.sleep(0.5)
        counts.append(handles(command.pid))
        before, worker = rows(), command.workers()[0]
        os.kill(worker, signal.SIGKILL)
        command.wait_for(lambda b=before, w=worker: rows() > b and w not in command.children())
    command.kill(signal.SIGTERM)
    assert command.end()[0] == 143 and command.is_gone()
    assert max(counts) - min(counts) <= 3 and behind() == 0, (counts, behind())
    lost = "0 episodes of the record; the workers' open segments"
    return f"{lost}; handles {counts[0]} to {counts[-1]}"


def worker_hung(rng):
    command = learning(A3C, 20000)
    os.kill(command.workers()[0], signal.SIGSTOP)
    (line,) = command.ends(0, 1)
    assert "does not end by itself" in line and command.is_gone() and behind() == 0, line
    return "0 episodes of the record; the worker's open segment; one line says so"


def handles(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


CLOCK = "import time, random; real = time.{0}; time.{0} = lambda: real() + random.gauss(0, 1e6)"
PROGRESS = "from algorithms.runner.progress import Progress; Progress._draw = lambda *_: 1 / 0"
PICTURE = "from algorithms.runner import plot; plot.learning_curve = lambda path: 1 / 0"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
STREAMS = "| true", ">/dev/full", ">&-", "2>&-", "2>/dev/full", ">&- 2>&-", "2>&1 | head -1"
FAULTS = [  # how it was made, and the function that makes it and returns what was lost
    ("SIGKILL at a random moment from the start on, checkpoint at every update", killed),
    *((f"{number.name}, {times} time{'s' * (times > 1)} at a random moment while it learns",
       partial(stopped, number, times)) for number in SIGNALS for times in (1, 2)),
    ("Ctrl-C at a random moment of the start, while modules are imported too", stopped_early),
    ("The disk fills up while it learns (a file system of 256 kB)", full_disk),
    ("A file may not grow (ulimit -f), so metrics.csv is full at a random row", file_limit),
    ("The file system is read-only when a run is to be resumed, after SIGTERM", read_only),
    ("The run folder is deleted while it learns", deleted),
    ("A second process in the run folder, by --resume and by --run", second),
    *((f"stdout or stderr is closed, full or has no reader: `{text}`",
       partial(finishes, redirect=text)) for text in STREAMS),
    ("A terminal that is not UTF-8 (PYTHONIOENCODING=ascii, LC_ALL=C), every command", letters),
    *((f"In the process: {what}", partial(finishes, code=f"{code}; {MAIN}")) for what, code in (
        ("time.time jumps by days", CLOCK.format("time")),
        ("time.monotonic jumps by days", CLOCK.format("monotonic")),
        ("the progress display raises", PROGRESS), ("the picture raises", PICTURE))),
    ("kill -9 of one of 3 environment processes (a2c, async)", environment_killed),
    *((f"{each.name} to all processes of a2c, async", partial(environments_stopped, each))
      for each in (*SIGNALS, signal.SIGKILL)),
    ("kill -9 of workers (a3c, processes), 6 times in one run", workers_killed),
    ("A worker (a3c, processes) is stopped (SIGSTOP); the other one finishes", worker_hung),
]  # fmt: skip


@contextmanager
def scratch():
    """Make a new working directory, in memory if there is such a place."""
    place, before = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None, os.getcwd()
    with tempfile.TemporaryDirectory(dir=place) as path:
        os.chdir(path)
        try:
            yield
        finally:
            os.chdir(before)


def tried(fault, rng):
    """Return what one fault lost."""
    with scratch():
        try:
            return fault(rng)
        except PermissionError as error:
            return f"not tried: {error}"
        except (AssertionError, subprocess.TimeoutExpired) as error:
            return f"**FAILED**: {' '.join(str(error).split())[:300]}"


def try_all(times, rng):
    """Yield the rows of the table: how a fault was made, times tried, what was lost."""
    for made, fault in FAULTS:
        lost = Counter(tried(fault, rng) for _ in range(times))
        count = sum(n for result, n in lost.items() if not result.startswith("not tried"))
        several = lambda n, lost=lost: f" ({n} times)" * (len(lost) > 1)
        row = made, count, "; ".join(f"{result}{several(n)}" for result, n in lost.items())
        print(*row, sep=" | ", flush=True)
        yield row


def strange(count):
    """Return a row of the table, for run folders from strangers, which this process opens."""
    memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said, wrong, start = Counter(), [], time.monotonic()
    with scratch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [small_run(*given) for given in RUNS]
        peak = memory()
        for seed in range(count):
            rng = np.random.default_rng(seed)
            try:
                said[strangers.outcome(*strangers.trial(*runs[seed % len(runs)], rng))] += 1
            except AssertionError as error:
                wrong.append(f"{seed}: {error}"[:300])
    print(*wrong[:20], sep="\n")
    return "Files from strangers (benchmarks/strangers.py)", count, (
        f"{said['refused']} refused in one line; {said['not read']} taken by a command that reads "
        f"none of what was changed; {said['taken']} read and taken, not judged further; "
        f"{len(wrong)} wrong{' (FAILED)' * bool(wrong)}; no code executed; memory grew by "
        f"{memory() - peak:.0f} MB; {time.monotonic() - start:.0f} s"
    )  # fmt: skip


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
    """Return the names that Python gives to shared memory and semaphores, of the whole machine."""
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else ()
    return {name for name in names if name.startswith(("pym", "psm_", "sem."))}


def killed_again_and_again(seconds, rng):
    """Return lines on one run that is killed and resumed for so long."""
    samples, shared, start, line = [], shared_memory(), time.monotonic(), SETTINGS
    with scratch():
        while time.monotonic() - start < seconds:
            command, before = Command(line), rows()
            command.wait_for(lambda b=before: rows() > b + 1)
            time.sleep(rng.uniform(0, 4))
            pages = int(Path(f"/proc/{command.pid}/statm").read_text().split()[1])
            memory = pages * resource.getpagesize() / 1e6
            samples.append((memory, handles(command.pid), len(command.children())))
            command.kill(signal.SIGKILL)
            command.end()
            assert command.is_gone()
            line = f"{RESUMED} --checkpoint-every 0"
        lost, episodes = goes_on(), rows() - 1
    left = shared_memory() - shared
    memory, files, children = np.array(samples).T
    half = len(samples) // 2
    return [
        f"One run, killed and resumed {len(samples)} times in {seconds / 60:.1f} minutes, of "
        f"{episodes} episodes in the end. Lost: {lost}.",
        f"Memory at the kills: {memory[:half].mean():.1f} MB on average in the first half, "
        f"{memory[half:].mean():.1f} MB in the second, {memory.max():.1f} MB at most. Open files: "
        f"{files.min():.0f} to {files.max():.0f}. Child processes: {children.max():.0f}. "
        f"Processes left: 0. New names of shared memory: {len(left)}.",
    ]


INTRODUCTION = """# Faults

`python -m benchmarks.faults`: every fault against real command lines. The command, the machine \
and versions: [faults.json](faults.json).
"""


def markdown(record):
    """Return the table, and what is to be said of the long run."""
    cells = [[str(x).replace("|", "\\|") for x in row.values()] for row in record["faults"]]
    table = study.table(("fault, and how it was made", "times tried", "what was lost"), cells)
    return "\n".join((INTRODUCTION, table, *record["endurance"])) + "\n"


def main():
    options = study.options(__doc__, minutes=5.0, strangers=10000, times=5)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # for the commands, too
    rng, start = np.random.default_rng(0), time.monotonic()
    table = [*try_all(options.times, rng), strange(options.strangers)]
    left = max(30.0, 60 * options.minutes - (time.monotonic() - start))
    faults = [dict(fault=fault, times=times, lost=lost) for fault, times, lost in table]
    results = dict(faults=faults, endurance=killed_again_and_again(left, rng))
    study.publish("faults", results, markdown(results))
    return any("FAILED" in lost for _, _, lost in table)


if __name__ == "__main__":
    sys.exit(main())
