"""RLax: its functions of one sequence, mapped over environments. Where an episode ends, discount_t
is 0, as in RLax's examples; where it was truncated, λ_t can be 0 instead."""

from functools import partial

import jax
import jax.numpy as jnp
import rlax

from benchmarks.field.judged import FEWER, Entry, estimated, returned


def over_environments(f, *axes):
    return jax.jit(jax.vmap(f, axes, 1))


GAE = over_environments(rlax.truncated_generalized_advantage_estimation, 1, 1, None, 1)
LAMBDA = over_environments(rlax.lambda_returns, 1, 1, 1, None)
LAMBDAS = over_environments(rlax.lambda_returns, 1, 1, 1, 1)
DISCOUNTED = over_environments(rlax.discounted_returns, 1, 1, 0)


def gae(rewards, values, last_value, dones, gamma, lam):
    values = jnp.append(values, last_value[None], axis=0)
    return GAE(rewards, gamma * (1.0 - dones), lam, values)


def lambda_returns(rewards, next_values, dones, gamma, lam):
    return LAMBDA(rewards, gamma * (1.0 - dones), next_values, lam)


def truncated_lambda_returns(rewards, next_values, terminated, truncated, gamma, lam):
    return LAMBDAS(rewards, gamma * (1.0 - terminated), next_values, lam * (1.0 - truncated))


def discounted_returns(rewards, last_value, dones, gamma):
    return DISCOUNTED(rewards, gamma * (1.0 - dones), last_value)


@partial(jax.jit, static_argnames="gamma")
def direction(logits, scores, A, R, gamma):
    """Return the descent direction of policy_gradient_loss, through ∂ logits/∂θ = scores."""
    G = rlax.discounted_returns(R, gamma * jnp.ones_like(R), 0.0)
    loss = lambda logits: rlax.policy_gradient_loss(logits, A, G, jnp.ones_like(G))
    return -jnp.einsum("ta,tad->d", jax.grad(loss)(logits), scores)


def policy_gradient(episode, policy):
    """Give ln π for the logits: those of the same softmax."""
    S, A = episode.S, episode.A
    return direction(jnp.log(policy.probs[S]), policy.scores[S], A, episode.R, episode.gamma)


ENTRIES = (
    Entry("truncated_generalized_advantage_estimation", returned, gae),
    Entry("lambda_returns, discount_t = 0 at ends",
          returned, lambda_returns, "returns",
          remark="where truncated, λ_t = 0 bootstraps: the next row"),
    Entry("lambda_returns, λ_t = 0 where truncated",
          returned, truncated_lambda_returns, "returns"),
    Entry("discounted_returns", returned, discounted_returns, "returns"),
    Entry("policy_gradient_loss of discounted_returns",
          estimated, policy_gradient, most=FEWER,
          remark="a mean over the sequence; w_t can undo it"),
)  # fmt: skip
