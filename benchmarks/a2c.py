"""What A2C learns, and how long that takes.

    python -m benchmarks.a2c [cartpole] [baseline] [acrobot] [pendulum] [lunarlander] [--seeds N]
                             [--jobs 1] [--draw]

cartpole   CartPole-v1 in its own vector environment, until the mean of the last 100 TRAINING
           episodes is 475; 20 seeds
baseline   the same, beside Stable-Baselines3's A2C with the same hyper-parameters, networks, start
           distribution and optimiser, in 8 environments: SyncVectorEnv, and CartPole's own form; 10
           seeds, ours and theirs in turn. Stable-Baselines3 takes the step that resets an
           environment for a transition with reward 0; here it does not count as a step
acrobot, pendulum, lunarlander
           Acrobot-v1 (threshold −100), Pendulum-v1 (−250; see benchmarks/pendulum.py) and
           LunarLander-v3 (156 is published for Stable-Baselines3 on -v2 at 200,000 steps; needs
           box2d): 10 seeds each, then 100 episodes or more (study.judge) with the policy learned,
           and 100 with its mode

Seconds are processor time of acting, environment and learning, on one thread. Settings were tuned
on seeds from 100 up; the results are of seeds 0, 1, .... Each part writes results/a2c_PART.json and
.md, the last three a picture too; --draw draws it again from the .json.
"""

import json
import time
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import gymnasium
import numpy as np

from algorithms import a2c
from algorithms.runner.presets import configured
from benchmarks import study
from benchmarks.pendulum import pendulum
from benchmarks.record import RESULTS, save

CARTPOLE = configured("a2c", "CartPole-v1")
BASELINE = configured("a2c", "CartPole-v1", "sync")
WINDOW, THRESHOLD = study.WINDOW, 475.0
TASKS = MappingProxyType(
    {
        "acrobot": ("Acrobot-v1", -100.0, configured("a2c", "Acrobot-v1")),
        "pendulum": ("Pendulum-v1", -250.0, configured("a2c", "Pendulum-v1")),
        "lunarlander": ("LunarLander-v3", 156.0, configured("a2c", "LunarLander-v3")),
    }
)


def page(config, seed):
    """One run of the page, ended when it has solved CartPole: steps, episodes, seconds."""
    env, recent, total = gymnasium.make("CartPole-v1"), [], 0.0
    state = a2c.init(env, config, seed)
    start, wall = time.process_time(), time.perf_counter()
    for metrics in a2c.train(env, config, state):
        recent += metrics.returns
        if metrics.returns and len(recent) >= WINDOW:
            total = sum(recent[-WINDOW:]) / WINDOW
            if total >= THRESHOLD:
                break
    return dict(
        seed=seed,
        steps=metrics.steps if total >= THRESHOLD else None,
        episodes=metrics.episodes,
        updates=state.updates,
        seconds=time.process_time() - start,
        wall_seconds=time.perf_counter() - wall,
    )


def sb3(config, seed):
    """One run of Stable-Baselines3's A2C, ended alike."""
    from benchmarks.torch_twins.baselines import baseline, train

    model = baseline("CartPole-v1", config, seed)
    episodes = model.env.episodes

    def unsolved():
        last = [G for _, G in episodes[-WINDOW:]]
        return len(last) < WINDOW or sum(last) / WINDOW < THRESHOLD

    start, wall = time.process_time(), time.perf_counter()
    train(model, config.T_max, unsolved)
    k = study.episodes_until([G for _, G in episodes], THRESHOLD)
    return dict(
        seed=seed,
        steps=k and episodes[k - 1][0],
        episodes=len(episodes),
        seconds=time.process_time() - start,
        wall_seconds=time.perf_counter() - wall,
    )


def summary(runs):
    """Medians over all runs, one that failed counting as infinite."""
    middle = lambda name: float(
        np.median([run[name] if run["steps"] is not None else np.inf for run in runs])
    )
    medians = {name: middle(name) for name in ("steps", "seconds", "wall_seconds")}
    failed = sum(run["steps"] is None for run in runs)
    return medians | dict(failed=failed, most_seconds=max(run["seconds"] for run in runs))


def line(name, runs):
    s = summary(runs)
    steps = [run["steps"] for run in runs if run["steps"] is not None]
    reach = f"{s['steps']:,.0f} ({min(steps):,}–{max(steps):,})" if steps else "never"
    seconds = f"{s['seconds']:.2f}", f"{s['most_seconds']:.2f}"
    return name, str(len(runs)), str(s["failed"]), reach, *seconds


HEAD = "", "runs", "failed", "steps to 475, median (range)", "seconds, median", "most"


def cartpole(seeds, jobs):
    page(CARTPOLE, 100)  # warm
    runs = [page(CARTPOLE, seed) for seed in range(seeds or 20)]
    text = study.table(HEAD, [line("page", runs)])
    return dict(config=repr(CARTPOLE), summary=summary(runs), runs=runs), text


def baseline(seeds, jobs):
    import torch

    torch.set_num_threads(1)
    results, rows, text = {}, [], ""
    for vectorization in ("sync", "vector_entry_point"):
        config = replace(BASELINE, vectorization=vectorization)
        ours, theirs = [], []
        for seed in range(seeds or 10):
            ours.append(page(config, seed))
            theirs.append(sb3(config, seed))
            print(ours[-1], theirs[-1], flush=True)
        one, other = summary(ours), summary(theirs)
        times = {name: other[name] / one[name] for name in ("seconds", "steps")}
        results[vectorization] = dict(config=repr(config), page=ours, sb3=theirs, sb3_by_page=times)
        rows += [line(f"page, {vectorization}", ours), line("Stable-Baselines3", theirs)]
        text += f"\n{vectorization}: Stable-Baselines3 takes {times['seconds']:.1f} times the "
        text += f"seconds, {times['steps']:.2f} times the steps.\n"
    return results, study.table(HEAD, rows) + text


def one(name, seed):
    """One run of a task."""
    env_id, threshold, config = TASKS[name]
    learned, judged = pendulum() if name == "pendulum" else (gymnasium.make(env_id),) * 2
    state, run = study.learn(a2c, learned, config, seed, threshold)
    return run | study.evaluate(a2c, judged, config, state, threshold)


def task(name, seeds, jobs):
    _, threshold, config = TASKS[name]
    runs, spread = list(study.each_seed(partial(one, name), seeds or 10, jobs)), {}
    for key in ("return_last_100", "evaluation", "evaluation_greedy"):
        values = [run[key] for run in runs]
        spread[key] = dict(mean=float(np.mean(values)), sd=float(np.std(values, ddof=1)))
    means = ", ".join(
        f"{key.replace('_', ' ')} {x['mean']:.1f} ± {x['sd']:.1f}" for key, x in spread.items()
    )
    text = study.by_seed(runs, threshold) + f"\nMean and s.d. over seeds: {means}.\n"
    return dict(config=repr(config), threshold=threshold, spread=spread, runs=runs), text


PARTS = dict(cartpole=cartpole, baseline=baseline) | {name: partial(task, name) for name in TASKS}


def main():
    given = study.options(__doc__, PARTS, seeds=0, jobs=1, draw=False)
    for name in given.parts:
        path = RESULTS / f"a2c_{name}.json"
        if not given.draw:
            results, text = PARTS[name](given.seeds, given.jobs)
            print(text, flush=True)
            path = save(path.stem, "benchmarks.a2c", results)
            path.with_suffix(".md").write_text(text)
        if name in TASKS:
            record = json.loads(path.read_text())
            title = f"A2C on {TASKS[name][0]}"
            study.draw(record["runs"], title, record["threshold"], path.with_suffix(".png"))


if __name__ == "__main__":
    main()
