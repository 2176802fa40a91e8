"""The types of the public API: all of it has some, and a user's type checker goes by them."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

import algorithms
from algorithms.exact import mdp
from algorithms.runner.lookup import METHODS

ROOT = Path(__file__).parent.parent
NAMES = [found.name for found in pkgutil.walk_packages(algorithms.__path__, "algorithms.")]
PUBLIC = ["algorithms", *(name for name in NAMES if not name.startswith("algorithms.runner"))]
PAGES = {page.module for page in METHODS.values()}


def functions(holder, file):
    """(name, function) of what is public and written in a file: in a module, and in its classes."""
    for name, found in vars(holder).items():
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if inspect.isclass(found) and found.__module__ == getattr(holder, "__name__", ""):
            yield from ((f"{name}.{method}", f) for method, f in functions(found, file))
        f = getattr(found, "fget", getattr(found, "__func__", inspect.unwrap(found)))
        if isinstance(f, FunctionType) and (f.__code__.co_filename, name) == (file, f.__name__):
            yield name, f


def is_step(name, f):
    """Whether f is a step of `train`: a page's function that takes a State."""
    return f.__module__ in PAGES and name != "train" and "state" in inspect.signature(f).parameters


def untyped(f):
    """The parameters that have no type, and "return" if the result has none."""
    signature = inspect.signature(f)
    given = list(signature.parameters.values())
    own = "." in f.__qualname__ and given[0].name in ("self", "cls")
    names = [p.name for p in given[own:] if p.annotation is p.empty]
    return names + ["return"] * (signature.return_annotation is signature.empty)


@pytest.mark.parametrize("name", PUBLIC)
def test_public__every_parameter_and_result_has_a_type(name):
    module = importlib.import_module(name)
    found = {key: f for key, f in functions(module, module.__file__) if not is_step(key, f)}
    assert {key: untyped(f) for key, f in found.items() if untyped(f)} == {}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_pages__have_functions_that_are_found(name):
    page = importlib.import_module(name)
    found = dict(functions(page, page.__file__))
    assert {"init", "actor", "train"} < set(found) and not is_step("train", found["train"])
    assert any(key.endswith("objective") for key in found)


def test_classes__have_methods_that_are_found():
    found = dict(functions(mdp, mdp.__file__))
    assert {"FiniteMDP.n_observations", "FiniteMDPEnv.__init__", "FiniteMDPEnv.step"} < set(found)


RIGHT = '''
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, load, reinforce, save
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network
from algorithms.exact.laboratory import expectation
from algorithms.exact.lqr import optimal_gain, performance, spring
from algorithms.exact.mdp import FiniteMDP, expected_return
from algorithms.exact.optimal import optimal_policy
from algorithms.exact.worlds import chain
from algorithms.referee import enumerated, estimator, gradients, returns
from npgrad import Array, Head, Layout, from_function, grad, softmax


class Corridor(gymnasium.Env[Array, int]):
    """One's own environment: walk to the right end."""

    observation_space = gymnasium.spaces.Box(-2, 2, (1,))
    x: float = 0.0

    def __init__(self) -> None:
        self.action_space: Any = gymnasium.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.5, 0.5))
        return np.array([self.x], np.float32), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.x += 0.2 * (2 * action - 1)
        return np.array([self.x], np.float32), -1.0, abs(self.x) >= 1.0, False, {}


class Mine(Network):
    def model(self, n: int, m: int, one_hot: bool = False) -> from_function:
        layout = Layout(W=(n, m), b=(m,))

        def f(theta: Array, x: Array) -> Array:
            W, b = layout.views(theta)
            y: Array = np.dot(np.sin(x), W) + b
            return y

        return from_function(f, layout)


def doubled(h: Array, head: Head, A: Array, weights: Array) -> Array:
    return 2.0 * reinforce.gradient(h, head, A, weights)


env, rng = Corridor(), np.random.default_rng(0)
config = replace(reinforce.Config(gamma=0.9), network=Mine())
state = reinforce.init(env, config, seed=0)
training: Iterator[Metrics] = reinforce.train(env, config, state, gradient=doubled)
scores = [score for metrics, _ in zip(training, range(3)) for score in metrics.returns]
save(state, "corridor.npz")
state = load("corridor.npz", reinforce.init(env, config, seed=0))
act = reinforce.actor(env, config)
action = act(vars(state), env.reset()[0], rng, greedy=True)
theta: Array = state.theta

for page in (Corridor, lambda: Corridor()):  # functions that make one
    shared = a2c.Config(environments=2, T_max=20)
    for metrics in a2c.train(page, shared, a2c.init(page, shared, seed=0)):
        print(metrics.steps, metrics.scalars.get("x", 0.0))
envs = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
next(a2c.train(envs, a2c.Config(), a2c.init(envs, a2c.Config(), seed=0)))
envs.close()
workers = a3c.Config(workers=1, T_max=5)
asynchronous: a3c.State = a3c.init(env, workers, seed=0)
for metrics in a3c.train(env, workers, asynchronous, schedule=[0] * 9):
    print(metrics.episodes)
traces = actor_critic.Traces(lambda_w=0.8)
next(actor_critic.train(env, traces, actor_critic.init(env, traces, seed=0)))
q = async_q.NStepQ(t_max=3, T_max=9)
next(async_q.train(env, q, async_q.init(env, q, seed=0)))
noise = ddpg.Config(noise=ddpg.Noise(sigma=0.1), networks=ddpg.Networks(hidden=(4, 3)))
print(noise.noise.explore(np.zeros(1), np.zeros(1), 0, rng))

h, A, w, head = np.ones((2, 3)), np.array([0, 2]), np.ones(2), softmax(3)
difference: Array = grad(reinforce.objective)(h, head, A, w) - reinforce.gradient(h, head, A, w)
mdp: FiniteMDP = replace(chain(), gamma=0.8)
J: float = expected_return(mdp, optimal_policy(mdp)) + performance(spring(), optimal_gain(spring()))


def weights(episode: SimpleNamespace) -> Array:
    return np.asarray(reinforce.weights(np.arange(1), episode.R, episode.R, 0.9, "total"))


def gae(rewards: Array, values: Array, last_value: Array, dones: Array, gamma: float) -> Array:
    return rewards - values


world = enumerated.world(mdp, horizon=1)
verdict: estimator.Verdict = estimator.judge(weights, among=[world])
print(verdict.unbiased, verdict.exactly, verdict.worlds[0].bias, expectation(world.study))
print(returns.judge(gae).mistake, gradients.judge(np.ones(20), gradients.batch("adam")).line)
'''

WRONG = """
a2c.train(env, reinforce.Config(), a2c.init(env, a2c.Config(), 0))  # another page's Config
a2c.train(env, a2c.Config(), state)  # and its State
reinforce.train(env, reinforce.Config, state)  # the class
reinforce.train("CartPole-v1", config, state)  # an id
reinforce.init(env, config, seed="0")
reinforce.Config(gamma="0.9")
reinforce.Config(form="box")  # no such word
reinforce.Config(step=0.1)  # no such field
ddpg.Config(noise=0.1)
state.theta_target
load("corridor.npz", state).z
save("corridor.npz")
act(state, env.reset()[0], rng)  # not vars(state)
act(vars(state), env.reset()[0], rng, 0, 1)
scores[0] + metrics.reward
reinforce.gradient(h, A, head, w)  # in another order
reinforce.weights(A, w, w, 0.9)
expected_return(optimal_policy(mdp), mdp)
FiniteMDP(mdp.P, mdp.r)
performance(mdp, optimal_gain(spring()))
estimator.judge(weights, among=world)
returns.judge(3)
verdict.agrees
"""


def test_users_program__is_accepted_by_a_type_checker_and_its_mistakes_are_refused(tmp_path):
    """mypy in strict mode; each line of WRONG is one mistake."""
    pytest.importorskip("mypy")
    program, lines = tmp_path / "program.py", (RIGHT + WRONG).splitlines()
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", str(program)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    errors = re.findall(r"program\.py:(\d+): error", found.stdout)
    wrong = range(len(RIGHT.splitlines()) + 2, len(lines) + 1)
    assert sorted({int(line) for line in errors}) == list(wrong), found.stdout + found.stderr


def test_users_program__runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "program"}
    exec(compile(RIGHT, "program", "exec"), names)
    assert np.abs(names["difference"]).max() < 1e-14 and names["action"] in (0, 1)
