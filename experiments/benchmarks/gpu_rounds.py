"""Training steps on graphs against the dense network of equal multiply-adds, on a CUDA device.

Two networks: three rounds (512 -> w -> w -> w with ReLU, against three dense 512 x 512) and the
`mlp` model (with its stem, head, BatchNorm and optimiser, against the complete-graph model). Each
step is timed eagerly and as a CUDA graph. Candidates run interleaved in one process, every timing
is the median of several repeats, and the ratio to dense is that of the medians.

    python experiments/benchmarks/gpu_rounds.py --batch 128 512 4096 --csv gpu_rounds.csv
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mpnn_arch import RelationalGraph, RelationalLinear, graphs, models
from mpnn_arch.kernels import triton

Step = Callable[[], None]
WIDTH = 512


def matched_width(graph: RelationalGraph) -> int:
    """The smallest w whose three rounds cost at least three dense 512 x 512."""
    low, high = graph.num_nodes, WIDTH * graph.num_nodes
    while low < high:
        w = (low + high) // 2
        first, later = (
            RelationalLinear(graph, inputs, w, bias=False).plan.num_weights for inputs in (WIDTH, w)
        )
        if first + 2 * later >= 3 * WIDTH**2:
            high = w
        else:
            low = w + 1
    return low


def three_rounds(graph: RelationalGraph | None, backend: str) -> nn.Module:
    layers: list[nn.Module] = []
    w = WIDTH if graph is None else matched_width(graph)
    for inputs in (WIDTH, w, w):
        if graph is None:
            layers += [nn.Linear(inputs, w), nn.ReLU()]
        else:
            layers += [RelationalLinear(graph, inputs, w, backend=backend), nn.ReLU()]
    return nn.Sequential(*layers)


def rounds_step(model: nn.Module, batch: int, dtype: torch.dtype) -> Step:
    """Forward and all gradients, including those for the input."""
    model = model.to("cuda", dtype)
    x = torch.randn(batch, WIDTH, device="cuda", dtype=dtype, requires_grad=True)
    wanted = [x, *model.parameters()]
    grad: Tensor | None = None

    def step() -> None:
        nonlocal grad
        y = model(x)
        if grad is None:
            grad = torch.randn_like(y)
        torch.autograd.grad(y, wanted, grad)

    return step


def mlp_step(model: nn.Module, batch: int, dtype: torch.dtype) -> Step:
    """A whole training step; bfloat16 through autocast."""
    model = model.cuda().train()
    x = torch.randn(batch, 3, 32, 32, device="cuda")
    labels = torch.randint(10, (batch,), device="cuda")
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimiser.step()

    return step


def captured(step: Step) -> Step:
    """The step as one CUDA graph, warmed up before it is captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def milliseconds(step: Step, calls: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


def in_turns(steps: dict[str, Step], turns: int, calls: int) -> dict[str, list[float]]:
    for step in steps.values():
        milliseconds(step, calls)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            times[name].append(milliseconds(step, calls))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512, 1024, 4096])
    parser.add_argument(
        "--graph",
        nargs="+",
        default=["ws_flex:64,8.5,0.1,0", "ws_flex:64,16,0.5,0", "ws_flex:64,32,0.5,0"],
        help="graph specs",
    )
    parser.add_argument("--backend", nargs="+", default=["triton", "gather", "masked"])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--calls", type=int, default=20, help="steps per timing")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(
            "gpu_rounds needs a CUDA device, but torch finds none; run it on a machine with a GPU"
        )
    if "triton" in args.backend and not triton.is_available():
        sys.exit(triton.unavailable_reason())

    import triton as triton_package

    torch.set_float32_matmul_precision("high")  # TF32
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"triton {triton_package.__version__}, {torch.get_num_threads()} threads; "
        f"median of {args.turns} repeats of {args.calls} steps"
    )
    rows = []
    for spec in args.graph:
        (graph,) = graphs.parse(spec)
        for batch in args.batch:
            for precision, dtype in (("TF32", torch.float32), ("bf16", torch.bfloat16)):
                eager = {
                    "rounds": {
                        "dense": rounds_step(three_rounds(None, ""), batch, dtype),
                        **{
                            name: rounds_step(three_rounds(graph, name), batch, dtype)
                            for name in args.backend
                        },
                    },
                    "mlp": {
                        "dense": mlp_step(models.build("mlp"), batch, dtype),
                        **{
                            name: mlp_step(models.build("mlp", graph, backend=name), batch, dtype)
                            for name in args.backend
                        },
                    },
                }
                for network, steps in eager.items():
                    replays = {name: captured(step) for name, step in steps.items()}
                    for mode, timed in (("eager", steps), ("CUDA graph", replays)):
                        times = in_turns(timed, args.turns, args.calls)
                        dense = statistics.median(times["dense"])
                        for name, taken in times.items():
                            middle = statistics.median(taken)
                            row = {
                                "graph": spec,
                                "block_density": round(graph.block_density, 3),
                                "network": network,
                                "batch": batch,
                                "precision": precision,
                                "mode": mode,
                                "backend": name,
                                "ms": round(middle, 4),
                                "spread": round((max(taken) - min(taken)) / middle, 3),
                                "ratio_to_dense": round(middle / dense, 3),
                            }
                            rows.append(row)
                            print(*row.values(), sep="\t", flush=True)
    if args.csv:
        # Atomic write: an interrupted run leaves no partial table.
        temporary = args.csv.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(args.csv)


if __name__ == "__main__":
    main()
