"""Command lines, made by tyro from dataclasses: each field is a flag, its docstring the help."""

import contextlib
import io
import os
import re
from dataclasses import dataclass, field, fields, make_dataclass
from math import inf
from typing import Annotated

import tyro

from algorithms.common.config import Range, ranges
from algorithms.runner.errors import UsageError

Switch = tyro.conf.FlagCreatePairsOff[bool]
Repeated = tyro.conf.UseAppendAction[tuple[str, ...]]


def _shown(kind, metavar: str, hint: str | None = None):
    return Annotated[kind, tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)]


@dataclass(frozen=True, kw_only=True)
class Output:
    json: Switch = False
    """Print the result as one JSON object, the last line of stdout."""
    debug: Switch = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Training(Output):
    steps: int
    """Environment steps in total, including those before a resume. At least 1."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints; 0 saves one at every update."""
    tensorboard: Switch = False
    """Also write an event file for TensorBoard into the run folder, in this session."""
    plain: Switch = False
    """Compile nothing, but run each function as it is written: the same run, to the bit."""

    def __post_init__(self):
        _at_least(1, steps=self.steps)
        _at_least(0, checkpoint_every=self.checkpoint_every)


@dataclass(frozen=True, kw_only=True)
class Train(Training):
    env: _shown(str, "ID")
    """Id of a Gymnasium environment, such as CartPole-v1; MODULE:ID, of a module here that
    registers it; or FILE.py:CLASS, your own class."""
    env_arg: _shown(Repeated, "NAME=VALUE", "(repeatable)") = ()
    """Argument of the environment, such as is_slippery=False; a Python literal, or else text."""
    max_episode_steps: _shown(int | None, "INT", "(default: the environment's)") = None
    """Time limit of an episode, in place of the environment's. At least 1."""
    wrap: _shown(Repeated, "NAME[:ARG=VALUE,...]", "(repeatable)") = ()
    """Wrapper around the environment and those before: one of gymnasium.wrappers, such as
    FlattenObservation, RescaleAction:min_action=-1,max_action=1 or NormalizeObservation;
    SoftBounds; or FILE.py:CLASS[:ARG=VALUE,...], your own. Returns are told without them:
    metrics.csv and evaluate have the environment's own rewards, also under NormalizeReward."""
    network: _shown(str | None, "FILE:CLASS", "(default: algorithms.common.policy.Network)") = None
    """Your own subclass of algorithms.common.policy.Network; the flags of its fields hold."""
    preset: _shown(str | None, "[NAME]", "(default: the method's own defaults)") = None
    """Settings, wrappers and steps behind a published result (npgrad list --presets); flags given
    beside it win."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same run, unless workers run in parallel.
    At least 0."""
    run: _shown(str | None, "DIR", "(default: runs/METHOD-ENV-seedSEED)") = None
    """Run folder to create; must be new or empty."""
    resume: _shown(str | None, "RUN", "(default: a new run)") = None
    """Run folder to resume from its checkpoint; its config determines everything else."""

    def __post_init__(self):
        super().__post_init__()
        _at_least(0, seed=self.seed)
        if self.max_episode_steps is not None:
            _at_least(1, max_episode_steps=self.max_episode_steps)


@dataclass(frozen=True, kw_only=True)
class Resume(Training):
    resume: _shown(str, "RUN")
    """Run folder to resume from its checkpoint."""
    env: _shown(str | None, "ID", "(default: the run's)") = None
    """If given, must equal the run's."""
    seed: _shown(int | None, "INT", "(default: the run's)") = None
    """If given, must equal the run's."""


Hidden = tyro.conf.Suppress[tyro.conf.Fixed[str | int | None]]


@dataclass(frozen=True, kw_only=True)
class Trials(Train):
    seeds: int = 10
    """Runs of each setting, with different seeds. At least 1."""
    first_seed: int = 0
    """The first of the seeds, which follow one another. At least 0."""
    jobs: _shown(int, "INT", "(default: the CPUs of this machine)") = os.cpu_count() or 1
    """Runs at once on this machine, or CPUs of `--cluster local`. At least 1."""
    cluster: _shown(str | None, "ADDRESS", "(default: this machine alone)") = None
    """Ray cluster that executes the runs: auto, local (a new one here) or host:port."""
    evaluate: int = 0
    """Episodes played after a run with the learned policy, whose mean return is the score; 0: the
    score is the mean return of the last 100 training episodes."""
    greedy: Switch = False
    """Play these episodes with the mode of the policy."""
    out: _shown(str | None, "DIR", "(default: runs/COMMAND-METHOD-ENV)") = None
    """Folder of all runs. If it holds the same already, what is missing is completed."""
    seed: Hidden = 0
    run: Hidden = None
    resume: Hidden = None
    tensorboard: Hidden = None
    plain: Hidden = None

    def __post_init__(self):
        super().__post_init__()
        _at_least(1, seeds=self.seeds, jobs=self.jobs)
        _at_least(0, first_seed=self.first_seed, evaluate=self.evaluate)


@dataclass(frozen=True, kw_only=True)
class Sweep(Trials):
    grid: _shown(Repeated, "FIELD=A,B,...") = ()
    """Values of a field; all combinations with other --grid are run. "hidden=64 64,32": a value of
    several parts."""


@dataclass(frozen=True, kw_only=True)
class Search(Trials):
    seeds: int = 5
    """Runs of each setting, with different seeds. At least 1."""
    trials: int = 50
    """Settings to try, including those tried before. At least 1."""
    range: _shown(Repeated, "FIELD=LOW:HIGH[:log]") = ()
    """Search a field between two numbers; log: evenly in its logarithm."""
    choice: _shown(Repeated, "FIELD=A,B,...") = ()
    """Search a field among some values."""

    def __post_init__(self):
        super().__post_init__()
        _at_least(1, trials=self.trials)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Output):
    run: tyro.conf.Positional[_shown(str, "RUN")]
    """Run folder whose parameters are evaluated."""
    episodes: int = 100
    """Episodes to play. At least 1."""
    error: _shown(float | None, "FLOAT", "(default: none)") = None
    """Play on until the standard error of the mean return is at most this. Above 0."""
    seed: int = 0
    """Seed of the environment and of the actions drawn. At least 0."""
    max_episode_steps: int = 10_000
    """Steps after which an episode is truncated. At least 1."""
    greedy: Switch = False
    """Take the mode of the learned policy instead of sampling from it."""

    def __post_init__(self):
        _at_least(1, episodes=self.episodes, max_episode_steps=self.max_episode_steps)
        _at_least(0, seed=self.seed)
        if self.error is not None and not 0 < self.error < inf:
            raise ValueError(f"--error = {self.error}: must be above 0")


@dataclass(frozen=True, kw_only=True)
class List(Output):
    presets: Switch = False
    """List the presets too."""


@dataclass(frozen=True, kw_only=True)
class Plot(Output):
    runs: tyro.conf.Positional[_shown(tuple[str, ...], "RUN ...")]
    """Run folders. Runs of the same method, environment and config give one curve with a band."""
    out: _shown(str | None, "FILE", "(default: RUN/learning_curve.png)") = None
    """Picture to write: .png, .pdf or .svg. Default for several runs: ./learning_curves.png."""

    def __post_init__(self):
        _picture(self.out)


def _picture(out):
    if out is not None and not out.endswith((".png", ".pdf", ".svg")):
        raise ValueError(f"--out = {out}: must end in .png, .pdf or .svg")


def _at_least(bound, **values):
    for name, value in values.items():
        large = isinstance(value, int) and value >= 2**63  # which config.json may not hold
        if large or not value >= bound:
            must = "below 2**63" if large else f"at least {bound}"
            raise ValueError(f"--{name.replace('_', '-')} = {value}: must be {must}")


def offered(Config: type, default=None) -> type:
    """Return Config with its ranges in --help, and the fields of `default`, a Config, as defaults.
    T_max is no flag, because --steps sets the end."""
    shown, default = [], default or Config()
    for spec in fields(Config):
        value, kind = getattr(default, spec.name), spec.type
        _, allowed, *_ = ranges(Config).get(spec.name, (None, None))
        if spec.name == "T_max":
            kind = tyro.conf.Suppress[tyro.conf.Fixed[int]]
        elif isinstance(allowed, Range):
            hint = tyro.conf.arg(help_behavior_hint=f"({allowed}; default: {value})")
            kind = Annotated[kind, hint]
        shown.append((spec.name, kind, field(default_factory=lambda value=value: value)))
    return make_dataclass(Config.__name__, shown, bases=(Config,), frozen=True)


def parse(argv: list[str], prog: str, description: str, **parts: type) -> list:
    """Parse a command line that takes the flags of all parts; return one object per part.

    Raises UsageError, with a message of one line, for an invalid flag or value; SystemExit after
    --help.
    """
    whole = make_dataclass("Arguments", parts.items(), frozen=True)
    flat, errors = (tyro.conf.OmitArgPrefixes,), io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = tyro.cli(whole, args=argv, prog=prog, description=description, config=flat)
    except SystemExit as stop:
        if stop.code:
            raise UsageError(condense(errors.getvalue())) from None
        raise
    return [getattr(parsed, name) for name in parts]


PHRASES = {
    r"Error parsing (\S+): could not convert string to float: '(.*?)' .*": (
        r"\1 = \2: must be a float"
    ),
    r"Error parsing (\S+): invalid literal for int\(\) .*?: '(.*?)' .*": r"\1 = \2: must be an int",
    r"Error parsing (--\S+): no type matching \{None\}\|(\S+) could .*? from \['(.*?)'\].*": (
        r"\1 = \3: must be \2"
    ),
    r"Error parsing (--\S+): (.*) Argument helptext: --\S+ (.*)": r"\1: \2; must be \3",
    r"Error parsing [^-:][^:]*: (.*)": r"\1",
    r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.": (
        r"\2 = \1: must be one of \3"
    ),
    r"(?:Missing .*)?Unrecognized options: ([^ ,]+).*Perhaps you meant: (--\S+).*": (
        r"\1: no such flag; did you mean \2?"
    ),
    r"(?:Missing .*)?Unrecognized options: ([^ ,]+).*": r"\1: no such flag or argument",
    r"Missing from .*?: (--\S+ \S+) [^-].*\(required\) (--\S+ \S+) [^-].*": r"missing: \1, \2",
    r"Missing from .*?: (.*)": r"missing: \1",
}


def condense(box: str) -> str:
    """Return tyro's boxed message as one line, without the frame, reworded according to PHRASES.

    A message that matches none of the PHRASES keeps tyro's words.
    """
    lines = [line.strip(" │") for line in box.splitlines()[1:]]  # the first line is the title
    text = " ".join(line for line in lines if line.strip("╰─-╯"))
    text = text.partition(" For full helptext")[0]
    for pattern, phrase in PHRASES.items():
        if match := re.fullmatch(pattern, text):
            return match.expand(phrase)
    return text
