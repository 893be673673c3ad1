"""The whole training step of the paper's MLP against the dense model's.

Stem, three rounds, head, BatchNorm, loss and optimiser, on random images.

    python experiments/benchmarks/mlp_step.py --quick
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from goals import Row, arguments, published_graphs, report, write_csv
from torch import Tensor, nn

from mpnn_arch import models
from mpnn_arch.diagnostics.timing import interleaved


def training_step(model: nn.Module, x: Tensor, target: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True
    )

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, dtype=x.dtype, enabled=x.dtype != torch.float32):
            scores = model(x)
        nn.functional.cross_entropy(scores.float(), target).backward()
        optimizer.step()

    return step


def main() -> None:
    options = arguments(__doc__)
    batches = (128,) if options.device == "cpu" else (128, 1024, 4096)
    ratios: dict[int, list[float]] = {batch: [] for batch in batches}
    spreads = []
    lines: list[dict[str, object]] = []
    generator = torch.Generator().manual_seed(0)
    dense = models.build("mlp", device=options.device)
    for graph in published_graphs(options):
        model = models.build("mlp", graph, device=options.device)
        for batch in batches:
            images = torch.randn(batch, 3072, generator=generator).to(options.device)
            images = images.to(getattr(torch, options.dtype))
            target = torch.randint(10, (batch,), generator=generator).to(options.device)
            timed = interleaved(
                {
                    "dense": training_step(dense, images, target),
                    "rounds": training_step(model, images, target),
                },
                options.repeats,
                device=options.device,
                seconds=15.0,
                clock=options.clock,
            )
            ratio = timed["rounds"].median / timed["dense"].median
            ratios[batch].append(ratio)
            spreads += [timing.spread for timing in timed.values()]
            print(f"density {graph.block_density:.3f} batch {batch}: {ratio:.2f}", flush=True)
            lines.append(
                {
                    "graph": graph.content_hash[:8],
                    "block_density": round(graph.block_density, 4),
                    "width": model.widths[0],
                    "batch": batch,
                    "step_ms": 1e3 * timed["rounds"].median,
                    "dense_ms": 1e3 * timed["dense"].median,
                    "ratio": round(ratio, 3),
                    "spread": round(timed["rounds"].spread, 3),
                }
            )
    rows = [
        Row(f"mlp training step, batch {batch}, / dense", ratios[batch], "1.25, worst 1.40",
            "1.1", statistics.median(spreads))
        for batch in batches
    ]  # fmt: skip
    report(rows, options, f"mlp, {options.device}")
    write_csv(lines, options, f"mlp_step_{options.device}_{options.dtype}.csv")


if __name__ == "__main__":
    main()
