"""The environment of a run, as the command line describes it and config.json records it; and the
classes of the user's own that a run names."""

import ast
import importlib
import inspect
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from algorithms.runner.errors import UsageError, near, one_line, short


@dataclass(frozen=True)
class Environment:
    """Everything that determines an environment. `make` makes one; config.json holds the fields.

    env    Gymnasium's id; MODULE:ID, if importing MODULE registers it; or FILE.py:CLASS
    wrap   NAME or NAME:arg=value,...; NAME is of gymnasium.wrappers, of algorithms.runner.wrappers,
           or FILE.py:CLASS. The first one is innermost
    home   folder of such files and modules; None if there are none
    """

    env: str
    env_args: dict = field(default_factory=dict)
    max_episode_steps: int | None = None
    wrap: tuple[str, ...] = ()
    home: str | None = None

    def __post_init__(self):
        for name, right in (
            ("env", isinstance(self.env, str)),
            ("env_args", isinstance(self.env_args, dict)),
            ("max_episode_steps", self.max_episode_steps is None or _whole(self.max_episode_steps)),
            ("wrap", isinstance(self.wrap, tuple) and all(isinstance(x, str) for x in self.wrap)),
            ("home", self.home is None or isinstance(self.home, str)),
        ):
            if not right:
                value = short(repr(getattr(self, name)))
                raise UsageError(f"config.json: {name} = {value}: is nothing that train records")

    @classmethod
    def of(cls, record: dict):
        """Return the Environment that a config.json describes, to be made.

        Raises UsageError if it would import code from elsewhere than a command may (trusted).
        """
        described = cls.read(record)
        described._check_trusted()
        return described

    @classmethod
    def read(cls, record: dict):
        """Return the Environment that a config.json describes. Raises UsageError for odd values."""
        given = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        if isinstance(given.get("wrap"), list):
            given["wrap"] = tuple(given["wrap"])
        return cls(**given)

    record = asdict

    def _check_trusted(self):
        for text in (self.env, *(parse_wrap(wrap)[0] for wrap in self.wrap)):
            file, colon, _ = text.rpartition(":")
            if file.endswith(".py"):
                trusted(Path(self.home or ".", file).parent)
            elif colon:
                trusted(Path(self.home or "."))

    def make(self, **options):
        """Return a new environment, made with more options than config.json has, such as a
        render_mode. Raises UsageError if it cannot be made as described.

        With wrappers or code of the user's, its attribute `again` makes another like it
        (algorithms.common.copies), and it tells its own return (algorithms.common.remembered).
        """
        env = self._bare(options)
        if self.wrap:
            from algorithms.common.remembered import OwnReturn

            env = OwnReturn(env)
        for text in self.wrap:
            env = self._wrapped(env, text)
        if self.wrap or self.home:
            env.again = self.make
        return env

    def _bare(self, options):
        import gymnasium

        import algorithms.exact.register  # noqa: F401  (registers this project's ids)

        what, creator = self._creator()
        _check_arguments("--env-arg", self.env, creator, self.env_args)
        try:
            limit = self.max_episode_steps
            return gymnasium.make(what, max_episode_steps=limit, **self.env_args, **options)
        except gymnasium.error.UnregisteredEnv as error:
            hint = near(what, gymnasium.registry)
            raise UsageError(f"--env = {self.env}: not known to Gymnasium{hint}") from error
        except Exception as error:
            raise UsageError(f"--env = {self.env}: cannot be made: {one_line(error)}") from error

    def _creator(self):
        """Return (what gymnasium.make takes, what it calls or None if that is not known)."""
        import gymnasium
        from gymnasium.envs.registration import EnvSpec, load_env_creator

        where, _, name = self.env.rpartition(":")
        if where.endswith(".py") or name.endswith(".py"):
            entry = own("--env", self.env, self.home, gymnasium.Env)
            return EnvSpec(f"{Path(where).name}:{name}", entry_point=entry), entry
        if where:
            _import("--env", self.env, where, self.home)
        entry = getattr(gymnasium.registry.get(name), "entry_point", None)
        try:
            return name, load_env_creator(entry) if isinstance(entry, str) else entry
        except Exception:  # gymnasium.make says more
            return name, None

    def _wrapped(self, env, text):
        name, arguments = parse_wrap(text)
        wrapper = wrapper_class(name, self.home)
        _check_arguments("--wrap", text, wrapper, arguments, taken=1)
        try:
            return wrapper(env, **arguments)
        except Exception as error:
            raise UsageError(f"--wrap = {text}: cannot be made: {one_line(error)}") from error


def described(env, env_args=(), max_episode_steps=None, wrap=()) -> Environment:
    """Return the Environment that flags describe. Files and modules are those of this folder."""
    arguments = {}
    for text in env_args:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals):
            raise UsageError(f"--env-arg = {text}: must be NAME=VALUE")
        arguments[name] = literal(value)
    try:
        arguments = json.loads(json.dumps(arguments))  # as config.json gives them back
    except (TypeError, ValueError) as error:
        form = "must be numbers, words, lists or dicts of them"
        raise UsageError(f"--env-arg {name} = {value}: {form}") from error
    foreign = ":" in env or any(parse_wrap(text)[0].partition(":")[1] for text in wrap)
    home = os.getcwd() if foreign else None
    return Environment(env, arguments, max_episode_steps, tuple(wrap), home)


def _whole(x):
    return isinstance(x, int) and not isinstance(x, bool) and x >= 1


def literal(text: str):
    """Return the Python literal that a text is, or else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def parse_wrap(text: str) -> tuple[str, dict]:
    """Return (name, arguments) of NAME:arg=value,...; a list of numbers becomes an array."""
    name, _, rest = text.partition(":")
    if name.endswith(".py"):
        kind, _, rest = rest.partition(":")
        name = f"{name}:{kind}"
    try:
        call = ast.parse(f"f({rest})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or None in [k.arg for k in call.keywords]:
            raise SyntaxError
        return name, {k.arg: _value(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        form = "NAME or NAME:arg=value,arg=value with Python's numbers, words and lists"
        raise UsageError(f"--wrap = {text}: must be {form}") from error


def _value(node):
    if isinstance(node, ast.Name):
        return node.id
    value = ast.literal_eval(node)
    if isinstance(value, list) and value and not any(isinstance(x, str) for x in value):
        import numpy as np

        return np.array(value, np.float32)
    return value


def wrapper_class(name: str, home: str | None) -> type:
    """Return the gymnasium.Wrapper of this name. Raises UsageError if there is none."""
    import gymnasium

    from algorithms.runner import wrappers

    if ":" in name:
        return own("--wrap", name, home, gymnasium.Wrapper)
    known = [*gymnasium.wrappers.__all__, *wrappers.__all__]
    known.remove("vector")
    if name not in known:
        places = "gymnasium.wrappers, algorithms.runner.wrappers or a FILE.py:CLASS"
        raise UsageError(f"--wrap = {name}: must be of {places}{near(name, known)}")
    try:
        return getattr(wrappers if name in wrappers.__all__ else gymnasium.wrappers, name)
    except ImportError as error:
        raise UsageError(f"--wrap = {name}: cannot be imported: {one_line(error)}") from error


def own(flag: str, text: str, home: str | None, kind: type):
    """Return the subclass of `kind` that FILE.py:CLASS names, or raise UsageError."""
    file, _, name = text.rpartition(":")
    path = Path(home or ".", file).resolve()
    if not (file.endswith(".py") and path.stem.isidentifier() and name.isidentifier()):
        raise UsageError(f"{flag} = {text}: must be FILE.py:CLASS")
    if not path.is_file():
        raise UsageError(f"{flag} = {text}: there is no file {path}")
    module = _import(flag, text, path.stem, str(path.parent))
    if Path(getattr(module, "__file__", None) or ".").resolve() != path:
        where = getattr(module, "__file__", "Python itself")
        raise UsageError(f"{flag} = {text}: {path.stem} is {where} already; rename the file")
    wanted = f"must be a subclass of {kind.__module__}.{kind.__qualname__}"
    found = {
        key: x for key, x in vars(module).items() if isinstance(x, type) and issubclass(x, kind)
    }
    if name not in vars(module):
        raise UsageError(f"{flag} = {text}: {file} has no {name}{near(name, found)}; {wanted}")
    if name not in found:
        raise UsageError(f"{flag} = {text}: {wanted}")
    return found[name]


def trusted(home: Path):
    """Raise UsageError unless `home` is the working directory or a folder that Python searches.

    A run folder may be a stranger's, and its config.json name any file.
    """
    if home.resolve() not in {Path(place).resolve() for place in (".", *sys.path)}:
        may = "the working directory and PYTHONPATH"
        raise UsageError(f"config.json: code in {home}: is imported from {may} only; cd there")


def _import(flag, text, name, home):
    """Import a module for which `home` is searched first, in this process and those it spawns."""
    if home is not None and home not in sys.path:
        sys.path.insert(0, home)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{flag} = {text}: cannot be imported: {one_line(error)}") from error


def _check_arguments(flag, text, creator, arguments, taken=0):
    """Raise UsageError if `creator` takes no argument of such a name, after the first `taken`."""
    try:
        parameters = list(inspect.signature(creator).parameters.values())[taken:]
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    allowed = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    for name in arguments:
        if name not in allowed:
            must = f"must be of {', '.join(allowed)}" if allowed else "it takes none"
            hint = near(name, allowed)
            raise UsageError(f"{flag} {name}: no argument of {text}: {must}{hint}")
