"""The sub-commands: each parses its command line, does the work and formats the result."""

import signal
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from algorithms.runner import arguments, folder, plot, training
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Outcome, UsageError
from algorithms.runner.evaluate import evaluate
from algorithms.runner.lookup import load_method, summary
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
        method, about = load_method(name, methods), summary(methods[name])
        parts = {"run": arguments.Train, name.replace("-", "_"): arguments.offered(method.Config)}
        options, config = arguments.parse(flags, f"npgrad train {name}", about, **parts)
        config = training.ending(method, vars(config), options.steps)
        command = ["npgrad", "train", *argv]
        environment = Environment(options.env)
        given = (name, method, environment, config, options.seed, options.run, command)
        session = training.begin(*given)
    print(f"run folder: {session.path}", file=sys.stderr)
    with ExitStack() as stack:
        observers = []
        if options.tensorboard:
            events = Events(session.path, session.tally.steps)
            observers.append(stack.enter_context(closing(events)))
        result = training.learn(session, options.steps, options.checkpoint_every, observers)
    mean, stopped = result["return_last_100"], result["signal"]
    if stopped:
        hint = f"go on with: npgrad train --resume {session.path} --steps {options.steps}"
        print(f"npgrad: {stopped}: stopped, all is saved; {hint}", file=sys.stderr)
    text = (
        f"{session.path}: {result['steps']} steps, {result['episodes']} episodes, "
        f"{result['seconds']:.1f} s, last-100 return {'-' if mean is None else f'{mean:.4g}'}"
    )
    return Outcome(result, text, 128 + signal.Signals[stopped] if stopped else 0)


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
    result = evaluate(path, method, *given)
    text = (
        f"{path}: {options.episodes} episodes, return {result['return_mean']:.4g} "
        f"± {result['return_std']:.4g} (mean ± {result['return_error']:.2g}), "
        f"length {result['length_mean']:.4g}"
    )
    return Outcome(result, text)


def plot_command(argv, methods) -> Outcome:
    """Draw the learning curves of runs."""
    about = "Draw learning curves: running means, with a bootstrap band over several seeds."
    (options,) = arguments.parse(argv, "npgrad plot", about, run=arguments.Plot)
    runs = [Path(run) for run in options.runs]
    if not runs:
        raise UsageError("RUN is missing after plot: must be one run folder or more")
    default = runs[0] / "learning_curve.png" if len(runs) == 1 else "learning_curves.png"
    out = Path(options.out or default)
    plot.draw(runs, out)
    return Outcome(dict(picture=str(out), runs=[str(run) for run in runs]), str(out))


def list_command(argv, methods) -> Outcome:
    """List the methods, and explain where to find environments."""
    arguments.parse(argv, "npgrad list", "Name the methods.", output=arguments.Output)
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
