"""Estimators of ∇J by name: ĝ(τ) = Σ_t weight_t ∇ln π(A_t|S_t), one weight for each step.

An Estimator is what a step is paid, times γ^t or not; less a baseline; divided by T or not. `pay`
of an episode with rewards R (T,) and exact values v (T,), v(S_T) = 0, at time t:

    reward_to_go       G_t = Σ_{k≥t} γ^{k−t} R[k]
    total              G_0 = Σ_k γ^k R[k], the same for all t
    total_undiscounted Σ_k R[k], the same for all t
    undiscounted_to_go Σ_{k≥t} R[k]
    one_reward         R[t]
    n=1, ..., n=5      n-step return less v̂, with v̂ = c v for some c; n = 1 is the TD error
    λ=0.5, ..., λ=1    λ-return less v̂ (the advantage of GAE), with v̂ = c v for some c

`discounted`: times γ^t, for what is not total. `less` is taken off the pay before that:

    nothing            0
    v                  the exact value, v[t]; v[0] for total
    constant           any number
    mean               the mean of the pay over the episode
    normalised         that mean, and the rest is divided by the pay's s.d. + ε over the episode
    normalised_n       the same with the s.d. that divides by T instead of T − 1
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from algorithms.common.world import returns
from algorithms.exact.laboratory import lambda_returns, n_step_returns
from npgrad import Array

EPSILON = 1e-8  # what common code adds to a standard deviation
WHOLE = "total", "total_undiscounted"  # one number for all steps
PAYS = {
    "reward_to_go": "reward-to-go G_t",
    "total": "the total return G_0 for every t",
    "total_undiscounted": "the total reward ΣR for every t",
    "undiscounted_to_go": "undiscounted reward-to-go",
    "one_reward": "the reward R[t] alone",
}
N_STEP = {f"n={n}": n for n in (1, 2, 3, 4, 5)}
LAMBDA = {f"λ={lam:g}": lam for lam in (0.5, 0.8, 0.9, 0.95, 0.97, 0.99, 1.0)}
LESS = {
    "nothing": "",
    "v": " minus the exact v",
    "constant": " minus {}",
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

    def named(self, c: Sequence[float] | Array = (1.0, 1.0)) -> str:
        """Return its name, c[0] times it, if the second column has c[1]."""
        ratio = f"{c[-1] / c[0]:.6g}" if c[0] else "∞"
        if self.pay in N_STEP:
            n = N_STEP[self.pay]
            what = "the TD error" if n == 1 else f"the {n}-step return minus v̂"
            text = f"{what}, v̂ = {'' if ratio == '1' else f'{ratio} '}v"
        elif self.pay in LAMBDA:
            text = f"the λ-return minus v̂, {self.pay}, v̂ = {'' if ratio == '1' else f'{ratio} '}v"
        else:
            less = (BATCH if self.batch else LESS)[self.less]
            text = PAYS[self.pay] + less.format(ratio)
        factor = ", times γ^t" if self.discounted else ", without γ^t"
        text += ("" if self.pay in WHOLE else factor) + ", divided by T" * self.over_T
        return text if abs(c[0] - 1) < 1e-5 else f"{text}, times {c[0]:.6g}"

    def __call__(self, episodes: list[SimpleNamespace]) -> list[Array]:
        """Return columns [(k, T), ...] for episodes that have R, v (T,) and gamma. The weights are
        the first column, or it plus a multiple of the second."""
        every = [self._paid(episode) for episode in episodes]
        return [self._weights(i, every, episode) for i, episode in enumerate(episodes)]

    def _paid(self, episode: SimpleNamespace) -> Array:
        """Return what the steps of an episode are paid: columns (k, T)."""
        R, v, gamma, pay = episode.R, np.append(episode.v, 0.0), episode.gamma, self.pay
        if pay in N_STEP or pay in LAMBDA:
            of: Callable[..., Array] = n_step_returns if pay in N_STEP else lambda_returns
            how = N_STEP[pay] if pay in N_STEP else LAMBDA[pay]
            through: Callable[..., Array] = lambda R, v: of(R, v, gamma, how) - v[:-1]
            return np.array([through(R, 0 * v), through(0 * R, v)])
        if pay == "one_reward":
            return R[None]
        if pay in WHOLE:
            one = np.sum(R) if pay == "total_undiscounted" else returns(R, gamma)[0]
            return np.full((1, 1 if self.batch else len(R)), one)
        return returns(R, gamma if pay == "reward_to_go" else 1.0)[None]

    def _weights(self, i: int, every: list[Array], episode: SimpleNamespace) -> Array:
        G, T = every[i], len(episode.R)
        if self.less == "v":
            G = G - (episode.v[0] if self.pay in WHOLE else episode.v)
        elif self.less == "constant":
            G = np.concatenate([G, -np.ones_like(G)])
        elif self.less == "others":
            G = normalised("mean", G, every[:i] + every[i + 1 :])
        elif self.less != "nothing":
            G = normalised(self.less, G, every if self.batch else [G])
        G = G * (episode.gamma ** np.arange(T) if self.discounted else np.ones(T))
        return G / T if self.over_T else G


def normalised(less: str, G: Array, every: list[Array]) -> Array:
    """Return G less the mean of all pay, divided by its s.d. + ε unless less is "mean"."""
    pay = np.concatenate(every, axis=1)
    centred = G - pay.mean()
    if less == "mean":
        return centred
    ddof = 1 if less == "normalised" else 0
    if pay.size <= ddof:
        return np.full_like(G, np.nan)  # 0/0, as libraries have it
    return centred / (pay.std(ddof=ddof) + EPSILON)


@cache
def catalogue() -> tuple[Estimator, ...]:
    """Return the estimators of one episode that differ from each other, the simplest first."""
    found = []
    for over_T, less, pay, discounted in product((False, True), LESS, PAYS, (True, False)):
        new = less == "nothing" or pay == "reward_to_go" or (pay == "total" and less == "v")
        new = new or (less == "constant" and pay == "total")
        new = new or (less not in ("v", "constant") and pay not in WHOLE)
        if new and not (discounted and pay in WHOLE):
            found.append(Estimator(pay, discounted, less, over_T))
    found += [Estimator(pay, discounted) for pay in N_STEP | LAMBDA for discounted in (True, False)]
    return tuple(found)


@cache
def batch_catalogue() -> tuple[Estimator, ...]:
    """Return those of one episode, and those whose baseline comes from a batch of episodes."""
    found = []
    for over_T, less, pay, discounted in product((False, True), BATCH, PAYS, (True, False)):
        if pay in (*WHOLE, "reward_to_go") and not (discounted and pay in WHOLE):
            found.append(Estimator(pay, discounted, less, over_T, batch=True))
    return catalogue() + tuple(found)
