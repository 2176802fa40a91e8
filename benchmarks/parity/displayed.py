"""Displayed gradients of the pages beside torch's autograd: see benchmarks.parity.measure."""

import numpy as np
import torch

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, natural_actor_critic, reinforce
from benchmarks.parity.runs import page_of
from benchmarks.torch_twins import a2c as a2c_twins
from benchmarks.torch_twins import ddpg as ddpg_twins
from benchmarks.torch_twins import heads
from benchmarks.torch_twins import reinforce as r_twins

EPS, COARSE = (float(np.finfo(kind).eps) for kind in (np.float64, np.float32))


def relative(ours, theirs):
    """Return max |ours − theirs| / max |ours|; 0 if both are 0, NaN if one is not finite."""
    difference = np.abs(ours - theirs).max(initial=0.0)
    return 0.0 if difference == 0.0 else float(difference / np.abs(ours).max())


def nudged(x, rng, eps=EPS):
    """x with every number moved by ± ε, at random; also within lists; anything else as it is."""
    if isinstance(x, list):
        return [nudged(one, rng, eps) for one in x]
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    return (x * (1.0 + eps * (2.0 * rng.integers(2, size=x.shape) - 1.0))).astype(x.dtype)


def single(x):
    """x in single precision, also within lists."""
    if isinstance(x, list):
        return [single(one) for one in x]
    floats = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    return x.astype(np.float32) if floats else x


def tensors(x):
    """Turn arrays into tensors, also within lists; leave anything else as it is."""
    if isinstance(x, list):
        return [tensors(one) for one in x]
    return torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x


def flattened(x):
    return [one for part in x for one in flattened(part)] if isinstance(x, (list, tuple)) else [x]


class Displayed:
    """`page`, a displayed gradient, compared at every call with the gradient of `objective`, by
    torch's autograd, in the arguments of these numbers; and both with what they are in single
    precision."""

    def __init__(self, page, objective, outputs=(0,)):
        self.page, self.objective, self.outputs = page, objective, outputs
        self.worst = self.response = 0.0
        self.rng = np.random.default_rng(0)

    def __call__(self, *data):
        ours, rough = self.page(*data), self.moved(data)
        fine = flattened(ours)
        self.worst = self.largest(self.worst, fine, self.autograd(data))
        for found in (flattened(self.page(*rough)), self.autograd(rough)):
            self.response = self.largest(self.response, fine, scaled(fine, found))
        return ours

    def moved(self, data):
        """The data in single precision, moved by its ε."""
        return single(nudged(list(data), self.rng, COARSE))

    def rounded(self, *data):
        """The page's gradient with errors of the twin's kind, of about ε."""
        ours = self.page(*data)
        found = iter(scaled(flattened(ours), self.autograd(self.moved(data))))
        alike = lambda x: type(x)(map(alike, x)) if isinstance(x, (list, tuple)) else next(found)
        return alike(ours)

    def autograd(self, data):
        arguments = tensors(list(data))
        leaves = flattened([arguments[k] for k in self.outputs])
        for leaf in leaves:
            leaf.requires_grad_()
        return [d.numpy() for d in torch.autograd.grad(self.objective(*arguments), leaves)]

    def largest(self, known, ours, theirs):
        pairs = zip(ours, theirs, strict=True)
        return float(np.max([known, *(relative(*pair) for pair in pairs)]))


def scaled(fine, rough):
    """fine, moved by the errors of single precision times the ratio of both ε."""
    return [x + (y - x) * (EPS / COARSE) for x, y in zip(fine, rough, strict=True)]


def displayed(config, space):
    """{argument of a page's train: its displayed gradient beside the twin's loss}."""
    page = page_of(config)
    if page is ddpg:
        critic, actor = ddpg_twins.critic_loss, lambda q: -ddpg_twins.actor_loss(q)
        return dict(critic_gradient=Displayed(page.critic_gradient, critic, (0, 2)),
                    actor_gradient=Displayed(page.actor_gradient, actor))  # fmt: skip
    head = heads.head(space, config.network)
    both = lambda h, v, _, A, *rest: -a2c_twins.loss(*head.both(h, A), v, *rest)
    one_weight = lambda h, v, _, A, R, advantage, *coefficients: both(
        h, v, _, A, R, advantage, 1.0, *coefficients
    )
    objective, outputs = {
        reinforce: (lambda h, _, A, w: -r_twins.loss(head.log_prob(h, A), w), (0,)),
        actor_critic: (lambda h, _, a: head.one(h, a), (0,)),
        natural_actor_critic: (lambda h, _, A: head.log_prob(h, A).sum(), (0,)),
        async_q: (lambda q, A, y: ((y - q.gather(1, A[:, None])[:, 0]) ** 2).sum(), (0,)),
        a3c: (one_weight, (0, 1)),
        a2c: (both, (0, 1)),
    }[page]
    found = dict(gradient=Displayed(page.gradient, objective, outputs))
    if page is reinforce:
        found["value_gradient"] = Displayed(page.value_gradient, r_twins.value_loss)
    return found
