"""Contestants: how a page, a twin and an environment alone take their turns (see race)."""

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


def player(page, env, config, state, seed=0):
    """act(observation) of the page's policy at the state's θ."""
    act, rng = page.actor(env, config), np.random.default_rng(seed)
    parameters = {name: getattr(state, name) for name in state.parameters}
    return lambda observation: act(parameters, observation, rng)
