"""What the torch workers of one method share: parameters, T, and how a gradient lands."""

import copy

from benchmarks.torch_twins import optimizers


class Shared:
    """modules: those whose parameters all workers move; config: the page's."""

    def __init__(self, config, modules):
        self.config, self.modules, self.T = config, modules, 0
        self.parameters = [p for module in modules for p in module.parameters()]
        self.optimizer = self.make_optimizer()

    def make_optimizer(self):
        c = self.config
        groups = [dict(params=self.parameters, lr=c.step_size)]
        return optimizers.make(c.optimizer, groups, c.decay, c.eps)

    def optimizer_of_a_worker(self):
        """Momentum and RMSProp keep statistics of each worker's own (A3C §4.5)."""
        own = self.config.optimizer in ("momentum", "rmsprop")
        return self.make_optimizer() if own else self.optimizer

    def push(self, optimizer, gradients, steps):
        """p ← p − step(d) at the η of the present T;  T ← T + steps."""
        c = self.config
        if c.max_norm < float("inf"):
            optimizers.clip(gradients, c.max_norm)
        if c.annealed:
            for group in optimizer.param_groups:
                group["lr"] = c.step_size * max(0.0, 1.0 - self.T / c.T_max)
        optimizer.step(gradients)
        self.T += steps


def alias(module):
    """A module on the same memory, with gradients of its own: what another process would have."""
    own = copy.deepcopy(module)
    for p, theirs in zip(own.parameters(), module.parameters()):
        p.data = theirs.data
    return own
