"""Finite Markov decision processes: exact results and a Gymnasium environment from the same arrays.

    P[s,a,s'] = Pr(s' | s, a)    r[s,a,s'] the reward of that step    p0[s] = Pr(S_0 = s)
    v(s) = Σ_a π(a|s) q(s,a)     q(s,a) = Σ_s' P[s,a,s'] (r[s,a,s'] + γ v(s'))     v(terminal) = 0
    d(s) = Σ_t γ^t Pr(S_t = s), s not terminal        J = p0·v = Σ_s d(s) Σ_a π(a|s) Σ_s' P r

S, A and O are the numbers of states, actions and observations. A policy is an array pi (S, A),
pi[s,a] = π(a|s), with one distribution per state. An agent that sees only observation[s] and has a
table (O, A) of probabilities follows pi = table[mdp.observation]. pi may be complex (only its real
part is checked), so that J can be differentiated by the complex step. Source: Sutton & Barto 2018,
chapters 3 and 13.
"""

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np

from npgrad import Array

ROW_SUM_ERROR = 1e-12
LONGEST_EPISODE = 1e9
MOST_TRAJECTORIES = 10**6
Sampler: TypeAlias = tuple[list[float], list[tuple[Any, ...]]]  # thresholds, outcomes
DEFAULT: Any = None  # stands for an array (S,)


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """A finite MDP as read-only arrays. Raises ValueError that names an invalid field.

    P            (S, A, S) transition probabilities; rows sum to one within 1e-12
    r            (S, A, S) finite rewards, or (S, A) where s' does not matter (stored as (S, A, S))
    p0           (S,) distribution of the first state, 0 on terminal states
    gamma        discount per step, in [0, 1]
    terminal     (S,) bool, default none: the states that end an episode. Their P and r are
                 replaced: each leads to itself with reward 0
    observation  (S,) int >= 0, default arange(S): what an agent sees in each state
    """

    P: Array
    r: Array
    p0: Array
    gamma: float = 1.0
    terminal: Array = DEFAULT
    observation: Array = DEFAULT

    def __post_init__(self) -> None:
        P, r, p0 = (np.array(x, float) for x in (self.P, self.r, self.p0))
        if P.ndim != 3 or P.shape[0] != P.shape[2] or P.size == 0:
            raise ValueError(f"P has shape {P.shape}: must be (S, A, S)")
        S, A, _ = P.shape
        if r.shape not in ((S, A), (S, A, S)):
            raise ValueError(f"r has shape {r.shape}: must be {(S, A)} or {(S, A, S)}, to fit P")
        if r.ndim == 2:
            r = np.repeat(r[:, :, None], S, axis=2)
        terminal = np.array(np.zeros(S, bool) if self.terminal is None else self.terminal)
        observation = np.array(np.arange(S) if self.observation is None else self.observation)
        for name, x in (("p0", p0), ("terminal", terminal), ("observation", observation)):
            if x.shape != (S,):
                raise ValueError(f"{name} has shape {x.shape}: must be {(S,)}, one entry per state")
        if terminal.dtype != bool:
            raise ValueError(f"terminal has dtype {terminal.dtype}: must be bool, a mask of states")
        if observation.dtype.kind not in "iu" or observation.min() < 0:
            raise ValueError(f"observation = {observation}: must be integers >= 0")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma = {self.gamma}: must be in [0, 1]")
        P[terminal] = np.eye(S)[terminal][:, None]
        r[terminal] = 0
        _check_distributions("P", P)
        _check_distributions("p0", p0)
        if p0[terminal].any():
            s = np.flatnonzero(terminal & (p0 > 0))[0]
            raise ValueError(f"p0[{s}] = {p0[s]}: must be 0, since state {s} is terminal")
        if not np.isfinite(r).all():
            s, a, s2 = np.argwhere(~np.isfinite(r))[0]
            raise ValueError(f"r[{s}, {a}, {s2}] = {r[s, a, s2]}: must be finite")
        for name, x in zip(
            ("P", "r", "p0", "terminal", "observation"), (P, r, p0, terminal, observation)
        ):
            x.setflags(write=False)
            object.__setattr__(self, name, x)
        object.__setattr__(self, "gamma", float(self.gamma))

    @property
    def n_observations(self) -> int:
        """Return O; the observations are 0, ..., O - 1."""
        return int(self.observation.max()) + 1


class FiniteMDPEnv(gymnasium.Env[Any, Any]):
    """Environment of a FiniteMDP: samples observation[s], r[s,a,s'], terminated = terminal[s'].

    The spaces are Discrete(O) and Discrete(A); `info["state"]` is the true state. Every reset
    and every step draws one uniform number. A successor of probability 0 is never sampled.
    """

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        S, A, _ = mdp.P.shape
        self.observation_space = gymnasium.spaces.Discrete(mdp.n_observations)
        self.action_space = gymnasium.spaces.Discrete(A)
        self._starts = self._sampler(mdp.p0, np.zeros(S))
        self._choices = [
            None if mdp.terminal[s] else [self._sampler(mdp.P[s, a], mdp.r[s, a]) for a in range(A)]
            for s in range(S)
        ]
        self._choice: list[Sampler] | None = None

    def _sampler(self, p: Array, r: Array) -> Sampler:
        """Return thresholds and outcomes (s', o', r, terminated): the inverse CDF of p (S,)."""
        support = np.flatnonzero(p)
        columns = support, self.mdp.observation[support], r[support], self.mdp.terminal[support]
        return np.cumsum(p[support])[:-1].tolist(), list(zip(*(x.tolist() for x in columns)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Draw S_0 ~ p0; `options` are not used."""
        super().reset(seed=seed)
        thresholds, outcomes = self._starts
        s, observation, _, _ = outcomes[bisect(thresholds, self.np_random.random())]
        self._choice = self._choices[s]
        return observation, {"state": s}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Draw S', R ~ P, r given the state and `action`, an integer in [0, A)."""
        if self._choice is None:
            raise gymnasium.error.ResetNeeded("step() outside an episode: call reset() first")
        if not 0 <= action < len(self._choice):
            raise ValueError(f"action = {action}: must be in 0, ..., {len(self._choice) - 1}")
        thresholds, outcomes = self._choice[action]
        outcome = outcomes[bisect(thresholds, self.np_random.random())]
        s, observation, reward, terminated = outcome
        self._choice = self._choices[s]
        return observation, reward, terminated, False, {"state": s}


def markov_chain(mdp: FiniteMDP, pi: Array) -> tuple[Array, Array]:
    """Return P_π (S, S), the transitions under pi, and r_π (S,), the expected reward per step."""
    pi = _policy(mdp, pi)
    return (
        np.einsum("sa,sat->st", pi, mdp.P),
        np.einsum("sa,sa->s", pi, np.einsum("sat,sat->sa", mdp.P, mdp.r)),
    )


def state_values(mdp: FiniteMDP, pi: Array, bonus: Array | float = 0.0) -> Array:
    """Return v (S,): v = r_π + γ P_π v on the nonterminal states, 0 on the others.

    bonus (S,), 0 in terminal states, is paid at every step besides r, for the state it leaves.
    The relative error is about eps times the expected discounted number of steps of an episode.
    Raises ValueError if that number is infinite or above 1e9 from any nonterminal state, reachable
    or not: with γ = 1, an episode must end with probability one from every state.
    """
    P_pi, r_pi = markov_chain(mdp, pi)
    states, r_pi = ~mdp.terminal, r_pi + bonus
    v = np.zeros_like(r_pi)
    v[states] = np.linalg.solve(_system(mdp, P_pi, states), r_pi[states])
    return v


def action_values(mdp: FiniteMDP, pi: Array, bonus: Array | float = 0.0) -> Array:
    """Return q(s,a) = Σ_s' P (r + γ v(s')) (S, A), 0 in terminal states, with the bonus of
    state_values in v(s') but not for s itself. Raises as state_values."""
    return np.einsum("sat,sat->sa", mdp.P, mdp.r + mdp.gamma * state_values(mdp, pi, bonus))


def advantages(mdp: FiniteMDP, pi: Array) -> Array:
    """Return q(s,a) - v(s) (S, A), whose sum Σ_a π(a|s) (q - v) is 0. Raises as state_values."""
    q = action_values(mdp, pi)
    return q - (pi * q).sum(1, keepdims=True)


def discounted_occupancy(mdp: FiniteMDP, pi: Array) -> Array:
    """Return d (S,): d = p0 + γ P_πᵀ d on the nonterminal states, 0 on the others; not normalised.

    Without terminal states, d sums to 1/(1-γ); with γ = 1, it counts visits. It is exactly 0 in
    states that no episode reaches. The error is as in state_values. Raises ValueError if the
    expected discounted number of steps is infinite or above 1e9 from a state that an episode from
    p0 can reach.
    """
    P_pi, _ = markov_chain(mdp, pi)
    states = _reached(P_pi != 0, mdp.p0 > 0) & ~mdp.terminal
    d = np.zeros_like(P_pi[0])
    d[states] = np.linalg.solve(_system(mdp, P_pi, states).T, mdp.p0[states])
    return d


def expected_return(mdp: FiniteMDP, pi: Array, bonus: Array | float = 0.0) -> float:
    """Return J = p0·v, computed as d·r_π, over reachable states, with the bonus of state_values.
    Raises as discounted_occupancy."""
    _, r_pi = markov_chain(mdp, pi)
    J: Any = discounted_occupancy(mdp, pi) @ (r_pi + bonus)
    return J


class Trajectory(NamedTuple):
    """One possible episode: Pr = p0(S_0) Π_t π(A_t|S_t) P[S_t,A_t,S_t+1].

    states (T+1,) and actions (T,) are int, rewards (T,) is float; rewards[t] follows actions[t].
    terminated is False if the horizon cut the episode.
    """

    probability: float
    states: Array
    actions: Array
    rewards: Array
    terminated: bool


def trajectories(
    mdp: FiniteMDP, pi: Array, horizon: int, limit: float = MOST_TRAJECTORIES
) -> Iterator[Trajectory]:
    """Yield every trajectory of positive probability once, up to its end or to `horizon` steps.

    Their probabilities sum to one, so Σ Pr(τ) f(τ) is the expectation of f, up to rounding error.
    There are up to S (A S)^horizon of them. Raises ValueError, before the first, if there are more
    than `limit`.
    """
    if horizon < 0:
        raise ValueError(f"horizon = {horizon}: must be >= 0 steps")
    joint = _policy(mdp, pi)[:, :, None] * mdp.P
    _check_count(mdp, joint != 0, horizon, limit)
    branches = [
        [
            (joint[s, a, s2].item(), s2, a, mdp.r[s, a, s2].item())
            for a, s2 in np.argwhere(joint[s]).tolist()
        ]
        for s in range(len(joint))
    ]
    stack: list[Any] = [(mdp.p0[s].item(), [s], [], []) for s in np.flatnonzero(mdp.p0).tolist()]
    while stack:
        probability, states, actions, rewards = stack.pop()
        terminated = bool(mdp.terminal[states[-1]])
        if terminated or len(actions) == horizon:
            yield Trajectory(
                probability,
                np.array(states),
                np.array(actions, int),
                np.array(rewards, float),
                terminated,
            )
        else:
            stack.extend(
                (probability * p, states + [s2], actions + [a], rewards + [reward])
                for p, s2, a, reward in branches[states[-1]]
            )


def _check_count(mdp: FiniteMDP, branches: Array, horizon: int, limit: float) -> None:
    """Raise ValueError if more than `limit` trajectories follow branches (S, A, S) bool."""
    ways, ended = (mdp.p0 != 0).astype(float), 0.0
    for t in range(1, horizon + 1):
        ended += ways[mdp.terminal].sum()
        ways = np.where(mdp.terminal, 0, ways) @ branches.sum(1)
        if ended + ways.sum() > limit:
            raise ValueError(
                f"horizon = {horizon}: must be less, since after {t} steps there are already "
                f"{ended + ways.sum():.10g} trajectories, more than limit = {limit:g}"
            )


def _check_distributions(name: str, p: Array) -> None:
    """Raise ValueError unless every row of p (..., n) is a distribution; only real parts count."""
    sums, least = p.real.sum(-1), p.real.min(-1)
    wrong = ~((least >= 0) & (np.abs(sums - 1) <= ROW_SUM_ERROR))
    if wrong.any():
        index = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(
            f"{name}{list(index) or ''} sums to {sums[index]}, least entry "
            f"{least[index]}: must sum to one and be nonnegative"
        )


def _policy(mdp: FiniteMDP, pi: Array) -> Array:
    """Check pi and return it as an array (S, A)."""
    pi = np.asarray(pi)
    if pi.shape != mdp.P.shape[:2]:
        raise ValueError(f"pi has shape {pi.shape}: must be (S, A) = {mdp.P.shape[:2]}")
    _check_distributions("pi", pi)
    return pi


def _reached(edges: Array, start: Array) -> Array:
    """Return the mask of the states on paths along edges (S, S) bool from the mask `start` (S,)."""
    reached, grown = start, start | start @ edges
    while (grown != reached).any():
        reached, grown = grown, grown | grown @ edges
    return reached


def _system(mdp: FiniteMDP, P_pi: Array, states: Array) -> Array:
    """Return K = I - γ P_π over `states` (S,), a mask closed under P_π except for terminal states.

    K⁻¹1 is the expected discounted number of steps from each state; its largest entry is the norm
    of K⁻¹. The check of K⁻¹1 prevents wrong results from a K that is singular, or nearly so.
    """
    if mdp.gamma == 1:
        endless = states & ~_reached((P_pi != 0).T, mdp.terminal)
        if endless.any():
            raise ValueError(
                f"gamma = 1: must be below 1, since no terminal state can be reached "
                f"from state {np.flatnonzero(endless)[0]} under pi"
            )
    K = np.eye(states.sum()) - mdp.gamma * P_pi[np.ix_(states, states)]
    try:
        steps = np.linalg.solve(K.real, np.ones(len(K)))
    except np.linalg.LinAlgError:
        steps = np.full(len(K), np.inf)
    if not (steps.min() > 0 and steps.max() <= LONGEST_EPISODE):
        raise ValueError(
            f"gamma = {mdp.gamma}: must be smaller, since an episode under pi is "
            f"expected to last more than {LONGEST_EPISODE:g} (discounted) steps"
        )
    return K
