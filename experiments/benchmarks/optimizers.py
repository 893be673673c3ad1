"""A step of SGD by torch's three ways to compute it, on the parameters of four models.

python experiments/benchmarks/optimizers.py --threads 1 --cpu-time
"""

from __future__ import annotations

import torch
from goals import arguments, write_csv

from mpnn_arch import graphs, models
from mpnn_arch.diagnostics.timing import interleaved, machine
from mpnn_arch.training.config import OPTIMIZER_STEPS, TrainingConfig
from mpnn_arch.training.loop import make_optimizer


def main() -> None:
    options = arguments(__doc__)
    graph = graphs.parse_one("ws_flex:64,12,0.15,0")
    small = graphs.parse_one("ws_flex:16,5,0.15,0")
    networks = {
        "mlp on signals": models.mlp(graph, in_features=40),
        "mlp on CIFAR-10": models.mlp(graph),
        "cnn1d": models.build("cnn1d", graph, length=40, in_channels=1),
        "resnet20": models.build("resnet20", small, image_size=32),
    }
    lines: list[dict[str, object]] = []
    for name, model in networks.items():
        model.to(options.device)
        parameters = list(model.parameters())
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        steps = {
            way: make_optimizer(parameters, TrainingConfig(optimizer=way, learning_rate=1e-6)).step
            for way in OPTIMIZER_STEPS
        }
        taken = interleaved(steps, 4 * options.repeats, device=options.device, clock=options.clock)
        times = {way: round(1e3 * timing.median, 3) for way, timing in taken.items()}
        numbers = sum(parameter.numel() for parameter in parameters)
        print(f"{name}, {len(parameters)} tensors of {numbers:,} numbers: {times} ms", flush=True)
        lines.append({"model": name, "tensors": len(parameters), "numbers": numbers, **times})
    for name, value in machine(options.device).items():
        print(f"{name}: {value}")
    write_csv(lines, options, f"optimizers_{options.device}.csv")


if __name__ == "__main__":
    main()
