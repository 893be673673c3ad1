"""Memory of a step: parameters, optimiser state, and peak memory relative to masked.

Each backend runs in a separate process, whose peak resident size is read.

    python experiments/benchmarks/memory.py
"""

from __future__ import annotations

import json
import subprocess
import sys

import torch
from goals import arguments, equal_width, published_graphs
from rich.console import Console
from rich.table import Table

from mpnn_arch.kernels.backends import candidates

WIDTH, BATCH = 4096, 128

CHILD = """
import json, resource, sys, torch
from mpnn_arch import RelationalGraph
from mpnn_arch.rounds import RelationalLinear
backend, edges, first, width, batch = json.loads(sys.argv[1])
graph = RelationalGraph(64, edges, directed=True, self_loops=False)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def run(first, width):
    if backend == "dense":
        layers = [torch.nn.Linear(first, first, bias=False) for _ in range(3)]
    else:
        layers = [RelationalLinear(graph, n, width, bias=False, backend=backend)
                  for n in (first, width, width)]
    model = torch.nn.Sequential(*[m for layer in layers for m in (layer, torch.nn.ReLU())])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x = torch.ones(batch, first)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    state = [t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)]
    return [sum(t.nbytes for t in ts) for ts in (model.parameters(), state)]
run(128, 128)  # libraries are loaded and threads started by now
before = peak()
print(json.dumps([*run(first, width), peak() - before]))
"""


def main() -> None:
    options = arguments(__doc__)
    graphs = published_graphs(options)
    table = Table(
        "block density", "backend", "parameters MB", "optimiser MB", "peak MB", "peak / masked",
        title=f"three rounds at the cost of three dense {WIDTH} x {WIDTH}, batch {BATCH}",
    )  # fmt: skip
    for graph in (graphs[0], graphs[len(graphs) // 2], graphs[-1]):
        width = equal_width(graph, WIDTH, 3 * WIDTH * WIDTH, 3)
        peaks: dict[str, float] = {}
        for backend in (
            "masked",
            *[b for b in candidates("cpu", torch.float32) if b != "masked"],
            "dense",
        ):
            given = json.dumps([backend, graph.edges.tolist(), WIDTH, width, BATCH])
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", CHILD, given],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            parameters, state, peak = json.loads(done.stdout)
            peaks[backend] = peak
            table.add_row(
                f"{graph.block_density:.3f}", backend, f"{parameters / 1e6:.0f}",
                f"{state / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{peak / peaks['masked']:.2f}",
            )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
