"""`npgrad sweep`: every point of a grid of settings, with several seeds each.

DIR/sweep.json            the settings, and the result of every trial that has ended
DIR/POINT/seed-K          the run folder of a trial
DIR/learning_curves.png   the mean curve of each point
"""

import importlib.util
import itertools
import json
import os
import shlex
import shutil
import signal
import sys
import warnings
from contextlib import closing
from pathlib import Path

from algorithms.runner import arguments, folder, plot
from algorithms.runner.commands import settled
from algorithms.runner.errors import Outcome, UsageError, one_line
from algorithms.runner.grid import grid, leaves, value_of
from algorithms.runner.lookup import load_method, prepare, summary
from algorithms.runner.scores import summarise, told
from algorithms.runner.trials import Here, Trial, locked, position, run_all

MOST = 10_000  # runs in a sweep


def sweep_command(argv, methods) -> Outcome:
    """Run what DIR lacks of the sweep, and summarise each point of the grid."""
    options, one = described("sweep", arguments.Sweep, argv, methods)
    points, out = grid(options.grid, one.config, argv, one.name), Path(one.path)
    if len(points) * options.seeds > MOST:
        size = f"{len(points)} points with {options.seeds} seeds"
        raise UsageError(f"--grid: {size}: must be at most {MOST} runs in all")
    for config in points.values():
        attempt(one._replace(config=config))
    trials = {name: seeded(one, out / name, config, options) for name, config in points.items()}
    with closing(placed(options, out / "sweep.json")) as place:
        claim(out, "sweep.json", settings(options, one) | {"grid": list(options.grid)})
        with locked(out / "lock"):
            record = read(out / "sweep.json")
            todo = [t for group in zip(*trials.values()) for t in group if not done(record, out, t)]
            board = Board(trials, record, out)
            stopped = run_all(todo, place, board.ended, board.shown)
    results = {name: board.summary(name) for name in points}
    result = dict(out=options.out or os.path.relpath(out), points=results, signal=stopped)
    result["picture"] = picture(out, trials)
    width = max(map(len, results))
    text = "\n".join(f"{name:{width}}  {told(found)}" for name, found in results.items())
    return outcome(result, text, stopped, argv, "sweep", any(r["failed"] for r in results.values()))


def outcome(result, text, stopped, argv, command, failed) -> Outcome:
    """Return the Outcome; say how to go on after a signal."""
    if stopped:
        again = shlex.join(["npgrad", command, *argv])
        print(f"npgrad: {stopped}: stopped, all is saved; go on with: {again}", file=sys.stderr)
        return Outcome(result, text, 128 + signal.Signals[stopped])
    return Outcome(result, text, int(failed))


# The command line


def described(command, Options, argv, methods):
    """Return (options, a Trial at DIR that stands for all). Raises UsageError for what is wrong."""
    if not argv or argv[0].startswith("-"):
        about = f"METHOD is one of {', '.join(methods)}; its --help shows its own flags too."
        if {"-h", "--help"} & set(argv):
            arguments.parse(["--help"], f"npgrad {command} METHOD", about, run=Options)
        allowed = ", ".join(methods)
        raise UsageError(f"METHOD is missing after {command}: must be one of {allowed}")
    name, flags = argv[0], argv[1:]
    method, about = load_method(name, methods), summary(methods[name])
    given = name, method, flags, Options, f"npgrad {command} {name}", about
    _, options, environment, config = settled(*given)
    default = f"{command}-{name}-{environment.env}".replace("/", "-").replace(":", "-")
    out = Path(options.out or Path("runs") / default).absolute()
    given = options.first_seed, options.steps, options.checkpoint_every
    scored = options.evaluate, options.greedy, ("npgrad", command, *argv)
    one = Trial(str(out), name, methods[name], environment, config, *given, *scored)
    attempt(one)
    return options, one


def attempt(trial):
    """Raise UsageError if the run could not begin."""
    method = load_method(trial.name, {trial.name: trial.page})
    prepare(method, trial.environment, trial.config, trial.seed)[0].close()


def seeded(one, path, config, options) -> list[Trial]:
    """Return the Trials of all seeds with this Config, in folders of `path`."""
    numbers = range(options.first_seed, options.first_seed + options.seeds)
    return [one._replace(path=str(path / f"seed-{k}"), config=config, seed=k) for k in numbers]


def placed(options, token):
    """Return where the trials are run."""
    if options.cluster is None:
        return Here(options.jobs)
    from algorithms.runner.cluster import Cluster

    return Cluster(options.cluster, options.jobs, token)


def settings(options, one) -> dict:
    """Return what the results depend on, flat, as JSON holds it."""
    names = ("steps", "seeds", "first_seed", "evaluate", "greedy")
    found = {"method": one.name, **one.environment.record()}
    found |= {name: getattr(options, name) for name in names}
    found |= {name: value_of(one.config, name) for name in leaves(one.config)}
    return json.loads(json.dumps(found, default=str))


# The folder


def claim(out: Path, name: str, given: dict):
    """Make DIR and note the settings in its file `name`. Raises UsageError if it holds others."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / name).exists():
            if any(path.name != "lock" for path in out.iterdir()):
                raise UsageError(f"--out = {out}: is not empty; must be new, or hold its {name}")
            write(out / name, {"settings": given, "trials": {}})
    except OSError as error:
        raise UsageError(f"--out = {out}: cannot be written: {error.strerror}") from error
    found = read(out / name)["settings"]
    for key in given | found:
        if found.get(key) != given.get(key):
            what = f"{key} = {given.get(key)}: must be {found.get(key)}"
            raise UsageError(f"{what}, as in {out / name}, or --out another folder")


def read(path: Path) -> dict:
    """Return the record in DIR. Raises UsageError if it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {"settings": dict(record["settings"]), "trials": dict(record["trials"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read: {one_line(error)}") from error


def write(path: Path, record: dict):
    with folder.replacing(path) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())


def key(out: Path, trial: Trial) -> str:
    """Return POINT/seed-K."""
    return Path(trial.path).relative_to(out).as_posix()


def done(record, out, trial) -> bool:
    """Return whether the trial has a score, and its run folder still exists."""
    return "score" in record["trials"].get(key(out, trial), ()) and Path(trial.path).exists()


def picture(out, trials) -> str | None:
    """Draw the learning curves of all runs with a finished episode; return the file, if any."""
    paths = [Path(t.path) for t in itertools.chain(*trials.values()) if position(t)]
    if not paths or not importlib.util.find_spec("matplotlib"):
        return None
    try:
        plot.draw(paths, out / "learning_curves.png")
    except UsageError as error:
        warnings.warn(f"{out}: no picture: {one_line(error)}", stacklevel=2)
        return None
    return str(out / "learning_curves.png")


# What is shown


class Board:
    """The results of trials: in sweep.json, if the record has settings, and shown on stderr.

    There, each trial that ends has a line; on a terminal, each point has one that is renewed.
    """

    def __init__(self, trials: dict[str, list[Trial]], record: dict, out: Path):
        self.trials, self.record, self.out, self.drawn = trials, record, out, 0

    def ended(self, trial: Trial, result: dict):
        """Note the result of a trial."""
        name, results = key(self.out, trial), self.record["trials"]
        if "damage" in result:
            self._print(f"npgrad: warning: {result['damage']}")
        if "again" in result:
            return self._print(f"npgrad: warning: {name}: {result['failed']}; it is run again")
        results[name] = {k: result[k] for k in ("score", "error", "failed") if k in result}
        if "settings" in self.record:
            write(self.out / "sweep.json", self.record)
        count = f"{len(results)}/{sum(map(len, self.trials.values()))} {name}"
        if "failed" in result:
            self._print(f"npgrad: {count}: failed: {result['failed']}")
        elif not sys.stderr.isatty():
            score = "no score" if result["score"] is None else f"score {result['score']:.4g}"
            self._print(f"{count}: {score}")

    def summary(self, name: str) -> dict:
        """Return the summary of a point."""
        results = self.record["trials"]
        return summarise([results.get(key(self.out, trial), {}) for trial in self.trials[name]])

    def shown(self, running: list[Trial]):
        """Renew the lines on a terminal, those of the points with running trials first."""
        if not sys.stderr.isatty():
            return
        active = {}
        for trial in running:
            active.setdefault(Path(key(self.out, trial)).parts[0], []).append(position(trial))
        names = sorted(self.trials, key=lambda name: name not in active)
        size = shutil.get_terminal_size()
        lines = [self._line(name, active.get(name, ())) for name in names[: max(1, size.lines - 2)]]
        self._print(*(line[: size.columns - 1] for line in lines))
        self.drawn = len(lines)

    def _line(self, name, positions):
        found, total = self.summary(name), len(self.trials[name])
        line = f"{name}  {found['seeds'] + found['failed']}/{total} ended"
        if positions:
            step = max((p[0] for p in positions if p), default=0)
            line += f", {len(positions)} running (step {step})"
        return f"{line}, {told(found)}" if found["seeds"] else line

    def _print(self, *lines):
        clear = f"\x1b[{self.drawn}F\x1b[J" if self.drawn else ""
        print(clear + "\n".join(lines), file=sys.stderr, flush=True)
        self.drawn = 0
