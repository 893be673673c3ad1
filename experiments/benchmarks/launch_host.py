"""Microseconds that the host takes to launch a round's product, on a machine without a GPU.

Triton's compiler and launcher run as they do on a GPU, on tensors of the CPU; the function that
would call the CUDA driver does nothing. So its own work, the driver's and that of torch's CUDA
allocator are left out; a gradient with respect to the weights that is summed in parts contains
that sum, on the CPU. ``dispatched`` goes through Triton's dispatch at every launch, ``repeated``
past it (:mod:`mpnn_arch.kernels.triton_ready`).

    python experiments/benchmarks/launch_host.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.runtime import driver

from mpnn_arch import graphs
from mpnn_arch.kernels import triton as backend
from mpnn_arch.kernels import triton_ready
from mpnn_arch.kernels.plan import make_plan


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


def main() -> None:
    plan = make_plan(graphs.ws_flex(64, 9, 0.1, seed=0).edge_index, [8] * 64, [8] * 64)
    x, weight = torch.empty(16, 512), torch.empty(plan.num_weights)
    maps, kernels = torch.empty(1, 512, 4, 4), torch.empty(plan.num_weights, 3, 3)
    runs: dict[str, Callable[[], Tensor]] = {
        "linear forward": lambda: backend.linear_forward(x, weight, plan),
        "linear dX": lambda: backend.linear_grad_input(x, weight, plan),
        "linear dW": lambda: backend.linear_grad_weight(x, x, plan),
        "conv forward": lambda: backend.conv2d_forward(maps, kernels, plan, padding=1),
        "conv dX": lambda: backend.conv2d_grad_input(maps, kernels, plan, (4, 4), padding=1),
        "conv dW": lambda: backend.conv2d_grad_weight(maps, maps, plan, 3, padding=1),
    }
    driver.set_active(stand_in())
    with (
        mock.patch.object(nvidia, "PyKernelArg", lambda nested_tuple, type: type),
        mock.patch.object(backend, "interpreting", always),
    ):
        print(f"{'':16s}dispatched  repeated  (us before the driver's call)")
        for name, run in runs.items():
            with mock.patch.object(triton_ready, "ready", never):
                dispatched = microseconds(run)
            backend.forget_tables(plan)
            repeated = microseconds(run)
            print(f"{name:16s}{dispatched:10.1f}{repeated:10.1f}", flush=True)


if __name__ == "__main__":
    main()
