"""Sorted aggregations with torch-scatter against torch's own operations, forward and backward.

    python experiments/benchmarks/aggregations.py [--device cuda]

Both run interleaved in one process, after a warm-up; the ratio is the median over pairs of runs.
"""

import argparse
import importlib.util
import platform
import statistics
import time

import torch
import torch_geometric

from mpnn_arch import RelationalLinear, graphs
from mpnn_arch.rounds.aggregations import aggregate_messages, make_aggregation


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    if importlib.util.find_spec("torch_scatter") is None:
        raise SystemExit("torch-scatter is not installed; install it to compare")
    (graph,) = graphs.parse("ws_flex:64,12,0.15,0")
    layer = RelationalLinear(graph, 512, 512).to(args.device)
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor()
    print(f"{name or platform.machine()}, torch {torch.__version__}, PyG", end=" ")
    print(f"{torch_geometric.__version__}, {torch.get_num_threads()} threads")
    print(f"{graph}, batch {args.batch}, 8 channels per node, forward and backward")
    print(f"{'aggr':<8} {'scatter ms':>10} {'torch ms':>10} {'torch/scatter':>14}  (range)")
    for aggr in ("max", "min", "mean", "softmax"):
        aggregation = make_aggregation(aggr, layer.plan)
        shape = (layer.plan.num_edges, args.batch, 8)
        messages = torch.randn(shape, device=args.device, requires_grad=True)

        def step(segmented: bool, aggregation=aggregation, messages=messages) -> float:
            wait(messages)
            start = time.perf_counter()
            target = layer.plan.target
            out = aggregate_messages(aggregation, messages, target, 64, segmented=segmented)
            torch.autograd.grad(out.sum(), messages)
            wait(messages)
            return 1e3 * (time.perf_counter() - start)

        pairs = [(step(True), step(False)) for _ in range(args.repeats + 3)][3:]
        ratios = sorted(plain / fast for fast, plain in pairs)
        fast, plain = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{aggr:<8} {fast:>10.2f} {plain:>10.2f} {statistics.median(ratios):>14.2f}  "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
