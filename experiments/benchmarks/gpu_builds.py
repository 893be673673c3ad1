"""Compile the Triton kernels for GPUs that are not here, and check what the compiler made.

Every launch of :mod:`mpnn_arch.kernels.triton` is compiled for sm_80 (A100), sm_90 (H100) and
sm_100 (B200) instead of launched: its public functions run on CPU tensors up to the launch, so
signatures, specialisations and constants are those of a real call. The check fails on

- an error of the compiler,
- more spills than 64 bytes a thread,
- more shared memory than a block of that architecture can have,
- two tile sizes of one launch with the same machine code: one of them would be timed for nothing.

No GPU is needed and no time is measured. ``--all`` compiles every tile size instead of the default
one; ``--csv`` writes registers, spills, shared memory, matrix instructions and widths of loads.

    python experiments/benchmarks/gpu_builds.py                       # the defaults, some minutes
    python experiments/benchmarks/gpu_builds.py --all --csv builds.csv
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from mpnn_arch import graphs
from mpnn_arch.kernels import triton as backend
from mpnn_arch.kernels import triton_jit
from mpnn_arch.kernels.plan import RoundPlan, make_plan

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
# Bytes of shared memory that a block can have (CUDA programming guide, compute capabilities).
SHARED = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
SPILLS = 64  # bytes a thread

# name -> (dtype, whether float32 products may use TF32)
DTYPES = {
    "tf32": (torch.float32, True),
    "fp32": (torch.float32, False),
    "bf16": (torch.bfloat16, False),
    "fp16": (torch.float16, False),
    "fp64": (torch.float64, False),
}


@dataclass(frozen=True)
class Case:
    """A round: density, channels, batch, and for maps their side, the kernel and the stride."""

    density: float
    channels: int
    batch: int
    side: int = 0
    kernel: int = 0
    stride: int = 1


CASES = {
    "ragged": Case(0.14, 1457, 1024),  # shares of 22 and 23
    "aligned": Case(0.14, 2048, 1024),  # shares of 32
    "conv3 ragged": Case(0.14, 326, 128, 28, 3),  # shares of 5 and 6, ResNet-34's second stage
    "conv3 stride 2": Case(0.14, 656, 128, 28, 3, 2),
    "conv1": Case(0.14, 656, 128, 14, 1),
}
FURTHER = {
    "small": Case(0.14, 100, 128),  # shares of 1 and 2
    "conv3 aligned": Case(0.14, 512, 128, 28, 3),  # compiles to the code of the ragged one
    "aligned to 8": Case(0.14, 1536, 1024),  # shares of 24
    "dense": Case(0.96, 520, 128),
    "wide": Case(0.42, 4000, 4096),  # shares of 62 and 63
    "conv3 last": Case(0.14, 1312, 128, 7, 3),
}


class NoDevice:
    """What Triton asks of a driver, for a device that is not here."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_device(self) -> int:
        return self.arch  # Triton keeps what it compiled, and its target, by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)


def products(case: Case, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """The three products of a round, as calls. Their tensors are never read."""
    n = 64
    graph = graphs.ws_flex(n, n * case.density, 0.1, seed=0)
    shares = [case.channels // n + (i < case.channels % n) for i in range(n)]
    plan: RoundPlan = make_plan(graph.edge_index, shares, shares)

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, dtype=dtype)

    x = empty(case.batch, case.channels)
    if not case.kernel:
        weight = empty(plan.num_weights)
        yield "forward", lambda: backend.linear_forward(x, weight, plan)
        yield "dX", lambda: backend.linear_grad_input(x, weight, plan)
        yield "dW", lambda: backend.linear_grad_weight(x, x, plan)
        return
    side, kernel, padding = case.side, case.kernel, case.kernel // 2
    out_side = (side + 2 * padding - kernel) // case.stride + 1
    maps = empty(case.batch, case.channels, side, side)
    grad = empty(case.batch, case.channels, out_side, out_side)
    weight = empty(plan.num_weights, kernel, kernel)
    how = {"stride": case.stride, "padding": padding}
    yield "forward", lambda: backend.conv2d_forward(maps, weight, plan, **how)
    yield "dX", lambda: backend.conv2d_grad_input(grad, weight, plan, (side, side), **how)
    yield "dW", lambda: backend.conv2d_grad_weight(grad, maps, plan, kernel, **how)


def describe(made: Any, arch: int) -> dict[str, Any]:
    """What the compiler made of a kernel: resources, and kinds of instructions."""
    ptx, cubin = made.asm["ptx"], made.asm["cubin"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, sass = (
            subprocess.run(
                [TOOLS / "cuobjdump", option, file.name], capture_output=True, text=True, check=True
            ).stdout
            for option in ("-res-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    registers, stack = map(int, found.groups()) if found else (-1, -1)

    def count(pattern: str, text: str = ptx) -> int:
        return len(re.findall(pattern, text))

    return {
        "registers": registers,
        "spilled": stack,
        "shared": made.metadata.shared,
        "matrix": count(r"\b(?:HMMA|HGMMA|DMMA|UTC\w*MMA)\b", sass),
        "fma": count(r"\b[FD]FMA", sass),
        "async 4": count(r"cp\.async\.c[ag][^;]*\], (?:0x)?4\b"),
        "async 8": count(r"cp\.async\.c[ag][^;]*\], (?:0x)?8\b"),
        "async 16": count(r"cp\.async\.c[ag][^;]*\], (?:0x)?10\b|cp\.async\.c[ag][^;]*\], 16\b"),
        "load": count(r"ld\.global"),
        "load v4": count(r"ld\.global[.\w:]*\.v4"),
        "instructions": count(r"/\*[0-9a-f]{4,}\*/ +\S", sass),
        "code": hashlib.sha256(re.sub(r"\.loc.*|//.*", "", sass).encode()).hexdigest()[:12],
    }


class Compiler:
    """Stands in for the module of kernels: a launch compiles, and notes a row."""

    def __init__(self, arch: int, rows: list[dict[str, Any]]) -> None:
        self.arch, self.rows, self.about = arch, rows, {}

    def __getattr__(self, name: str) -> Any:
        return _Launches(self, name)


@dataclass
class _Launches:
    compiler: Compiler
    name: str

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: object, **constants: Any) -> None:
            row = {
                **self.compiler.about,
                "kernel": self.name,
                "tile": " ".join(str(constants[k]) for k in constants if k.startswith("BLOCK")),
                "warps": constants["num_warps"],
                "stages": constants["num_stages"],
                "programs": grid[0],
                "error": "",
            }
            start = time.perf_counter()
            try:
                made = getattr(triton_jit, self.name).warmup(*args, grid=grid, **constants)
                row |= describe(made, self.compiler.arch)
            except Exception as error:  # whatever the compiler raises is the finding
                lines = str(error).strip().splitlines() or [""]
                row["error"] = f"{type(error).__name__}: {lines[-1][:200]}"
            row["seconds"] = round(time.perf_counter() - start, 2)
            self.compiler.rows.append(row)

        return launch


def build(arch: int, dtype: str, cases: dict[str, Case], every: bool) -> list[dict[str, Any]]:
    """Compile the launches of ``cases``: a row each."""
    number, tf32 = DTYPES[dtype]
    rows: list[dict[str, Any]] = []
    compiler = Compiler(arch, rows)

    def launch(run: Callable[..., Any], configs: list[dict[str, int]], *_: object) -> Any:
        made = None
        for index, config in enumerate(configs if every else configs[:1]):
            about = {k: config.get(k, "") for k in ("nodes", "pack", "pad")}
            compiler.about |= {"config": index, **about}
            made = run(config)
        return made

    driver.set_active(NoDevice(arch))
    with (
        mock.patch.object(backend, "launch", launch),
        mock.patch.object(backend, "kernels", return_value=compiler),
        mock.patch.object(backend, "_check"),
        mock.patch("mpnn_arch.kernels.triton_launch.tf32_allowed", return_value=tf32),
    ):
        for name, case in cases.items():
            for product, call in products(case, number):
                compiler.about = {"arch": arch, "dtype": dtype, "case": name, "product": product}
                call()
    return rows


def faults(rows: list[dict[str, Any]]) -> list[str]:
    """What is wrong with these builds of one architecture and dtype, a line each."""
    found = []
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        where = " ".join(str(row[k]) for k in ("arch", "dtype", "case", "product", "config"))
        where = f"sm_{where} ({row['tile']}, {row['warps']} warps, {row['stages']} stages)"
        if row["error"]:
            found.append(f"{where}: {row['error']}")
            continue
        if row["spilled"] > SPILLS:
            found.append(f"{where}: {row['spilled']} bytes of spills, more than {SPILLS}")
        if row["shared"] > SHARED[row["arch"]]:
            found.append(f"{where}: {row['shared']} bytes of shared memory do not fit")
        # `nodes`, `pack` and `pad` change what a launch does, not its code.
        key = tuple(
            row[k] for k in ("arch", "dtype", "case", "product", "nodes", "pack", "pad", "code")
        )
        if key in seen:
            found.append(f"{where}: the same code as configuration {seen[key]['config']}")
        seen.setdefault(key, row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=list(SHARED), choices=SHARED)
    parser.add_argument("--dtype", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=[*CASES, *FURTHER])
    parser.add_argument("--all", action="store_true", help="every tile size, not the default one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    cases = {name: (CASES | FURTHER)[name] for name in args.case}
    jobs = [(arch, dtype) for arch in args.arch for dtype in args.dtype]
    rows: list[dict[str, Any]] = []
    found: list[str] = []
    with ProcessPoolExecutor(args.jobs) as pool:
        futures = [pool.submit(build, arch, dtype, cases, args.all) for arch, dtype in jobs]
        for (arch, dtype), future in zip(jobs, futures, strict=True):
            made = future.result()
            rows += made
            seconds = sum(row["seconds"] for row in made)
            print(f"sm_{arch} {dtype}: {len(made)} builds, {seconds:.0f} s", flush=True)
            for fault in faults(made):
                print(fault, flush=True)
                found.append(fault)
    if args.csv:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    print(f"{len(rows)} builds, triton {triton.__version__}: {len(found)} faults")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
