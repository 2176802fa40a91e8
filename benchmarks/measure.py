"""What is measured of one run: a Row learns, its policy is judged, or its mode on the way."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

import algorithms.exact.register  # noqa: F401  (the worlds by their ids)
from algorithms.common.worlds import close, vectorized
from algorithms.runner.environments import parse_wrap, wrapper_class
from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.plot import running_mean
from algorithms.runner.presets import configured, preset

OURS, SB3 = "npgrad", "Stable-Baselines3"
WINDOW = EPISODES = 100
FAR, MOST = 3.0, 1000  # standard errors from a goal that tell on which side of it a mean is
UNUSED = 10**6  # by learning: the first seed of the episodes that are played
POINTS = 60  # of a learning curve that is recorded


@dataclass(frozen=True)
class Row:
    """A row of a study: a method learns in an environment, until its preset's steps are made.

    Its settings are those of a preset, with changes; with variant None the method's defaults. It
    learns in the preset's wrappers; it is judged without the cost and the scale of SoftBounds.
    """

    method: str
    env: str
    goal: float | None = None
    variant: str | None = ""
    changes: Mapping = field(default_factory=dict)
    steps: int = 0  # 0: the preset's
    every: float = np.inf  # steps from one evaluation to the next while it learns
    episodes: int = 20  # of such an evaluation
    final: int = EPISODES  # of the last one, at least
    who: str = OURS

    @cached_property
    def page(self):
        return load_method(self.method, METHODS)

    @property
    def preset(self):
        return None if self.variant is None else (self.method, self.env, self.variant)

    @cached_property
    def config(self):
        found = configured(*self.preset) if self.preset else self.page.Config()
        steps = dict(T_max=self.steps) if self.steps and hasattr(found, "T_max") else {}
        return replace(found, **steps | self.changes)

    @property
    def length(self):
        return self.steps or preset(*self.preset).steps

    @property
    def parallel(self):
        """Tell whether its workers are processes."""
        return getattr(self.config, "driver", "") == "processes"

    def described(self):
        """Return what is recorded of a row."""
        names = "who", "method", "env", "goal"
        found = {name: getattr(self, name) for name in names}
        return found | dict(steps=self.length, config=repr(self.config))

    def make(self, learned=False):
        """Return an environment to learn in, or to judge in."""
        env = gymnasium.make(self.env)
        for name, arguments in map(parse_wrap, preset(*self.preset).wrap if self.preset else ()):
            if learned or name != "SoftBounds":
                env = wrapper_class(name, None)(env, **arguments)
        return env

    def begin(self, seed):
        """Return (environment, new State)."""
        env = self.make(learned=True)
        return env, self.page.init(env, self.config, seed)

    def act(self, state, greedy):
        """Return act(S) at the parameters that the State has by then."""
        return player(self.page, self.make(), self.config, state, greedy)


def episodes(training):
    """Return the reports of a page's `train` in which an episode ended."""
    return (metrics for metrics in training if metrics.returns)


def play(env, act, n=EPISODES, gamma=1.0, seed=UNUSED):
    """Return Σ_t γ^t r_t (n,) of n episodes, played side by side in environments like env, on seeds
    that no learning uses. act(S) gives the actions of all n observations."""
    own = env.spec and env.spec.vector_entry_point and not env.spec.additional_wrappers
    made = vectorized(env, n, "vector_entry_point" if own else "sync")
    envs = made if own else SyncVectorEnv([lambda one=one: one for one in made], copy=False)
    S, _ = envs.reset(seed=seed)
    G, weight, going = np.zeros(n), 1.0, np.ones(n, bool)
    while going.any():
        S, r, terminated, truncated, _ = envs.step(act(S))
        G += going * weight * r
        weight *= gamma
        going &= ~(terminated | truncated)
    close(made, env)
    return G


def random_score(env_id):
    """Return the mean return of uniformly random actions."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    return float(play(env, lambda S: np.array([env.action_space.sample() for _ in S])).mean())


def player(page, env, config, state, greedy):
    """Return act(S) of a page, at the parameters that its State has by then."""
    act, rng = page.actor(env, config), np.random.default_rng(UNUSED)

    def actions(S):
        parameters = {name: getattr(state, name) for name in state.parameters}
        return np.array([act(parameters, s, rng, greedy) for s in S])

    return actions


class Watched(gymnasium.Wrapper):
    """Keeps `episodes`: of each the observations (T + 1), the rewards (T), and what seen() returned
    before each of its T steps, lists."""

    def __init__(self, env, seen=lambda: None):
        super().__init__(env)
        self.episodes, self.seen = [], seen

    def reset(self, **options):
        s, info = self.env.reset(**options)
        self.episodes.append(([s], [], []))
        return s, info

    def step(self, action):
        states, rewards, seen = self.episodes[-1]
        seen.append(self.seen())
        s, R, *rest = self.env.step(action)
        states.append(s)
        rewards.append(R)
        return s, R, *rest


def standard_error(G):
    """Return the standard error of the mean of G, nan for one number."""
    return float(G.std(ddof=1) / np.sqrt(len(G))) if len(G) > 1 else np.nan


def judge(env, act, goal=None, n=EPISODES):
    """Return (mean, its standard error, number) of the returns of episodes.

    With a goal, n more at a time are played, on other starts, until the mean is FAR standard errors
    from the goal, or there are MOST: the first 100 starts, the same for all, may be easy or hard.
    """
    G = play(env, act, n)
    near = lambda: abs(G.mean() - goal) < FAR * standard_error(G)
    while goal is not None and len(G) < MOST and near():
        G = np.append(G, play(env, act, n, seed=UNUSED + len(G)))
    return float(G.mean()), standard_error(G), len(G)


def evaluated(row, act, env=None):
    """Return the mean return of the row's `final` episodes or more (see `judge`)."""
    mean, error, n = judge(env or row.make(), act, row.goal, row.final)
    return dict(evaluation=mean, evaluation_error=error, evaluation_episodes=n)


def learned(row, seed):
    """Return what is measured of a run: its training (see `learn`), the policy learned, and 100
    episodes by its mode; of asynchronous methods the staleness of their updates too."""
    state, found = learn(row, seed, time.perf_counter if row.parallel else time.process_time)
    found |= evaluated(row, row.act(state, greedy=False))
    greedy, error, _ = judge(row.make(), row.act(state, greedy=True))
    found |= dict(evaluation_greedy=greedy, evaluation_greedy_error=error)
    if hasattr(state, "staleness"):
        found |= dict(staleness=np.trim_zeros(state.staleness.sum(0), "b").tolist())
    return found


def learn(row, seed, clock=time.process_time):
    """Let a row learn until its page ends, or it has made its steps: (State, measures).

    The measures are of the mean of the last 100 training returns, without the scale of a wrapper:
    its last value, where it first was at the goal (None: nowhere), and its curve. Seconds count
    from the first report on, since processes take a moment to begin.
    """
    config, (env, state), rows, first = row.config, row.begin(seed), [], 0
    most, scale = np.inf if hasattr(config, "T_max") else row.length, getattr(env, "scale", 1.0)
    for metrics in row.page.train(env, config, state):
        if not first and metrics.steps:
            first, start = metrics.steps, clock()
        rows += [(metrics.steps, clock() - start, G / scale) for G in metrics.returns]
        if metrics.steps >= most:
            break
    seconds, last = clock() - start, metrics.steps
    steps, times, returns = np.array(rows).T
    means = running_mean(returns, WINDOW)
    k = episodes_until(returns, row.goal)
    points = np.linspace(0, len(means) - 1, min(POINTS, len(means))).astype(int)
    return state, dict(
        return_last_100=float(means[-1]),
        seconds=seconds,
        steps_per_second=(last - first) / seconds,
        steps_until_reached=k and int(steps[k - 1]),
        episodes_until_reached=k,
        seconds_until_reached=k and float(times[k - 1]),
        curve=dict(steps=steps[points].astype(int).tolist(), means=means[points].round(1).tolist()),
    )


class Watch:
    """Scores act(S) after every so many steps of a run, with the clock stopped: the curve."""

    def __init__(self, row, act):
        self.row, self.act, self.env, self.recent = row, act, row.make(), []
        self.curve, self.seconds = dict(steps=[], seconds=[], scores=[], training=[]), 0.0
        self.start = time.process_time()

    def __call__(self, steps, returns=()):
        """Take the number of steps and the returns of a report; return whether there is more to
        do."""
        self.recent += returns
        if steps >= min(self.row.every * (len(self.curve["steps"]) + 1), self.row.length):
            self.seconds += time.process_time() - self.start
            score = float(play(self.env, self.act, self.row.episodes).mean())
            training = round(float(np.mean(self.recent)), 2) if self.recent else None
            point = steps, round(self.seconds, 3), round(score, 2), training
            for name, x in zip(self.curve, point):
                self.curve[name].append(x)
            self.recent, self.start = [], time.process_time()
        return steps < self.row.length

    def measured(self):
        """Return what is measured of the run."""
        found = dict(curve=self.curve, seconds=round(self.seconds, 1))
        return found | evaluated(self.row, self.act, self.env)


def watched(row, seed, reports=lambda training: training, each=lambda watch, state: True):
    """Let a row learn and score its mode: (State, Watch). `reports` chooses among what the page
    reports; each(watch, state) says after a report whether to go on."""
    env, state = row.begin(seed)
    watch = Watch(row, row.act(state, greedy=True))
    for metrics in reports(row.page.train(env, row.config, state)):
        if not watch(metrics.steps, metrics.returns) or not each(watch, state):
            break
    return state, watch


def episodes_until(returns, level):
    """Return the number of episodes until the mean of the latest 100 is at a level; None: never."""
    means = running_mean(returns, WINDOW)[WINDOW - 1 :] if len(returns) >= WINDOW else np.empty(0)
    at = np.flatnonzero(means >= level - 1e-9)
    return int(at[0]) + WINDOW if at.size else None
