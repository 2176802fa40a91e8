"""Worlds of which all episodes are enumerated, so that an expectation is a sum."""

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from algorithms.common.policy import Network, make_policy
from algorithms.common.world import returns
from algorithms.exact import laboratory as exact
from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv, Trajectory, state_values
from algorithms.exact.worlds import chain, garnet, short_corridor
from algorithms.referee.estimators import open_study
from npgrad import Array

WORLDS = {  # name: (the MDP, steps after which an episode is cut; J is the return until then)
    "npgrad/ShortCorridor-v0": (short_corridor, 10),
    "npgrad/Chain-v0": (chain, 4),
    "npgrad/Garnet0-v0": (lambda: garnet(0), 5),
    "npgrad/Garnet1-v0": (lambda: garnet(1), 5),
    "npgrad/Garnet2-v0": (lambda: garnet(2), 5),
}


class World(NamedTuple):
    """A Study with the same episodes as namespaces, the policy as one, ∇J, and the `size` of its
    estimates, √(E |G_0 Σ_t ∇ln π(A_t|S_t)|²)."""

    name: str
    study: exact.Study
    episodes: list[SimpleNamespace]
    policy: SimpleNamespace
    gradient: Array
    size: float


def world(
    mdp: FiniteMDP,
    name: str = "",
    horizon: int | None = None,
    gamma: float | None = None,
    theta: Array | None = None,
    seed: int = 0,
) -> World:
    """Return the World of a FiniteMDP under a tabular softmax, θ (d,) ~ N(0, 1) if not given.

    Raises ValueError if there are too many episodes, or if they need not end.
    """
    mdp = mdp if gamma is None else replace(mdp, gamma=gamma)
    policy = make_policy(FiniteMDPEnv(mdp), Network(approximator="linear"))
    size = policy.model.layout.size
    theta = np.random.default_rng(seed).standard_normal(size) if theta is None else theta
    if np.shape(theta) != (size,):
        raise ValueError(f"theta = array of shape {np.shape(theta)}: must be {(size,)} in {name}")
    study = open_study(mdp, policy, theta, horizon)
    mdp, v, k = study.mdp, state_values(study.mdp, study.pi), study.mdp.observation
    first = np.unique(k, return_index=True)[1]
    shown = SimpleNamespace(theta=theta, probs=study.pi[first], scores=study.scores[first])
    episodes = [
        SimpleNamespace(
            S=k[tau.states[:-1]], A=tau.actions, R=tau.rewards, v=v[tau.states[:-1]],
            terminated=True, gamma=mdp.gamma,
        )
        for tau in study.episodes
    ]  # fmt: skip
    size = np.sqrt(sum(tau.probability * _squared(study, tau) for tau in study.episodes))
    return World(name, study, episodes, shown, exact.expectation(study), float(size))


def _squared(study: exact.Study, tau: Trajectory) -> float:
    """|G_0 Σ_t ∇ln π(A_t|S_t)|² of an episode."""
    G = returns(tau.rewards, study.mdp.gamma)[0]
    g = G * study.scores[tau.states[:-1], tau.actions].sum(0)
    return g @ g


def worlds(gamma: float | None = None, seed: int = 0, most: float = np.inf) -> list[World]:
    """Return the five worlds. Those with more than `most` episodes are cut earlier, at two steps or
    more."""
    found = []
    for name, (make, horizon) in WORLDS.items():
        for steps in range(horizon, 1, -1):
            made = world(make(), name, steps, gamma, seed=seed)
            if len(made.episodes) <= most:
                break
        found.append(made)
    return found
