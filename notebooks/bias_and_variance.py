# %% [markdown]
# # Bias and variance of your estimator
#
# In a finite world whose episodes end, all episodes can be listed. So an estimator's expectation
# and variance are sums, and nothing is sampled.

# %%
import numpy as np

from algorithms.common.policy import Network, make_policy
from algorithms.exact.laboratory import expectation, moments
from algorithms.exact.mdp import FiniteMDPEnv, state_values
from algorithms.exact.worlds import chain
from algorithms.referee.estimators import open_study

mdp = chain()
policy = make_policy(FiniteMDPEnv(mdp), Network(approximator="linear"))
theta = np.random.default_rng(0).normal(size=policy.model.layout.size)
study = open_study(mdp, policy, theta)
gradient = expectation(study)  # ∇J, from a linear solve
print(len(study.episodes), "episodes; |∇J| =", np.linalg.norm(gradient))

# %% [markdown]
# An estimator weighs the scores of an episode. This is yours: edit it.


# %%
def mine(tau):
    G, last = np.zeros(len(tau.rewards)), 0.0
    for t in reversed(range(len(G))):
        G[t] = last = tau.rewards[t] + mdp.gamma * last
    return G - G.mean()


# %% [markdown]
# Beside it: the rewards to go, with $γ^t$, without and with a baseline.

# %%
v = state_values(mdp, study.pi)


def reward_to_go(tau, b=0.0 * v):
    G, last = np.zeros(len(tau.rewards)), 0.0
    for t in reversed(range(len(G))):
        G[t] = last = tau.rewards[t] + mdp.gamma * last
    return mdp.gamma ** np.arange(len(G)) * (G - b[tau.states[:-1]])


found = {
    "mine": moments(study, mine),
    "reward to go": moments(study, reward_to_go),
    "reward to go − v": moments(study, lambda tau: reward_to_go(tau, v)),
}
for name, m in found.items():
    bias = np.linalg.norm(m.bias) / np.linalg.norm(gradient)
    print(
        f"{name:18}  bias/|∇J| {bias:.3f}   tr Cov {m.total_variance:.3f}   uphill {m.uphill:.2f}"
    )

# %% [markdown]
# A baseline changes no expectation. The mean of an episode's own returns is not a baseline: it
# depends on the action.

# %%
size = np.linalg.norm(gradient)
assert np.linalg.norm(found["reward to go − v"].bias) < 1e-12 * size
assert np.linalg.norm(found["mine"].bias) > 0.01 * size
