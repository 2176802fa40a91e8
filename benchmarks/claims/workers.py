"""Claims on what parallel workers share: when they update, what their pushes add up to, 1/N."""

import ast
import multiprocessing
import os
from collections import Counter
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from unittest import mock

import gymnasium
import numpy as np

from algorithms import a2c, a3c, async_q
from algorithms.common.asynchronous import PULL, total
from benchmarks.claims.claim import Found, claim, graded, result
from npgrad import OPTIMIZERS

FACTORS = (1, 2, 4, 8, 16, 32, 64)


def one_step_q(options):
    """Return the config and State of eight workers of one-step Q on CartPole, and the training."""
    steps = 1_500 if options.quick else 20_000
    config = async_q.OneStepQ(workers=8, I_async_update=5, T_max=steps)
    env = gymnasium.make("CartPole-v1")
    state = async_q.init(env, config, 0)
    return config, state, async_q.train(env, config, state)


@claim("3.1.1", "A worker of asynchronous Q-learning updates θ after every I_AsyncUpdate-th step "
       "of its own.")  # fmt: skip
def update_times(options):
    """Right if updates come only at multiples of I_AsyncUpdate, partly if at those and others."""
    config, state, training = one_step_q(options)
    for _ in training:
        pass
    T, updates = total(state.T), total(state.updates)
    alone = T // config.I_async_update
    number = f"{updates:,} updates in {T:,} steps; every fifth step alone makes {alone:,}"
    rest = "8 workers, I = 5, CartPole: by Algorithm 1 the end of an episode makes an update, too"
    return Found("partly" if updates > 1.01 * alone else "right", number, rest)


def midway(state):
    """Return how many workers have made steps that are in no update yet."""
    return sum(me.k > 0 and me.next != PULL for me in state.learners)


@claim("3.1.1", "Whenever T is a multiple of I_target, all threads stop and copy θ⁻ ← θ.")
def everybody_stops(options):
    """Right if no other worker is in the middle of its steps when θ⁻ is copied."""
    config, state, training = one_step_q(options)
    copied, busy = 0, []
    for _ in training:
        if state.copied[0] > copied:
            copied = int(state.copied[0])
            busy.append(midway(state))
    among = sum(n > 0 for n in busy)
    number = f"{among} of {len(busy)} copies find other workers in the middle of their steps"
    rest = (
        f"8 workers, CartPole, I_target = {config.I_target:,}, in turns: {np.mean(busy):.1f} of "
        "the 7 others are, on average. By Algorithm 1 the worker that passes a multiple copies θ⁻ "
        "itself; nothing there makes the others wait"
    )
    return Found("wrong" if among else "right", number, rest)


@claim("3.1.1", "The main process checks T > T_max and ends all threads.")
def who_checks(options):
    """Right if nobody updates θ once T > T_max. (Algorithm 1 closes each thread's own loop with
    “until T > T_max”.)"""
    config, state, training = one_step_q(options)
    after = sum(metrics.steps > config.T_max for metrics in training) - 1
    number = f"{after} updates of other workers after T has passed T_max"
    rest = (
        f"8 workers, T_max = {config.T_max:,}: each ends by its own check, after what it has "
        f"begun; T ends at {total(state.T):,}"
    )
    return Found("wrong" if after else "right", number, rest)


def push(shared, pushes):
    theta = np.frombuffer(shared)
    A = np.random.default_rng(0).standard_normal((60, 60))
    for _ in range(pushes):
        for _ in range(20):  # the rollout and the gradient, in place of which this stands
            A = np.tanh(A @ A)
        theta += 1.0


@claim("3.3.1", "A3C's workers overwrite the shared parameters and have to be kept apart by locks.")
def overwrite(options):
    """Right if pushes without locks lose much of what they add."""
    workers, pushes = 2, 500 if options.quick else 4000
    shared = multiprocessing.RawArray("d", 4675)
    running = [multiprocessing.Process(target=push, args=(shared, pushes)) for _ in range(workers)]
    for worker in running:
        worker.start()
    for worker in running:
        worker.join()
    lost = 1 - np.frombuffer(shared).mean() / (workers * pushes)
    races = result("asynchronous") or {}
    solved = ", ".join(
        f"{race.solved()} of {len(race.runs)} runs with {name[4:]}"
        for name, race in races.items()
        if name.startswith("a3c")
    )
    rest = (
        f"{workers} processes, {len(os.sched_getaffinity(0))} core(s), {pushes:,} pushes θ += Δθ "
        "each; overwriting would lose half. A3C without locks evaluates at 475 by number of "
        f"processes: {solved or 'not recorded'}"
    )
    number = f"{lost:.4%} of what is added without locks is lost"
    return Found("wrong" if lost < 0.05 else "right", number, rest)


def pushed(optimizer, turns):
    """Return (dθ_i of each push (pushes, n), θ at the end less θ_0, config) of A3C's workers on
    CartPole, who take the turns."""
    config = a3c.Config(workers=1 + max(turns), optimizer=optimizer, step_size=0.1, annealed=False)
    env, found = gymnasium.make("CartPole-v1"), []
    state = a3c.init(env, config, 0)
    start, counted = state.theta.copy(), state.updates.copy()
    for _ in a3c.train(env, config, state, schedule=iter(turns)):
        (i,) = np.flatnonzero(state.updates != counted)
        found.append(state.learners[i].d.copy())
        counted = state.updates.copy()
    return np.array(found), state.theta - start, config


@claim(
    "3.3.2", "N workers of A3C change θ by the sum of their gradients, each at its own copy of θ."
)
def every_worker(options):
    """Right if what the pushes add is the step of Σ_i dθ_i(θ_i), under SGD and RMSProp alike,
    partly if under one."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 3 * 8)).tolist()
    errors = {}
    for name in ("sgd", "shared_rmsprop"):
        d, moved, config = pushed(name, order)
        rule, settings = (
            ("sgd", {}) if name == "sgd" else ("rmsprop", dict(decay=config.decay, eps=config.eps))
        )
        m = OPTIMIZERS[rule].statistics(moved)
        step = OPTIMIZERS[rule].step(d.sum(0), m, 1, config.step_size, **settings)
        errors[name] = float(np.linalg.norm(moved - step) / np.linalg.norm(moved))
    number = f"{errors['sgd']:.0e}: relative error of the sum, under SGD"
    rest = (
        f"4 workers, 8 segments each, in random turns on CartPole: what θ gains beside the step of "
        f"Σ_i dθ_i(θ_i) is off by {errors['sgd']:.0e} of it under SGD, by "
        f"{errors['shared_rmsprop']:.2f} under shared RMSProp, which divides every push by its own "
        "√(g + ε). No update waits for the others: each is one worker's segment"
    )
    return Found(graded([error < 1e-9 for error in errors.values()]), number, rest)


def gradients(updates):
    """Return dθ of A2C on CartPole-v1, 16 environments, mean reduction (updates, n)."""
    env, found, ascend = gymnasium.make("CartPole-v1"), [], a2c.ascend
    config = a2c.Config(environments=16, precision="double", vectorization="vector_entry_point")

    def watched(config, state, d):
        found.append(d.copy())
        ascend(config, state, d)

    state = a2c.init(env, config, 0)
    with mock.patch.object(a2c, "ascend", watched):
        for _, _ in zip(range(updates), a2c.train(env, config, state)):
            pass
    return np.array(found)


@claim("3.3.2", "A2C averages the workers' gradients (1/N) where A3C adds them up.")
def sum_or_mean(options):
    """Right if 1/N changes the step as it changes the gradient under all optimisers, wrong if under
    none."""
    d = gradients(50 if options.quick else 300)
    rules = {"SGD": ("sgd", {}), "momentum": ("momentum", {}), "Adam": ("adam", {})}
    rules |= {
        f"RMSProp, ε = {eps:g}": ("rmsprop", dict(eps=eps)) for eps in (0.1, 1e-3, 1e-5, 1e-10)
    }
    lengths = {}
    for name, (rule, settings) in rules.items():
        optimizer, lengths[name] = OPTIMIZERS[rule], []
        for N in FACTORS:
            m, length = optimizer.statistics(d[0]), 0.0
            for t, row in enumerate(d, 1):
                length += np.linalg.norm(optimizer.step(N * row, m, t, 1.0, **settings))
            lengths[name].append(length)
    growth = {name: (np.array(x) / x[0]).round(4).tolist() for name, x in lengths.items()}
    k = FACTORS.index(16)
    text = ", ".join(f"{name} {row[k]:.3g}" for name, row in growth.items())
    rest = (
        f"the same {len(d)} gradients of A2C (r.m.s. entry {np.sqrt((d**2).mean()):.1e}) times 16 "
        f"make the steps longer by: {text}. Under Adam, and RMSProp with ε → 0, Σ and 1/N are the "
        "same update (RMSProp's Σ with ε is its 1/N with ε/N²); else 1/N is a step N times smaller"
    )
    number = (
        f"{growth['SGD'][k]:.3g} times longer steps by 16 times the gradient under SGD, "
        f"{growth['Adam'][k]:.3g} under Adam"
    )
    as_much = [np.isclose(row[k], 16) for row in growth.values()]
    return Found(graded(as_much), number, rest, dict(factors=FACTORS, growth=growth))


def needs(module):
    """Return the modules of algorithms/ that a module imports, itself and theirs among them."""
    found, todo = {}, [module]
    while todo:
        name = todo.pop()
        tree = ast.parse(Path(find_spec(name).origin).read_text("utf-8"))
        found[name] = tree
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("algorithms"):
                within = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [node.module, *(x for x in within if is_module(x))]
                todo += [x for x in names if x not in found]
    return found


def is_module(name):
    """Tell whether a dotted name is a module's."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def statements(tree):
    """Count the statements that do something: no docstrings and no imports."""
    silent = ast.Import, ast.ImportFrom
    doc = lambda x: isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)
    return sum(
        isinstance(x, ast.stmt) and not isinstance(x, silent) and not doc(x) for x in ast.walk(tree)
    )


@claim("3.3.1", "A2C is simpler to implement than A3C.")
def simpler(options):
    """Right if A2C needs fewer statements that the other does not need, partly if only in one way
    of counting: with all drivers of A3C's workers, or with those in turns and in threads."""
    trees = {name: needs(f"algorithms.{name}") for name in ("a3c", "a2c")}
    own = Counter()
    for (name, mine), (_, other) in permutations(trees.items()):
        for module, tree in mine.items():
            if module not in other:
                own[name] += statements(tree)
                own[f"{name} elsewhere"] += statements(tree) * module.endswith(ELSEWHERE)
    alone = own["a3c"] - own["a3c elsewhere"]
    number = f"{own['a2c']} statements that A3C does not need; A3C has {own['a3c']}"
    rest = (
        "Statements in the modules of this library that only one of the two imports. Of A3C's, "
        f"{own['a3c elsewhere']} run workers in other processes and on a cluster; {alone} remain. "
        "A2C's hold its vector environments with three ways to reset. Both share the rest"
    )
    return Found(graded([own["a2c"] < own["a3c"], own["a2c"] < alone]), number, rest)


ELSEWHERE = "processes", "cluster"
