"""Relational graphs that every test can ask for by name."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mpnn_arch import RelationalGraph, cli
from mpnn_arch.io.cache_folder import cache_folder


def odd_graphs() -> dict[str, RelationalGraph]:
    """Graphs at the corners: dense, sparse, a hub, a random one, one-way, and self-loops only."""
    random = np.random.default_rng(0).random((9, 9)) < 0.3
    nodes = np.arange(9)
    return {
        "complete": RelationalGraph.from_adjacency(np.ones((9, 9), dtype=int)),
        "ring": RelationalGraph(9, np.stack([nodes, (nodes + 1) % 9])),
        "star": RelationalGraph(9, np.stack([np.zeros(8, dtype=int), nodes[1:]])),
        "random": RelationalGraph.from_adjacency(random.astype(int)),
        "directed": RelationalGraph.from_adjacency(random.astype(int), directed=True),
        "self_loops_only": RelationalGraph(9, np.zeros((2, 0), dtype=int)),
        "no_self_loops": RelationalGraph(9, np.stack([nodes, (nodes + 1) % 9]), self_loops=False),
    }


@pytest.fixture(params=list(odd_graphs()))
def graph(request: pytest.FixtureRequest) -> RelationalGraph:
    return odd_graphs()[request.param]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``mpnn-arch arguments``; returns exit code, standard output and standard error."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        try:
            cli.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No trial of another day decides what runs here, and none of these is kept.

    Kernels that were compiled before are taken along: every process would compile them for itself.
    """
    cache = tmp_path_factory.mktemp("cache")
    for kernels in cache_folder().glob("block_kernels-*"):
        shutil.copy2(kernels, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPNN_ARCH_CACHE", str(cache))
        yield


@pytest.fixture(autouse=True, scope="session")
def layers_of_pyg_with_their_fused_paths() -> None:
    """PyG generates a class's code for its first object: none has the path that others lack."""
    from torch_geometric.nn import GraphConv, SAGEConv

    with torch.random.fork_rng():
        for first in (GraphConv, SAGEConv):
            first(1, 1)


FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")  # its event loop would stand in the way of other modules
def browser() -> Iterator[Any]:
    """The Chromium that the system has."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def serious_faults() -> Callable[[Any], list[tuple[str, str]]]:
    """The serious faults that axe finds on a page: rule, and element."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )

    def find(page: Any) -> list[tuple[str, str]]:
        return [
            (one["id"], one["nodes"][0]["html"])
            for one in axe.Axe().run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]

    return find
