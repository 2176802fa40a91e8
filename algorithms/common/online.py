"""π and v̂ at one state at a time, with their gradients, in memory set aside once.

The numbers are those of Policy.score and of the value model's vjp; only the work around them is
saved. An Actor and a Critic see every later change of their θ and w in place.
"""

import math
from math import isfinite

import numpy as np

from algorithms.common.episode import BLOCK
from npgrad import Softmax


def finite(x):
    """Whether a short vector is finite; faster than arrays, and without warnings."""
    return all(map(isfinite, x.tolist()))


def softmax_score(h, a):
    """∂ln π(a)/∂h = e_a − π of one h (n,), as a list; faster than arrays while n is small."""
    h = h.tolist()
    top = max(h)
    score = [-math.exp(x - top) for x in h]
    total = -sum(score)
    score = [x / total for x in score]
    score[a] = 0.0
    score[a] = -sum(score)  # 1 − π_a without cancellation
    return score


class Actor:
    """π(·|s, θ): `act` draws an action, `score` is ∇ln π of it, overwritten by the next.

    gradient   (θ, policy, s, a) -> ∇ln π(a|s, θ), to be used in place of the explicit formulas
    """

    def __init__(self, policy, theta, gradient=None):
        self.policy, self.head = policy, policy.head
        if gradient is not None:
            self.score = lambda a: gradient(theta, policy, self.s, a)
        self.forward, self.backward = policy.model.online(theta, np.empty_like(theta))
        self.score_h = softmax_score if isinstance(self.head, Softmax) else self.head.score

    def noise(self, rng):
        """Rows for `act`, without end, drawn in blocks."""
        while True:
            yield from self.head.noise(rng, BLOCK)

    def act(self, s, noise):
        """a ~ π(·|s, θ), drawn from h, the policy's output at s."""
        self.s = s
        self.h = h = self.forward(s)
        return self.head.sample(h, noise)

    def start(self, env, rng):
        """S of a reset environment, whose seed is drawn from rng."""
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        return self.policy.encode(observation)

    def step(self, env, S, noise, n):
        """Step number n: draw A, take it, observe. Returns A, R, S', terminated, truncated.

        Raises FloatingPointError, before the environment sees A, if θ no longer gives finite
        numbers; and if a reward or an observation is not finite.
        """
        A = self.act(S, noise)
        if not finite(self.h):
            raise FloatingPointError(
                f"theta has diverged: the policy's output is {self.h} at step {n}"
            )
        observation, R, terminated, truncated, _ = env.step(self.policy.decode(A))
        S2 = self.policy.encode(observation)
        if not (isfinite(R) and finite(S2)):
            raise FloatingPointError(
                f"the environment returned reward {R} and observation {S2} at step {n}: "
                "both must be finite"
            )
        return A, float(R), S2, terminated, truncated

    def score(self, a):
        """∇ln π(a|s, θ) at the latest s of `act`."""
        return self.backward(self.score_h(self.h, a))


class Critic:
    """v̂(·, w): `value` and its `gradient` at one state, `peek` the value at another.

    gradient   (w, value, s) -> ∇v̂(s, w), to be used in place of the explicit formulas
    """

    def __init__(self, value, w, gradient=None):
        if gradient is not None:
            self.gradient = lambda: gradient(w, value, self.s)
        self.forward, self.backward = value.online(w, np.empty_like(w))
        self.forward_elsewhere, _ = value.online(w, np.empty_like(w))

    def value(self, s):
        self.s = s
        return self.forward(s).item()

    def peek(self, s):
        """v̂(s, w), without touching what `gradient` needs."""
        return self.forward_elsewhere(s).item()

    def gradient(self):
        """∇v̂ at the latest s of `value`; overwritten by the next."""
        return self.backward(1.0)
