"""Generating and measuring 64-node WS-flex graphs, compared with networkx, on one core.

python experiments/benchmarks/graph_measures.py

The graphs are random points of the paper's grid of degrees and rewiring probabilities; networkx,
which is slow, runs on the first few of them. The methods run interleaved in one process, and a
figure is the median over repeats:

  generated networkx: the generator's loop on ``nx.Graph`` with the published random stream (the
            edges are checked to equal those of ``ws_flex``); ``ws_flex`` rows with that stream in
            pure Python; ``ws_flex_population``, which draws all at once from another stream.
  measured  networkx: ``average_clustering`` and ``average_shortest_path_length``; 64-bit words
            (checked equal to the last bit).
  both      generated and measured.

Times are process times (user and system), so that other load on the machine matters little; nothing
here uses threads.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable

import networkx as nx
import numpy as np

from mpnn_arch.graphs import GraphBatch, RelationalGraph, generate, ws_flex_population
from mpnn_arch.graphs.design_space import paper_grid
from mpnn_arch.graphs.generators.ws_flex import edge_shares, ws_flex_words
from mpnn_arch.graphs.measures import average_path_length, clustering_coefficient

NUM_NODES = 64


def networkx_ws_flex(average_degree: float, p: float, seed: int) -> nx.Graph:
    """WS-flex as a loop over a networkx graph."""
    stream = random.Random(seed)
    nodes = list(range(NUM_NODES))
    shares = edge_shares(NUM_NODES, average_degree)
    while True:
        graph = nx.Graph()
        graph.add_nodes_from(nodes)
        for i, share in enumerate(shares):
            graph.add_edges_from((i, (i + s) % NUM_NODES) for s in range(1, share + 1))
        for i, share in enumerate(shares):
            for s in range(1, share + 1):
                if stream.random() >= p:
                    continue
                far = stream.choice(nodes)
                while far == i or graph.has_edge(i, far):
                    far = stream.choice(nodes)
                    if graph.degree(i) >= NUM_NODES - 1:
                        break
                else:
                    graph.remove_edge(i, (i + s) % NUM_NODES)
                    graph.add_edge(i, far)
        if nx.is_connected(graph):
            return graph


def measured_by_networkx(graphs: list[nx.Graph]) -> list[tuple[float, float]]:
    return [(nx.average_clustering(g), nx.average_shortest_path_length(g)) for g in graphs]


def measured_by_words(words: np.ndarray) -> list[tuple[float, float]]:
    batch = GraphBatch(words)
    c, length = clustering_coefficient(batch), average_path_length(batch)
    return list(zip(c.tolist(), length.tolist(), strict=True))


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--graphs", type=int, default=200, help="graphs per repeat for networkx")
    parser.add_argument(
        "--population", type=int, default=4000, help="graphs per repeat for the other methods"
    )
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()

    grid = paper_grid(NUM_NODES)
    rng = np.random.default_rng(0)
    degree, p = (np.asarray(values) for values in grid.values())
    chosen = rng.permutation(degree.size * p.size)
    few, many = chosen[: args.graphs], chosen[: args.population]
    few_degree, few_p, seeds = degree[few // p.size], p[few % p.size], list(range(len(few)))
    many_degree, many_p = degree[many // p.size], p[many % p.size]

    drawn = [networkx_ws_flex(*call) for call in zip(few_degree, few_p, seeds, strict=True)]
    words = ws_flex_words(NUM_NODES, few_degree, few_p, seeds)
    for graph, call in zip(drawn, zip(few_degree, few_p, seeds, strict=True), strict=True):
        assert RelationalGraph.from_networkx(graph) == generate("ws_flex", NUM_NODES, *call)
    exact = measured_by_networkx(drawn) == measured_by_words(words)
    population = ws_flex_population(NUM_NODES, many_degree, many_p)

    runs: dict[str, tuple[Callable[[], object], int]] = {
        "generated, networkx": (
            lambda: [networkx_ws_flex(*c) for c in zip(few_degree, few_p, seeds, strict=True)],
            len(few),
        ),
        "generated, published stream": (
            lambda: ws_flex_words(NUM_NODES, few_degree, few_p, seeds),
            len(few),
        ),
        "generated, population": (
            lambda: ws_flex_population(NUM_NODES, many_degree, many_p),
            len(many),
        ),
        "measured, networkx": (lambda: measured_by_networkx(drawn), len(few)),
        "measured, words": (lambda: measured_by_words(population), len(many)),
    }
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(args.turns + 1):
        for name, (run, count) in runs.items():
            taken = seconds(run) / count * 1e6
            if turn:  # the first is a warm-up
                turns[name].append(taken)
    turns["both, networkx"] = added(turns["generated, networkx"], turns["measured, networkx"])
    turns["both, published stream"] = added(
        turns["generated, published stream"], turns["measured, words"]
    )
    turns["both, population"] = added(turns["generated, population"], turns["measured, words"])

    print(
        f"{platform.processor() or platform.machine()}, 1 thread; Python "
        f"{platform.python_version()}, numpy {np.__version__}, networkx {nx.__version__}; "
        f"{len(few)} graphs ({len(many)} at once), {args.turns} repeats"
    )
    print(f"C and L equal networkx to the last bit: {exact}\n")
    print("| 64-node WS-flex | microseconds per graph | speed-up over networkx | spread |")
    print("| --- | ---: | ---: | ---: |")
    for name, taken in turns.items():
        base = turns[f"{name.split(',')[0]}, networkx"]
        ratios = [a / b for a, b in zip(base, taken, strict=True)]
        ratio = statistics.median(ratios)
        print(
            f"| {name} | {statistics.median(taken):,.0f} | {ratio:.1f}x | "
            f"{min(ratios):.1f} - {max(ratios):.1f} |"
        )


def added(a: list[float], b: list[float]) -> list[float]:
    return [x + y for x, y in zip(a, b, strict=True)]


if __name__ == "__main__":
    main()
