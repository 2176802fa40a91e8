from npgrad.autodiff import grad, jacobian, value_and_grad, vjp

__all__ = ["grad", "jacobian", "value_and_grad", "vjp"]
