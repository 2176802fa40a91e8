"""Policy heads in torch, of npgrad's of the same names: actions drawn, ln π and entropy.

    draw(h)            an action for env.step, of one row of preferences
    draws(h)           actions of many rows, a tensor
    tensor(A)          actions of many steps
    log_prob(h, A)     (k,), of rows h (k, size)
    one(h, a)          the same of one row and its action
    both(h, A)         log_prob and entropy (k,)

The bounds of continuous actions are the environment's business (gymnasium.wrappers.ClipAction).
"""

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch.distributions import Normal
from torch.nn import functional as F

BLOCK = 128  # rows of Gumbel noise that are drawn at once


def head(space, network, gumbel=False):
    """The head for an action space, as the page's `network` describes it."""
    if isinstance(space, Discrete):
        return Gumbel(int(space.n)) if gumbel else Softmax()
    return Gaussian(space.shape[0], network.sigma, network.spherical)


class Softmax:
    tensor = staticmethod(torch.tensor)

    def draw(self, h):
        return torch.multinomial(h.softmax(-1), 1).item()

    def draws(self, h):
        return torch.multinomial(h.softmax(-1), 1)[:, 0]

    def log_prob(self, h, A):
        return -F.cross_entropy(h, A, reduction="none")

    def one(self, h, a):
        return F.log_softmax(h, -1)[a]

    def both(self, h, A):
        log_pi = F.log_softmax(h, -1)
        entropy = -(log_pi.exp() * log_pi).sum(-1)
        return log_pi.gather(1, A[:, None])[:, 0], entropy


class Gumbel(Softmax):
    """Softmax with this library's way of sampling: argmax of the preferences plus Gumbel noise."""

    def __init__(self, n):
        self.noise = self.rows(n)

    def rows(self, n):
        """Rows of noise, without end."""
        while True:
            yield from -torch.empty(BLOCK, n).exponential_().log_()

    def draw(self, h):
        return (h + next(self.noise)).argmax().item()

    def draws(self, h):
        return (h - torch.empty_like(h).exponential_().log_()).argmax(-1)


class Gaussian:
    def __init__(self, d, sigma, spherical):
        self.d, self.sigma, self.spherical = d, sigma, spherical

    def tensor(self, A):
        return torch.from_numpy(np.array(A))

    def normal(self, h):
        omega = h[..., self.d :]
        sigma = omega.exp() if self.sigma == "exp" else F.softplus(omega).sqrt()
        return Normal(h[..., : self.d], sigma.expand(h[..., : self.d].shape), validate_args=False)

    def draw(self, h):
        return self.draws(h).numpy()

    def draws(self, h):
        return self.normal(h).sample()

    def log_prob(self, h, A):
        return self.normal(h).log_prob(A).sum(-1)

    def one(self, h, a):
        return self.log_prob(h, torch.as_tensor(a))

    def both(self, h, A):
        pi = self.normal(h)
        return pi.log_prob(A).sum(-1), pi.entropy().sum(-1)
