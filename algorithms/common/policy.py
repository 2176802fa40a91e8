"""A policy for an environment's spaces: a model, and a head that reads its outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from algorithms.common.config import check, widths
from algorithms.common.types import Gradient, Model
from algorithms.common.world import HasSpaces, Rewards, Spaces, decoder, encoder, one_hot, spaces
from npgrad import (
    Array,
    Gaussian,
    Head,
    beside,
    compiled,
    from_function,
    gaussian,
    linear,
    mlp,
    product,
    softmax,
)

AFTER = 100  # calls with the same shapes before a page's gradient is compiled


@dataclass(frozen=True)
class Network:
    approximator: Literal["mlp", "linear"] = "mlp"
    """Model from features to preferences and to values. linear: no hidden layer, starts at zero
    and has no bias on discrete observations."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layers' widths, for mlp (common practice on CartPole). Positive integers."""
    activation: Literal["tanh", "relu", "softplus", "elu", "identity"] = "tanh"
    """Hidden layers' activation, for mlp."""
    sigma: Literal["exp", "softplus"] = "exp"
    """Standard deviation of continuous actions: exp(ω) (Sutton & Barto 13.20) or √softplus(ω)
    (A3C §9)."""
    spherical: bool = False
    """One σ for all action dimensions (A3C §9) instead of one each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", widths(self.hidden))
        check(self)

    def model(self, n: int, m: int, one_hot: bool = False) -> Model:
        """The npgrad model of n features and m outputs. Override it to use your own: any NumPy
        function of (θ, x) is a model (npgrad.from_function). With one_hot, x is one-hot."""
        if self.approximator == "linear":
            return linear(n, m, bias=not one_hot, one_hot=one_hot)
        return mlp((n, *self.hidden, m), self.activation, one_hot=one_hot)

    def head(self, space: gymnasium.Space[Any]) -> Head:
        """The npgrad.Head for an action space. Override it to use a distribution of your own.

        Raises ValueError for other spaces.
        """
        if isinstance(space, Discrete):
            return softmax(int(space.n))
        if isinstance(space, MultiDiscrete):
            return product(space.nvec.ravel().tolist())
        if isinstance(space, MultiBinary):
            return product([2] * prod(space.shape))
        if isinstance(space, Box):
            return gaussian(prod(space.shape), self.sigma, self.spherical)
        raise ValueError(
            f"action_space = {space}: must be Discrete, MultiDiscrete, MultiBinary or Box"
        )


class Policy:
    """π(a|s, θ) = head(model(θ, s)): `model` gives h, `head(h)` is a distribution over actions.

    With a value beside it (`make_actor_critic`), the model's last output is v̂(s).
    """

    def __init__(self, model: Model, head: Head, env_spaces: Spaces, value: bool = False) -> None:
        self.model, self.head, self.value = model, head, value
        _, self.encode = encoder(env_spaces.observation)
        self.decode = decoder(env_spaces.action)

    def at(self, theta: Array, s: Any) -> Any:
        """The distribution at features s."""
        y = self.model(theta, s)
        return self.head(y[..., :-1] if self.value else y)

    def compiled(self, gradient: Gradient) -> Gradient:
        """Return a page's gradient. It is compiled if the head is npgrad's Gaussian.

        The results are the same to the bit. A Gaussian's gradient then takes two thirds to three
        quarters of the time. A softmax's gains nothing.
        """
        page = getattr(gradient, "__globals__", {}).get("__name__", "")  # where it is written
        kind = type(self.head) is Head and getattr(self.head.distribution, "func", None)
        ours = page.startswith("algorithms.") and kind is Gaussian
        return compiled(gradient, AFTER) if ours else gradient

    def act(
        self,
        parameters: Mapping[str, Any],
        observation: Any,
        rng: np.random.Generator,
        greedy: bool = False,
    ) -> Any:
        """An action for env.step, drawn from π at parameters["theta"]; with greedy, π's mode."""
        pi = self.at(parameters["theta"], self.encode(observation))
        return self.decode(pi.mode() if greedy else pi.sample(self.head.noise(rng, 1)[0]))


def make_policy(env: HasSpaces, network: Network) -> Policy:
    """The Policy that `network` describes for env's spaces. Raises ValueError for other spaces."""
    found = spaces(env)
    head = _head(found, network)
    return Policy(_model(found, network, head.size), head, found)


def make_value(env: HasSpaces, network: Network) -> Model:
    """The model of v̂(s, w), with one output."""
    return _model(spaces(env), network, 1)


def make_actor_critic(env: HasSpaces, network: Network, trunk: str) -> Policy:
    """A Policy with v̂ as the model's last output.

    trunk   "shared": one network with two linear heads; "separate": a network each
    """
    found = spaces(env)
    head = _head(found, network)
    if trunk == "separate":
        model: Model = beside(_model(found, network, head.size), _model(found, network, 1))
    else:
        model = _model(found, network, head.size + 1)
    return Policy(model, head, found, value=True)


def soft_rewards(r: Rewards, h: Array, head: Head, beta: float, entropy: str) -> Rewards:
    """Return the rewards that a return counts, as numbers. entropy "step": r, of shape (k,) or
    (n, N); "return": r_i + β H(π(·|s_i)). h (k, size) are the policy's outputs in these steps."""
    return r if entropy == "step" else r + beta * head(h).entropy().reshape(np.shape(r))


def _model(found: Spaces, network: Network, m: int) -> Model:
    """network.model for these spaces. A model of one-hot vectors is given discrete observations as
    such. Raises ValueError unless the model has what a model needs, and m outputs."""
    n, _ = encoder(found.observation)
    discrete = isinstance(found.observation, Discrete)
    model = network.model(n, m, discrete)
    for name in ("layout", "init", "__call__"):
        if not hasattr(model, name):
            raise ValueError(f"network.model gave {model}: must have {name}, as an npgrad model")
    indices = discrete and getattr(model, "one_hot", False)  # it takes them itself
    x, theta = np.zeros((2, n)), model.init(np.random.default_rng(0))
    x[:, 0] = 1.0
    for features, shape in ((x, (2, m)), (x[0], (m,))):
        try:
            y = np.shape(model(theta, features))
        except ValueError as error:
            raise ValueError(
                f"network.model gave {model}: must take features of shape {features.shape} and "
                f"give outputs of shape {shape} ({error})"
            ) from error
        if y != shape:
            raise ValueError(
                f"network.model gave outputs of shape {y} for features of shape "
                f"{features.shape}: must be {shape}"
            )
    if discrete and not indices:
        rows = lambda theta, k: model(theta, one_hot(k, n))
        return from_function(rows, model.layout, model.init, axes=0)
    return model


def _head(found: Spaces, network: Network) -> Head:
    """network.head for these spaces. Raises TypeError unless it is a Head."""
    head = network.head(found.action)
    if not isinstance(head, Head):
        raise TypeError(f"head = {head}: must be an npgrad.Head")
    return head
