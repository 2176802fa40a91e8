"""DDPG beside its twin."""

from dataclasses import replace

import numpy as np
import torch

from algorithms import ddpg
from benchmarks.parity.measure import Row, Spy, apart, parted, tensor
from benchmarks.parity.world import Recorder, Replay, World
from benchmarks.torch_twins import ddpg as twins

METHODS = ("ddpg",)
START = ddpg.Config(
    precision="double",
    warmup=0,
    replay=2000,
    step_size=1e-4,
    networks=ddpg.Networks(hidden=(64, 48)),
)


def cases(method):
    """(option, config, the twin)."""
    first = ddpg.Networks(hidden=(64, 48), action_layer=1)
    yield "soft targets, as the paper", replace(START, networks=ddpg.Networks()), twins.Lean
    yield "soft targets", START, twins.Lean
    yield "as tutorials write it", START, twins.Usual
    yield "hard targets", replace(START, target="hard", copy_every=50), twins.Lean
    yield "action at layer 1", replace(START, networks=first), twins.Lean
    yield "no weight decay", replace(START, l2=0.0, networks=first), twins.Lean
    yield "replay memory overwritten", replace(START, replay=300), twins.Lean
    for at in (1, 2):
        nets = ddpg.Networks(hidden=(64, 48), action_layer=at, batch_norm=True)
        option = f"batch normalisation, action at layer {at}"
        yield option, replace(START, networks=nets), twins.Normalised


def gradients(config, env):
    """{argument of train: (the page's gradient, the twin's)}, of the same arguments."""
    models = ddpg.models(env, config)
    Twin = twins.Normalised if config.networks.batch_norm else twins.Lean
    layers = lambda model, theta: Twin.tensors(model, theta, torch.float64)

    def autograd(loss, net):
        moving = [x for x in twins.in_order(net) if x.requires_grad]
        for x, d in zip(moving, torch.autograd.grad(loss, moving)):
            x.grad = d
        pieces = [torch.zeros_like(x) if x.grad is None else x.grad for x in twins.in_order(net)]
        return torch.cat([d.reshape(-1) for d in pieces]).numpy()

    def of_critic(w, _, S, U, y, l2):
        q = layers(models[1], w)
        predicted = Twin.critic(q, models[1].at, tensor(S), tensor(U))
        matrices = [x for x in twins.in_order(q) if x.ndim > 1]
        return autograd(twins.critic_loss(predicted, tensor(y)[:, None], matrices, l2), q)

    def of_actor(theta, *data):
        _, _, w, S = data
        mu, q = layers(models[0], theta), layers(models[1], w)
        value = Twin.critic(q, models[1].at, tensor(S), Twin.actor(mu, tensor(S)))
        return -autograd(twins.actor_loss(value), mu)

    return dict(
        critic_gradient=(ddpg.critic_gradient, of_critic),
        actor_gradient=(ddpg.actor_gradient, of_actor),
    )


class Noted(np.random.Generator):
    """A generator that keeps the batches of integers it draws."""

    def __init__(self, bit_generator):
        super().__init__(bit_generator)
        self.batches = []

    def integers(self, *bounds, size=None):
        drawn = super().integers(*bounds, size=size)
        if size is not None:
            self.batches.append(drawn)
        return drawn


class Noting(Recorder):
    """Keeps copies of the State's vectors as they are before each step, too."""

    def __init__(self, env):
        super().__init__(env)
        self.states, self.state = [], None

    def note(self):
        names = "theta", "w", "theta_target", "w_target"
        self.states.append([getattr(self.state, name).copy() for name in names])

    def step(self, a):
        self.note()
        return super().step(a)


def world():
    return World(continuous=True, limit=1.5)


def run(config, updates, **gradients):
    """The page learns: its environment, which has noted all; its State, whose rng has, too."""
    env = Noting(world())
    env.state = state = ddpg.init(env, config, 0)
    state.rng = Noted(state.rng.bit_generator)
    learning = ddpg.train(env, config, state, **gradients)
    while state.updates < updates:
        next(learning)
    env.note()
    return env, state


def follow(config, Twin, env, state):
    """The twin learns from the same steps, of which it draws the same: the largest difference of
    its parameters and targets."""
    replay, (actor, critic) = Replay(env), ddpg.models(env, config)
    twin = Twin(replay, config, actor, critic, ddpg.init(env, config, 0), torch.float64)
    half, batches = twin.half, iter(state.rng.batches)
    twin.explore = lambda: torch.from_numpy((replay.action() - twin.middle) / half)
    twin.draw = lambda stored: torch.from_numpy(next(batches))
    models, differences = (actor, critic) * 2, []
    lengths = [[int(np.prod(x)) for x in model.layout.shapes.values()] for model in models]
    for ours in env.states[1:]:
        twin.step()
        theirs = [twins.flat(x) for x in (twin.mu, twin.q, twin.mu_target, twin.q_target)]
        for model, *pair in zip(models, ours, theirs):
            for theta in pair:
                from_one(model, theta)
        differences += [apart(*triple) for triple in zip(lengths, ours, theirs)]
    return float(np.max(differences))


def from_one(model, theta):
    """Where inputs and layer 1 are both normalised, count the inputs' b and layer 1's mean from 1,
    the scale of what they shift: layer 1 takes that b away again, so that its gradient, and with it
    b and the mean, are 0 but for rounding."""
    if 1 in model.normed:
        (_, b, *_), (*_, mean, _) = model.layers(theta)[:2]
        b += 1.0
        mean += 1.0


def row(method, case, updates):
    """The Row of one of the cases."""
    option, config, Twin = case
    spies = {name: Spy(*pair) for name, pair in gradients(config, world()).items()}
    run(config, updates, **spies)
    env, state = run(config, updates)
    parameters = parted(follow, config, Twin, env, state)
    gradient = float(np.max([spy.worst for spy in spies.values()]))
    return Row(method, option, "adam", gradient, parameters, state.updates)
