"""A policy for a Gymnasium environment: encode an observation, model, head, decode an action."""

from dataclasses import dataclass, fields
from numbers import Integral, Real
from types import MappingProxyType
from typing import Literal

import numpy as np
from gymnasium.spaces import Box, Discrete

from npgrad import Gaussian, Softmax, beside, linear, mlp
from npgrad.models import ACTIVATIONS

TINY = np.finfo(float).tiny  # for "above 0"
BELOW_1 = 1.0 - np.finfo(float).epsneg
PRECISIONS = MappingProxyType({"double": np.float64, "single": np.float32})


@dataclass(frozen=True)
class Network:
    approximator: Literal["mlp", "linear"] = "mlp"
    """What maps features to preferences and to values. linear: no hidden layer, starts at zero
    and has no bias on one-hot observations."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layers' widths, for mlp (common practice on CartPole). Positive integers."""
    activation: Literal["tanh", "relu", "softplus", "elu", "identity"] = "tanh"
    """Hidden layers' activation, for mlp."""
    sigma: Literal["exp", "softplus"] = "exp"
    """Standard deviation of continuous actions: exp(ω) (Sutton & Barto 13.20) or √softplus(ω)
    (A3C §9)."""
    spherical: bool = False
    """One σ for all action dimensions (A3C §9) instead of one each."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        check(self, approximator=("mlp", "linear"), activation=tuple(ACTIVATIONS))
        check(self, sigma=("exp", "softplus"))
        if not self.hidden or any(type(n) is not int or n < 1 for n in self.hidden):
            raise ValueError(f"hidden = {self.hidden}: must be one or more positive integers")

    def model(self, n, m, one_hot=False):
        """The npgrad model of n features and m outputs. Override it for one of your own: any NumPy
        function of (θ, x) is one (npgrad.from_function)."""
        if self.approximator == "linear":
            return linear(n, m, bias=not one_hot)
        return mlp((n, *self.hidden, m), self.activation)


def check(config, **allowed):
    """Raise ValueError unless each named field lies in its range: (low, high) numbers, both
    included, or a tuple of strings. A field annotated int must be whole; only one whose default is
    infinite may be so."""
    declared = {field.name: field for field in fields(config)}
    for name, values in allowed.items():
        value = getattr(config, name)
        if isinstance(values[0], str):
            if value not in values:
                raise ValueError(f"{name} = {value!r}: must be one of {', '.join(values)}")
            continue
        low, high = values
        whole, default = declared[name].type is int, declared[name].default
        number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        infinite = value == np.inf and default != np.inf
        if not number or not low <= value <= high or infinite:
            what = f"at least {low}" if high == np.inf else f"in [{low}, {high}]"
            kind = "whole and " if whole and not number else "finite and " * infinite
            raise ValueError(f"{name} = {value!r}: must be {kind}{what}")


def encoder(space):
    """(n, encode): observations of a flat Box or Discrete space as n float features.

    Discrete observations become one-hot vectors; a Box observation is copied, since environments
    may reuse the array. Raises ValueError for images, Dict and other spaces.
    """
    if isinstance(space, Discrete):
        rows = np.eye(int(space.n))
        start = int(space.start)
        return int(space.n), lambda observation: rows[observation - start]
    if isinstance(space, Box) and len(space.shape) == 1:
        return space.shape[0], lambda observation: np.array(observation, float)
    raise ValueError(
        f"observation_space = {space}: must be a flat Box or Discrete (gymnasium.wrappers."
        "FlattenObservation flattens others; images need features of your own)"
    )


@dataclass(frozen=True)
class Policy:
    """π(a|s, θ) = head(model(θ, s)).

    encode   observation -> s, float features (n,)
    model    (θ, s) -> h
    head     Softmax or Gaussian: distribution over a, given h
    decode   a -> what env.step takes (a continuous action is clipped to its bounds; its
             log-probability stays that of the action drawn)
    """

    encode: object
    model: object
    head: object
    decode: object

    def log_prob(self, theta, S, A):
        """ln π(A|S, θ), one for each row."""
        return self.head.log_prob(self.model(theta, S), A)

    def score(self, theta, S, A, weights):
        """Σ_t weights_t ∇ln π(A_t|S_t, θ): the head's explicit score, pulled back by the model."""
        h, pullback = self.model.vjp(theta, S)
        return pullback(weights[:, None] * self.head.score(h, A))[0]


def make_policy(env, network):
    """The policy that `network` describes for env's spaces. Raises ValueError for other spaces."""
    n, encode = encoder(env.observation_space)
    space = env.action_space
    if isinstance(space, Discrete):
        head = Softmax(int(space.n))
        start = int(space.start)
        decode = (lambda a: a) if start == 0 else (lambda a: start + a)
    elif isinstance(space, Box) and len(space.shape) == 1:
        head = Gaussian(space.shape[0], network.sigma, network.spherical)
        low, high, dtype = space.low, space.high, space.dtype

        def decode(a):
            return np.clip(a, low, high).astype(dtype)
    else:
        raise ValueError(f"action_space = {space}: must be Discrete or a flat Box")
    one_hot = isinstance(env.observation_space, Discrete)
    return Policy(encode, network.model(n, head.size, one_hot), head, decode)


def make_value(env, network):
    """The model of v̂(s, w), with one output."""
    n, _ = encoder(env.observation_space)
    return network.model(n, 1, isinstance(env.observation_space, Discrete))


@dataclass(frozen=True)
class ActorCritic:
    """A policy and a value function: model(θ, s) = (h, v̂(s)), the last output being v̂; for the
    rest see Policy."""

    encode: object
    model: object
    head: object
    decode: object


def make_actor_critic(env, network, trunk):
    """trunk   "shared": one network with two linear heads; "separate": a network each. Raises
    ValueError for other spaces."""
    policy, one_hot = make_policy(env, network), isinstance(env.observation_space, Discrete)
    n, _ = encoder(env.observation_space)
    if trunk == "separate":
        model = beside(policy.model, network.model(n, 1, one_hot))
    else:
        model = network.model(n, policy.head.size + 1, one_hot)
    return ActorCritic(policy.encode, model, policy.head, policy.decode)
