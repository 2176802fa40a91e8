"""Command lines, made by tyro from dataclasses: every field a flag, its docstring the help."""

import contextlib
import io
import re
from dataclasses import dataclass, make_dataclass
from typing import Annotated

import tyro

from algorithms.runner.errors import UsageError

Switch = tyro.conf.FlagCreatePairsOff[bool]


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
    """Environment steps in all, a resumed run's earlier ones included. At least 1."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints; 0 makes one at every update."""

    def __post_init__(self):
        _at_least(1, steps=self.steps)
        _at_least(0, checkpoint_every=self.checkpoint_every)


@dataclass(frozen=True, kw_only=True)
class Train(Training):
    env: _shown(str, "ID")
    """Id of a Gymnasium environment, such as CartPole-v1."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same run, but where workers run in
    parallel. At least 0."""
    run: _shown(str | None, "DIR", "(default: runs/METHOD-ENV-seedSEED)") = None
    """Run folder to make; must be new or empty."""
    resume: _shown(str | None, "RUN", "(default: a new run)") = None
    """Go on with this run folder from its checkpoint; its config decides the rest."""

    def __post_init__(self):
        super().__post_init__()
        _at_least(0, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Resume(Training):
    resume: _shown(str, "RUN")
    """Run folder to go on with, from its checkpoint."""
    env: _shown(str | None, "ID", "(default: the run's)") = None
    """If given, must be the run's."""
    seed: _shown(int | None, "INT", "(default: the run's)") = None
    """If given, must be the run's."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Output):
    run: tyro.conf.Positional[_shown(str, "RUN")]
    """Run folder whose parameters play."""
    episodes: int = 100
    """Episodes to play. At least 1."""
    seed: int = 0
    """Seed of the environment and of the actions drawn. At least 0."""
    greedy: Switch = False
    """Take the mode of the learned policy, instead of drawing from it."""

    def __post_init__(self):
        _at_least(1, episodes=self.episodes)
        _at_least(0, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Plot(Output):
    runs: tyro.conf.Positional[_shown(tuple[str, ...], "RUN ...")]
    """Run folders. Those of one method, environment and config make one curve with a band."""
    out: _shown(str | None, "FILE", "(default: RUN/learning_curve.png)") = None
    """Picture to write: .png, .pdf or .svg; of several runs ./learning_curves.png by default."""

    def __post_init__(self):
        if self.out is not None and not self.out.endswith((".png", ".pdf", ".svg")):
            raise ValueError(f"--out = {self.out}: must end in .png, .pdf or .svg")


def _at_least(bound, **values):
    for name, value in values.items():
        if not value >= bound:
            raise ValueError(f"--{name.replace('_', '-')} = {value}: must be at least {bound}")


def offered(Config: type) -> type:
    """Config, its T_max being no flag, if it has one: --steps says when to end."""
    if not hasattr(Config, "T_max"):
        return Config
    hidden = [("T_max", tyro.conf.Suppress[tyro.conf.Fixed[int]], Config.T_max)]
    return make_dataclass(Config.__name__, hidden, bases=(Config,), frozen=True)


def parse(argv: list[str], prog: str, description: str, **parts: type) -> list:
    """One object per part, from a command line that takes the flags of all of them.

    Raises UsageError, in one line, for a flag or a value that does not fit; SystemExit after
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
    r"Error parsing (--\S+): (.*) Argument helptext: --\S+ (.*)": r"\1: \2; must be \3",
    r"Error parsing [^-:][^:]*: (.*)": r"\1",
    r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.": (
        r"\2 = \1: must be one of \3"
    ),
    r"Unrecognized options: ([^ ,]+).*Perhaps you meant: (--\S+).*": (
        r"\1: no such flag; did you mean \2?"
    ),
    r"Unrecognized options: ([^ ,]+).*": r"\1: no such flag or argument",
    r"Missing from .*?: (.*)": r"missing: \1",
}


def condense(box: str) -> str:
    """tyro's boxed message as one line: its text without frame and wrapping, in this house's words.

    A message that tyro comes to word in another way stays as it is.
    """
    lines = [line.strip(" │") for line in box.splitlines()[1:]]  # the first one is the title
    text = " ".join(line for line in lines if line.strip("╰─-╯"))
    text = text.partition(" For full helptext")[0]
    for pattern, phrase in PHRASES.items():
        if match := re.fullmatch(pattern, text):
            return match.expand(phrase)
    return text
