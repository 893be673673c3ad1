"""One round's product on one backend, differentiable any number of times.

    y_v = sum over u in N(v) of W_vu x_u

is linear in x and in W, so its gradients are two products of the same kind, whose own gradients are
again among the three: a backend implements the three as plain functions, and derivatives of any
order follow. That is so for real numbers; the gradients of complex ones are left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mpnn_arch.kernels import backends
from mpnn_arch.kernels.backends import Backend
from mpnn_arch.kernels.dispatch.tracing import is_transformed
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.relu import before_relu
from mpnn_arch.kernels.two_streams import both

# With respect to x, W and a bias, in the order of `_Forward`'s arguments; None where not needed.
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

# The backends that run a plan's rounds, by identity. What was captured into a CUDA graph goes on to
# read their tables, at the same addresses.
_IN_USE: WeakKeyDictionary[RoundPlan, set[int]] = WeakKeyDictionary()


def in_use(plan: RoundPlan) -> set[int]:
    """Identities of the backends whose tables for ``plan`` have to be kept."""
    return _IN_USE.setdefault(plan, set())


@dataclass(eq=False, slots=True)
class Product:
    """One backend's three products on one plan; ``geometry`` is None for vectors.

    Attributes:
        weight_shape: of W.
        applies_relu: whether it can return the ReLU of y, and pass its gradient, in one operation.
    """

    plan: RoundPlan
    backend: Backend
    geometry: ConvGeometry | None = None
    weight_shape: torch.Size = field(init=False)
    _product: Callable[..., Tensor] = field(init=False)
    applies_relu: bool = field(init=False, default=False)
    _adds_bias: bool = field(init=False)
    _linear_grads: Callable[..., Gradients] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        kernel = () if self.geometry is None else self.geometry.kernel_size
        self.weight_shape = torch.Size((self.plan.num_weights, *kernel))
        self._adds_bias = getattr(self.backend, "ADDS_BIAS", False)
        in_use(self.plan).add(id(self.backend))
        if self.geometry is None:
            self._product = partial(self.backend.linear_forward, plan=self.plan)
            self._linear_grads = getattr(self.backend, "linear_grads", None)
            self.applies_relu = getattr(self.backend, "APPLIES_RELU", False)
        else:
            _, stride, padding, dilation = self.geometry
            self._product = partial(
                self.backend.conv2d_forward,
                plan=self.plan,
                stride=stride,
                padding=padding,
                dilation=dilation,
            )

    def run(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """y from x, W and a bias, without autograd, for a batch that is not empty."""
        if relu:
            return self._product(x, weight, bias=bias, relu=True)
        if bias is None:
            return self._product(x, weight)
        if self._adds_bias:
            return self._product(x, weight, bias=bias)
        return add_bias(self._product(x, weight), bias)

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """The round on eager, untransformed tensors, for a batch that is not empty.

        With ``relu``, which asks for ``applies_relu``, the ReLU of y.
        """
        if (
            not self.backend.DIFFERENTIABLE
            and torch.is_grad_enabled()
            and (
                x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
            )
        ):
            y: Tensor = _apply_forward(x, weight, bias, self, relu)
            return y
        return self.run(x, weight, bias, relu)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """y from x, W and a bias, for any batch."""
        if x.numel():
            return self.run(x, weight, bias)
        space = self.geometry.output_size(x.shape[2:]) if self.geometry else ()
        y = x.new_zeros(x.shape[0], self.plan.out_channels, *space)
        return y if bias is None else add_bias(y, bias)

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

    def grads(
        self, grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool], y: Tensor | None
    ) -> Gradients:
        """The gradients with respect to x, W and a bias that are needed, at once where possible.

        ``y`` is the result, if that is of a ReLU.
        """
        for_x, for_weight, for_bias = needs
        if self._linear_grads is not None and for_weight and grad.numel():
            weights = weight if for_x else None
            return self._linear_grads(grad, x, weights, self.plan, y, for_bias)
        grad = before_relu(grad, y)
        grad_bias = grad_of_bias(grad) if for_bias else None
        if for_x and for_weight:
            two = both(
                lambda: self.grad_input(grad, weight, x.shape),
                lambda: self.grad_weight(grad, x),
                grad,
            )
            return *two, grad_bias
        return (
            self.grad_input(grad, weight, x.shape) if for_x else None,
            self.grad_weight(grad, x) if for_weight else None,
            grad_bias,
        )


def add_bias(y: Tensor, bias: Tensor) -> Tensor:
    """(B, C, ...) plus (C,)."""
    return y + bias.view(-1, *[1] * (y.dim() - 2))


def grad_of_bias(grad: Tensor) -> Tensor:
    """(B, C, ...) -> (C,): the sum over samples and pixels."""
    return grad.sum([0, *range(2, grad.dim())])


def _of_torch(product: Product) -> Product:
    """The same product of torch operations, for a backward pass that is itself transformed.

    Their results are differentiable, so further derivatives follow.
    """
    return Product(product.plan, backends.get(backends.PLAIN), product.geometry)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, product: Product, relu: bool
    ) -> Tensor:
        y = product.run(x, weight, bias, relu)
        # No None among them: tools that draw the graph of gradients, as torchviz, read all sizes.
        ctx.save_for_backward(x, weight, *([y] if relu else []))
        ctx.product = product
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, weight, *kept = ctx.saved_tensors
        y = kept[0] if kept else None
        needs, product, transformed = ctx.needs_input_grad[:3], ctx.product, is_transformed(grad)
        if transformed or not torch.is_grad_enabled():  # no double backward
            product = _of_torch(product) if transformed else product
            return *product.grads(grad, x, weight, needs, y), None, None
        for_x, for_weight, for_bias = needs
        grad = before_relu(grad, y)
        return (
            _GradInput.apply(grad, weight, x.shape, product) if for_x else None,
            _GradWeight.apply(grad, x, product) if for_weight else None,
            grad_of_bias(grad) if for_bias else None,
            None,
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
            _Forward.apply(x, weight, None, ctx.product, False) if for_grad else None,
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
            _Forward.apply(x, weight, None, ctx.product, False) if for_grad else None,
            _GradInput.apply(grad, weight, x.shape, ctx.product) if for_x else None,
            None,
        )


# `_Forward.apply` without its `torch.func` checks, which callers have already done.
_apply_forward = super(torch.autograd.Function, _Forward).apply


def differentiable(product: Product, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``product`` for tensors that may not be eager, with all of autograd's checks."""
    y: Tensor = _Forward.apply(x, weight, bias, product, False)
    return y
