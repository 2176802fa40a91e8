"""Published formulas of policy gradients, each in our own words. No library is needed.

weights(episode) are the factors of ∇ln π(A_t|S_t); a loss is descended. ENTRIES say which text
each is from; a hexadecimal number is the commit of its repository at which it was read.
"""

import numpy as np

from benchmarks.field.judged import PAIRS, Entry, estimated, returned


def to_go(R, gamma):
    """Return G_t = Σ_{k≥t} γ^{k−t} R[k], (T,)."""
    return np.array([sum(gamma**k * r for k, r in enumerate(R[t:])) for t in range(len(R))])


def discounts(episode):
    return episode.gamma ** np.arange(len(episode.R))


def box(episode):
    return discounts(episode) * to_go(episode.R, episode.gamma)


def without_discount(episode):
    return to_go(episode.R, episode.gamma)


def whole_return(episode):
    return np.full(len(episode.R), discounts(episode) @ episode.R)


def mean_loss(log_probs, episode):
    return -(log_probs * to_go(episode.R, episode.gamma)).mean()


def product_of_means(log_probs, episode):
    return -(log_probs.mean() * to_go(episode.R, episode.gamma)).sum()


def normalised(episode):
    G = to_go(episode.R, episode.gamma)
    return (G - G.mean()) / (G.std(ddof=1) + np.finfo(np.float32).eps)


def less_mean(episode):
    G = to_go(episode.R, episode.gamma)
    return G - G.mean()


def td_error(episode):
    return episode.R + episode.gamma * np.append(episode.v[1:], 0.0) - episode.v


def discounted_td_error(episode):
    return discounts(episode) * td_error(episode)


def over_all_steps(pay, episodes):
    """Return the weights of a batch: the mean over all its steps. The referee divides by the number
    of episodes."""
    steps = sum(len(episode.R) for episode in episodes)
    return [pay(episode) * len(episodes) / steps for episode in episodes]


def simplest(episodes):
    return over_all_steps(lambda e: np.full(len(e.R), e.R.sum()), episodes)


def simplest_to_go(episodes):
    return over_all_steps(lambda e: to_go(e.R, 1.0), episodes)


def but_last(rewards, values, terminated, gamma, lam):
    """Return GAE by a loop that begins at the last step but one, and stops where an episode
    terminated."""
    A = np.zeros_like(rewards)
    for t in range(len(rewards) - 2, -1, -1):
        go_on = gamma * (1.0 - terminated[t])
        A[t] = rewards[t] + go_on * (values[t + 1] + lam * A[t + 1]) - values[t]
    return A


LARGE = "here of two; of many episodes it tends to ∇J / E T"
ENTRIES = (
    Entry("Sutton & Barto, REINFORCE: γ^t G_t", estimated, box),
    Entry("G_t without γ^t: most code; Gymnasium's REINFORCE tutorial (3173a850)",
          estimated, without_discount,
          remark="a common choice; exact where γ = 1"),
    Entry("G_0 at every t: a unit of Hugging Face's course, as it was reported",
          estimated, whole_return, remark="it is unbiased",
          since="July 2022"),
    Entry("the mean over an episode's steps of ln π G_t", estimated, mean_loss),
    Entry("the mean of ln π, times ΣG_t: Gymnasium's REINFORCE tutorial, as it was reported",
          estimated, product_of_means, remark="corrected at 3173a850: the second row",
          since="March 2025"),
    Entry("G_t less its mean over the episode", estimated, less_mean),
    Entry("G_t normalised over the episode: PyTorch's REINFORCE example (2f5815e1)",
          estimated, normalised),
    Entry("ΣR at every t, mean over all steps of a batch: Spinning Up, simplest policy gradient "
          "(20921137), γ = 1", estimated, simplest, gamma=1.0, most=PAIRS,
          remark=f"its text has a mean over episodes; {LARGE}", since="November 2018"),
    Entry("reward-to-go, mean over all steps of a batch: Spinning Up (20921137), γ = 1",
          estimated, simplest_to_go, gamma=1.0, most=PAIRS,
          remark=f"the same; {LARGE}", since="November 2018"),
    Entry("the TD error with the exact v: one-step actor-critic without γ^t",
          estimated, td_error, remark="a common choice; exact where γ = 1"),
    Entry("the same with γ^t: Sutton & Barto", estimated, discounted_td_error),
    Entry("the GAE of Gymnasium's vector A2C tutorial (d522888d)", returned, but_last,
          remark="the last step of each rollout has an advantage of 0"),
)  # fmt: skip
