"""The calculus: automatic differentiation of plain NumPy, models, distributions, optimisers."""

from npgrad.autodiff import grad, jacobian, value_and_grad, vjp
from npgrad.check import central_differences, check_gradient, check_grads, complex_step
from npgrad.distributions import Gaussian, Softmax
from npgrad.models import beside, from_function, linear, linear_preferences, mlp
from npgrad.optimizers import OPTIMIZERS, clip_norm, soft_update
from npgrad.parameters import Layout

__all__ = [
    "OPTIMIZERS",
    "Gaussian",
    "Layout",
    "Softmax",
    "beside",
    "central_differences",
    "check_gradient",
    "check_grads",
    "clip_norm",
    "complex_step",
    "from_function",
    "grad",
    "jacobian",
    "linear",
    "linear_preferences",
    "mlp",
    "soft_update",
    "value_and_grad",
    "vjp",
]
