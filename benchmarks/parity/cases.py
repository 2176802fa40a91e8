"""The table of what is compared: (method, option, settings, twin, continuous actions?)."""

from dataclasses import replace
from typing import NamedTuple

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, natural_actor_critic, reinforce
from algorithms.common.asynchronous import OPTIMIZER
from algorithms.common.policy import Network
from algorithms.ddpg import Networks
from benchmarks.torch_twins import a2c as a2c_twins
from benchmarks.torch_twins import a3c as a3c_twins
from benchmarks.torch_twins import actor_critic as ac_twins
from benchmarks.torch_twins import async_q as q_twins
from benchmarks.torch_twins import ddpg as ddpg_twins
from benchmarks.torch_twins import natural_actor_critic as n_twins
from benchmarks.torch_twins import reinforce as r_twins
from npgrad.optimizers import OPTIMIZERS


class Case(NamedTuple):
    method: str
    option: str
    config: object
    Twin: type
    continuous: bool = False


USUAL = "as tutorials write it"
GAUSSIANS = {
    "Gaussian, exp": Network(),
    "Gaussian, softplus": Network(sigma="softplus"),
    "Gaussian, spherical": Network(spherical=True),
}
R = reinforce.Config(step_size=5e-4, step_size_w=1e-3)
N = natural_actor_critic.Config(gamma=0.5, damping_w=1.0, step_size=1e-2)
A2C = a2c.Config(beta=0.05, value_coef=0.7, precision="double")
A3C = a3c.Config(step_size=1e-3, beta=0.05, value_coef=0.7)
Q = dict(step_size=1e-3, I_target=100, epsilon_steps=1000)
DDPG = ddpg.Config(precision="double", warmup=0, replay=2000, step_size=1e-4,
                   networks=Networks(hidden=(64, 48)))  # fmt: skip
ACTOR_CRITIC = {
    "actor-critic": (actor_critic.OneStep(), ac_twins.Lean, ac_twins.Usual),
    "actor-critic-traces": (actor_critic.Traces(), ac_twins.LeanTraces, ac_twins.UsualTraces),
    "actor-critic-continuing": (
        actor_critic.Continuing(report_every=25), ac_twins.LeanContinuing, ac_twins.UsualContinuing
    ),
}  # fmt: skip
ASYNC_Q = {
    "async-q": (async_q.OneStepQ(**Q), q_twins.Usual, "batched", q_twins.Lean),
    "async-sarsa": (async_q.OneStepSarsa(**Q), q_twins.Usual, "batched", q_twins.Lean),
    "async-n-step-q": (async_q.NStepQ(**Q), q_twins.LeanNStep, USUAL, q_twins.UsualNStep),
}


def gaussians(**gentle):
    """(option, settings, continuous) with Gaussian actions; for gentle steps see measure.py."""
    return [(option, dict(network=net) | gentle, True) for option, net in GAUSSIANS.items()]


def cases(method, start, Lean, rows):
    """Cases from rows (option, settings[, continuous[, twin]]) of one start."""
    for option, settings, *rest in rows:
        continuous, Twin = (*rest, *(False, Lean)[len(rest) :])
        yield Case(method, option, replace(start, **settings), Twin, continuous)


def of_reinforce():
    rows = []
    for optimizer in OPTIMIZERS:  # sgd at 1e-3 is not stable: sums over episodes
        rates = dict(step_size=2e-4, step_size_w=2e-4) if optimizer == "sgd" else {}
        rows += [(f"baseline {b}", dict(optimizer=optimizer, baseline=b) | rates)
                 for b in ("none", "value")]  # fmt: skip
    moving = dict(form="moving")
    rows += [(USUAL, {}, False, r_twins.Usual), ("baseline mean", dict(baseline="mean"))]
    for weighting in ("total", "undiscounted_state"):
        rows.append((weighting, dict(weighting=weighting)))
        rows.append((f"{weighting}, moving", moving | dict(weighting=weighting), False,
                     r_twins.Moving))  # fmt: skip
    three = dict(episodes_per_update=3)
    rows += [
        ("moving", moving, False, r_twins.Moving),
        ("3 episodes per update", three),
        ("3 episodes per update, baseline mean", three | dict(baseline="mean")),
        ("linear", dict(network=Network("linear"))),
        *((f, dict(network=Network(hidden=(32, 32), activation=f)))
          for f in ("relu", "softplus", "elu")),
        ("Gaussian", dict(step_size=1e-4), True),
    ]  # fmt: skip
    return cases("reinforce", R, r_twins.Lean, rows)


def of_natural_actor_critic():
    shipped = natural_actor_critic.Config()
    gentle, linear = dict(step_size=1e-3), dict(network=Network("linear"))
    undamped = linear | gentle | dict(damping=0.0, damping_w=0.0)
    exp, *others = (
        (option, gentle | dict(network=replace(net, hidden=(16,))), True)
        for option, net in GAUSSIANS.items()
    )
    rows = [
        ("5 episodes per update", {}),
        exp,
        ("linear, 1 episode per update", linear | dict(episodes_per_update=1)),
        ("linear, shipped γ, λ and λ^w", vars(shipped) | linear | gentle),
        ("linear, undamped", undamped),
        *others,
        (USUAL, {}, False, n_twins.Usual),
    ]
    return cases("natural-actor-critic", N, n_twins.Lean, rows)


def of_actor_critic(method):
    start, Lean, Usual = ACTOR_CRITIC[method]
    rows = [("lean", dict(optimizer=optimizer)) for optimizer in OPTIMIZERS]
    rows += [(USUAL, {}, False, Usual), ("linear", dict(network=Network("linear")))]
    rows += gaussians(step_size=1e-4)
    return cases(method, replace(start, step_size=1e-3, step_size_w=1e-3), Lean, rows)


def workers():
    """Return the settings that every asynchronous method is tried with."""
    rows = [("two workers", dict(optimizer=optimizer)) for optimizer in OPTIMIZER]
    return [*rows, ("two workers, norm clipped", dict(max_norm=0.5))]


def of_async_q(method):
    start, Twin, option, Other = ASYNC_Q[method]
    one = f"one worker, {option}", dict(workers=1), False, Other
    return cases(method, start, Twin, [*workers(), one])


def of_a3c():
    gentle, shared = dict(step_size=2e-4), dict(trunk="shared")
    rows = [
        *workers(),
        (USUAL, {}, False, a3c_twins.Usual),
        ("t_max 20", dict(t_max=20)),
        ("shared trunk", shared),
        ("shared trunk, Gaussian", gentle | shared, True),
        *gaussians(**gentle),
    ]
    return cases("a3c", A3C, a3c_twins.Lean, rows)


def of_a2c():
    gentle, shared = dict(step_size=1e-4), dict(trunk="shared")
    rows = [
        *((reduction, dict(optimizer=optimizer, reduction=reduction))
          for optimizer in a2c.SETTINGS for reduction in ("sum", "mean")),
        (USUAL, {}, False, a2c_twins.Usual),
        ("GAE, λ = .9", dict(lam=0.9)),
        (f"GAE, λ = .9, {USUAL}", dict(lam=0.9), False, a2c_twins.Usual),
        ("annealed, norm clipped", dict(annealed=True, max_norm=0.1)),
        ("3 environments", dict(environments=3)),
        ("shared trunk", shared),
        ("shared trunk, Gaussian", gentle | shared, True),
        *gaussians(**gentle),
    ]  # fmt: skip
    return cases("a2c", A2C, a2c_twins.Lean, rows)


def of_ddpg():
    nets = lambda **how: dict(networks=Networks(hidden=(64, 48), **how))
    rows = [
        ("soft targets, as the paper", dict(networks=Networks()), True),
        ("soft targets", {}, True),
        (USUAL, {}, True, ddpg_twins.Usual),
        ("hard targets", dict(target="hard", copy_every=50), True),
        ("action at layer 1", nets(action_layer=1), True),
        ("no weight decay", nets(action_layer=1) | dict(l2=0.0), True),
        ("replay memory overwritten", dict(replay=300), True),
        *((f"batch normalisation, action at layer {k}",
           nets(action_layer=k, batch_norm=True) | dict(step_size_w=1e-4), True) for k in (1, 2)),
    ]  # fmt: skip
    return cases("ddpg", DDPG, ddpg_twins.Lean, rows)


CASES = {
    "reinforce": [*of_reinforce()],
    "natural-actor-critic": [*of_natural_actor_critic()],
    **{method: [*of_actor_critic(method)] for method in ACTOR_CRITIC},
    **{method: [*of_async_q(method)] for method in ASYNC_Q},
    "a3c": [*of_a3c()],
    "a2c": [*of_a2c()],
    "ddpg": [*of_ddpg()],
}
