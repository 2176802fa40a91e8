# %% [markdown]
# # REINFORCE by hand
#
# One episode, one update, every number of it. Then the same from the page.

# %%
import numpy as np

from algorithms.reinforce import gradient, weights
from npgrad import at, linear, softmax

gamma, step_size = 0.9, 0.1
S = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # features of S_0, S_1, S_2
A = np.array([1, 0, 1])
R = np.array([0.0, 0.0, 1.0])  # R[t] follows A[t]

# %% [markdown]
# The return: $G_t = R_{t+1} + γ G_{t+1}$, from the end.

# %%
G = np.zeros(3)
G[2] = R[2]
G[1] = R[1] + gamma * G[2]
G[0] = R[0] + gamma * G[1]
print("G =", G)

# %% [markdown]
# The policy is a softmax of linear preferences, $h = S W + b$, which start at 0: both actions have
# probability ½. The score in h is $e_a − π$, one row a step.

# %%
model, head = linear(2, 2), softmax(2)
theta = np.zeros(model.layout.size)
pi = np.full((3, 2), 0.5)
score = np.eye(2)[A] - pi
print(score)

# %% [markdown]
# A step's weight is $γ^t G_t$ (the baseline is 0). From h to θ it is $∂h/∂W = S$, so that the
# gradient of W is $Σ_t S_t ⊗ (\mathrm{weight}_t\, \mathrm{score}_t)$.

# %%
weight = gamma ** np.arange(3) * G
by_hand = S.T @ (weight[:, None] * score)
print(by_hand)

# %% [markdown]
# The page says the same.

# %%
assert np.array_equal(weight, weights(np.arange(3), G, np.zeros(3), gamma, "reward_to_go"))
net = at(model, theta)
d_theta = net.backward(gradient(net.forward(S), head, A, weight))
assert np.allclose(model.layout.views(d_theta).W1, by_hand, rtol=0, atol=1e-15)
theta += step_size * d_theta  # ascent
print("π(1|S_0) is now", head(net.forward(S[0])).probs()[1])
assert head(net.forward(S[0])).probs()[1] > 0.5
