"""Contestants: how a page, a twin and an environment alone take their turns (see race)."""

import gymnasium
import numpy as np


def repeat(call, n, units=1):
    """`call` n times, of so many units each."""

    def turn():
        for _ in range(n):
            call()
        return n * units

    return turn


def until(call, n):
    """`call`, which returns how many units it did, until there are n."""

    def turn():
        done = 0
        while done < n:
            done += call()
        return done

    return turn


def learner(run, count, n):
    """A page's `train`, until count() has grown by n."""

    def turn():
        first = count()
        while count() < first + n:
            next(run)
        return count() - first

    return turn


def replay(env, act, n):
    """The environment alone: the first n steps' worth of episodes that act(observation) plays, once
    they are recorded, stepped through again. Every reset is seeded, as the pages' are."""
    episodes = []
    while sum(map(len, episodes)) < n:
        observation, _ = env.reset(seed=len(episodes))
        actions, over = [], False
        while not over:
            actions.append(act(observation))
            observation, _, terminated, truncated, _ = env.step(actions[-1])
            over = terminated or truncated
        episodes.append(actions)
    steps = sum(map(len, episodes))

    def turn():
        for seed, actions in enumerate(episodes):
            env.reset(seed=seed)
            for action in actions:
                env.step(action)
        return steps

    return turn


def player(page, env, config, state, seed=0):
    """act(observation) of the page's policy at the state's θ."""
    act, rng = page.actor(env, config), np.random.default_rng(seed)
    parameters = {name: getattr(state, name) for name in state.parameters}
    return lambda observation: act(parameters, observation, rng)


class Recorder(gymnasium.Wrapper):
    """Keeps every step in `log`, which is for others to empty: (s, a, r, s', terminated), s and s'
    in double precision."""

    def __init__(self, env):
        super().__init__(env)
        self.log = []

    def reset(self, **how):
        self.s, info = self.env.reset(**how)
        return self.s, info

    def step(self, action):
        before = self.s
        self.s, r, terminated, truncated, info = self.env.step(action)
        self.log.append((before.astype(float), action, r, self.s.astype(float), terminated))
        return self.s, r, terminated, truncated, info

    def take(self):
        """(S, A, r, S', terminated) of what is in the log, which is empty then."""
        steps, self.log = self.log, []
        return tuple(map(np.array, zip(*steps)))
