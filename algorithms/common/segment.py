"""π and v̂ along a stretch of a rollout: act step by step, then the gradient of it all at once."""

from math import isfinite

import numpy as np

from npgrad import beside
from npgrad.memory import aligned
from npgrad.rows import rows


class Segment:
    """policy: of `make_actor_critic`; θ: its parameters, read as they change in place.

    steps, width   up to `steps` steps of `width` environments (width 1: arrays lose that axis)

    act(t, s)           h at the states s of step t, n features each
    evaluate(k, s)      h of steps 0 ... k − 1, (k · width, m), and v̂ of steps 0 ... k, where s are
                        the states of step k, ((k + 1) · width,)
    backward(g_h, g_v)  Σ (∂h/∂θ)ᵀ g_h + (∂v̂/∂θ)ᵀ g_v over all rows of steps 0 ... k − 1
    states(k)           the features of steps 0 ... k − 1
    check_finite(k, r)  raises FloatingPointError unless the rewards r (k,) of these steps, and all
                        that was observed in them, are finite
    """

    def __init__(self, policy, theta, steps, width=1):
        model, self.width, self.m = policy.model, width, policy.head.size
        self.d = aligned(theta.shape, theta.dtype)
        self.memory = {}  # for the head's `ascent`
        self.separate = isinstance(model, beside)
        if self.separate:
            one, two = model.layout.views(theta)
            d_one, d_two = model.layout.views(self.d)
            self.pi = rows(model.first, one, d_one, steps + 1, width)
            self.v = rows(model.second, two, d_two, steps + 1, width, inputs=self.pi)
            self.g = np.empty((steps * width, self.m), theta.dtype)
            self.g_v = np.empty((steps * width, 1), theta.dtype)
            self.act = self.pi.forward
        else:
            self.pi = rows(model, theta, self.d, steps + 1, width)
            self.g = np.empty((steps * width, self.m + 1), theta.dtype)
            self.act = lambda t, s: self.pi.forward(t, s)[..., : self.m]

    def states(self, k):
        return self.pi.seen(k)

    def evaluate(self, k, s):
        if self.separate:
            self.pi.see(k, s)
            return self.pi.outputs(k), self.v.forward_all(k + 1)[:, 0]
        self.pi.forward(k, s)
        y = self.pi.outputs(k + 1)
        return y[: k * self.width, : self.m], y[:, self.m]

    def check_finite(self, k, r):
        seen = self.pi.seen(k + 1)
        if isfinite(np.add.reduce(seen, None)) and isfinite(sum(r)):
            return
        for t in range(k):
            after = seen[(t + 1) * self.width : (t + 2) * self.width]
            if not (np.isfinite(after).all() and np.isfinite(r[t]).all()):
                raise FloatingPointError(
                    f"the environment returned reward {r[t]} and observation {after}: "
                    "both must be finite"
                )

    def backward(self, g_h, g_v):
        k = len(g_v) // self.width
        g = self.g[: len(g_v)]
        g[:, : self.m] = g_h
        if self.separate:
            self.g_v[: len(g_v), 0] = g_v
            self.v.backward(self.g_v[: len(g_v)], k)
        else:
            g[:, self.m] = g_v
        self.pi.backward(g, k)
        return self.d
