"""Microseconds that the host takes to launch a round's product, on a machine without a GPU.

Triton's compiler and launcher run as they do on a GPU, on tensors of the CPU; the function that
would call the CUDA driver does nothing. So its own work, the driver's and that of torch's CUDA
allocator are left out; a gradient with respect to the weights that is summed in parts contains
that sum, on the CPU. ``dispatched`` goes through Triton's dispatch at every launch, ``repeated``
past it (:mod:`mpnn_arch.kernels.triton_ready`). The copies into a packed or padded layout, which
are launches of torch, are made once and left out; those out of it are made on the CPU.

    python experiments/benchmarks/launch_host.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.runtime import driver

from mpnn_arch import graphs
from mpnn_arch.kernels import triton as backend
from mpnn_arch.kernels import triton_layouts, triton_padding, triton_ready
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.kernels.triton_configs import Config


def stand_in() -> SimpleNamespace:
    """A driver that loads and launches nothing."""
    return SimpleNamespace(
        get_current_device=lambda: -1,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
        launcher_cls=nvidia.CudaLauncher,
        utils=SimpleNamespace(
            launch=lambda *values: None,
            load_binary=lambda *binary: (1, 1, 32, 0, 1024),
            unload_module=lambda module: None,
            get_device_properties=lambda device: {"max_shared_mem": 1 << 20},
            build_signature_metadata=lambda signature: bytes(len(signature)),
        ),
    )


def always() -> bool:
    """The check of tensors then lets those of the CPU pass."""
    return True


def never(launch: triton_ready.Launch) -> None:
    """In place of what repeats a launch."""


def microseconds(run: Callable[[], object], calls: int = 300) -> float:
    """Least of several turns, of the processor's time: other load only adds to it."""
    run()
    taken = []
    for _ in range(15):
        start = time.process_time()
        for _ in range(calls):
            run()
        taken.append((time.process_time() - start) / calls * 1e6)
    return min(taken)


def in_layout(pack: int, pad: int, configs: Callable[..., list[Config]]) -> Callable[..., Any]:
    """``configs``, but only those of one layout."""
    return lambda *args: [c | {"pack": pack} for c in configs(*args) if c["pad"] == pad]


def made_once(copy: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``copy``, but only of the first tensor of a shape."""
    copies: dict[Any, Tensor] = {}

    def known(x: Tensor, *how: Any) -> Tensor:
        key = (x.shape, how[1:])
        if key not in copies:
            copies[key] = copy(x, *how)
        return copies[key]

    return known


def products(plan: RoundPlan, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    c = plan.in_channels
    x, weight = torch.zeros(16, c, dtype=dtype), torch.zeros(plan.num_weights, dtype=dtype)
    maps = torch.zeros(1, c, 4, 4, dtype=dtype)
    kernels = torch.zeros(plan.num_weights, 3, 3, dtype=dtype)
    return {
        "linear forward": lambda: backend.linear_forward(x, weight, plan),
        "linear dX": lambda: backend.linear_grad_input(x, weight, plan),
        "linear dW": lambda: backend.linear_grad_weight(x, x, plan),
        "conv forward": lambda: backend.conv2d_forward(maps, kernels, plan, padding=1),
        "conv dX": lambda: backend.conv2d_grad_input(maps, kernels, plan, (4, 4), padding=1),
        "conv dW": lambda: backend.conv2d_grad_weight(maps, maps, plan, 3, padding=1),
    }


def compare(share: int, dtype: torch.dtype, *, pack: int = 0, pad: int = 0) -> None:
    plan = make_plan(graphs.ws_flex(64, 9, 0.1, seed=0).edge_index, [share] * 64, [share] * 64)
    names = ("linear_product", "linear_weights", "conv_product", "conv_weights")
    with ExitStack() as patches:
        for module, name in ((triton_padding, "_spread"), (triton_layouts, "channel_major")):
            copied = made_once(getattr(module, name))
            patches.enter_context(mock.patch.object(module, name, copied))
        for name in (f"{name}_configs" for name in names):
            fitting = in_layout(pack, pad, getattr(backend, name))
            patches.enter_context(mock.patch.object(backend, name, fitting))
        layout = "packed" if pack else "padded" if pad else "plain"
        for name, run in products(plan, dtype).items():
            if pack and not name.startswith("linear"):
                continue
            with mock.patch.object(triton_ready, "ready", never):
                dispatched = microseconds(run)
            backend.release(plan)
            repeated = microseconds(run)
            columns = f"{dispatched:12.1f}{repeated:10.1f}{repeated / dispatched:8.2f}"
            print(f"{layout:8s}{name:16s}{columns}", flush=True)
            backend.release(plan)


def main() -> None:
    driver.set_active(stand_in())
    with (
        mock.patch.object(nvidia, "PyKernelArg", lambda nested_tuple, type: type),
        mock.patch.object(backend, "interpreting", always),
    ):
        print(f"{'':24s}  dispatched  repeated   ratio  (us before the driver)")
        compare(8, torch.float32)
        compare(7, torch.bfloat16, pack=1)
        compare(7, torch.float32, pad=1)


if __name__ == "__main__":
    main()
