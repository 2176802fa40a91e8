"""The sub-commands: each parses its command line, does the work and formats the result."""

import argparse
import os
import signal
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from algorithms.runner import arguments, folder, plot, training
from algorithms.runner.environments import described, own
from algorithms.runner.errors import Outcome, UsageError, one_line, tell
from algorithms.runner.evaluate import evaluate
from algorithms.runner.lookup import load_method, summary
from algorithms.runner.presets import PRESETS, applied, named, preset
from algorithms.runner.tensorboard import Events, require_tensorboard


def train_command(argv, methods) -> Outcome:
    """Begin or resume a run, and learn until --steps or a signal."""
    name, flags = (argv[0], argv[1:]) if argv and argv[0][:1] != "-" else (None, argv)
    if "--tensorboard" in flags:
        require_tensorboard()
    if any(flag.partition("=")[0] == "--resume" for flag in flags):
        options, session = _resume(name, flags, methods)
    elif name is None:
        about = f"Learn. METHOD is one of {', '.join(methods)}; its --help shows its own flags too."
        if {"-h", "--help"} & set(flags):
            arguments.parse(["--help"], "npgrad train METHOD", about, run=arguments.Train)
        raise UsageError(f"METHOD is missing after train: must be one of {', '.join(methods)}")
    else:
        options, session = _begin(name, flags, methods)
    tell(f"run folder: {session.path}")
    with ExitStack() as stack:
        observers = []
        if options.tensorboard:
            events = Events(session.path, session.tally.steps)
            observers.append(stack.enter_context(closing(events)))
        if options.plain and "NPGRAD_PLAIN" not in os.environ:
            os.environ["NPGRAD_PLAIN"] = "1"
            stack.callback(os.environ.pop, "NPGRAD_PLAIN", None)
        result = training.learn(session, options.steps, options.checkpoint_every, observers)
    mean, stopped = result["return_last_100"], result["signal"]
    if stopped:
        hint = f"go on with: npgrad train --resume {session.path} --steps {options.steps}"
        tell(f"npgrad: {stopped}: stopped, all is saved; {hint}")
    text = (
        f"{session.path}: {result['steps']} steps, {result['episodes']} episodes, "
        f"{result['seconds']:.1f} s, last-100 return {'-' if mean is None else f'{mean:.4g}'}"
    )
    status = 128 + signal.Signals[stopped] if stopped else 0
    return Outcome(result, text, status, kept=True)


def _begin(name, flags, methods):
    method, about = load_method(name, methods), summary(methods[name])
    prog = f"npgrad train {name}"
    flags, options, environment, config = settled(name, method, flags, arguments.Train, prog, about)
    known = PRESETS.get((name, options.env, ""))
    defaults = training.ending(method, vars(method.Config()), options.steps)
    if known and known.settings and config == defaults:
        tell(f"hint: --preset has settings for {options.env}: {known.result}")
    command = ["npgrad", "train", name, *flags]
    given = (name, method, environment, config, options.seed, options.run, command)
    return options, training.begin(*given)


def settled(name, method, flags, Options, prog, about):
    """Return (flags, options, Environment, Config) of a new run's flags: those of Options, which is
    arguments.Train or a subclass, and of the method. --preset has become a default."""
    flags, default, wrap = _preset(name, method, flags)
    parts = {"run": Options, name.replace("-", "_"): arguments.offered(method.Config, default)}
    options, config = arguments.parse(flags, prog, about, **parts)
    config = training.ending(method, vars(config), options.steps)
    if options.network is not None:
        config = _own_network(name, config, options.network)
    limit, wrap = options.max_episode_steps, options.wrap or wrap
    return flags, options, described(options.env, options.env_arg, limit, wrap), config


def _preset(name, method, flags):
    """Return (the flags without --preset but with its steps, its Config or None, its wrappers)."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", nargs="?", const="")
    for flag in ("--env", "--steps"):
        parser.add_argument(flag)
    try:
        given, _ = parser.parse_known_args(flags)
    except argparse.ArgumentError:  # a flag without its value, which the real parser reports
        return flags, None, ()
    if given.preset is None:
        return flags, None, ()
    k = next(k for k, flag in enumerate(flags) if flag.partition("=")[0] == "--preset")
    words = 2 if given.preset and flags[k] == "--preset" else 1
    flags = flags[:k] + flags[k + words :]
    if given.env is None:  # which the real parser reports
        return flags, None, ()
    found = preset(name, given.env, given.preset)
    flags += [] if given.steps else ["--steps", str(found.steps)]
    return flags, applied(method.Config(), found.settings), found.wrap


def _own_network(name, config, text):
    """Return the Config with a network of the user's own class, which keeps the fields it has."""
    from algorithms.common.policy import Network

    if not isinstance(getattr(config, "network", None), Network):
        raise UsageError(f"--network = {text}: {name} has no algorithms.common.policy.Network")
    cls = own("--network", text, os.getcwd(), Network)
    try:
        return replace(config, network=cls(**vars(config.network)))
    except (TypeError, ValueError) as error:
        raise UsageError(f"--network = {text}: cannot be made: {one_line(error)}") from error


def _resume(name, flags, methods):
    about = "Go on with a run from its checkpoint. Its config.json decides what is no flag here."
    try:
        (options,) = arguments.parse(flags, "npgrad train", about, run=arguments.Resume)
    except UsageError as error:
        hint = " (with --resume, the run's own config decides)" if "no such" in str(error) else ""
        raise UsageError(f"{error}{hint}") from error
    path = Path(options.resume)
    record = folder.read_config(path)
    for what, value, key in (
        ("METHOD", name, "method"),
        ("--env", options.env, "env"),
        ("--seed", options.seed, "seed"),
    ):
        if value not in (None, record[key]):
            raise UsageError(f"{what} = {value}: must be {record[key]}, as in {path}, or left out")
    method = load_method(record["method"], methods)
    return options, training.resume(path, method, options.steps)


def evaluate_command(argv, methods) -> Outcome:
    """Evaluate the parameters of a run."""
    about = "Play with the parameters of a run folder."
    (options,) = arguments.parse(argv, "npgrad evaluate", about, run=arguments.Evaluate)
    path = Path(options.run)
    method = load_method(folder.read_config(path)["method"], methods)
    given = options.episodes, options.seed, options.greedy, options.max_episode_steps
    result = evaluate(path, method, *given, options.error)
    text = (
        f"{path}: {result['episodes']} episodes, return {result['return_mean']:.4g} "
        f"± {result['return_error']:.2g} (standard error; s.d. {result['return_std']:.4g}), "
        f"length {result['length_mean']:.4g}"
    )
    return Outcome(result, text)


def plot_command(argv, methods) -> Outcome:
    """Draw the learning curves of runs."""
    about = "Draw learning curves; of several seeds, the interquartile mean and a bootstrap band."
    (options,) = arguments.parse(argv, "npgrad plot", about, run=arguments.Plot)
    runs = [Path(run) for run in options.runs]
    if not runs:
        raise UsageError("RUN is missing after plot: must be one run folder or more")
    default = runs[0] / "learning_curve.png" if len(runs) == 1 else "learning_curves.png"
    out = Path(options.out or default)
    plot.draw(runs, out)
    return Outcome(dict(picture=str(out), runs=[str(run) for run in runs]), str(out), kept=True)


def list_command(argv, methods) -> Outcome:
    """List the methods, where to find environments, and the presets."""
    (options,) = arguments.parse(argv, "npgrad list", "Name the methods.", output=arguments.List)
    if options.presets:
        return _presets(methods)
    lines = {name: summary(page) for name, page in methods.items()}
    where = "python -c 'import gymnasium; gymnasium.pprint_registry()'"
    width = max(map(len, lines))
    text = "\n".join(
        [
            "methods:",
            *(f"  {name:{width}}  {line}" for name, line in lines.items()),
            "environments: every Gymnasium id with Box or Discrete observations but images; see",
            f"  {where}",
        ]
    )
    return Outcome(dict(methods=lines, environments=where), text)


def _presets(methods):
    """List the presets: method, environment and variant, steps, and what was measured."""
    shown = {key: found for key, found in PRESETS.items() if key[0] in methods}
    rows = [(key[0], named(*key[1:]), f"{p.steps:,}", p.result) for key, p in shown.items()]
    widths = [max(map(len, column), default=0) for column in zip(*rows)]
    text = "\n".join("  ".join(x.ljust(w) for x, w in zip(row, widths)).rstrip() for row in rows)
    result = [dict(zip(("method", "env", "name"), key), **p._asdict()) for key, p in shown.items()]
    return Outcome(dict(presets=result), text)
