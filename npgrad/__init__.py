"""The calculus: automatic differentiation of plain NumPy, networks, distributions, optimisers."""

from npgrad.autodiff import grad, jacobian, value_and_grad, vjp
from npgrad.check import CannotTell, Verdict, check_gradient, check_grads, compare
from npgrad.compiled import compiled
from npgrad.distributions import Gaussian, Head, Product, Softmax, gaussian, product, softmax
from npgrad.explain import explain
from npgrad.networks import (
    ActorCritic,
    at,
    beside,
    from_function,
    linear,
    linear_preferences,
    mlp,
)
from npgrad.numeric import central_differences, complex_step
from npgrad.optimizers import OPTIMIZERS, clip_norm, soft_update
from npgrad.parameters import Layout
from npgrad.types import Array

__all__ = [
    "OPTIMIZERS",
    "ActorCritic",
    "Array",
    "CannotTell",
    "Gaussian",
    "Head",
    "Layout",
    "Product",
    "Softmax",
    "Verdict",
    "at",
    "beside",
    "central_differences",
    "check_gradient",
    "check_grads",
    "clip_norm",
    "compare",
    "compiled",
    "complex_step",
    "explain",
    "from_function",
    "gaussian",
    "grad",
    "jacobian",
    "linear",
    "linear_preferences",
    "mlp",
    "product",
    "soft_update",
    "softmax",
    "value_and_grad",
    "vjp",
]
