"""Conv rounds and ResNets against dense convolutions of equal cost.

python experiments/benchmarks/convolutions.py --quick
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from goals import Row, arguments, equal_width, published_graphs, report, write_csv
from mlp_step import training_step
from torch import Tensor, nn

from mpnn_arch import models
from mpnn_arch.diagnostics.timing import interleaved
from mpnn_arch.kernels.backends import candidates
from mpnn_arch.rounds import RelationalConv2d

CHANNELS, BATCH, SIZE = 128, 16, 16
DENSITY = 0.2  # block density of the graph of the ResNets


def step(layer: nn.Module, x: Tensor) -> None:
    y = layer(x)
    torch.autograd.grad(y, (x, *layer.parameters()), torch.ones_like(y))


def main() -> None:
    options = arguments(__doc__)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    put = {"device": device, "dtype": dtype}
    graphs = published_graphs(options)
    able = [name for name in candidates(device.type, dtype) if name != "gather"]
    ratios: dict[int, list[float]] = {1: [], 3: []}
    spreads: list[float] = []
    lines: list[dict[str, object]] = []
    for graph in graphs[:: 1 if options.quick else 4]:
        for kernel in (1, 3):
            width = equal_width(graph, None, CHANNELS**2, 1)
            conv_kwargs = {"padding": kernel // 2, "bias": False, "order": "published"}
            layers = {
                name: RelationalConv2d(graph, width, width, kernel, backend=name, **conv_kwargs).to(
                    **put
                )
                for name in ("auto", *able)
            }
            dense = nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, bias=False).to(**put)
            x = torch.randn(BATCH, width, SIZE, SIZE, **put).requires_grad_()
            dense_x = torch.randn(BATCH, CHANNELS, SIZE, SIZE, **put).requires_grad_()
            runs = {name: partial(step, layer, x) for name, layer in layers.items()}
            timed = interleaved(
                {"dense": partial(step, dense, dense_x), **runs},
                options.repeats,
                device=device,
                seconds=10.0,
                clock=options.clock,
            )
            share = layers["auto"].plan.num_weights / CHANNELS**2
            ratio = timed["auto"].median / timed["dense"].median / share
            ratios[kernel].append(ratio)
            spreads += [timed["auto"].spread, timed["dense"].spread]
            print(f"density {graph.block_density:.3f} {kernel} x {kernel}: {ratio:.2f}", flush=True)
            lines.append(
                {
                    "graph": graph.content_hash[:8],
                    "block_density": round(graph.block_density, 4),
                    "kernel": kernel,
                    "width": width,
                    **{f"step_ms_{name}": 1e3 * t.median for name, t in timed.items()},
                    "ratio": round(ratio, 3),
                    "spread": round(timed["auto"].spread, 3),
                }
            )
    rows = [
        Row(f"conv round {kernel} x {kernel}, step, / dense", found, "1.60", "1.25",
            statistics.median(spreads))
        for kernel, found in ratios.items()
    ]  # fmt: skip

    graph = min(graphs, key=lambda g: abs(g.block_density - DENSITY))
    generator = torch.Generator().manual_seed(0)
    for name, batch, size, settings in (
        ("resnet20", 16, 32, {"width_multiplier": 4}),
        ("resnet34", 2, 224, {}),
    ):
        images = torch.randn(batch, 3, size, size, generator=generator).to(device)
        target = torch.randint(10, (batch,), generator=generator).to(device)
        model = models.build(name, graph, num_classes=10, device=device, **settings)
        dense_model = models.build(name, num_classes=10, device=device, **settings)
        timed = interleaved(
            {
                "dense": training_step(dense_model, images.to(dtype), target),
                "rounds": training_step(model, images.to(dtype), target),
            },
            min(options.repeats, 7),
            device=device,
            warm_ups=1,
            seconds=60.0,
            clock=options.clock,
        )
        ratio = timed["rounds"].median / timed["dense"].median
        rows.append(
            Row(f"{name}, training step, block density {graph.block_density:.2f}, / dense",
                [ratio], "1.60", "1.25", timed["rounds"].spread)
        )  # fmt: skip
        print(f"{name}: {ratio:.2f}", flush=True)
        del model, dense_model
    report(rows, options, f"convolutions, {options.device}")
    write_csv(lines, options, f"convolutions_{options.device}_{options.dtype}.csv")


if __name__ == "__main__":
    main()
