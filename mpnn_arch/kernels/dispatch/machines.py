"""The machines of the roofline: published peaks, and assumptions where nothing is published.

Peaks (dense, not sparse), bandwidth and number of multiprocessors are NVIDIA's: the A100 data sheet
(SXM, 80 GB) and the white papers of the A100 and H100 architectures (SXM5). The second-level cache
delivers 5,120 bytes a cycle on the A100, at 1.41 GHz; the same at 1.755 GHz is assumed of the H100,
and on both that kernels get six tenths of it.

Everything else is an assumption, measured on no GPU: the shares of the peak that inner tiles reach,
the factor for misaligned rows, 5 us of the host for an operation of torch, 2 us between kernels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from mpnn_arch.kernels.dispatch.roofline import Machine

# The share of the peak on full tiles. "dense" and "conv" are the vendor's libraries, "batched" a
# batched product of small matrices by them, "edges" and "edges conv" the kernels along the edges,
# whose tiles are one node's share wide and which gather their input through a list.
_GPU_TILES = {"dense": 0.7, "conv": 0.5, "batched": 0.3, "edges": 0.35, "edges conv": 0.2}
# There the kernels along the edges were measured as near to the peak as the dense libraries.
_CPU_TILES = {"dense": 0.7, "conv": 0.7, "batched": 0.4, "edges": 0.7, "edges conv": 0.7}

A100 = Machine(
    name="A100",
    peak={
        "tf32": 156e12,
        "bfloat16": 312e12,
        "float16": 312e12,
        "float32": 19.5e12,
        "float64": 19.5e12,
    },
    bandwidth=2.039e12,
    cache_bandwidth=0.6 * 5120 * 1.41e9,
    processors=108,
    launch=5e-6,
    pause=2e-6,
    efficiency=_GPU_TILES,
    ragged=0.5,
)
H100 = dataclasses.replace(  # with the assumptions made of the A100
    A100,
    name="H100",
    peak={
        "tf32": 494.7e12,
        "bfloat16": 989.4e12,
        "float16": 989.4e12,
        "float32": 66.9e12,
        "float64": 66.9e12,
    },
    bandwidth=3.35e12,
    cache_bandwidth=0.6 * 5120 * 1.755e9,
    processors=132,
)
#: One core with AVX-512 (two multiply-adds of 16 numbers a cycle, at 2 GHz). 16-bit numbers are
#: widened; instructions that a processor may have for them are not counted.
CPU = Machine(
    name="CPU core",
    peak={"float32": 128e9, "float64": 64e9},
    bandwidth=10e9,
    launch=3e-6,
    efficiency=_CPU_TILES,
    dense_tiles=(8,),
)


def machine_for(device: torch.device) -> Machine:
    """The numbers used for a device: its class, not itself.

    H100's for CUDA devices of compute capability 9.0 and more, A100's for other accelerators.
    """
    if device.type in ("cpu", "meta"):
        return CPU
    if device.type == "cuda" and torch.cuda.is_available():
        return H100 if torch.cuda.get_device_capability(device) >= (9, 0) else A100
    return A100


# What torch's public attributes read, in a seventh of their time; a private name of torch's.
_PRECISION: Any = getattr(torch._C, "_get_fp32_precision_getter", None)
_ROCM = torch.version.hip is not None


def tf32_allowed(convolution: bool) -> bool:
    """Whether torch's switches let products of float32 on CUDA run in TF32, which ROCm has not."""
    if _ROCM:
        return False
    if _PRECISION is not None:  # where the older switch can raise
        return bool(_PRECISION("cuda", "conv" if convolution else "matmul") == "tf32")
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return bool(cudnn.allow_tf32 if convolution else matmul.allow_tf32)
