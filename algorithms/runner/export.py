"""The learned policy as an npz file, and a program beside it that needs nothing but NumPy."""

import json
import sys
from contextlib import closing
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from algorithms.common.features import Features, observed
from algorithms.common.policy import make_actor_critic, make_policy
from algorithms.common.remembered import normalises_observations
from algorithms.common.world import spaces
from algorithms.runner import arguments, folder
from algorithms.runner.checkpoint import read_parameters
from algorithms.runner.environments import Environment, parse_wrap
from algorithms.runner.errors import Outcome, UsageError, one_line
from algorithms.runner.lookup import load_method, prepare
from npgrad import Gaussian, Product, Softmax, beside, mlp
from npgrad.networks import EPSILON

FARTHEST, LEAST = 10.0, 1e-8  # as in algorithms.a2c_scaling
MARK = "Written by `npgrad export`"
ABOUT = '''"""Act as {method} learned to on {env}. {mark}; needs only NumPy.

{what}
"""

import numpy as np

with np.load(__file__[:-2] + "npz") as npz:
'''
BOTH = "act(observation) is the mode of the policy; act(observation, rng) is drawn from the policy."
ONE = "act(observation) is the action: the policy is deterministic."
SIGMA = {"exp": "np.exp(h[{d}:])", "softplus": "np.sqrt(np.logaddexp(0.0, h[{d}:]))"}
ACTIVATION = {
    "tanh": "x = np.tanh({})",
    "relu": "x = np.maximum({}, 0.0)",
    "softplus": "x = {}\nx = np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))",
    "elu": "x = {}\nx = np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))",
    "identity": "x = {}",
}


@dataclass(frozen=True, kw_only=True)
class Export(arguments.Output):
    run: arguments.tyro.conf.Positional[arguments._shown(str, "RUN")]
    """Run folder whose policy is exported."""
    out: arguments._shown(str | None, "FILE", "(default: RUN/act.npz)") = None
    """File to write, which ends in .npz; the program beside it ends in .py."""

    def __post_init__(self):
        if self.out is not None and not self.out.endswith(".npz"):
            raise ValueError(f"--out = {self.out}: must end in .npz")


def export_command(argv, methods) -> Outcome:
    """Write the policy of a run: θ with its layout, and a program that acts."""
    about = "Write the learned policy: as an npz file, and as a program that needs only NumPy."
    (options,) = arguments.parse(argv, "npgrad export", about, run=Export)
    path = Path(options.run)
    record = folder.read_config(path)
    method = load_method(record["method"], methods)
    config = folder.build(method.Config, record["config"])
    env, state = prepare(method, Environment.of(record), config, record["seed"])
    with closing(env):
        if normalises_observations(env):
            raise UsageError(
                f"RUN = {path}: its wrappers normalise observations: cannot be exported"
            )
        parameters = read_parameters(path / "parameters.npz", state, record["env"])
        try:
            arrays, text = exported(method, env, config, parameters, record)
        except ValueError as error:
            raise UsageError(f"RUN = {path}: {error}; see parameters.npz there") from error
    out = Path(options.out or path / "act.npz")
    _write(out, arrays, text)
    program = out.with_suffix(".py")
    return Outcome(dict(policy=str(out), program=str(program)), f"{out}\n{program}")


def _write(out: Path, arrays, text):
    """Write both files. Raises UsageError if that fails, or if another program would be lost."""
    program = out.with_suffix(".py")
    try:
        if program.exists() and MARK not in program.read_text(encoding="utf-8")[:500]:
            raise UsageError(f"--out = {out}: {program} exists, and is no program of npgrad export")
        with folder.replacing(out) as file:
            np.savez(file, **arrays)
        with folder.replacing(program) as file:
            file.write(text.encode())
    except (OSError, ValueError) as error:
        raise UsageError(f"--out = {out}: cannot be written: {one_line(error)}") from error


def exported(method, env, config, parameters, record):
    """Return (arrays, text): what the npz file holds, and the program.

    Raises ValueError for a policy that is not made of npgrad's own networks and distributions.
    """
    see, model, head, value = acting(method, env, config)
    if type(model) is beside:  # the second one is v̂
        model, value = model.first, False
    if type(model) is not mlp:
        raise ValueError(f"its network is {type(model).__name__}: must be npgrad's mlp or linear")
    observation, action = spaces(env)
    arrays = {"theta": parameters["theta"]}
    moments = parameters["seen"] if getattr(config, "normalize_observations", False) else None
    lines = _features(see, observation, moments, model, arrays) + _network(model)
    lines += ["h = h[:-1]"] if value else []
    lines += _action(head, action, arrays)
    layout = {name: dict(offset=start, shape=shape) for name, start, shape in _places(model)}
    about = {name: x for name, x in record.items() if name not in ("seed", "config")}
    about |= dict(layout=layout, activation=model.activation, output=model.output)
    about |= dict(head=str(head), observation_space=str(observation), action_space=str(action))
    given = [name for name in arrays if name != "theta"]
    arrays["about"] = np.array(json.dumps(about))
    return arrays, _program(record, model, given, lines)


def acting(method, env, config):
    """Return (env as the policy sees it, model, head, whether the last output is a value).

    The head is an npgrad.Head; "argmax" of Q; or "scale" of a deterministic policy.
    """
    page = sys.modules[method.actor.__module__]
    if "theta" not in method.State.parameters:
        raise ValueError(f"{page.__name__} learns no policy: must be a method that learns theta")
    if hasattr(config, "networks"):
        return env, page.models(env, config)[0], "scale", False
    see = observed(env, config) if hasattr(config, "features") else env
    if hasattr(page, "policy_of"):
        policy = page.policy_of(env, config)
    elif hasattr(config, "trunk"):
        policy = make_actor_critic(env, config.network, config.trunk)
    else:
        policy = make_policy(see, config.network)
    greedy = hasattr(page, "discrete_policy")
    return see, policy.model, "argmax" if greedy else policy.head, policy.value


def _features(see, space, moments, model, arrays):
    """Return the lines from an observation to the network's input x, or the index k of a one-hot
    x; put the numbers that they need into `arrays`."""
    if isinstance(space, Discrete):
        k = f"int(observation) - {space.start}" if space.start else "int(observation)"
        lines = [f"k = {k}"] if model.one_hot else [f"x = np.eye({space.n})[{k}]"]
    else:
        lines = ["x = np.array(observation, float).reshape(-1)"]
    if isinstance(see, Features):
        lines += _basis(see, arrays)
    if moments is not None and moments[0, 0] > 0:
        count, mean, squares = moments
        arrays |= dict(mean=mean, sd=np.sqrt(squares / count + LEAST))
        lines += [f"x = np.clip((x - mean) / sd, -{FARTHEST}, {FARTHEST})"]
    return lines


def _basis(see, arrays):
    """Return the lines of a basis of features (algorithms.common.features)."""
    arrays |= dict(lowest=see.low, highest=see.high, width=see.range)
    lines = ["s = (np.clip(x, lowest, highest) - lowest) / width"]
    if see.basis == "tiles":
        arrays |= dict(offset=see.offset, first=see.first, place=see.place)
        tile = f"first + ({see.order} * s + offset).astype(int) @ place"
        return [*lines, f"x = np.zeros({see.observation_space.shape[0]})", f"x[{tile}] = 1.0"]
    arrays["c"] = see.c
    fourier = see.basis == "fourier"
    return [*lines, "x = np.cos(np.pi * c.dot(s))" if fourier else
            "x = np.prod((2.0 * s - 1.0) ** c, axis=1)"]  # fmt: skip


def _network(model):
    """Return the lines from x to the outputs h: the forward pass of npgrad.mlp, layer by layer."""
    lines, names = [], model.layout.shapes
    for k in range(model.depth + 1):
        z = "x" if k == 0 else f"W{k}[k]" if k == 1 and model.one_hot else f"np.dot(x, W{k})"
        if k in model.normed:
            lines += [f"x = {z}"] if k else []
            z = f"gain{k} * (x - mean{k}) / np.sqrt(var{k} + {EPSILON})"
        z += f" + b{k}" if f"b{k}" in names else ""
        if 0 < k < model.depth:
            lines += ACTIVATION[model.activation].format(z).split("\n")
        elif k or z != "x":
            z = f"np.tanh({z})" if k and model.output == "tanh" else z
            lines += [f"{'h' if k else 'x'} = {z}"]
    return lines


def _action(head, space, arrays):
    """Return the lines from the network's output h to an action for env.step."""
    if head == "scale":
        arrays |= dict(low=space.low, high=space.high)
        share = f"share = 0.5 + 0.5 * h.astype(float).reshape({space.shape})"
        return [share, "a = (1.0 - share) * low + share * high", _bounded("a", space)]
    start = f"{space.start} + " if isinstance(space, Discrete) and space.start else ""
    if head == "argmax":
        return [f"return {start}h.argmax()"]
    kind = getattr(head.distribution, "func", head.distribution)
    if kind is Gaussian:
        d, sigma = prod(space.shape), SIGMA[head.distribution.keywords["sigma"]]
        noise = f"{sigma.format(d=d)} * rng.standard_normal({d})"
        arrays |= dict(low=space.low, high=space.high)
        a = "a" if len(space.shape) == 1 else f"a.reshape({space.shape})"
        a = f"np.rint({a})" if space.dtype.kind in "iu" else a
        return [f"a = h[:{d}] if rng is None else h[:{d}] + {noise}", _bounded(a, space)]
    if kind not in (Softmax, Product):
        raise ValueError(f"its distribution is {kind}: must be one of npgrad's")
    lines = ["h = h if rng is None else h + rng.gumbel(size=len(h))"]
    if kind is Softmax:
        return [*lines, f"return {start}h.argmax()"]
    ends = np.cumsum(head.distribution.keywords["sizes"])[:-1].tolist()
    lines += [f"a = np.array([part.argmax() for part in np.split(h, {ends})])"]
    if isinstance(space, MultiDiscrete) and space.start.any():
        arrays["start"], start = space.start, "start + "
    return [*lines, f"return ({start}a.reshape({space.shape})).astype(np.{space.dtype})"]


def _bounded(a, space):
    return f"return np.asarray(np.clip({a}, low, high), np.{space.dtype})"


def _places(model):
    """Yield (name, offset in θ, shape) of the arrays of the network that acts."""
    start = 0
    for name, shape in model.layout.shapes.items():
        yield name, start, shape
        start += prod(shape)


def _program(record, model, given, lines):
    """Return the text of the program, which loads the arrays `given` beside θ."""
    what, argument = (BOTH, ", rng=None") if any("rng" in x for x in lines) else (ONE, "")
    if record.get("wrap"):
        names = ", ".join(parse_wrap(wrap)[0] for wrap in record["wrap"])
        what += f"\nObservation and action are those of the environment in its wrappers: {names}."
    text = ABOUT.format(**record, mark=MARK, what=what)
    text += "".join(f'    {name} = npz["{name}"]\n' for name in ("theta", *given))
    for name, start, shape in _places(model):
        part = f"theta[{start}:{start + prod(shape)}]"
        text += f"{name} = {part}.reshape{shape}\n" if len(shape) > 1 else f"{name} = {part}\n"
    body = "".join(f"    {line}\n" for line in lines)
    return f"{text}\n\ndef act(observation{argument}):\n{body}"
