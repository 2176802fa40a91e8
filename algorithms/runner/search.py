"""`npgrad search`: good settings, found by Optuna; a trial is several seeds. The extra `search`.

DIR/search.json      what all trials have in common
DIR/journal.log      Optuna's journal; processes with the same DIR share the search
DIR/trial-K/seed-S   a run folder
DIR/trial-K.lock     held by the process that runs the trial; once it has died, another takes over
"""

import math
import shlex
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from algorithms.runner import arguments, folder
from algorithms.runner.errors import Outcome, UsageError, require
from algorithms.runner.grid import checked, convert, find, last, leaves, once, parsed, put, value_of
from algorithms.runner.lookup import load_method
from algorithms.runner.scores import told
from algorithms.runner.sweep import (
    Board,
    attempt,
    claim,
    described,
    outcome,
    placed,
    seeded,
    settings,
)
from algorithms.runner.trials import locked, run_all

SHOWN = 10  # the best trials


def search_command(argv, methods) -> Outcome:
    """Try settings until there are --trials of them, and name the best."""
    options, one = described("search", arguments.Search, argv, methods)
    space, out = searched(options, one.config, argv), Path(one.path)
    optuna, stopped = require("optuna", "npgrad[search]"), None
    given = {"range": list(options.range), "choice": list(options.choice)}
    with closing(placed(options, out / "search.json")) as place:
        claim(out, "search.json", settings(options, one) | given)
        study = opened(optuna, out / "journal.log")
        while not stopped:
            with ExitStack() as held:
                trial = taken(optuna, study, options, out, held)
                if trial is None:
                    break
                stopped = tried(optuna, study, trial, space, one, options, place)
    result, text = found(optuna, study, one, space, methods)
    result["signal"] = stopped
    return outcome(result, text, stopped, argv, "search", not result["best"])


def opened(optuna, journal: Path):
    """Return the study of a journal, which is new or not."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.journal.JournalStorage(backend)
    how = dict(study_name="npgrad", direction="maximize", load_if_exists=True)
    return optuna.create_study(storage=storage, **how)


def taken(optuna, study, options, out, held):
    """Return a trial that no process runs, or a new one, its lock entered into `held`; None if
    there are --trials already. Each new trial has a sampler of its own seed, so that processes do
    not try the same."""
    with locked(out / "lock", wait=True):
        for left in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            try:
                held.enter_context(locked(out / f"trial-{left.number}.lock"))
                return optuna.trial.Trial(study, left._trial_id)
            except UsageError:  # another process runs it
                continue
        number = len(study.get_trials(deepcopy=False))
        if number >= options.trials:
            return None
        study.sampler = optuna.samplers.TPESampler(seed=options.first_seed + number)
        trial = study.ask()
        held.enter_context(locked(out / f"trial-{trial.number}.lock"))
        return trial


def tried(optuna, study, trial, space, one, options, place):
    """Run all seeds of a trial and tell Optuna; return the name of a signal, or None.

    A trial of which a seed fails counts as pruned, which Optuna takes for worse than any score.
    """
    name, out, value = f"trial-{trial.number}", Path(one.path), None
    try:
        config = checked(one.config, suggested(trial, space))
        attempt(one._replace(config=config))
    except UsageError as error:  # values that do not go together
        words = f"{name}: {error}"
        print(f"npgrad: {words}", file=sys.stderr)
    else:
        runs = {name: seeded(one, out / name, config, options)}
        board = Board(runs, {"trials": {}}, out)
        stopped = run_all(runs[name], place, board.ended, board.shown)
        if stopped:
            return stopped
        summary = board.summary(name)
        words, value = told(summary), None if summary["failed"] else summary["iqm"]
    trial.set_user_attr("result", words)
    study.tell(trial, value, None if value is not None else optuna.trial.TrialState.PRUNED)
    return None


def found(optuna, study, one, space, methods):
    """Return (result, text): the best trials, and the command that trains with the best."""
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    best = sorted(complete, key=lambda trial: -trial.value)[:SHOWN]
    configs = [put(one.config, suggested(trial, space)) for trial in best]
    rows = [
        dict(trial=f"trial-{t.number}", iqm=t.value, result=t.user_attrs["result"], **t.params)
        for t in best
    ]
    lines = [
        f"{row['trial']}  {row['result']}  {flags(config, one.config, space)}"
        for row, config in zip(rows, configs)
    ]
    result = dict(out=one.path, trials=len(study.get_trials(deepcopy=False)), best=rows)
    if best:
        default = load_method(one.name, methods).Config()
        result["command"] = f"{command(one, configs[0])} {flags(configs[0], default, space)}"
        lines.append(f"train with the best: {result['command']}")
    return result, "\n".join(lines) or "no trial has a score"


def command(one, config) -> str:
    """Return the command line that trains in the environment of `one`, with the network's class."""
    env, network = one.environment, folder.recorded(config).get("network")
    words = ["npgrad", "train", one.name, "--env", env.env, "--steps", str(one.steps)]
    for name, value in env.env_args.items():
        words += ["--env-arg", f"{name}={value!r}"]
    if env.max_episode_steps is not None:
        words += ["--max-episode-steps", str(env.max_episode_steps)]
    for wrap in env.wrap:
        words += ["--wrap", wrap]
    if isinstance(network, dict) and "class" in network:
        words += ["--network", network["class"]]
    return shlex.join(words)


def flags(config, other, space) -> str:
    """Return the flags of the searched fields, and of those in which a Config is not `other`."""
    words = []
    for name, kind in leaves(config).items():
        value, flag = value_of(config, name), last(name).replace("_", "-")
        if name not in space and value == value_of(other, name):
            continue
        if kind is bool:
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            parts = value if isinstance(value, tuple) else (value,)
            words += [f"--{flag}", *map(str, parts)]
    return shlex.join(words)


# The space


def searched(options, config, argv) -> dict:
    """Return {dotted name: (low, high, log) or {text: value}} of --range and --choice."""
    space = [between(spec, config) for spec in options.range]
    space += [parsed(spec, config, "--choice") for spec in options.choice]
    if not space:
        raise UsageError("--range and --choice are missing: must be one of them or more")
    once([name for name, _ in space], argv, "--range or --choice")
    return dict(space)


def between(spec, config):
    """Return (dotted name, (low, high, log)) of FIELD=LOW:HIGH[:log]."""
    given, _, ends = spec.partition("=")
    low, high, *log = ends.split(":") if ends.count(":") in (1, 2) else ("", "")
    if not (low.strip() and high.strip() and log in ([], ["log"])):
        raise UsageError(f"--range = {spec}: must be FIELD=LOW:HIGH or FIELD=LOW:HIGH:log")
    name = find(given, config, "--range")
    low, high = (convert(name, leaves(config)[name], end) for end in (low, high))
    if any(type(end) not in (int, float) for end in (low, high)):
        raise UsageError(f"--range = {spec}: {last(name)} is no number; must be in --choice")
    if not (math.isfinite(high) and low < high and (low > 0 or not log)):
        above = "0 < LOW < HIGH" if log else "LOW < HIGH"
        raise UsageError(f"--range = {spec}: must be finite, and {above}")
    for end in (low, high):
        checked(config, {name: end})
    return name, (low, high, bool(log))


def suggested(trial, space) -> dict:
    """Return {dotted name: value}, drawn by Optuna or, for a trial that has them, read."""
    values = {}
    for name, allowed in space.items():
        if isinstance(allowed, dict):
            values[name] = allowed[trial.suggest_categorical(last(name), list(allowed))]
        else:
            low, high, log = allowed
            suggest = trial.suggest_int if type(low) is int else trial.suggest_float
            values[name] = suggest(last(name), low, high, log=log)
    return values
