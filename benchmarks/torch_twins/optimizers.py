"""The twins' optimisers: torch's own where their formula is the page's, else exact ones.

    sgd               p ← p − η d                                   torch.optim.SGD
    momentum          m ← αm + (1−α)d;    p ← p − η m               here: torch begins with m = d
    rmsprop           g ← αg + (1−α)d²;   p ← p − η d/√(g + ε)      here: torch has ε outside
    shared_rmsprop    the same; whoever shares the optimiser shares g
    rmsprop_outside   g ← αg + (1−α)d²;   p ← p − η d/(√g + ε)      torch.optim.RMSprop, ε 1e-8
    adam              Kingma & Ba 2015, Algorithm 1                 torch.optim.Adam

All have param_groups, as torch's optimisers have them, `parameters`, and step(gradients) with one
for each of the parameters.
"""

import torch


class Torch:
    """An optimiser of torch's, handed gradients without accumulation. parameters: in the order of
    the gradients, if that is not the groups'."""

    def __init__(self, optimizer, parameters=None):
        self.param_groups, self.move = optimizer.param_groups, optimizer.step
        self.parameters = parameters or [p for g in self.param_groups for p in g["params"]]

    def step(self, gradients):
        for p, d in zip(self.parameters, gradients):
            p.grad = d
        self.move()


class Exact:
    """The base of the others: statistics are one tensor for each parameter."""

    def __init__(self, groups, decay=0.99, eps=0.1):
        self.param_groups, self.decay, self.eps = groups, decay, eps
        self.parameters = [p for group in groups for p in group["params"]]
        self.statistics = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients):
        first = 0
        for group in self.param_groups:
            part = slice(first, first + len(group["params"]))
            self.move(group, list(gradients[part]), self.statistics[part])
            first = part.stop


class RMSProp(Exact):
    def move(self, group, d, g):
        torch._foreach_mul_(g, self.decay)
        torch._foreach_addcmul_(g, d, d, 1.0 - self.decay)
        root = torch._foreach_add(g, self.eps)
        torch._foreach_sqrt_(root)
        torch._foreach_addcdiv_(group["params"], d, root, -group["lr"])


class Momentum(Exact):
    def move(self, group, d, m):
        torch._foreach_lerp_(m, d, 1.0 - self.decay)
        torch._foreach_add_(group["params"], m, alpha=-group["lr"])


def make(name, groups, decay=0.99, eps=0.1, lean=True):
    """The optimiser of that name, η being each group's lr; decay and eps are those of momentum and
    rmsprop alone. lean: torch's fastest form on CPUs (fused or foreach), else its default."""
    fused, foreach = (dict(fused=True), dict(foreach=True)) if lean else ({}, {})
    if name == "sgd":
        return Torch(torch.optim.SGD(groups, **fused))
    if name == "momentum":
        return Momentum(groups, decay)
    if name in ("rmsprop", "shared_rmsprop"):
        return RMSProp(groups, decay, eps)
    if name == "rmsprop_outside":
        return Torch(torch.optim.RMSprop(groups, **foreach))
    return Torch(torch.optim.Adam(groups, **fused))


@torch.no_grad()
def clip(gradients, limit):
    """d ← d · min(1, limit/‖d‖₂), in place. torch's clip_grad_norm_ has limit/(‖d‖₂ + 1e-6)."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (limit / norm).clamp_(max=1.0))


class Shared:
    """Hold what the workers of one method share: modules, whose parameters all move, and T."""

    def __init__(self, config, modules):
        self.config, self.modules, self.T = config, modules, 0
        self.parameters = [p for module in modules for p in module.parameters()]
        self.optimizer = self.make_optimizer()

    def make_optimizer(self):
        c = self.config
        groups = [dict(params=self.parameters, lr=c.step_size)]
        return make(c.optimizer, groups, c.decay, c.eps)

    def optimizer_of_a_worker(self):
        """Momentum and RMSProp keep statistics of each worker's own (A3C §4)."""
        own = self.config.optimizer in ("momentum", "rmsprop")
        return self.make_optimizer() if own else self.optimizer

    def push(self, optimizer, gradients, steps):
        """p ← p − step(d) at the η of the present T;  T ← T + steps."""
        c = self.config
        if c.max_norm < float("inf"):
            clip(gradients, c.max_norm)
        if c.annealed:
            for group in optimizer.param_groups:
                group["lr"] = c.step_size * max(0.0, 1.0 - self.T / c.T_max)
        optimizer.step(gradients)
        self.T += steps


class Worker:
    """Update in three parts, between which other workers may make theirs. It shares `shared` with
    them and computes on `modules` of its own. compute() leaves `gradients` and `k`."""

    def join(self, shared, modules):
        self.shared, self.modules = shared, modules
        self.parameters = [p for module in modules for p in module.parameters()]
        self.optimizer = shared.optimizer_of_a_worker()

    def pull(self):
        if self.lean:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.shared.parameters)
        else:
            for module, shared in zip(self.modules, self.shared.modules):
                module.load_state_dict(shared.state_dict())

    def push(self):
        self.shared.push(self.optimizer, self.gradients, self.k)

    def advance(self):
        """Pull, act and differentiate, push; returns the number of steps."""
        self.pull()
        self.compute()
        self.push()
        return self.k
