"""PyTorch: steps of its optimisers, from statistics as given."""

import torch

from benchmarks.field.judged import Entry, differentiated


def stepped(optimizer, x, theta, made, **state):
    """Return θ's step by an optimiser of x, a parameter, in this state."""
    optimizer.state[x] = state
    x.grad = torch.tensor(made.gradient)
    optimizer.step()
    return x.detach().numpy() - theta


def rmsprop(kind):
    """Return what asks for the step of a class like torch.optim.RMSprop."""

    def asked(theta, made):
        x = torch.nn.Parameter(torch.tensor(theta))
        optimizer = kind([x], lr=made.step_size, alpha=made.decay, eps=made.eps)
        step = torch.tensor(float(made.t - 1))
        return stepped(optimizer, x, theta, made, step=step, square_avg=torch.tensor(made.g))

    return asked


def adam(theta, made):
    x = torch.nn.Parameter(torch.tensor(theta))
    betas = made.beta1, made.beta2
    optimizer = torch.optim.Adam([x], lr=made.step_size, betas=betas, eps=made.eps)
    step, m, v = (torch.tensor(y) for y in (float(made.t - 1), made.m, made.v))
    return stepped(optimizer, x, theta, made, step=step, exp_avg=m, exp_avg_sq=v)


ENTRIES = (
    Entry("optim.RMSprop", differentiated, rmsprop(torch.optim.RMSprop), "rmsprop",
          remark="its documentation: the root is taken before ε is added"),
    Entry("optim.Adam", differentiated, adam, "adam"),
)  # fmt: skip
