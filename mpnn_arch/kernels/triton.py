"""The triton backend: the gather of each node's neighbours fused into one matrix product.

Plain functions without autograd, for CUDA tensors, or for CPU tensors through Triton's interpreter
(set ``TRITON_INTERPRET=1`` before the process starts). Triton itself is imported at the first
launch.

The kernels (:mod:`mpnn_arch.kernels.triton_jit`) choose their tile sizes by a short timed trial at
the first call for a shape; under ``torch.use_deterministic_algorithms(True)``, while a CUDA graph
is captured, and in the interpreter the first candidate is used untimed. No launch synchronises with
the device and no sum uses atomics: the same tile sizes give bit-identical results.

float32 products use TF32 where torch's own switches allow it: ``torch.backends.cuda.matmul`` for
the linear round, ``torch.backends.cudnn`` for the convolution, as for their dense counterparts.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels import triton_layouts as layouts
from mpnn_arch.kernels.capture import is_capturing
from mpnn_arch.kernels.geometry import ConvGeometry, Pair
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.triton_configs import (
    Config,
    conv_layout,
    conv_product_configs,
    conv_weights_configs,
    kernel_options,
    linear_product_configs,
    linear_weights_configs,
    num_tiles,
)
from mpnn_arch.kernels.triton_launch import (
    check_addresses,
    common_granule,
    cut,
    interpreting,
    kernels,
    launch,
    number_constants,
    shape_key,
    split_output,
    sum_splits,
    walk_arguments,
)
from mpnn_arch.kernels.triton_padding import forget_paddings, padded_shares
from mpnn_arch.kernels.triton_ready import Launch, Ready, ready_key, remember, start
from mpnn_arch.kernels.triton_roofline import step_kernels as step_kernels  # of a backend
from mpnn_arch.kernels.triton_tables import Tables, Walk, forget_tables, tables
from mpnn_arch.kernels.triton_taps import constants_of, taps

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
DIFFERENTIABLE = False
ADDS_BIAS = True


def is_available() -> bool:
    """Whether the kernels can run here: on a CUDA device, or interpreted on the CPU."""
    return not unavailable_reason()


def unavailable_reason() -> str:
    """Why the kernels cannot run here, in one sentence; empty where they can."""
    if importlib.util.find_spec("triton") is None:
        return "the triton backend needs the package triton, which is not installed"
    if not interpreting() and not torch.cuda.is_available():
        return (
            "the triton backend needs a CUDA device and torch finds none; "
            "TRITON_INTERPRET=1 runs it on the CPU, slowly, for tests"
        )
    return ""


def device_type() -> str:
    """CUDA tensors, or the CPU's where the kernels are interpreted."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def worth_timing(device: str, kernel: Sequence[int]) -> bool:
    """Only on a GPU: the interpreter is for tests."""
    return device == "cuda"


def prepare(plan: RoundPlan) -> None:
    """Nothing: the first launch builds the tables."""


def release(plan: RoundPlan) -> None:
    """Drop the plan's tables; the next launch rebuilds them."""
    forget_tables(plan)
    forget_paddings(plan)


def linear_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, bias: Tensor | None = None
) -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u, for every node v, plus a bias.

    Args:
        x: (B, C_in), any strides.
        weight: (num_weights,) of the same dtype.
        plan: the round.
        bias: (C_out,) of the same dtype, or None.

    Returns:
        (B, C_out), contiguous, of x's dtype.

    Raises:
        InputError: a shape, dtype or device that the kernels do not support.
    """
    dtype = _sum_dtype(x, bias)
    y = _linear_product(x, weight, plan, transposed=False, dtype=dtype)
    return _rounded(y, bias, x.dtype)


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient with respect to x: g_u = sum over v with u in N(v) of W_vu^T grad_v.

    Args:
        grad: (B, C_out), any strides.
        weight: (num_weights,) of the same dtype.
        plan: the round.

    Returns:
        (B, C_in), contiguous.

    Raises:
        InputError: a shape, dtype or device that the kernels do not support.
    """
    return _linear_product(grad, weight, plan, transposed=True, dtype=grad.dtype)


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient with respect to W: on edge u -> v, the sum over samples of grad_v x_u^T.

    Args:
        grad: (B, C_out), any strides.
        x: (B, C_in), any strides, of the same dtype.
        plan: the round.

    Returns:
        (num_weights,)

    Raises:
        InputError: a shape, dtype or device that the kernels do not support.
    """
    both = tables(plan, x.device)
    walk = both.forward
    again = ready_key("linear_weights", x, grad, convolution=False)
    known = walk.ready.get(again)
    if known is not None and known.usable(x.get_device()):
        repeat = functools.partial(_repeated_weights, known, x)
        return layouts.linear_weights(repeat, known.config, grad, x, plan)
    _check("grad", grad, (-1, plan.out_channels), grad)
    _check("x", x, (grad.shape[0], plan.in_channels), grad)
    batch = x.shape[0]
    if batch == 0 or plan.num_weights == 0:
        return x.new_zeros(plan.num_weights)
    constants = number_constants(x, convolution=False)
    made: list[Launch] = []

    def run(config: Config) -> Tensor:
        return layouts.linear_weights(functools.partial(product, config), config, grad, x, plan)

    def product(config: Config, read_grad: Tensor, read: Tensor, num_weights: int) -> Tensor:
        laid_out = _laid_out(config, both, plan, x)
        walk = laid_out.forward
        row_tiles = num_tiles(walk.largest, config["BLOCK_N"])
        list_tiles = num_tiles(walk.longest, config["BLOCK_K"])
        programs = walk.num_nodes * row_tiles * list_tiles
        splits, per_split = cut(programs, batch)
        out = split_output(splits, num_weights, x)
        numbers = (batch, per_split, num_weights, row_tiles, list_tiles, walk.num_nodes)
        strides = (*read_grad.stride(), *read.stride())
        options = {
            "GRANULE": common_granule(walk.granule, read.stride(0)),
            "GRAD_GRANULE": common_granule(laid_out.transposed.granule, read_grad.stride(0)),
        }
        started = start(
            kernels().linear_weights,
            programs * splits,
            (out, read_grad, read),
            (*walk_arguments(walk), *numbers, *strides),
            options | constants | kernel_options(config),
            config,
            splits,
        )
        made[:] = [started]
        return sum_splits(out, x.dtype)

    configs = linear_weights_configs(walk, x, constants["PRECISION"])
    key = ("linear_weights", constants["PRECISION"], *shape_key(x, walk))
    return _launched(run, configs, x, key, made, walk, again)


def conv2d_forward(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    bias: Tensor | None = None,
) -> Tensor:
    """y_v = sum over u in N(v) of W_vu * x_u, a 2-d cross-correlation of each message.

    Args:
        x: (B, C_in, H, W), any strides.
        weight: (num_weights, K, K) of the same dtype.
        plan: the round.
        stride: one number or (height, width).
        padding: rows and columns of zeros on each side.
        dilation: distance between the kernel's taps.
        bias: (C_out,) of the same dtype, or None.

    Returns:
        (B, C_out, H', W'), contiguous, H' and W' as for ``torch.nn.Conv2d``.

    Raises:
        InputError: a shape, dtype or device that the kernels do not support.
    """
    moves = (stride, padding, dilation)
    y = _conv_product(x, weight, plan, moves, dtype=_sum_dtype(x, bias))
    return _rounded(y, bias, x.dtype)


def conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    input_size: Sequence[int],
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """The gradient of :func:`conv2d_forward` with respect to x.

    Args:
        grad: (B, C_out, H', W'), any strides.
        weight: (num_weights, K, K) of the same dtype.
        plan: the round.
        input_size: x's shape (B, C_in, H, W), or its (H, W) alone.
        stride: as forward.
        padding: as forward.
        dilation: as forward.

    Returns:
        (B, C_in, H, W), contiguous.

    Raises:
        InputError: a shape, dtype or device that the kernels do not support.
    """
    moves, size = (stride, padding, dilation), tuple(input_size)[-2:]
    return _conv_product(grad, weight, plan, moves, dtype=grad.dtype, input_size=size)


def conv2d_grad_weight(
    grad: Tensor,
    x: Tensor,
    plan: RoundPlan,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """The gradient of :func:`conv2d_forward` with respect to the weights.

    Args:
        grad: (B, C_out, H', W'), any strides.
        x: (B, C_in, H, W), any strides, of the same dtype.
        plan: the round.
        kernel_size: K, or (height, width).
        stride: as forward.
        padding: as forward.
        dilation: as forward.

    Returns:
        (num_weights, K, K)

    Raises:
        InputError: a shape, dtype or device that the kernels do not support.
    """
    geometry = _window(kernel_size, stride, padding, dilation)
    both = tables(plan, x.device)
    walk, kernel = both.forward, geometry.kernel_size
    again = ready_key("conv_weights", x, grad, geometry, convolution=True)
    known = walk.ready.get(again)
    if known is not None and known.usable(x.get_device()):
        repeat = functools.partial(_repeated_weights, known, x, area=geometry.area)
        return layouts.conv_weights(repeat, known.config, grad, x, plan, kernel)
    _check("x", x, (-1, plan.in_channels, -1, -1), grad)
    output_size = _output_size(geometry, x.shape[2:])
    _check("grad", grad, (x.shape[0], plan.out_channels, *output_size), grad)
    pixels = grad.shape[0] * grad.shape[2] * grad.shape[3]
    if pixels == 0 or plan.num_weights == 0:
        return x.new_zeros(plan.num_weights, *kernel)
    constants = number_constants(x, convolution=True)
    made: list[Launch] = []

    def run(config: Config) -> Tensor:
        dispatch = functools.partial(product, config)
        return layouts.conv_weights(dispatch, config, grad, x, plan, kernel)

    def product(config: Config, read_grad: Tensor, read: Tensor, num_weights: int) -> Tensor:
        walk = _laid_out(config, both, plan, x).forward
        row_tiles = num_tiles(walk.largest, config["BLOCK_N"])
        list_tiles = num_tiles(walk.longest, config["BLOCK_K"])
        programs = walk.num_nodes * row_tiles * list_tiles * geometry.area
        check_addresses(pixels, read_grad, read)
        splits, per_split = cut(programs, pixels)
        numbers = num_weights * geometry.area
        out = split_output(splits, numbers, x)
        sizes = (pixels, per_split, numbers, row_tiles, list_tiles, walk.num_nodes)
        layout, tap_stride = conv_layout(config, x, num_weights, geometry)
        started = start(
            kernels().conv_weights,
            programs * splits,
            (out, read_grad, read),
            (
                *(*walk_arguments(walk), *sizes, *grad.shape[2:], *x.shape[2:]),
                *(*read_grad.stride(), *read.stride(), tap_stride),
            ),
            constants_of(geometry) | layout | constants | kernel_options(config),
            config,
            splits,
        )
        made[:] = [started]
        return sum_splits(out, x.dtype)

    configs = conv_weights_configs(walk, x, constants["PRECISION"])
    key = ("conv_weights", geometry, *x.shape[2:], constants["PRECISION"], *shape_key(x, walk))
    return _launched(run, configs, x, key, made, walk, again)


def _window(kernel_size: Any, stride: Pair, padding: Pair, dilation: Pair) -> ConvGeometry:
    """``ConvGeometry.of``, whose checks are made once."""
    try:
        return _geometry(kernel_size, stride, padding, dilation)
    except TypeError:  # lists
        return ConvGeometry.of(kernel_size, stride, padding, dilation)


_geometry = functools.lru_cache(maxsize=256, typed=True)(ConvGeometry.of)


@functools.lru_cache(maxsize=1024)
def _output_size(geometry: ConvGeometry, size: tuple[int, ...]) -> Pair:
    return geometry.checked_output_size(size)


def _sum_dtype(x: Tensor, bias: Tensor | None) -> torch.dtype:
    """The dtype of the product: that of its sums, where a bias is added before they are rounded."""
    return torch.float32 if bias is not None and x.itemsize < 4 else x.dtype


def _rounded(y: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """``y`` plus ``bias``, added in y's dtype and rounded once to ``dtype``."""
    if bias is None:
        return y
    bias = bias.view(-1, *[1] * (y.dim() - 2))
    return torch.add(y, bias, out=y if y.dtype == dtype else torch.empty_like(y, dtype=dtype))


def _linear_product(
    a: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    *,
    transposed: bool,
    dtype: torch.dtype,
) -> Tensor:
    both = tables(plan, a.device)
    walk = both.walk(transposed=transposed)
    weight = weight.contiguous()
    again = ready_key("linear_product", a, weight, dtype, convolution=False)
    known = walk.ready.get(again)
    if known is not None and known.usable(a.get_device()):
        out = a.new_empty(a.shape[0], walk.num_channels, dtype=dtype)
        repeat = functools.partial(known, a.get_device())
        return layouts.linear_product(
            repeat, known.config, out, a, weight, plan, transposed=transposed
        )
    name, channels = ("grad", plan.out_channels) if transposed else ("x", plan.in_channels)
    _check(name, a, (-1, channels), a)
    _check("weight", weight, (plan.num_weights,), a)
    batch = a.shape[0]
    out = a.new_empty(batch, walk.num_channels, dtype=dtype)
    if out.numel() == 0 or walk.longest == 0:
        return out.zero_()
    constants = number_constants(a, convolution=False)
    made: list[Launch] = []

    def run(config: Config) -> Tensor:
        return layouts.linear_product(
            functools.partial(product, config), config, out, a, weight, plan, transposed=transposed
        )

    def product(config: Config, out: Tensor, read: Tensor, weight: Tensor) -> None:
        laid_out = _laid_out(config, both, plan, a)
        walk = laid_out.walk(transposed=transposed)
        row_tiles = num_tiles(walk.largest, config["BLOCK_N"])
        tiles = walk.num_nodes * row_tiles
        groups = num_tiles(tiles, config["nodes"])
        options = {
            "ROW_TILES": row_tiles,
            "TRANSPOSED": transposed,
            "GRANULE": common_granule(walk.granule, read.stride(0)),
            "WEIGHT_GRANULE": walk.weight_granule,
            "OUT_GRANULE": laid_out.walk(transposed=not transposed).granule,
        }
        started = start(
            kernels().linear_product,
            groups * num_tiles(batch, config["BLOCK_B"]),
            (out, read, weight),
            (*walk_arguments(walk), batch, tiles, groups, *read.stride(), out.stride(0)),
            options | constants | kernel_options(config),
            config,
        )
        made[:] = [started]

    configs = linear_product_configs(walk, a, constants["PRECISION"])
    key = ("linear_product", transposed, out.dtype, constants["PRECISION"], *shape_key(a, walk))
    return _launched(run, configs, a, key, made, walk, again)


def _conv_product(
    a: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    moves: tuple[Pair, Pair, Pair],
    *,
    dtype: torch.dtype,
    input_size: tuple[int, ...] = (),
) -> Tensor:
    """The forward product; with ``input_size`` the gradient with respect to an input of this size.

    ``moves``: stride, padding and dilation.
    """
    transposed = bool(input_size)
    both = tables(plan, a.device)
    walk = both.walk(transposed=transposed)
    weight = weight.contiguous()
    if weight.dim() != 3:
        _check("weight", weight, (plan.num_weights, -1, -1), a)
    geometry = _window(tuple(weight.shape[1:]), *moves)
    again = ready_key("conv_product", a, weight, geometry, dtype, input_size, convolution=True)
    known = walk.ready.get(again)
    if known is not None and known.usable(a.get_device()):
        size = input_size or _output_size(geometry, a.shape[2:])
        out = a.new_empty(a.shape[0], walk.num_channels, *size, dtype=dtype)
        repeat = functools.partial(known, a.get_device())
        return layouts.conv_product(
            repeat, known.config, out, a, weight, plan, transposed=transposed
        )
    if transposed:
        space = _output_size(geometry, input_size)
        _check("grad", a, (-1, plan.out_channels, *space), a)
    else:
        _check("x", a, (-1, plan.in_channels, -1, -1), a)
    _check("weight", weight, (plan.num_weights, -1, -1), a)
    size = input_size or _output_size(geometry, a.shape[2:])
    out = a.new_empty(a.shape[0], walk.num_channels, *size, dtype=dtype)
    if out.numel() == 0 or walk.longest == 0:
        return out.zero_()
    constants = number_constants(a, convolution=True)
    made: list[Launch] = []
    phases = geometry.stride[0] * geometry.stride[1] if transposed else 1
    height, width = out.shape[2:]
    if transposed:
        height, width = num_tiles(height, geometry.stride[0]), num_tiles(width, geometry.stride[1])
    pixels = out.shape[0] * height * width
    reach, reach_count = taps(geometry, transposed, a.device)

    def run(config: Config) -> Tensor:
        return layouts.conv_product(
            functools.partial(product, config), config, out, a, weight, plan, transposed=transposed
        )

    def product(config: Config, out: Tensor, read: Tensor, weight: Tensor) -> None:
        check_addresses(pixels, out, read)
        walk = _laid_out(config, both, plan, a, gapless=True).walk(transposed=transposed)
        row_tiles = num_tiles(walk.largest, config["BLOCK_N"])
        tiles = walk.num_nodes * row_tiles
        options = {"PHASES": phases, "ROW_TILES": row_tiles, "TRANSPOSED": transposed}
        # Padded weights are laid out tap by tap: (K, K, num_weights).
        layout, tap_stride = conv_layout(config, a, weight.shape[-1], geometry)
        started = start(
            kernels().conv_product,
            tiles * phases * num_tiles(pixels, config["BLOCK_P"]),
            (out, read, weight),
            (
                *(*walk_arguments(walk), reach, reach_count, pixels, tiles, height, width),
                *(*out.shape[2:], *a.shape[2:], *read.stride(), *out.stride(), tap_stride),
            ),
            constants_of(geometry) | options | layout | constants | kernel_options(config),
            config,
        )
        made[:] = [started]

    configs = conv_product_configs(walk, a, constants["PRECISION"])
    key = (
        "conv_product",
        transposed,
        out.dtype,
        geometry,
        height,
        width,
        constants["PRECISION"],
        *shape_key(a, walk),
    )
    return _launched(run, configs, a, key, made, walk, again)


def _laid_out(
    config: Config, both: Tables, plan: RoundPlan, x: Tensor, *, gapless: bool = False
) -> Tables:
    """The tables of the layout of ``config``; ``gapless`` where its results leave no gaps."""
    if not config["pad"]:
        return both
    padded = padded_shares(plan, x.device, x.itemsize, config["pad"])
    return padded.gapless if gapless else padded.tables


def _repeated_weights(
    known: Ready, x: Tensor, read_grad: Tensor, read: Tensor, num_weights: int, *, area: int = 1
) -> Tensor:
    """The launch of a gradient with respect to the weights, past Triton's dispatch."""
    out = split_output(known.splits, num_weights * area, x)
    known(x.get_device(), out, read_grad, read)
    return sum_splits(out, x.dtype)


def _launched(
    run: Callable[[Config], Tensor],
    configs: list[Config],
    x: Tensor,
    key: tuple[Any, ...],
    made: list[Launch],
    walk: Walk,
    again: tuple[Any, ...],
) -> Tensor:
    """The result of :func:`launch`, whose last launch, in ``made``, is made ready to repeat."""
    y = launch(run, configs, x, key)
    if made and again not in walk.ready and not is_capturing(x.device):  # where nothing is timed
        remember(walk.ready, again, made[0])
    return y


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    got = tensor.shape
    fits = len(got) == len(shape)
    for i in range(len(shape) if fits else 0):  # a loop, as every launch passes here
        fits = fits and shape[i] in (-1, got[i])
    if not fits:
        wanted = tuple("any" if size == -1 else size for size in shape)
        raise InputError(f"{name} has shape {tuple(tensor.shape)}, this round takes {wanted}")
    if tensor.dtype not in DTYPES or tensor.dtype != like.dtype:
        raise InputError(
            f"{name} is {tensor.dtype} and the first tensor {like.dtype}; the triton backend takes "
            f"tensors of one dtype, float16, bfloat16, float32 or float64"
        )
    if tensor.device != like.device or tensor.is_cuda == interpreting():
        raise InputError(
            f"{name} is on {tensor.device}; the triton backend takes tensors of one CUDA device, "
            "or of the CPU where TRITON_INTERPRET=1 was set before the process started"
        )
