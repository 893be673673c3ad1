"""The registered operators of one round, for tracing and dispatch modes.

Eager code runs the three products through ``torch.autograd.Function`` (:mod:`.product`). A program
being traced (``torch.compile``, ``torch.export``, any dispatch mode) runs the operators
``torch.ops.mpnn_arch.*``, which are the same three with a fake kernel each; they add 40
microseconds per step, a tenth of a small round, so eager code does not use them.

An operator's arguments are tensors, numbers and strings, while a backend caches its tables per
plan. The operator therefore takes a plan's ``key``, by which it finds the plan in this process, and
the plan's four index tensors, from which it rebuilds the plan where the key is unknown: in an
exported program that another process loaded.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mpnn_arch.kernels import backends
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan, find_plan, make_plan
from mpnn_arch.kernels.product import Product, add_bias, grad_of_bias

# Over vectors. Not empty, since AOTInductor hands None on for an empty list.
_NO_MOVES = [0]


def traced_product(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    geometry: ConvGeometry | None,
    backend: str,
    bias: Tensor | None = None,
) -> Tensor:
    """The round as a registered operator, visible to tracers.

    A bias is part of the operator where its sum would otherwise be rounded twice; elsewhere a
    compiler may fuse the addition with what follows.
    """
    numbers = [plan.in_channels, plan.out_channels, plan.num_weights]
    conv_arguments = [n for pair in geometry[1:] for n in pair] if geometry else _NO_MOVES
    tensors = (plan.source, plan.target, plan.in_offsets, plan.out_offsets)
    arguments = (*tensors, numbers, plan.key, backend, conv_arguments)
    y: Tensor
    if bias is not None and x.itemsize < 4:
        y = torch.ops.mpnn_arch.block_product_bias(x, weight, bias, *arguments)
        return y
    y = torch.ops.mpnn_arch.block_product(x, weight, *arguments)
    return y if bias is None else add_bias(y, bias)


# `moves`: stride, padding and dilation in one list. Saved programs refer to these names.
_PLAN = (
    "Tensor source, Tensor target, Tensor in_offsets, Tensor out_offsets, "
    "int[] numbers, str key, str backend, int[] moves"
)
_NUM_PLAN_ARGUMENTS = 8

torch.library.define("mpnn_arch::block_product", f"(Tensor x, Tensor weight, {_PLAN}) -> Tensor")
torch.library.define(
    "mpnn_arch::block_product_bias", f"(Tensor x, Tensor weight, Tensor bias, {_PLAN}) -> Tensor"
)
torch.library.define(
    "mpnn_arch::block_product_grad_input",
    f"(Tensor grad, Tensor weight, SymInt[] input_size, {_PLAN}) -> Tensor",
)
torch.library.define(
    "mpnn_arch::block_product_grad_weight",
    f"(Tensor grad, Tensor x, SymInt[] kernel, {_PLAN}) -> Tensor",
)

# Plans rebuilt for loaded programs, cached between calls; the oldest are evicted.
_LOADED: OrderedDict[tuple[str, torch.device], RoundPlan] = OrderedDict()
_MOST_LOADED = 256


def _product(arguments: tuple[Any, ...], kernel: Any, size: Any) -> Product:
    """The product that an operator's last eight arguments name, for kernels and maps of a size."""
    source, target, in_offsets, out_offsets, _, key, backend, conv_arguments = arguments
    plan = find_plan(key, source.device)
    if plan is None:
        edges = torch.stack([source, target])
        shares = (in_offsets.diff().tolist(), out_offsets.diff().tolist())
        plan = make_plan(edges, *shares).to(source.device)
        _LOADED[key, source.device] = plan
        if len(_LOADED) > _MOST_LOADED:
            _LOADED.popitem(last=False)
    geometry = _geometry(kernel, conv_arguments)
    return Product(plan, backends.get(backend), geometry and geometry.within(size))


def _geometry(kernel: Any, conv_arguments: list[int]) -> ConvGeometry | None:
    if len(conv_arguments) < 6:  # over vectors
        return None
    a, b, c, d, e, f = conv_arguments
    height, width = kernel
    return ConvGeometry((height, width), (a, b), (c, d), (e, f))


@torch.library.impl("mpnn_arch::block_product", "default")
def _run_forward(x: Tensor, weight: Tensor, *plan: Any) -> Tensor:
    return _product(plan, weight.shape[1:], x.shape[2:]).forward(x, weight)


@torch.library.impl("mpnn_arch::block_product_bias", "default")
def _run_biased(x: Tensor, weight: Tensor, bias: Tensor, *plan: Any) -> Tensor:
    return _product(plan, weight.shape[1:], x.shape[2:]).forward(x, weight, bias)


@torch.library.impl("mpnn_arch::block_product_grad_input", "default")
def _run_grad_input(grad: Tensor, weight: Tensor, input_size: list[int], *plan: Any) -> Tensor:
    return _product(plan, weight.shape[1:], input_size[2:]).grad_input(grad, weight, input_size)


@torch.library.impl("mpnn_arch::block_product_grad_weight", "default")
def _run_grad_weight(grad: Tensor, x: Tensor, kernel: list[int], *plan: Any) -> Tensor:
    return _product(plan, kernel, x.shape[2:]).grad_weight(grad, x)


@torch.library.register_fake("mpnn_arch::block_product")
def _fake_forward(x: Tensor, weight: Tensor, *plan: Any) -> Tensor:
    geometry = _geometry(weight.shape[1:], plan[7])
    space = geometry.output_size(x.shape[2:]) if geometry else ()
    return x.new_empty(x.shape[0], plan[4][1], *space)


@torch.library.register_fake("mpnn_arch::block_product_bias")
def _fake_biased(x: Tensor, weight: Tensor, bias: Tensor, *plan: Any) -> Tensor:
    return _fake_forward(x, weight, *plan)


@torch.library.register_fake("mpnn_arch::block_product_grad_input")
def _fake_grad_input(grad: Tensor, weight: Tensor, input_size: list[int], *plan: Any) -> Tensor:
    return grad.new_empty(input_size)


@torch.library.register_fake("mpnn_arch::block_product_grad_weight")
def _fake_grad_weight(grad: Tensor, x: Tensor, kernel: list[int], *plan: Any) -> Tensor:
    return grad.new_empty(plan[4][2], *kernel)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    first, second, *rest = inputs
    plan = rest[-_NUM_PLAN_ARGUMENTS:]
    ctx.save_for_backward(first, second, *plan[:4])
    ctx.constants = plan[4:]


def _saved(ctx: Any) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    first, second, *tensors = ctx.saved_tensors
    return first, second, (*tensors, *ctx.constants)


_NO_GRAD = (None,) * _NUM_PLAN_ARGUMENTS


def _backward_forward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, plan = _saved(ctx)
    ops = torch.ops.mpnn_arch
    for_x, for_weight = ctx.needs_input_grad[:2]
    return (
        ops.block_product_grad_input(grad, weight, x.shape, *plan) if for_x else None,
        ops.block_product_grad_weight(grad, x, weight.shape[1:], *plan) if for_weight else None,
        *_NO_GRAD,
    )


def _backward_biased(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    for_x, for_weight, *rest = _backward_forward(ctx, grad)
    return for_x, for_weight, grad_of_bias(grad) if ctx.needs_input_grad[2] else None, *rest


def _backward_grad_input(ctx: Any, x: Tensor) -> tuple[Any, ...]:
    grad, weight, plan = _saved(ctx)
    ops = torch.ops.mpnn_arch
    for_grad, for_weight = ctx.needs_input_grad[:2]
    return (
        ops.block_product(x, weight, *plan) if for_grad else None,
        ops.block_product_grad_weight(grad, x, weight.shape[1:], *plan) if for_weight else None,
        None,
        *_NO_GRAD,
    )


def _backward_grad_weight(ctx: Any, weight: Tensor) -> tuple[Any, ...]:
    grad, x, plan = _saved(ctx)
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
    ("block_product_bias", _backward_biased),
    ("block_product_grad_input", _backward_grad_input),
    ("block_product_grad_weight", _backward_grad_weight),
):
    torch.library.register_autograd(f"mpnn_arch::{_name}", _backward, setup_context=_setup_context)


def _flops(samples: int, plan: tuple[Any, ...], space: Any, kernel: Any) -> int:
    total = 2 * samples * plan[4][2]
    for length in (*space, *kernel):
        total *= length
    return total


@register_flop_formula(torch.ops.mpnn_arch.block_product)
def _flops_forward(x: Any, weight: Any, *plan: Any, out_val: Any = None, **_: Any) -> int:
    geometry = _geometry(weight[1:], plan[7])
    space = geometry.output_size(x[2:]) if geometry else ()
    return _flops(x[0], plan, space, weight[1:])


@register_flop_formula(torch.ops.mpnn_arch.block_product_bias)
def _flops_biased(x: Any, weight: Any, bias: Any, *plan: Any, out_val: Any = None, **_: Any) -> int:
    return _flops_forward(x, weight, *plan)


@register_flop_formula(torch.ops.mpnn_arch.block_product_grad_input)
def _flops_grad_input(grad: Any, weight: Any, size: Any, *plan: Any, **_: Any) -> int:
    return _flops(grad[0], plan, grad[2:], weight[1:])


@register_flop_formula(torch.ops.mpnn_arch.block_product_grad_weight)
def _flops_grad_weight(grad: Any, x: Any, kernel: Any, *plan: Any, **_: Any) -> int:
    return _flops(grad[0], plan, grad[2:], kernel)
