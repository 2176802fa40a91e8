"""The boundary to the world: one environment, of which a method sees features and rewards only.

    world = World(env, state.world)
    world.s              features of the state to act in
    world.t              steps of the episode so far; 0: it is about to begin
    world.step(a)        (r, s2, terminated, truncated) of action a. s2 are the features of what a
                         led to, also when the episode is over
    world.ended          ((return, length),) if the latest step ended an episode, else (); the
                         return is the environment's own, below wrappers that change rewards
    world.episode        with record=True: the Episode that the latest step ended, else None
    world.resumed        True if the environment was brought back to the saved Position

After a step that ended an episode, the next one has begun: world.s is its first state. What is not
finite, or does not fit the environment's spaces, raises an error that names environment, episode,
step and quantity. A World seeds its environment once, at its first reset.

A Position says where an environment stands: the seed, the state of the environment's generator and
what its wrappers remembered as the episode began, and the actions since. To resume, a World repeats
the saved actions. If it does not reach the saved state and return, it warns and begins a new
episode.

Features s of an observation: its n numbers, for a Box of any shape but an image; an index 0, ...,
n − 1 in place of a one-hot vector, for Discrete. An action a of a method is an index for Discrete,
a vector of indices for MultiDiscrete and MultiBinary, a vector of numbers for a Box.
"""

import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isfinite, prod
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import VectorEnv

from algorithms.common.copies import fingerprint, is_factory
from algorithms.common.metrics import Ended
from algorithms.common.remembered import Memory, own_return, remembered, remind
from algorithms.common.types import Env, Envs, Made
from npgrad import Array

BLOCK = 32  # steps after which a method yields, also within an episode
MOST_ACTIONS = 10**6  # of one episode that a Position remembers
Rewards: TypeAlias = Sequence[float] | Array


@dataclass
class Position:
    """The place of an environment in its episode.

    seed        of the first reset
    generator   state of the environment's generator before the episode's reset; None: as seeded
    private     fingerprint of its other generators after that reset; 0 if it has none
    memory      what its wrappers remembered then (algorithms.common.remembered)
    latest      what they remember now, to BLOCK steps
    actions     of the episode so far, as the method drew them, one after the other
    s           features of the state that they led to
    G, t        Σ of the rewards and number of steps so far
    episode     number of the episode, from 1; 0: no episode has begun
    """

    seed: int
    generator: dict[str, Any] | None = None
    private: int = 0
    memory: Memory = field(default_factory=dict)
    latest: Memory = field(default_factory=dict)
    actions: "array[Any]" = field(default_factory=lambda: array("d"))
    s: Array = field(default_factory=lambda: np.empty(0))
    G: float = 0.0
    t: int = 0
    episode: int = 0


class Episode(NamedTuple):
    """S (T, n) or (T,) features, A (T, ...) actions, R (T,) rewards: R[t] follows A[t].

    s_final are the features after the last step. terminated says that the return ends there;
    otherwise only the data end (truncated).
    """

    S: Array
    A: Array
    R: Array
    s_final: Array
    terminated: bool


class World:
    """One environment; see the module. `position` changes in place. decode turns a method's action
    into the environment's, if it is not `algorithms.common.world.decoder` that does. keep=False
    keeps no actions. number is said in errors. world.observation is the latest observation as it
    was given."""

    observation: Any
    S: "array[Any]"

    def __init__(
        self,
        env: Made,
        position: Position,
        record: bool = False,
        decode: Callable[[Any], Any] | None = None,
        keep: bool = True,
        number: int | None = None,
    ) -> None:
        if isinstance(env, VectorEnv):
            raise ValueError(f"env = {env}: must be one environment, no VectorEnv (a2c takes one)")
        self.env, self.position, self.record = env, position, record
        self.name = name_of(env) if number is None else f"{name_of(env)}: environment {number}"
        self.n, self.encode = encoder(env.observation_space)
        self.decode, self.ones = decode or decoder(env.action_space), np.ones(self.n)
        self.space, self.shape = env.observation_space, env.observation_space.shape
        self.discrete = isinstance(self.space, Discrete)
        self.most = inf if record else MOST_ACTIONS if keep else 0
        self.ended: Ended = ()
        self.episode: Episode | None = None
        self.resumed = position.episode > 0
        self.latest: tuple[int, ...] = ()  # episode and step of the latest step
        self.remembers, self.private = bool(remembered(env)), True
        if not self.resumed:
            self._begin(None, seed=position.seed)
        elif not self._replay(np.array(position.actions), position.s, position.G, position.t):
            self.resumed, self.ended, self.episode = False, (), None
            text = f"{self.name} does not repeat its episodes: a new one begins"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            if self.t > 0:
                self._reset()

    def _replay(self, actions: Array, s: Any, G: float, t: int) -> bool:
        """Bring the environment to the position; False if what it shows is not the same."""
        position = self.position
        how: dict[str, Any] = dict(seed=position.seed)
        if position.generator is not None:
            self.env.reset(**how)
            self.env.unwrapped.np_random.bit_generator.state = position.generator
            how = {}
        remind(self.env, position.memory)
        position.episode, private = position.episode - 1, position.private
        self._begin(position.generator, **how)
        for a in actions.reshape(-1, *self.action):
            if self.step(a)[2:] != (False, False):
                return False
        same = position.private == private and self.t == t and self.G == G
        return same and np.array_equal(self.s, s)

    def _reset(self) -> None:
        generator = getattr(self.env.unwrapped, "np_random", None)
        self._begin(None if generator is None else generator.bit_generator.state)

    def _begin(self, generator: dict[str, Any] | None, **how: Any) -> None:
        """Reset the environment and note that an episode begins."""
        position = self.position
        space: Any = self.env.action_space
        position.memory = position.latest = remembered(self.env) if self.remembers else {}
        first, _ = self.env.reset(**how)
        if self.private:
            position.private = fingerprint(self.env)
            self.private = position.private > 0
        position.generator, position.episode = generator, position.episode + 1
        position.actions = array("d" if isinstance(space, Box) else "q")
        self.action = () if isinstance(space, Discrete) else (int(np.prod(space.shape)),)
        self.S, self.R = array("q" if self.discrete else "d"), array("d")
        self.t, self.G = position.t, position.G = 0, 0.0
        self.s = position.s = self._features(first)

    def _features(self, observation: Any) -> Any:
        """Features of an observation that fits the space and is finite, or an error."""
        if self.discrete:
            whole = isinstance(observation, (int, np.integer)) or (
                np.ndim(observation) == 0 and np.asarray(observation).dtype.kind in "iu"
            )
            k = self.encode(observation) if whole else -1
            if not 0 <= k < self.n:
                raise ValueError(
                    f"{self.where()}: observation = {shown(observation)}: must be in {self.space}"
                )
            self.observation = observation
            return k
        if getattr(observation, "shape", None) != self.shape:
            if np.shape(observation) != self.shape:
                raise ValueError(
                    f"{self.where()}: observation of shape {np.shape(observation)}: must be "
                    f"{self.shape}, as in {self.space}"
                )
        s, self.observation = self.encode(observation), observation
        if not (isfinite(s.dot(self.ones)) or np.isfinite(s).all()):
            raise FloatingPointError(
                f"{self.where()}: observation = {shown(observation)}: must be finite"
            )
        return s

    def _reward(self, r: Any) -> float:
        """A reward as a finite float, or an error."""
        if np.ndim(r) != 0:
            raise ValueError(f"{self.where()}: reward = {r}: must be a number")
        if not isfinite(r):
            raise FloatingPointError(f"{self.where()}: reward = {r}: must be finite")
        return float(r)

    def where(self, episode: int | None = None, t: int | None = None) -> str:
        """Environment, episode and step, by default the present ones."""
        episode, t = self.position.episode if t is None else episode, self.t if t is None else t
        return f"{self.name}: episode {episode}, step {t}"

    def step(self, a: Any) -> tuple[float, Any, bool, bool]:
        """Take action a: (r, s2, terminated, truncated)."""
        observation, r, terminated, truncated, info = self.env.step(self.decode(a))
        self.t = self.position.t = self.t + 1
        self.latest = self.position.episode, self.t
        if type(r) is not float or not isfinite(r):
            r = self._reward(r)
        s2 = self._features(observation)
        self.G = self.position.G = self.G + r
        if self.remembers and self.t % BLOCK == 0:
            self.position.latest = remembered(self.env)
        if self.t <= self.most:
            actions = self.position.actions
            actions.extend(a.tolist()) if self.action else actions.append(a)
        if self.record:
            self.S.append(self.s) if self.discrete else self.S.extend(self.s.tolist())
            self.R.append(r)
        self.ended, self.episode = (), None
        if terminated or truncated:
            self.ended = ((own_return(info, self.G), self.t),)
            if self.record:
                self.episode = self._recorded(s2, bool(terminated))
            self._reset()
        else:
            self.s = self.position.s = s2
        return r, s2, bool(terminated), bool(truncated)

    def _recorded(self, s_final: Any, terminated: bool) -> Episode:
        S = np.array(self.S, np.intp if self.discrete else float)
        A = np.array(self.position.actions).reshape(self.t, *self.action)
        S = S if self.discrete else S.reshape(self.t, self.n)
        return Episode(S, A, np.array(self.R), s_final, terminated)


def returns(R: Rewards, gamma: float, last: float = 0.0) -> Array:
    """G_t = R[t] + γ G_{t+1}, t = T − 1, ..., 0, with G_T = last. R (T,); G (T,)."""
    G, last = np.empty(len(R)), float(last)
    for t in reversed(range(len(R))):
        G[t] = last = R[t] + gamma * last
    return G


class Spaces(NamedTuple):
    """The spaces of one environment."""

    observation: gymnasium.Space[Any]
    action: gymnasium.Space[Any]


HasSpaces: TypeAlias = Envs | Spaces


def spaces(env: HasSpaces) -> Spaces:
    """The Spaces of an Env, of one of a VectorEnv, or of what a factory makes."""
    if isinstance(env, Spaces):
        return env
    if is_factory(env):
        made = env()
        try:
            return spaces(made)
        finally:
            made.close()
    one = "single_" if isinstance(env, VectorEnv) else ""
    return Spaces(getattr(env, f"{one}observation_space"), getattr(env, f"{one}action_space"))


def encoder(space: gymnasium.Space[Any]) -> tuple[int, Callable[[Any], Any]]:
    """(n, encode): the number of features, and observation -> features, always new ones.

    Raises ValueError for images, Dict and other spaces.
    """
    if isinstance(space, Discrete):
        start = int(space.start)
        return int(space.n), lambda observation: np.intp(observation - start)
    if isinstance(space, Box):
        image = space.dtype == np.uint8 and len(space.shape) == 3
        if not image:
            if len(space.shape) == 1:
                return space.shape[0], lambda observation: np.array(observation, float)
            return prod(space.shape), lambda observation: np.array(observation, float).reshape(-1)
    raise ValueError(
        f"observation_space = {space}: must be Discrete or a Box that is no image "
        "(gymnasium.wrappers.FlattenObservation makes a flat Box of others)"
    )


def one_hot(k: Any, n: int) -> Array:
    """Rows of the identity: (..., n) of integers k (...)."""
    k = np.asarray(k)
    if k.dtype.kind not in "iu":  # one-hot already
        return k
    rows = np.zeros((*k.shape, n))
    np.put_along_axis(rows, k[..., None], 1.0, -1)
    return rows


def decoder(space: gymnasium.Space[Any]) -> Callable[[Any], Any]:
    """a -> what env.step takes, for one environment or for N side by side.

    A continuous action is clipped to the bounds, and rounded to the nearest integer in a Box of
    integers; its log-probability stays that of the action drawn.
    """
    if isinstance(space, Discrete):
        start = int(space.start)
        return (lambda a: a) if start == 0 else (lambda a: start + a)
    if isinstance(space, Box):
        low, high, shape, dtype = space.low, space.high, space.shape, space.dtype
        whole, flat = dtype.kind in "iu", len(shape) == 1

        def decode(a: Any) -> Array:
            a = a if flat else a.reshape((*a.shape[:-1], *shape))
            a = np.rint(a) if whole else a
            return np.asarray(np.minimum(np.maximum(a, low), high), dtype)

        return decode
    if isinstance(space, (MultiDiscrete, MultiBinary)):
        first: Any = space.start if isinstance(space, MultiDiscrete) else 0
        return lambda a: (a.reshape(*a.shape[:-1], *space.shape) + first).astype(space.dtype)
    raise ValueError(f"action_space = {space}: must be Discrete, MultiDiscrete, MultiBinary or Box")


@contextmanager
def opened(env: Env) -> Iterator[Made]:
    """env; or what the factory () -> environment makes, which is closed in the end."""
    made: Any = env() if is_factory(env) else env
    try:
        yield made
    finally:
        if made is not env:
            made.close()


@contextmanager
def entered(
    env: Env, position: Position, see: Callable[[Made], Made] = lambda env: env, **options: Any
) -> Iterator[World]:
    """The World of see(env), env being an environment or a factory. FloatingPointErrors that leave
    the block say where in the world they happened."""
    with opened(env) as made:
        world = World(see(made), position, **options)
        try:
            yield world
        except FloatingPointError as error:
            text, where = str(error), world.where(*world.latest)
            known = text.startswith(where.partition(":")[0])
            raise FloatingPointError(text if known else f"{where}: {text}") from error


def shown(x: Any) -> str:
    """x as text in one line."""
    return " ".join(str(x).split())


def name_of(env: Any) -> str:
    """Its id, or the name of its class."""
    spec = getattr(env, "spec", None)
    return spec.id if spec else type(getattr(env, "unwrapped", env)).__name__


def check_finite(step: int, **learned: Array | tuple[Array, ...]) -> None:
    """Raise FloatingPointError, with the name and the step, unless all that is learned is finite:
    name=array, or name=(array, ...) with the optimiser's statistics."""
    for name, arrays in learned.items():
        for x in arrays if isinstance(arrays, tuple) else (arrays,):
            x = x.reshape(-1)
            if not (isfinite(x.dot(x)) or np.isfinite(x).all()):
                raise FloatingPointError(f"{name} has diverged: not finite at step {step}")
