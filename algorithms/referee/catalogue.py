"""Estimators of ∇J by name: ĝ(τ) = Σ_t weight_t ∇ln π(A_t|S_t), one weight for each step.

An Estimator is what a step is paid, times γ^t or not; less a baseline; divided by T or not. `pay`
of an episode with rewards R (T,) and exact values v (T,), v(S_T) = 0, at time t:

    reward_to_go       G_t = Σ_{k≥t} γ^{k−t} R[k]
    total              G_0 = Σ_k γ^k R[k], the same for all t
    total_undiscounted Σ_k R[k], the same for all t
    undiscounted_to_go Σ_{k≥t} R[k]
    one_reward         R[t]
    td_error           R[t] + γ v[t+1] − v[t]

`discounted`: times γ^t, for what is not total. `less` is taken off the pay before that:

    nothing            0
    v                  the exact value, v[t]; v[0] for total
    mean               the mean of the pay over the episode
    normalised         that mean, and the rest is divided by the pay's s.d. + ε over the episode
    normalised_n       the same with the s.d. that divides by T instead of T − 1
"""

from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from algorithms import reinforce

EPSILON = 1e-8  # what common code adds to a standard deviation
WHOLE = "total", "total_undiscounted"  # one number for all steps
PAYS = {
    "reward_to_go": "reward-to-go G_t",
    "total": "the total return G_0 for every t",
    "total_undiscounted": "the total reward ΣR for every t",
    "undiscounted_to_go": "undiscounted reward-to-go",
    "one_reward": "the reward R[t] alone",
    "td_error": "the TD error with the exact v",
}
LESS = {
    "nothing": "",
    "v": " minus the exact v",
    "mean": " minus its mean over the episode",
    "normalised": ", normalised over the episode (s.d. with T − 1)",
    "normalised_n": ", normalised over the episode (s.d. with T)",
}
BATCH = {
    "mean": " minus its mean over the batch",
    "others": " minus its mean over the other episodes",
    "normalised": ", normalised over the batch (s.d. with n − 1)",
    "normalised_n": ", normalised over the batch (s.d. with n)",
}


class Estimator(NamedTuple):
    """See the module. `batch` says that `less` is over a batch of episodes."""

    pay: str
    discounted: bool = False
    less: str = "nothing"
    over_T: bool = False
    batch: bool = False

    def __str__(self):
        factor = ", times γ^t" if self.discounted else ", without γ^t"
        less = (BATCH if self.batch else LESS)[self.less]
        whole = self.pay in WHOLE
        return f"{PAYS[self.pay]}{less}{'' if whole else factor}{', divided by T' * self.over_T}"

    def __call__(self, episodes):
        """Return the weights [(T,), ...] of episodes that have R, v (T,) and gamma."""
        every = [pays(self.pay, episode) for episode in episodes]
        if self.batch and self.pay in WHOLE:
            every = [G[:1] for G in every]  # one number for each episode
        return [self._weights(i, every, episode) for i, episode in enumerate(episodes)]

    def _weights(self, i, every, episode):
        G, T = every[i], len(episode.R)
        if self.less == "v":
            G = G - (episode.v[0] if self.pay in WHOLE else episode.v)
        elif self.less == "others":
            G = normalised("mean", G, every[:i] + every[i + 1 :])
        elif self.less != "nothing":
            G = normalised(self.less, G, every if self.batch else [G])
        G = G * (episode.gamma ** np.arange(T) if self.discounted else np.ones(T))
        return G / T if self.over_T else G


def pays(name, episode):
    """Return what each step of an episode is paid (T,)."""
    R, v, gamma = episode.R, episode.v, episode.gamma
    if name == "total":
        return np.full(len(R), reinforce.returns(R, gamma)[0])
    if name == "total_undiscounted":
        return np.full(len(R), np.sum(R))
    if name == "one_reward":
        return R
    if name == "td_error":
        return R + gamma * np.append(v[1:], 0.0) - v
    return reinforce.returns(R, gamma if name == "reward_to_go" else 1.0)


def normalised(less, G, every):
    """Return G less the mean of all pay, divided by its s.d. + ε unless less is "mean"."""
    every = np.concatenate(every)
    centred = G - every.mean()
    if less == "mean":
        return centred
    ddof = 1 if less == "normalised" else 0
    if len(every) <= ddof:
        return np.full(len(G), np.nan)  # 0/0, as libraries have it
    return centred / (every.std(ddof=ddof) + EPSILON)


@cache
def catalogue() -> tuple[Estimator, ...]:
    """Return the estimators of one episode that differ from each other, the simplest first."""
    found = []
    for over_T, less, pay, discounted in product((False, True), LESS, PAYS, (True, False)):
        new = less == "nothing" or pay == "reward_to_go" or (pay == "total" and less == "v")
        new = new or (less != "v" and pay not in WHOLE)
        if new and not (discounted and pay in WHOLE):
            found.append(Estimator(pay, discounted, less, over_T))
    return tuple(found)


@cache
def batch_catalogue() -> tuple[Estimator, ...]:
    """Return those of one episode, and those whose baseline comes from a batch of episodes."""
    found = []
    for over_T, less, pay, discounted in product((False, True), BATCH, PAYS, (True, False)):
        if pay in (*WHOLE, "reward_to_go") and not (discounted and pay in WHOLE):
            found.append(Estimator(pay, discounted, less, over_T, batch=True))
    return catalogue() + tuple(found)
