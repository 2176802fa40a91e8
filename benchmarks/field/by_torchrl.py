"""TorchRL: the functions of torchrl.objectives.value.functional.

Answers are judged in single precision: even for tensors of double precision, γ is rounded to it
where it is multiplied by the masks, which are integers.
"""

import torch  # noqa: F401  (in whose arrays the referee asks)
from torchrl.objectives.value import functional

from benchmarks.field.judged import Entry, returned


def gae(name):
    def asked(rewards, values, next_values, terminated, truncated, gamma, lam):
        f, ends = getattr(functional, name), terminated | truncated
        return f(gamma, lam, values, next_values, rewards, ends, terminated)[0].float()

    return asked


def td_lambda(name):
    def asked(rewards, next_values, terminated, truncated, gamma, lam):
        ends = terminated | truncated
        return getattr(functional, name)(gamma, lam, next_values, rewards, ends, terminated).float()

    return asked


def td1(name):
    def asked(rewards, next_values, terminated, truncated, gamma):
        ends = terminated | truncated
        return getattr(functional, name)(gamma, next_values, rewards, ends, terminated).float()

    return asked


def to_go(rewards, dones, gamma):
    return functional.reward2go(rewards, dones, gamma).float()


ENTRIES = (
    *(Entry(name, returned, ask(name), what, remark=remark) for name, ask, what, remark in (
        ("generalized_advantage_estimate", gae, "advantages", ""),
        ("vec_generalized_advantage_estimate", gae, "advantages",
         "what GAE uses with vectorized=True"),
        ("td_lambda_return_estimate", td_lambda, "returns", ""),
        ("vec_td_lambda_return_estimate", td_lambda, "returns",
         "what TDLambdaEstimator uses by default"),
        ("td1_return_estimate", td1, "returns", ""),
        ("vec_td1_return_estimate", td1, "returns", "what TD1Estimator uses by default"),
    )),
    Entry("reward2go", returned, to_go, "returns"),
)  # fmt: skip
