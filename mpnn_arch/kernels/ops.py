"""The operation of one round as torch sees it: three products, each the gradient of the others.

    y_v = sum over u in N(v) of W_vu x_u

is linear in x and in W, so its gradients are two products of the same kind, and the gradients of
those lead back to it: a backend gives the three as plain functions and has derivatives of any
order.

Eager code runs them through ``torch.autograd.Function``. A program being traced (``torch.compile``,
``torch.export``, any dispatch mode) runs the operators ``torch.ops.mpnn_arch.*``, which are the
same three with a fake kernel beside each; they cost 40 microseconds more a step, a tenth of a small
round, which is why both are here.

An operator takes tensors, numbers and strings, and a backend wants its tables made once. So the
operator is handed a plan's ``key``, by which it finds the plan in this process, and the plan's four
index tensors, from which it makes the plan anew where the key is unknown: in an exported program
that another process loaded.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mpnn_arch.kernels import masked
from mpnn_arch.kernels.plan import RoundPlan, find_plan, make_plan
from mpnn_arch.kernels.tracing import in_functorch, is_plain, is_traced

Pair = tuple[int, int]


class Window(NamedTuple):
    """How a convolution's kernels move, (height, width) each."""

    stride: Pair
    padding: Pair
    dilation: Pair

    def output_size(self, size: Any, kernel: Any) -> list[Any]:
        """(H', W') for maps of (H, W)."""
        return [
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in (0, 1)
        ]


@cache
def _module(backend: str) -> Any:
    return importlib.import_module(f"mpnn_arch.kernels.{backend}")


@dataclass(eq=False, slots=True)
class Product:
    """One backend's three products on one plan; ``window`` is None for vectors."""

    plan: RoundPlan
    backend: str
    window: Window | None = None
    functions: Any = field(init=False)  # the module of the backend, imported at the first use

    def __post_init__(self) -> None:
        self.functions = _module(self.backend)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """y from x and W."""
        if not x.numel():
            return self.empty_output(x, weight).zero_()
        if self.window is None:
            y: Tensor = self.functions.linear_forward(x, weight, self.plan)
        else:
            y = self.functions.conv2d_forward(x, weight, self.plan, *self.window)
        return y

    def grad_input(self, grad: Tensor, weight: Tensor, input_size: Any) -> Tensor:
        """x's gradient from y's and W."""
        if not grad.numel():
            return grad.new_zeros(tuple(input_size))
        if self.window is None:
            made: Tensor = self.functions.linear_grad_input(grad, weight, self.plan)
        else:
            made = self.functions.conv2d_grad_input(
                grad, weight, self.plan, tuple(input_size), *self.window
            )
        return made

    def grad_weight(self, grad: Tensor, x: Tensor, kernel: tuple[int, ...]) -> Tensor:
        """W's gradient from y's and x."""
        if not grad.numel():
            return grad.new_zeros(self.plan.num_weights, *kernel)
        if self.window is None:
            made: Tensor = self.functions.linear_grad_weight(grad, x, self.plan)
        else:
            made = self.functions.conv2d_grad_weight(grad, x, self.plan, kernel, *self.window)
        return made

    def empty_output(self, x: Tensor, weight: Tensor) -> Tensor:
        """What :meth:`forward` returns, unfilled."""
        space = self.window.output_size(x.shape[2:], weight.shape[1:]) if self.window else ()
        return x.new_empty(x.shape[0], self.plan.out_channels, *space)


# -- eager ------------------------------------------------------------------------------------


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, product: Product) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.product = product
        return product.forward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        for_x, for_weight, _ = ctx.needs_input_grad
        product = ctx.product
        if not torch.is_grad_enabled():  # nobody will differentiate the gradients
            return (
                product.grad_input(grad, weight, x.shape) if for_x else None,
                product.grad_weight(grad, x, weight.shape[1:]) if for_weight else None,
                None,
            )
        return (
            _GradInput.apply(grad, weight, x.shape, product) if for_x else None,
            _GradWeight.apply(grad, x, weight.shape[1:], product) if for_weight else None,
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
        return (
            _Forward.apply(x, weight, ctx.product) if for_grad else None,
            _GradWeight.apply(grad, x, weight.shape[1:], ctx.product) if for_weight else None,
            None,
            None,
        )


class _GradWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, kernel: Any, product: Product) -> Tensor:
        ctx.save_for_backward(grad, x)
        ctx.product = product
        return product.grad_weight(grad, x, tuple(kernel))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (weight,) = grads
        grad, x = ctx.saved_tensors
        for_grad, for_x, *_ = ctx.needs_input_grad
        return (
            _Forward.apply(x, weight, ctx.product) if for_grad else None,
            _GradInput.apply(grad, weight, x.shape, ctx.product) if for_x else None,
            None,
            None,
        )


# What `_Forward.apply` comes to where `torch.func` is not at work.
_apply_forward = super(torch.autograd.Function, _Forward).apply


def run(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    window: Window | None,
    backend: str,
    plain: bool | None = None,
) -> Tensor:
    """The round on ``backend``, differentiable any number of times.

    The complete graph is a plain dense layer on every backend. ``plain`` is what :func:`is_plain`
    said of x and weight, if it was asked.
    """
    if backend != "masked" and not plan.is_complete and (plain or is_plain(x, weight)):
        product = Product(plan, backend, window)
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            made: Tensor = _apply_forward(x, weight, product)
            return made
        return product.forward(x, weight)
    # A plan keeps its indices when a layer goes to the meta device: only an operator takes both.
    dense = backend == "masked" and not x.is_meta
    if dense or plan.is_complete or in_functorch():
        if window is None:
            return masked.block_matmul(x, weight, plan)
        return masked.block_conv2d(x, weight, plan, *window)
    if is_traced(x, weight):
        numbers = [plan.in_channels, plan.out_channels, plan.num_weights]
        moves = [*window.stride, *window.padding, *window.dilation] if window else []
        tensors = (plan.source, plan.target, plan.in_offsets, plan.out_offsets)
        y: Tensor = torch.ops.mpnn_arch.block_product(
            x, weight, *tensors, numbers, plan.key, backend, moves
        )
        return y
    made = _Forward.apply(x, weight, Product(plan, backend, window))
    return made


# -- operators --------------------------------------------------------------------------------

_PLAN = (
    "Tensor source, Tensor target, Tensor in_offsets, Tensor out_offsets, "
    "int[] numbers, str key, str backend, int[] moves"
)
_NUM_PLAN_ARGUMENTS = 8

torch.library.define("mpnn_arch::block_product", f"(Tensor x, Tensor weight, {_PLAN}) -> Tensor")
torch.library.define(
    "mpnn_arch::block_product_grad_input",
    f"(Tensor grad, Tensor weight, SymInt[] input_size, {_PLAN}) -> Tensor",
)
torch.library.define(
    "mpnn_arch::block_product_grad_weight",
    f"(Tensor grad, Tensor x, SymInt[] kernel, {_PLAN}) -> Tensor",
)

# Plans that only a loaded program knows, kept from one call to the next; the oldest go.
_LOADED: OrderedDict[tuple[str, torch.device], RoundPlan] = OrderedDict()
_MOST_LOADED = 256


def _product(
    source: Tensor,
    target: Tensor,
    in_offsets: Tensor,
    out_offsets: Tensor,
    numbers: list[int],
    key: str,
    backend: str,
    moves: list[int],
) -> Product:
    plan = find_plan(key, source.device)
    if plan is None:
        edges = torch.stack([source, target])
        shares = (in_offsets.diff().tolist(), out_offsets.diff().tolist())
        plan = make_plan(edges, *shares).to(source.device)
        _LOADED[key, source.device] = plan
        if len(_LOADED) > _MOST_LOADED:
            _LOADED.popitem(last=False)
    return Product(plan, backend, _window(moves))


def _window(moves: list[int]) -> Window | None:
    if not moves:
        return None
    a, b, c, d, e, f = moves
    return Window((a, b), (c, d), (e, f))


@torch.library.impl("mpnn_arch::block_product", "default")
def _run_forward(x: Tensor, weight: Tensor, *plan: Any) -> Tensor:
    return _product(*plan).forward(x, weight)


@torch.library.impl("mpnn_arch::block_product_grad_input", "default")
def _run_grad_input(grad: Tensor, weight: Tensor, input_size: list[int], *plan: Any) -> Tensor:
    return _product(*plan).grad_input(grad, weight, input_size)


@torch.library.impl("mpnn_arch::block_product_grad_weight", "default")
def _run_grad_weight(grad: Tensor, x: Tensor, kernel: list[int], *plan: Any) -> Tensor:
    return _product(*plan).grad_weight(grad, x, tuple(kernel))


@torch.library.register_fake("mpnn_arch::block_product")
def _fake_forward(x: Tensor, weight: Tensor, *plan: Any) -> Tensor:
    (_, out_channels, _), window = plan[4], _window(plan[7])
    space = window.output_size(x.shape[2:], weight.shape[1:]) if window else ()
    return x.new_empty(x.shape[0], out_channels, *space)


@torch.library.register_fake("mpnn_arch::block_product_grad_input")
def _fake_grad_input(grad: Tensor, weight: Tensor, input_size: list[int], *plan: Any) -> Tensor:
    return grad.new_empty(input_size)


@torch.library.register_fake("mpnn_arch::block_product_grad_weight")
def _fake_grad_weight(grad: Tensor, x: Tensor, kernel: list[int], *plan: Any) -> Tensor:
    return grad.new_empty(plan[4][2], *kernel)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    first, second, *rest = inputs
    plan = rest[-_NUM_PLAN_ARGUMENTS:]
    ctx.save_for_backward(first, second, *plan[:4])
    ctx.constants = plan[4:]


def _kept(ctx: Any) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    first, second, *tensors = ctx.saved_tensors
    return first, second, (*tensors, *ctx.constants)


_NO_GRAD = (None,) * _NUM_PLAN_ARGUMENTS


def _backward_forward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, plan = _kept(ctx)
    ops = torch.ops.mpnn_arch
    for_x, for_weight = ctx.needs_input_grad[:2]
    return (
        ops.block_product_grad_input(grad, weight, x.shape, *plan) if for_x else None,
        ops.block_product_grad_weight(grad, x, weight.shape[1:], *plan) if for_weight else None,
        *_NO_GRAD,
    )


def _backward_grad_input(ctx: Any, x: Tensor) -> tuple[Any, ...]:
    grad, weight, plan = _kept(ctx)
    ops = torch.ops.mpnn_arch
    for_grad, for_weight = ctx.needs_input_grad[:2]
    return (
        ops.block_product(x, weight, *plan) if for_grad else None,
        ops.block_product_grad_weight(grad, x, weight.shape[1:], *plan) if for_weight else None,
        None,
        *_NO_GRAD,
    )


def _backward_grad_weight(ctx: Any, weight: Tensor) -> tuple[Any, ...]:
    grad, x, plan = _kept(ctx)
    ops = torch.ops.mpnn_arch
    for_grad, for_x = ctx.needs_input_grad[:2]
    return (
        ops.block_product(x, weight, *plan) if for_grad else None,
        ops.block_product_grad_input(grad, weight, x.shape, *plan) if for_x else None,
        None,
        *_NO_GRAD,
    )


for _name, _backward in (
    ("block_product", _backward_forward),
    ("block_product_grad_input", _backward_grad_input),
    ("block_product_grad_weight", _backward_grad_weight),
):
    torch.library.register_autograd(f"mpnn_arch::{_name}", _backward, setup_context=_keep)


def _flops(samples: int, plan: tuple[Any, ...], space: Any, kernel: Any) -> int:
    total = 2 * samples * plan[4][2]
    for length in (*space, *kernel):
        total *= length
    return total


@register_flop_formula(torch.ops.mpnn_arch.block_product)
def _flops_forward(x: Any, weight: Any, *plan: Any, out_val: Any = None, **_: Any) -> int:
    window = _window(plan[7])
    return _flops(x[0], plan, window.output_size(x[2:], weight[1:]) if window else (), weight[1:])


@register_flop_formula(torch.ops.mpnn_arch.block_product_grad_input)
def _flops_grad_input(grad: Any, weight: Any, size: Any, *plan: Any, **_: Any) -> int:
    return _flops(grad[0], plan, grad[2:], weight[1:])


@register_flop_formula(torch.ops.mpnn_arch.block_product_grad_weight)
def _flops_grad_weight(grad: Any, x: Any, kernel: Any, *plan: Any, **_: Any) -> int:
    return _flops(grad[0], plan, grad[2:], kernel)
