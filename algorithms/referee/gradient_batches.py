"""Batches to compute a gradient from: drawn from a seed, saved as plain arrays, loaded again.

Fields of every batch, k being its number of steps (for ddpg, of transitions):

    theta          (d,) the parameters that d is for; the networks are x ↦ tanh(x W1 + b1) W2 + b2
    layout         {name: {"offset", "shape"}} of the arrays in θ, each in row-major order
    method, seed, continuous, trunk     what the batch was drawn for

of reinforce, actor-critic, a3c, a2c (names in θ: policy.W1 ..., value.W1 ...; with trunk "shared",
one network whose last output is v̂; a Gaussian's h is (μ, ω), σ = exp ω):

    S, S2          (k, 3) states, and the states that followed
    A              (k,) actions; or (k, 2), as drawn, where `low` and `high` (2,) bound what is done
    r              (k,) rewards
    terminated, truncated     (k,) true where the episode ended in that step
    environment, t (k,) the environment (episode, segment) of a step, and its time in its episode
    stops          (k,) true where the return stops, and bootstraps from S2 unless terminated
    real           (k,) false where a vector environment only reset itself (a2c)
    v, v_next      (k,) v̂ of S; v̂ of S2 where the return bootstraps from it, else 0
    R, advantage   (k,) the returns, and R − v
    weight         (k,) the factor of each step in the sum, without γ^t
    I              (k,) γ^t (actor-critic)
    gamma, beta, value_coef     γ, β, c

of async-n-step-q: S, S2, A, r, terminated, truncated, environment, stops, gamma as above, and
theta_target (d,), v_next = max_a Q(S2, a; θ⁻) or 0, the targets y (k,).

of ddpg-critic: theta is the critic's; S, S2, A (k, 2) in [−1, 1], r, terminated, truncated, gamma,
l2; actor, actor_target, critic_target (flat, as actor_layout and layout), the targets y (k,).
of ddpg-actor: theta is the actor's; S, A, and critic (flat, as critic_layout). Hidden layers of
ddpg are ReLU, the action enters at W2 after the hidden units, and the actor's output is a tanh.

of rmsprop and adam: theta, gradient (d,), step_size, eps, t (the steps from 1, this one counted);
decay and g (d,), or beta1, beta2, and m, v (d,): Kingma & Ba's, before this step.
"""

import json
import zipfile
from types import SimpleNamespace

import numpy as np
from gymnasium.spaces import Box, Discrete

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, reinforce
from algorithms.common.policy import Network, make_actor_critic, make_policy
from algorithms.common.world import Spaces
from algorithms.referee.guard import Unusable
from npgrad import ActorCritic, Layout, at

ACTING = ("reinforce", "actor-critic", "a3c", "a2c")
NAMES = (*ACTING, "ddpg-critic", "ddpg-actor", "async-n-step-q", "rmsprop", "adam")
SEGMENTS = 4, 3, 5  # lengths: the first terminates, the second is truncated, the third goes on
N_STEPS, ENVIRONMENTS, TRANSITIONS = 7, 3, 11
PAGES = {"reinforce": reinforce, "a3c": a3c, "async-n-step-q": async_q}
NETWORK = Network(hidden=(4,))


def batch(method, seed=0, continuous=False, trunk="separate") -> SimpleNamespace:
    """Return the batch of this method and seed; see the module. Raises Unusable."""
    checks = {
        "method": (method, NAMES),
        "continuous": (continuous, (False, True) if method in ACTING else (False,)),
        "trunk": (trunk, ("separate", "shared") if method in ("a3c", "a2c") else ("separate",)),
    }
    for name, (value, allowed) in checks.items():
        if value not in allowed:
            one = " or ".join(map(str, allowed))
            raise Unusable(f"{name} = {value}: must be {one} for {method}")
    if not isinstance(seed, int) or seed < 0:
        raise Unusable(f"seed = {seed}: must be a whole number of at least 0")
    made = SimpleNamespace(method=method, seed=seed, continuous=continuous, trunk=trunk)
    rng = np.random.default_rng(seed)
    if method in ("rmsprop", "adam"):
        return _optimizer_batch(made, rng)
    if method.startswith("ddpg"):
        return _ddpg_batch(made, rng)
    draw_steps(made, rng)
    model = network_of(made)
    made.theta = _drawn(rng, model)
    if method == "async-n-step-q":
        made.theta_target = _drawn(rng, model)
        made.A = rng.integers(0, 3, len(made.S))
        made.layout = _named(model.layout)
        return derived(made)
    made.beta, made.value_coef = 0.01, 0.4
    made.layout = _named(model.layout)
    if trunk == "separate":
        made.layout = _named(Layout(policy=0, value=0), model.first.layout, model.second.layout)
    pi = policy_of(made).at(made.theta, made.S)
    made.A = pi.sample(policy_of(made).head.noise(rng, len(made.S)))
    if continuous:
        made.low, made.high = -np.ones(2), np.ones(2)
    return derived(made)


def _drawn(rng, model):
    """θ of which every part matters: no layer starts small."""
    return 0.6 * rng.standard_normal(model.layout.size)


def _named(layout, *parts):
    """{name: offset and shape} of a layout, or of parts that lie one after the other."""
    pieces = [(f"{part}.", inner) for part, inner in zip(layout.shapes, parts)] or [("", layout)]
    found, offset = {}, 0
    for prefix, inner in pieces:
        for name, shape in inner.shapes.items():
            found[prefix + name] = {"offset": offset, "shape": shape}
            offset += int(np.prod(shape))
    return found


# Steps of a policy


def draw_steps(made, rng):
    """Put segments, or for a2c n steps of N environments, into the batch."""
    if made.method == "a2c":
        _draw_vector(made, rng)
    else:
        states = [rng.standard_normal((n + 1, 3)) for n in SEGMENTS]
        made.S = np.concatenate([s[:-1] for s in states])
        made.S2 = np.concatenate([s[1:] for s in states])
        made.environment = np.repeat(np.arange(len(SEGMENTS)), SEGMENTS)
        begun = (0, 2, 5) if made.method == "a3c" else (0, 0, 0)
        made.t = np.concatenate([np.arange(n) + t for n, t in zip(SEGMENTS, begun)])
        ends = np.cumsum(SEGMENTS) - 1
        made.terminated, made.truncated, made.stops = np.zeros((3, len(made.S)), bool)
        made.terminated[ends[0]] = made.truncated[ends[1]] = True
        made.terminated[ends[2]] = made.method == "reinforce"  # which learns from whole episodes
        made.stops[ends] = True
        made.stops |= made.method == "actor-critic"
        made.real = np.ones(len(made.S), bool)
    made.r = rng.standard_normal(len(made.S))
    made.r[~made.real] = 0.0
    made.gamma = 0.9


def _draw_vector(made, rng):
    """Environment 0 terminates in step 2, 1 is truncated in step 4; their next steps only reset."""
    n, N = N_STEPS, ENVIRONMENTS
    states = rng.standard_normal((n + 1, N, 3))
    terminated, truncated, stops = np.zeros((3, n, N), bool)
    real, t = np.ones((n, N), bool), np.arange(n)[:, None] + [0, 3, 5]
    terminated[2, 0] = truncated[4, 1] = True
    real[3, 0] = real[5, 1] = False
    t[4:, 0], t[6:, 1] = np.arange(3), 0
    stops[:] = terminated | truncated
    stops[-1] = True
    made.S, made.S2 = states[:-1].reshape(-1, 3), states[1:].reshape(-1, 3)
    made.environment = np.tile(np.arange(N), n)
    flat = {"terminated": terminated, "truncated": truncated, "stops": stops, "real": real, "t": t}
    for name, x in flat.items():
        setattr(made, name, x.ravel())


def policy_of(made):
    """The Policy of a batch, its value beside it."""
    action = Box(-1.0, 1.0, (2,)) if made.continuous else Discrete(3)
    return make_actor_critic(Spaces(Box(-np.inf, np.inf, (3,)), action), NETWORK, made.trunk)


def network_of(made):
    """The model of (h, v), or of Q."""
    if made.method in ACTING:
        return policy_of(made).model
    return make_policy(Spaces(Box(-np.inf, np.inf, (3,)), Discrete(3)), NETWORK).model


def returns_of(made, r, v_next):
    """The page's returns (k,) of rewards and of the values (k,) from which they bootstrap."""
    if made.method == "a2c":
        shaped = [x.reshape(N_STEPS, ENVIRONMENTS) for x in (r, made.stops, v_next)]
        return a2c.returns(shaped[0], made.gamma, *shaped[1:]).ravel()
    if made.method == "actor-critic":
        return one_step(made.gamma, r, v_next).delta
    parts = [made.environment == i for i in range(len(SEGMENTS))]
    page = PAGES[made.method]
    return np.concatenate([page.returns(r[i], made.gamma, v_next[i][-1]) for i in parts])


def one_step(gamma, R, v2, v=0.0, I=1.0):
    """δ and I δ (k,) of the page's box in steps R (k,), and the next I.

    Its gradients are 1 and its step sizes 1, so that θ and w of 0 become I δ and δ.
    """
    config = actor_critic.OneStep(gamma=gamma, optimizer="sgd", step_size=1.0, step_size_w=1.0)
    k, none, number = len(R), np.empty((0, len(R))), lambda c: c * np.ones(len(R))
    state = SimpleNamespace(theta=np.zeros(k), w=np.zeros(k), theta_statistics=none,
                            w_statistics=none, I=np.copy(I), optimizer_steps=0)  # fmt: skip
    actor_critic.one_step(config, state, R, v, v2, number, number)
    return SimpleNamespace(delta=state.w, weighted=state.theta, I=state.I)


def outputs(made):
    """(network, h, v) on the rows S and then S2: (2k, size) and (2k,)."""
    net, both = ActorCritic(policy_of(made).model, made.theta), np.concatenate([made.S, made.S2])
    net.act(both)
    return net, *net.evaluate(both, len(both))


def bootstraps(made):
    return made.stops & ~made.terminated


def derived(made):
    """Add what the page computes from the rest of a batch: values, returns, targets, weights."""
    if made.method == "async-n-step-q":
        q2 = network_of(made)(made.theta_target, made.S2)
        made.v_next = np.where(bootstraps(made), q2.max(1), 0.0)
        made.y = returns_of(made, made.r, made.v_next)
        return made
    if made.method == "ddpg-critic":
        made.y = ddpg_targets(made, made.terminated, made.actor_target, made.critic_target)
    if made.method in ACTING:
        k, v = len(made.S), outputs(made)[2]
        made.v, made.v_next = v[:k].copy(), np.where(bootstraps(made), v[k:], 0.0)
        made.R = returns_of(made, made.r, made.v_next)
        made.advantage = made.R - made.v
        made.weight = made.real * next(iter(reductions(made, made.real).values()))
    if made.method == "actor-critic":
        made.I = np.ones(k)
        for i in np.flatnonzero(made.t):
            made.I[i] = one_step(made.gamma, np.zeros(1), 0.0, I=made.I[i - 1]).I
    return made


def reductions(made, counted):
    """{reduction: the factor of every step that counts}, the page's first."""
    k, N, steps = len(made.r), 1 + int(made.environment.max()), np.count_nonzero(counted)
    if made.method == "a2c":
        found = {"mean over steps": steps, "sum over steps, mean over environments": N, "sum": 1,
                 "mean over steps, reset steps in the number": k,
                 "mean over steps, sum over environments": k / N}  # fmt: skip
    elif made.method == "reinforce":
        found = {"sum over steps, mean over episodes": N, "sum": 1, "mean over steps": steps}
    else:
        found = {"sum": 1, "mean over steps": steps, "mean over environments": N}
    return {name: 1.0 / n for name, n in found.items()}


# DDPG and the optimisers


def ddpg_models():
    """(actor, critic) of the page, small."""
    spaces = Spaces(Box(-np.inf, np.inf, (3,)), Box(-1.0, 1.0, (2,)))
    return ddpg.models(spaces, ddpg.Config(networks=ddpg.Networks(hidden=(6, 5))))


def ddpg_targets(made, terminated, actor, critic):
    """The page's y (k,), by the networks at these parameters."""
    mu, q = ddpg_models()
    q2 = at(q, critic).forward(made.S2, u=at(mu, actor).forward(made.S2))[:, 0]
    return ddpg.targets(made, made.r, terminated, q2)


def _ddpg_batch(made, rng):
    mu, q = ddpg_models()
    made.S, made.A = rng.standard_normal((TRANSITIONS, 3)), rng.uniform(-1, 1, (TRANSITIONS, 2))
    if made.method == "ddpg-actor":
        made.theta, made.critic = _drawn(rng, mu), _drawn(rng, q)
        made.layout, made.critic_layout = _named(mu.layout), _named(q.layout)
        return made
    made.theta, made.critic_target = _drawn(rng, q), _drawn(rng, q)
    made.actor, made.actor_target = _drawn(rng, mu), _drawn(rng, mu)
    made.layout, made.actor_layout = _named(q.layout), _named(mu.layout)
    made.S2, made.r = rng.standard_normal((TRANSITIONS, 3)), rng.standard_normal(TRANSITIONS)
    made.terminated, made.truncated = np.zeros((2, TRANSITIONS), bool)
    made.terminated[[2, 7]], made.truncated[[4, 9]] = True, True
    made.gamma, made.l2 = 0.9, 0.01
    return derived(made)


def _optimizer_batch(made, rng):
    d = 20
    made.theta, made.gradient = rng.standard_normal((2, d))
    made.t, made.step_size, made.eps = 3, 3e-3, 0.1
    if made.method == "rmsprop":
        made.decay, made.g = 0.95, rng.uniform(0.5, 2.0, d)
    else:
        made.beta1, made.beta2, made.eps = 0.8, 0.97, 1e-3
        made.m, made.v = 0.3 * rng.standard_normal(d), rng.uniform(0.1, 1.0, d)
    made.layout = _named(Layout(theta=d))
    return made


# Files


def save(made, file):
    """Write a batch into an open binary file: its arrays, and the rest as a JSON text `meta`."""
    fields = vars(made)
    arrays = {name: x for name, x in fields.items() if isinstance(x, np.ndarray)}
    meta = json.dumps({name: x for name, x in fields.items() if name not in arrays})
    np.savez(file, meta=np.array(meta), **arrays)


def load(path):
    """Return the batch in a file that `save` wrote. Raises Unusable, and OSError."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        meta = json.loads(str(arrays.pop("meta")))
        drawn = {name: meta[name] for name in ("method", "seed", "continuous", "trunk")}
    except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise Unusable(f"{path} is no batch that npgrad referee dump wrote") from error
    like = vars(batch(**drawn))
    for name, x in like.items():
        given = arrays.get(name) if isinstance(x, np.ndarray) else meta.get(name)
        if np.shape(given) != np.shape(x) or np.asarray(given).dtype != np.asarray(x).dtype:
            if isinstance(x, (np.ndarray, float, int)):
                raise Unusable(f"{path}: {name} of shape {np.shape(given)}: must be as dumped")
    own = {name: arrays.get(name, meta.get(name)) for name in like if not name.endswith("layout")}
    made = SimpleNamespace(**(like | own))
    for name, x in vars(derived(SimpleNamespace(**vars(made)))).items():
        if isinstance(x, np.ndarray) and not np.allclose(x, own[name], 1e-9, 1e-9):
            raise Unusable(f"{path}: {name} is not what the page computes from the rest")
    return made
