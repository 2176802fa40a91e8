"""DDPG beside its twin."""

from dataclasses import replace
from unittest.mock import patch

import torch

from algorithms import ddpg as page
from benchmarks.parity.measure import Beside, Displayed, Update, lengths, recorded
from benchmarks.parity.world import Recorder, Replay, System
from benchmarks.torch_twins import ddpg as twins

METHODS = ("ddpg",)
START = page.Config(
    precision="double",
    warmup=0,
    replay=2000,
    step_size=1e-4,
    networks=page.Networks(hidden=(64, 48)),
)
LOOK = 10  # updates from one look at the targets to the next: they take memory


def cases(method):
    """(option, config, continuous actions, the twin)."""
    first = page.Networks(hidden=(64, 48), action_layer=1)
    yield "soft targets, as the paper", replace(START, networks=page.Networks()), True, twins.Lean
    yield "soft targets", START, True, twins.Lean
    yield "as tutorials write it", START, True, twins.Usual
    yield "hard targets", replace(START, target="hard", copy_every=50), True, twins.Lean
    yield "action at layer 1", replace(START, networks=first), True, twins.Lean
    yield "no weight decay", replace(START, l2=0.0, networks=first), True, twins.Lean
    yield "replay memory overwritten", replace(START, replay=300), True, twins.Lean
    for at in (1, 2):
        nets = page.Networks(hidden=(64, 48), action_layer=at, batch_norm=True)
        gentle = replace(START, networks=nets, step_size_w=1e-4)  # see benchmarks.parity.measure
        yield f"batch normalisation, action at layer {at}", gentle, True, twins.Lean


def displayed():
    return dict(
        critic_gradient=Displayed(page.critic_gradient, twins.critic_loss, (0, 2)),
        actor_gradient=Displayed(page.actor_gradient, lambda q: -twins.actor_loss(q)),
    )


def run(config, continuous, updates):
    """Record a learning run of at least so many updates, each of which is a pair, of w and of θ;
    also: [(indices of the batch, (w⁻, θ⁻) or None), ...]."""
    env, given, also, adam = Recorder(System(continuous, limit=1.5)), [], [], page.adam

    def noting(d, *rest):
        given.append(d.copy())
        return adam(d, *rest)

    def note(config, state, replay, *rest):
        looked_at = state.updates % LOOK == 0
        targets = (state.w_target.copy(), state.theta_target.copy()) if looked_at else None
        also.append((replay.indices.copy(), targets))
        of_theta, of_w = given.pop(), given.pop()
        return Update(of_w, state.w.copy()), Update(-of_theta, state.theta.copy())

    with patch.object(page, "adam", noting):
        record = recorded(page, env, config, displayed(), updates, "learn", note)
    return record._replace(also=also)


def follow(Twin, record, led):
    """Let a twin learn from the same steps and batches, and return [Beside] of critic and actor."""
    config, replay = record.config, Replay(record.envs[0])
    actor, critic = page.models(replay, config)
    twin = Twin(replay, config, actor, critic, record.start, torch.float64)
    twin.explore = lambda: torch.from_numpy((replay.action() - twin.middle) / twin.half)
    twin.draw = lambda stored: torch.from_numpy(record.also[twin.updates][0])
    of_w, of_theta = zip(*record.updates)
    besides = [Beside(of_w, lengths(critic), led), Beside(of_theta, lengths(actor), led)]
    besides[0].watch(twin.critic_adam, twin.q.tensors())
    besides[1].watch(twin.actor_adam, twin.mu.tensors())
    for _, targets in record.also:
        last = twin.updates
        while twin.updates == last:
            twin.step()
        for beside, theta, net in zip(besides, targets or (), (twin.q_target, twin.mu_target)):
            beside.compare(theta, net.tensors())
    return besides
