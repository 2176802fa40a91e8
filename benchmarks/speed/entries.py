"""The table of the methods' races: which page, settings and environment, beside which twins.

torch computes in float32 (its default, and what the environments observe; float64 was no faster).
The page takes part in its own precision or, where that is double, in both. All networks are 64-64,
tanh, unless said otherwise (natural actor–critic: one hidden layer of 16). "own policy" is the page
with that network as a NumPy function of the user's, whose derivative is the tape's; "compiled" is
the same handed to npgrad.compiled. Except in DDPG's races every step size is 0, or too small to
move a parameter, so that all of the work is done and nothing moves: each contestant meets the same
distribution of episodes, at the start (episodes of about 20 steps) or at a θ that the page has
learned (hundreds).

DDPG learns. One step and one update of both networks and both targets are a unit; acting, storing
and sampling are included. "ten products" is what the ten large matrix products of an update alone
take, hidden layer by hidden layer over the batch: with the action at the first hidden layer five
forward, two for weights and three for inputs; with the action at the second nine, for the actor's
gradient needs only ∂Q/∂u, which does not go through it. torch and Stable-Baselines3 take their
turns with torch.set_flush_denormal(True): their Adam's moments decay into denormal numbers, too,
which can cost many times as much; the page sees to that by itself. Slowdown: the page's time per
update around update 5,000 and around update 500, each over the products' time next to it, times
their median.

A3C's processes: environment steps per second, by the wall's clock, of two processes and of one, in
turn, each first in every second round.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, natural_actor_critic, reinforce
from algorithms.ddpg import Networks
from benchmarks.torch_twins import a2c as a2c_twins
from benchmarks.torch_twins import a3c as a3c_twins
from benchmarks.torch_twins import actor_critic as ac_twins
from benchmarks.torch_twins import async_q as q_twins
from benchmarks.torch_twins import ddpg as ddpg_twins
from benchmarks.torch_twins import natural_actor_critic as n_twins
from benchmarks.torch_twins import reinforce as r_twins

USUAL, LEAN, GUMBEL, BARE = "torch usual", "torch lean", "torch lean, Gumbel", "torch bare"
SB3 = "Stable-Baselines3"


class Entry(NamedTuple):
    """One race. steps: about so many in a turn. checked: settings with which the twins are compared
    with the page before it, besides those of the race. vector: kind of vector environment."""

    setting: str
    config: object
    twins: Mapping
    steps: int
    checked: Mapping = MappingProxyType({})
    env: str = "CartPole-v1"
    vector: str = ""
    learned: object = None  # (config, steps) of a run whose parameters all have
    both: bool = True  # precisions
    rival: bool = False  # Stable-Baselines3
    own: bool = False  # also the page with a policy of the user's own, plain and compiled


def of_reinforce(quick):
    twins = {USUAL: r_twins.Usual, LEAN: r_twins.Lean, GUMBEL: r_twins.Gumbel, BARE: r_twins.Bare}
    for source, steps in learning(quick):
        for baseline in ("none", "value"):
            config = reinforce.Config(baseline=baseline, step_size=0.0, step_size_w=0.0)
            yield Entry(f"REINFORCE, baseline {baseline}, {source} θ", config, twins, 3000,
                        learned=(reinforce.Config(), steps), both=False)  # fmt: skip


def of_natural_actor_critic(quick):
    """θ stands still; v̂ learns, which changes no episode."""
    twins, checked = {USUAL: n_twins.Usual, LEAN: n_twins.Lean}, dict(gamma=0.5, damping_w=1.0)
    for source, steps in learning(quick):
        config = natural_actor_critic.Config(step_size=0.0)
        yield Entry(f"natural actor–critic, 16, {source} θ", config, twins, 3000, checked,
                    learned=(natural_actor_critic.Config(), steps), both=False)  # fmt: skip


def of_actor_critic(quick):
    still = dict(optimizer="rmsprop_outside", step_size=1e-30, step_size_w=2e-30)
    for method, Config, Usual, Lean, Gumbel in (
        ("one-step", actor_critic.OneStep, ac_twins.Usual, ac_twins.Lean, ac_twins.Gumbel),
        ("traces", actor_critic.Traces, ac_twins.UsualTraces, ac_twins.LeanTraces,
         ac_twins.GumbelTraces),
    ):  # fmt: skip
        twins = {USUAL: Usual, LEAN: Lean, GUMBEL: Gumbel}
        yield Entry(f"actor–critic, {method}", Config(**still), twins, 1000,
                    own=method == "one-step")  # fmt: skip


def of_async_q(quick):
    """Updates of 5 steps; ε is where it ends, 0.1, and θ⁻ is copied every 1,000 steps."""
    still = dict(workers=1, T_max=10**9, step_size=0.0, annealed=False, final_epsilons=(0.1,),
                 epsilon_chances=(1.0,), epsilon_steps=1)  # fmt: skip
    checked = dict(step_size=1e-3, I_target=50)  # so that θ⁻ differs from θ
    for method, Config, Usual, Lean in (
        ("one-step Q", async_q.OneStepQ, q_twins.Usual, q_twins.Lean),
        ("n-step Q, t_max 5", async_q.NStepQ, q_twins.UsualNStep, q_twins.LeanNStep),
    ):
        yield Entry(method, Config(**still), {USUAL: Usual, LEAN: Lean}, 2000, checked)


STILL = a3c.Config(workers=1, T_max=10**9, step_size=0.0, annealed=False)


def of_a3c(quick):
    twins = {USUAL: a3c_twins.Usual, LEAN: a3c_twins.Lean, GUMBEL: a3c_twins.Gumbel}
    for source, steps in learning(quick):
        learned = a3c.Config(T_max=max(1, steps), t_max=20, step_size=2e-3, eps=1e-5), steps
        for t_max in (5, 20):
            yield Entry(f"A3C, one worker, t_max {t_max}, {source} θ", replace(STILL, t_max=t_max),
                        twins, 2000, learned=learned, own=t_max == 5)  # fmt: skip


def of_a2c(quick):
    """8 in Gymnasium's SyncVectorEnv, 8 and 64 in the vector environment that CartPole brings."""
    for setting, vector, N in (
        ("SyncVectorEnv of 8", "sync", 8),
        ("CartPole's own of 8", "vector_entry_point", 8),
        ("CartPole's own of 64", "vector_entry_point", 64),
    ):
        yield a2c_entry(f"A2C, {setting}", vector, N, 40)
    yield a2c_entry("A2C with GAE, λ = .95, CartPole's own of 8", "vector_entry_point", 8, 40, 0.95)


def a2c_entry(setting, vector, N, updates, lam=1.0):
    twins = {USUAL: a2c_twins.Usual, LEAN: a2c_twins.Lean, GUMBEL: a2c_twins.Gumbel}
    config = a2c.Config(environments=N, step_size=0.0, annealed=False, T_max=10**9, lam=lam,
                        reduction="mean")  # fmt: skip
    checked = dict(precision="double", environments=8)
    return Entry(setting, config, twins, updates * config.n_steps * N, checked, vector=vector,
                 both=False, rival=True, own=vector != "sync" and N == 8)  # fmt: skip


PAPER = "400-300, batch 64, as the paper: action at layer 2, weight decay"


def of_ddpg(quick):
    twins = {USUAL: ddpg_twins.Usual, LEAN: ddpg_twins.Lean}
    common = dict(replay=100_000, warmup=200, tau=5e-3, l2=0.0)
    checked = dict(precision="double", batch=8, replay=1000, warmup=0)
    for setting, settings in (
        ("400-300, batch 64", dict(networks=Networks(action_layer=1))),
        ("256-256, batch 256", dict(batch=256, networks=Networks((256, 256), action_layer=1))),
        (PAPER, dict(l2=1e-2)),
    ):
        yield Entry(f"DDPG, {setting}", ddpg.Config(**common | settings), twins, 400, checked,
                    "Pendulum-v1", both=False, rival=setting != PAPER)  # fmt: skip


def learning(quick):
    return ("start", 0), ("learned", 2000 if quick else 40_000)


ENTRIES = dict(reinforce=of_reinforce, natural_actor_critic=of_natural_actor_critic,
               actor_critic=of_actor_critic, async_q=of_async_q, a3c=of_a3c, a2c=of_a2c,
               ddpg=of_ddpg)  # fmt: skip
