# %% [markdown]
# # Asynchrony, with a schedule that you draw
#
# A worker of A3C is a generator: it yields after it has pulled θ, computed its gradient, pushed it.
# A schedule is a list of workers' numbers: who goes next. So every interleaving can be replayed.

# %%
from itertools import islice

import gymnasium
import numpy as np

from algorithms import a3c
from algorithms.common.policy import Network

config = a3c.Config(workers=2, T_max=10**6, t_max=5, network=Network(hidden=(4,)))


def run(schedule, updates):
    """Train until so many updates; return θ and the histogram of staleness."""
    env = gymnasium.make("CartPole-v1")
    state = a3c.init(env, config, seed=0)
    for _ in islice(a3c.train(env, config, state, schedule=schedule), updates):
        pass
    return state.theta.copy(), state.staleness.sum(0)


# %% [markdown]
# Worker 0 alone has three yields in a row: pull, compute, push. No gradient is stale.


# %%
def one_after_the_other():
    while True:
        yield from (0, 0, 0, 1, 1, 1)


theta, staleness = run(one_after_the_other(), 40)
print("staleness 0, 1, 2:", staleness[:3])
assert staleness[1:].sum() == 0

# %% [markdown]
# Now both pull, then both compute, then both push: the second push of each round was computed at a
# θ that is one update old.


# %%
def side_by_side():
    while True:
        yield from (0, 1, 0, 1, 0, 1)


other, staleness = run(side_by_side(), 40)
print("staleness 0, 1, 2:", staleness[:3])
assert staleness[0] == staleness[1] == 20

# %% [markdown]
# The same environments, the same random streams: only the order differs, and so does θ. The same
# schedule gives the same bits.

# %%
print("largest difference:", np.abs(theta - other).max())
assert not np.array_equal(theta, other)
assert np.array_equal(other, run(side_by_side(), 40)[0])
