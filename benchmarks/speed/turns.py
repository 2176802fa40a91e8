"""Contestants: how a page, a twin and an environment alone take their turns (see race)."""

from itertools import cycle

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
    they are recorded, stepped through again. The first reset of a turn is seeded."""
    episodes, seed = [], 0
    while sum(map(len, episodes)) < n:
        observation, _ = env.reset(seed=seed)
        actions, over, seed = [], False, None
        while not over:
            actions.append(act(observation))
            observation, _, terminated, truncated, _ = env.step(actions[-1])
            over = terminated or truncated
        episodes.append(actions)
    steps = sum(map(len, episodes))

    def turn():
        for k, actions in enumerate(episodes):
            env.reset(seed=None if k else 0)
            for action in actions:
                env.step(action)
        return steps

    return turn


def alone(envs, n):
    """A vector of environments alone, under random actions: n steps of all together."""
    A = np.random.default_rng(0).integers(2, size=(997, envs.num_envs))
    envs.reset(seed=0)
    actions = cycle(A)
    return repeat(lambda: envs.step(next(actions)), n // envs.num_envs, envs.num_envs)


def player(page, env, config, state, eps=0.0):
    """act(observation) of the page's policy at the state's θ; with chance eps any action."""
    act, rng = page.actor(env, config), np.random.default_rng(0)
    parameters = {name: getattr(state, name) for name in state.parameters}

    def one(observation):
        if eps and rng.random() < eps:
            return int(rng.integers(env.action_space.n))
        return act(parameters, observation, rng)

    return one
