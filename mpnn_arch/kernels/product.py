"""One round's product on one backend, differentiable any number of times.

    y_v = sum over u in N(v) of W_vu x_u

is linear in x and in W, so its gradients are two products of the same kind, whose own gradients are
again among the three: a backend implements the three as plain functions, and derivatives of any
order follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels import backends
from mpnn_arch.kernels.backends import Backend
from mpnn_arch.kernels.dispatch.tracing import is_transformed
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan


@dataclass(eq=False, slots=True)
class Product:
    """One backend's three products on one plan; ``geometry`` is None for vectors.

    Attributes:
        run: y from x and W, for a batch that is not empty.
    """

    plan: RoundPlan
    backend: Backend
    geometry: ConvGeometry | None = None
    run: Callable[[Tensor, Tensor], Tensor] = field(init=False)

    def __post_init__(self) -> None:
        if self.geometry is None:
            self.run = partial(self.backend.linear_forward, plan=self.plan)
        else:
            _, stride, padding, dilation = self.geometry
            self.run = partial(
                self.backend.conv2d_forward,
                plan=self.plan,
                stride=stride,
                padding=padding,
                dilation=dilation,
            )

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """The round on eager, untransformed tensors, for a batch that is not empty."""
        if (
            not self.backend.DIFFERENTIABLE
            and torch.is_grad_enabled()
            and (x.requires_grad or weight.requires_grad)
        ):
            y: Tensor = _apply_forward(x, weight, self)
            return y
        return self.run(x, weight)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """y from x and W, for any batch."""
        if x.numel():
            return self.run(x, weight)
        space = self.geometry.output_size(x.shape[2:]) if self.geometry else ()
        return x.new_zeros(x.shape[0], self.plan.out_channels, *space)

    def grad_input(self, grad: Tensor, weight: Tensor, input_size: Any) -> Tensor:
        """The gradient with respect to x, from that with respect to y, and W."""
        if not grad.numel():
            return grad.new_zeros(tuple(input_size))
        g = self.geometry
        if g is None:
            return self.backend.linear_grad_input(grad, weight, self.plan)
        return self.backend.conv2d_grad_input(
            grad, weight, self.plan, tuple(input_size), g.stride, g.padding, g.dilation
        )

    def grad_weight(self, grad: Tensor, x: Tensor) -> Tensor:
        """The gradient with respect to W, from that with respect to y, and x."""
        g = self.geometry
        kernel = () if g is None else g.kernel_size
        if not grad.numel():
            return grad.new_zeros(self.plan.num_weights, *kernel)
        if g is None:
            return self.backend.linear_grad_weight(grad, x, self.plan)
        return self.backend.conv2d_grad_weight(
            grad, x, self.plan, g.kernel_size, g.stride, g.padding, g.dilation
        )


def _of_torch(product: Product) -> Product:
    """The same product of torch operations, for a backward pass that is itself transformed.

    Their results are differentiable, so further derivatives follow.
    """
    return Product(product.plan, backends.get(backends.PLAIN), product.geometry)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, product: Product) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.product = product
        return product.run(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        for_x, for_weight, _ = ctx.needs_input_grad
        product, transformed = ctx.product, is_transformed(grad)
        if transformed:
            product = _of_torch(product)
        if transformed or not torch.is_grad_enabled():  # no double backward
            return (
                product.grad_input(grad, weight, x.shape) if for_x else None,
                product.grad_weight(grad, x) if for_weight else None,
                None,
            )
        return (
            _GradInput.apply(grad, weight, x.shape, product) if for_x else None,
            _GradWeight.apply(grad, x, product) if for_weight else None,
            None,
        )


class _GradInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, weight: Tensor, size: Any, product: Product) -> Tensor:
        ctx.save_for_backward(grad, weight)
        ctx.product = product
        return product.grad_input(grad, weight, size)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = grads
        grad, weight = ctx.saved_tensors
        for_grad, for_weight, *_ = ctx.needs_input_grad
        if is_transformed(x):
            product = _of_torch(ctx.product)
            return (
                product.forward(x, weight) if for_grad else None,
                product.grad_weight(grad, x) if for_weight else None,
                None,
                None,
            )
        return (
            _Forward.apply(x, weight, ctx.product) if for_grad else None,
            _GradWeight.apply(grad, x, ctx.product) if for_weight else None,
            None,
            None,
        )


class _GradWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, product: Product) -> Tensor:
        ctx.save_for_backward(grad, x)
        ctx.product = product
        return product.grad_weight(grad, x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (weight,) = grads
        grad, x = ctx.saved_tensors
        for_grad, for_x, _ = ctx.needs_input_grad
        if is_transformed(weight):
            product = _of_torch(ctx.product)
            return (
                product.forward(x, weight) if for_grad else None,
                product.grad_input(grad, weight, x.shape) if for_x else None,
                None,
            )
        return (
            _Forward.apply(x, weight, ctx.product) if for_grad else None,
            _GradInput.apply(grad, weight, x.shape, ctx.product) if for_x else None,
            None,
        )


# `_Forward.apply` without its `torch.func` checks, which callers have already done.
_apply_forward = super(torch.autograd.Function, _Forward).apply


def differentiable(product: Product, x: Tensor, weight: Tensor) -> Tensor:
    """``product`` for tensors that may not be eager, with all of autograd's checks."""
    y: Tensor = _Forward.apply(x, weight, product)
    return y
