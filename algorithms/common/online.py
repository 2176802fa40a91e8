"""π and v̂ at one state at a time, their gradients and their steps, in memory set aside once.

The numbers are those of Policy.score, of the value model's vjp and of the optimiser; only the work
around them is saved. An Actor and a Critic see every later change of their θ and w in place. Both
gradients can be had times a factor c, which the backward pass takes along for nothing.
"""

from math import exp, isfinite
from operator import add

import numpy as np

from algorithms.common.episode import BLOCK
from npgrad import OPTIMIZERS, Softmax
from npgrad.memory import aligned_copy


def finite(numbers):
    """Whether a short list is finite; faster than arrays, and without warnings."""
    return isfinite(sum(numbers)) or all(map(isfinite, numbers))  # a finite sum may overflow


def softmax_sample(h, noise):
    """Softmax.sample of lists; faster than arrays while n is small."""
    noisy = list(map(add, h, noise))
    return noisy.index(max(noisy))


def softmax_score(h, a, c=1.0):
    """c ∂ln π(a)/∂h = c (e_a − π) of one list h, as a list; faster than arrays while n is small."""
    top = max(h)
    e = [exp(x - top) for x in h]
    e_a, e[a] = e[a], 0.0
    others = sum(e)
    c /= others + e_a
    score = [-c * x for x in e]
    score[a] = c * others  # 1 − π_a without cancellation
    return score


class Actor:
    """π(·|s, θ): `act` draws an action, `score` is ∇ln π of it, written into d_theta.

    gradient   (θ, policy, s, a) -> ∇ln π(a|s, θ), to be used in place of the explicit formulas
    """

    def __init__(self, policy, theta, d_theta, gradient=None):
        self.policy, head = policy, policy.head
        if gradient is not None:
            self.score = lambda c=1.0: c * gradient(theta, policy, self.s, self.a)
        self.forward, self.backward = policy.model.online(theta, d_theta)
        if isinstance(head, Softmax):
            self.sample, self.score_h = softmax_sample, softmax_score
        else:
            self.sample = lambda h, noise: head.sample(np.array(h), noise)
            self.score_h = lambda h, a, c: c * head.score(np.array(h), a)

    def noise(self, rng):
        """Rows for `act`, without end, drawn in blocks."""
        while True:
            yield from self.policy.head.noise(rng, BLOCK).tolist()

    def act(self, s, noise):
        """a ~ π(·|s, θ), drawn from h, the policy's output at s."""
        self.s = s
        self.h = h = self.forward(s).tolist()
        self.a = a = self.sample(h, noise)
        return a

    def start(self, env, rng):
        """S of a reset environment, whose seed is drawn from rng."""
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        return self.policy.encode(observation)

    def step(self, env, S, noise, n):
        """Step number n: draw A, take it, observe. Returns R, S', terminated, truncated.

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
        if not (isfinite(R) and finite(S2.tolist())):
            raise FloatingPointError(
                f"the environment returned reward {R} and observation {S2} at step {n}: "
                "both must be finite"
            )
        return float(R), S2, terminated, truncated

    def score(self, c=1.0):
        """c ∇ln π(a|s, θ) at the latest s and a of `act`."""
        return self.backward(self.score_h(self.h, self.a, c))


class Critic:
    """v̂(·, w): `value` and its `gradient`, written into d_w, at one state; `peek` the value at
    another.

    gradient   (w, value, s) -> ∇v̂(s, w), to be used in place of the explicit formulas
    """

    def __init__(self, value, w, d_w, gradient=None):
        if gradient is not None:
            self.gradient = lambda c=1.0: c * gradient(w, value, self.s)
        self.forward, self.backward = value.online(w, d_w)
        self.forward_elsewhere, _ = value.online(w, np.empty_like(w))

    def value(self, s):
        self.s = s
        return self.forward(s).item()

    def peek(self, s):
        """v̂(s, w), without touching what `gradient` needs."""
        return self.forward_elsewhere(s).item()

    def gradient(self, c=1.0):
        """c ∇v̂ at the latest s of `value`."""
        return self.backward(c)


class Ascent:
    """θ ← θ + step(c d_θ), w ← w + step(c d_w), each pass of the optimiser going over both at once.

    Makes state.theta and state.w views of one vector. state.statistics are the optimiser's, of θ
    and then w. Gradients that lie in d_theta and d_w already are used where they are.
    """

    def __init__(self, config, state):
        self.state, self.optimizer = state, OPTIMIZERS[config.optimizer].step
        n = state.theta.size
        self.parameters = x = aligned_copy(np.concatenate((state.theta, state.w)))
        self.d, self.step, self.step_size = aligned_copy(x), aligned_copy(x), aligned_copy(x)
        state.theta, state.w, state.statistics = x[:n], x[n:], aligned_copy(state.statistics)
        self.d_theta, self.d_w = self.d[:n], self.d[n:]
        self.step_size[:n], self.step_size[n:] = config.step_size, config.step_size_w

    def __call__(self, d_theta, d_w, c=1.0):
        for d, place in ((d_theta, self.d_theta), (d_w, self.d_w)):
            if c != 1.0 or d is not place:
                np.multiply(d, c, place)
        self.state.optimizer_steps = t = self.state.optimizer_steps + 1
        m, step_size = self.state.statistics, self.step_size
        self.parameters += self.optimizer(self.d, m, t, step_size, out=self.step)
