"""Three rounds against three dense layers of equal cost, and against the other implementations.

python experiments/benchmarks/rounds.py --quick
python experiments/benchmarks/rounds.py --quick --threads 1 --batch 1 16 32 64 256
python experiments/benchmarks/rounds.py --device cuda --dtype bfloat16 --out runs/bench
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from goals import Row, arguments, equal_width, published_graphs, report, write_csv
from torch import Tensor, nn

from mpnn_arch import RelationalGraph
from mpnn_arch.diagnostics.timing import interleaved
from mpnn_arch.kernels.backends import candidates
from mpnn_arch.rounds import RelationalLinear

WIDTH = 512
SPARSE = 0.42  # block density up to which the sparse backends should be clearly faster


def one_round(
    graph: RelationalGraph, width_in: int, width: int, backend: str, activation: str | None = None
) -> RelationalLinear:
    return RelationalLinear(
        graph,
        width_in,
        width,
        bias=False,
        activation=activation,
        backend=backend,
        order="published",
        generator=torch.Generator().manual_seed(0),
    )


def three_rounds(graph: RelationalGraph, width: int, backend: str) -> nn.Sequential:
    """With a ReLU as part of every round."""
    widths = (WIDTH, width, width)
    return nn.Sequential(*(one_round(graph, w, width, backend, "relu") for w in widths))


def three_dense() -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU()]
    return nn.Sequential(*layers)


def step(model: nn.Module, x: Tensor) -> None:
    """Forward and backward, gradients for all weights."""
    y = model(x)
    torch.autograd.grad(y, list(model.parameters()), torch.ones_like(y))


def forward(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(x)
    return out


def torch_sparse(layer: RelationalLinear, x: Tensor) -> Callable[[], Tensor]:
    """torch's own block-sparse product where all blocks are equal, else its CSR product.

    On the CPU it has them in float32 and float64 only.
    """
    dense = layer.dense_weight().detach()
    size_in, size_out = set(layer.in_partition.sizes), set(layer.out_partition.sizes)
    if len(size_in) == len(size_out) == 1:
        weight = dense.to_sparse_bsr((size_out.pop(), size_in.pop()))
    else:
        weight = dense.to_sparse_csr()
    return lambda: weight @ x.t()


def main() -> None:
    options = arguments(__doc__, batches=True)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    put = {"device": device, "dtype": dtype}
    able = candidates(device.type, dtype)
    batches = options.batch or ((128, 512) if device.type == "cpu" else (128, 1024, 4096))
    steps: dict[int, list[float]] = {batch: [] for batch in batches}
    forwards: dict[int, list[float]] = {batch: [] for batch in batches}
    autos, gains, forward_gains, spreads = [], [], [], []
    lines: list[dict[str, object]] = []
    timed = partial(
        interleaved, repeats=options.repeats, device=device, seconds=20.0, clock=options.clock
    )
    dense = three_dense().to(**put)
    for graph in published_graphs(options):
        width = equal_width(graph, WIDTH, 3 * WIDTH * WIDTH, 3)
        models = {name: three_rounds(graph, width, name).to(**put) for name in able}
        models["auto"] = three_rounds(graph, width, "auto").to(**put)
        sparse = graph.block_density <= SPARSE
        if sparse:
            models["reference"] = three_rounds(graph, width, "reference").to(**put)
        for batch in batches:
            x = torch.randn(batch, WIDTH, **put)
            if batch > 512:
                models.pop("reference", None)
            runs = {name: partial(step, model, x) for name, model in models.items()}
            whole = timed({"dense": partial(step, dense, x), **runs})
            last = {name: one_round(graph, width, width, name).to(**put) for name in models}
            wide = torch.randn(batch, width, **put)
            runs = {name: partial(forward, layer, wide) for name, layer in last.items()}
            has_sparse = device.type == "cpu" and dtype in (torch.float32, torch.float64)
            if sparse and has_sparse and batch == 128:
                runs["torch sparse"] = torch_sparse(last["auto"], wide)
            one_x = torch.randn(batch, WIDTH, **put)
            one = timed({"dense": partial(forward, dense[0], one_x), **runs})

            seconds = {name: timing.median for name, timing in whole.items()}
            ones = {name: timing.median for name, timing in one.items()}
            # Widths are integers, so costs agree only nearly: scale the ratios to equal cost.
            plans = [layer.plan for layer in models["auto"] if isinstance(layer, RelationalLinear)]
            share = sum(plan.num_weights for plan in plans) / (3 * WIDTH * WIDTH)
            share_one = plans[1].num_weights / WIDTH**2
            steps[batch].append(seconds["auto"] / seconds["dense"] / share)
            forwards[batch].append(ones["auto"] / ones["dense"] / share_one)
            autos.append(seconds["auto"] / min(seconds[name] for name in able))
            ours = min(seconds[name] for name in able if name in ("cpu", "triton", "masked"))
            others = [seconds[n] for n in ("masked", "gather", "reference") if n in seconds]
            if sparse:
                gains.append(min(others) / ours)
                if batch == 128:
                    also = [ones[n] for n in ("masked", "gather", "torch sparse") if n in ones]
                    forward_gains.append(min(also) / min(ones[n] for n in able))
            spreads += [whole["auto"].spread, whole["dense"].spread]
            lines.append(
                {
                    "graph": graph.content_hash[:8],
                    "block_density": round(graph.block_density, 4),
                    "width": width,
                    "batch": batch,
                    "multiply_adds": sum(plan.num_weights for plan in plans),
                    "picked": "+".join(
                        layer.backend_choices.get(key, "masked")
                        for layer in models["auto"]
                        if isinstance(layer, RelationalLinear)
                        for key in list(layer.backend_choices)[-1:]
                    ),
                    **{f"step_ms_{name}": 1e3 * value for name, value in seconds.items()},
                    **{f"forward_ms_{name}": 1e3 * value for name, value in ones.items()},
                    "spread": round(whole["auto"].spread, 3),
                }
            )
            print(
                f"density {graph.block_density:.3f} batch {batch}: step "
                f"{steps[batch][-1]:.2f}, forward {forwards[batch][-1]:.2f}, auto/best "
                f"{autos[-1]:.2f}",
                flush=True,
            )
    spread = statistics.median(spreads)
    rows = []
    for batch in batches:
        rows += [
            Row(f"3 rounds, step, batch {batch}, / dense", steps[batch], "1.60, worst 1.95",
                "median 1.25", spread),
            Row(f"1 round, forward, batch {batch}, / dense", forwards[batch], "1.20", "1.0",
                spread),
        ]  # fmt: skip
    rows += [
        Row("auto / best fixed backend, step", autos, "1.05", "", spread),
        Row(f"masked, gather or reference / ours, step, density <= {SPARSE}", gains, "2", "4",
            spread, higher_is_better=True),
        Row("the same and torch sparse / ours, forward", forward_gains, "2", "4", spread,
            higher_is_better=True),
    ]  # fmt: skip
    report([row for row in rows if row.ratios], options, f"rounds, {options.device}")
    write_csv(lines, options, f"rounds_{options.device}_{options.dtype}.csv")


if __name__ == "__main__":
    main()
