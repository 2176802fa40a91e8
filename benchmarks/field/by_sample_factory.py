"""Sample Factory: its advantages; environments come first in its arrays. It works in single
precision: so are its answers judged."""

import torch
from sample_factory.algo.utils.rl_utils import gae_advantages

from benchmarks.field.judged import Entry, returned


def gae(rewards, values, last_value, dones, gamma, lam):
    values = torch.cat([values, last_value[None]]).T
    return gae_advantages(rewards.T, dones.T, values, torch.ones_like(values), gamma, lam).T.float()


ENTRIES = (
    Entry("gae_advantages", returned, gae,
          remark="with value_bootstrap (off by default) a comment says that it takes v(t) at a "
          "truncation, for want of v(t+1); not run"),
)  # fmt: skip
