"""Settings by name: the fields of a Config and their values from text, as its flags take them."""

import dataclasses
import functools
import itertools
import re
import typing

import tyro

from algorithms.runner import arguments
from algorithms.runner.errors import UsageError, near


def leaves(config, prefix: str = "") -> dict[str, type]:
    """Return {dotted name: type} of the fields of a Config and of those nested in it, but T_max."""
    hints, found = typing.get_type_hints(type(config)), {}
    for name in (field.name for field in dataclasses.fields(config) if field.name != "T_max"):
        value = getattr(config, name)
        nested = dataclasses.is_dataclass(value)
        found |= leaves(value, f"{prefix}{name}.") if nested else {prefix + name: hints[name]}
    return found


def value_of(config, name: str):
    """Return the field with a dotted name."""
    return functools.reduce(getattr, name.split("."), config)


def last(name: str) -> str:
    return name.rpartition(".")[2]


def find(given: str, config, flag: str) -> str:
    """Return the dotted name of a field that is given by it, or by its flag, in any spelling."""
    name, known = given.strip().lstrip("-").replace("-", "_"), leaves(config)
    for dotted in known:
        if name in (dotted, last(dotted)):
            return dotted
    allowed = [last(dotted) for dotted in known]
    hint = near(last(name), allowed)
    raise UsageError(f"{flag} = {given}: no such field; must be one of {', '.join(allowed)}{hint}")


def convert(name: str, kind: type, text: str):
    """Return a value of a field as its flag takes it. Raises UsageError as the flag does."""
    alone = tyro.conf.arg(help=" ")  # else tyro searches the source for a docstring
    kind = typing.Annotated[tyro.conf.FlagConversionOff[kind], alone]
    Value = dataclasses.make_dataclass("Value", [(last(name), kind)])
    argv = [f"--{last(name).replace('_', '-')}", *text.split()]
    (value,) = arguments.parse(argv, "npgrad", "", value=Value)
    return getattr(value, last(name))


def put(config, values: dict):
    """Return the Config with other values, {dotted name: value}, all put in at once."""
    own, nested = {}, {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        (nested.setdefault(head, {}) if rest else own)[rest or head] = value
    own |= {head: put(getattr(config, head), inner) for head, inner in nested.items()}
    return dataclasses.replace(config, **own)


def checked(config, values: dict):
    """Return `put`. Raises UsageError for values that the Config does not allow."""
    try:
        return put(config, values)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def parsed(spec: str, config, flag: str) -> tuple[str, dict[str, object]]:
    """Return (dotted name, {text: value}) of FIELD=A,B,... ."""
    given, equals, texts = spec.partition("=")
    texts = [" ".join(text.split()) for text in texts.split(",")]
    if not equals or not all(texts):
        raise UsageError(f"{flag} = {spec}: must be FIELD=A,B,...")
    name = find(given, config, flag)
    values = {text: convert(name, leaves(config)[name], text) for text in texts}
    for one, other in itertools.combinations(texts, 2):
        if values[one] == values[other]:
            raise UsageError(f"{flag} = {spec}: {one} and {other} are the same; each value once")
    return name, values


def once(names: list[str], argv: list[str], flag: str):
    """Raise UsageError for a field that is named twice, or whose own flag is given as well."""
    for name in names:
        own = f"--{last(name).replace('_', '-')}"
        if names.count(name) > 1:
            raise UsageError(f"{flag} = {last(name)}: is given twice; must be given once")
        if any(word.partition("=")[0].replace("--no-", "--") == own for word in argv):
            raise UsageError(f"{own}: is in {flag}, too; must be given once")


def grid(specs, config, argv, default: str) -> dict:
    """Return {name: Config}, one for each combination of the values; `default` names the only one.

    The name is that of its folder. Raises UsageError for anything that no flag would take.
    """
    axes = [parsed(spec, config, "--grid") for spec in specs]
    once([name for name, _ in axes], argv, "--grid")
    points = {}
    for texts in itertools.product(*(values for _, values in axes)):
        values = {name: values[text] for (name, values), text in zip(axes, texts)}
        words = [f"{last(name)}={text}" for (name, _), text in zip(axes, texts)]
        label = re.sub(r"[^\w.,=+-]", "_", ",".join(words)) or default
        label = label if len(label) <= 120 and label not in points else f"point-{len(points)}"
        points[label] = checked(config, values)
    return points
