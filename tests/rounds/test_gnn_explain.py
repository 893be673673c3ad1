"""Edge masks and hooks see the caller's edges in the caller's order, as in PyG."""

from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

from mpnn_arch import GraphRound, InputError
from mpnn_arch.rounds.gnn import GAT, GCN, GIN, GINE, SAGE, Graph

N, E, C = 7, 18, 5


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(C, 4), nn.ReLU(), nn.Linear(4, 4))


LAYERS: dict[str, Any] = {
    "gcn": (GCN, lambda: pyg.GCNConv(C, 4)),
    "gcn plain": (GCN, lambda: pyg.GCNConv(C, 4, normalize=False)),
    "gcn reversed": (GCN, lambda: pyg.GCNConv(C, 4, flow="target_to_source")),
    "sage": (SAGE, lambda: pyg.SAGEConv(C, 4)),
    "sage max": (SAGE, lambda: pyg.SAGEConv(C, 4, aggr="max")),
    "sage reversed": (SAGE, lambda: pyg.SAGEConv(C, 4, flow="target_to_source")),
    "sage median": (SAGE, lambda: pyg.SAGEConv(C, 4, aggr=["median", "mean"])),
    "graph": (Graph, lambda: pyg.GraphConv(C, 4)),
    "gin": (GIN, lambda: pyg.GINConv(network())),
    "gine": (GINE, lambda: pyg.GINEConv(network())),
    "gat": (GAT, lambda: pyg.GATConv(C, 4, heads=2)),
    "gat plain": (GAT, lambda: pyg.GATConv(C, 4, heads=2, add_self_loops=False)),
    "gat reversed": (GAT, lambda: pyg.GATConv(C, 4, heads=2, flow="target_to_source")),
}


def example(order: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    edges = torch.randint(0, N, (2, E), generator=generator)
    if order != "without loops":
        edges[1, ::6] = edges[0, ::6]
    else:
        edges[1] = (edges[0] + 1 + edges[1] % (N - 1)) % N
    if order == "sorted":
        edges = edges[:, edges[1].argsort(stable=True)]
    return torch.randn(N, C, generator=generator), edges


def pair(name: str) -> tuple[Any, Any]:
    kind, make = LAYERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = make()
    return kind.from_pyg(theirs), theirs


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("order", ["unsorted", "sorted", "without loops"])
def test_a_masked_layer_is_pygs(name: str, order: str) -> None:
    ours, theirs = pair(name)
    x, edges = example(order)
    rest = {"edge_attr": torch.ones(E, C)} if name == "gine" else {}
    mask = torch.randn(E, generator=torch.Generator().manual_seed(4)).requires_grad_()
    before = ours(x, edges, **rest)
    results = []
    for layer in (ours, theirs):
        set_masks(layer, mask, edges)
        out = layer(x, edges, **rest)
        results.append((out, *torch.autograd.grad(out.square().sum(), mask)))
    torch.testing.assert_close(results[0], results[1])
    assert not torch.allclose(results[0][0], before)
    assert results[0][1].abs().max() > 1e-3
    clear_masks(ours)
    torch.testing.assert_close(ours(x, edges, **rest), before)


def test_a_mask_on_one_edge_changes_its_receiver_only() -> None:
    """Where every node has a self-loop of its own, PyG's count of messages misleads its mask."""
    ours = GCN(C, 4)
    x, _ = example("sorted")
    loops = torch.arange(N).expand(2, -1)
    edges = torch.cat([loops, torch.tensor([[0, 2, 5], [3, 3, 1]])], dim=1)
    mask = torch.ones(edges.shape[1])
    mask[-1] = 0  # 5 -> 1
    set_masks(ours, mask, edges, apply_sigmoid=False)
    masked = ours(x, edges)
    clear_masks(ours)
    changed = (masked - ours(x, edges)).abs().sum(1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [1]


def test_explaining_needs_a_mask_of_the_edges() -> None:
    ours = SAGE(C, 4)
    x, edges = example("unsorted")
    ours.explain = True
    with pytest.raises(InputError, match="needs an edge mask"):
        ours(x, edges)
    ours._edge_mask = torch.ones(3)
    with pytest.raises(InputError, match=f"3 entries, the graph {E} edges"):
        ours(x, edges)


@pytest.mark.parametrize("name", LAYERS)
def test_hooks_see_the_messages_in_pygs_order(name: str) -> None:
    ours, theirs = pair(name)
    x, edges = example("unsorted")
    rest = {"edge_attr": torch.ones(E, C)} if name == "gine" else {}
    seen: list[list[torch.Tensor]] = []
    for layer in (ours, theirs):
        of_layer: list[torch.Tensor] = []
        seen.append(of_layer)
        layer.register_message_forward_hook(lambda *args, s=of_layer: s.append(args[2].flatten(1)))
        layer.register_aggregate_forward_pre_hook(
            lambda _, given, s=of_layer: s.append(given[0]["index"])
        )
        layer(x, edges, **rest)
    torch.testing.assert_close(seen[0][1], seen[1][1])
    torch.testing.assert_close(seen[0][0], seen[1][0])


def test_a_hook_that_drops_an_edge_drops_the_callers() -> None:
    layer = GraphRound(C, 4, "shared_linear", "median")
    x, edges = example("unsorted")
    keep = torch.ones(E, dtype=torch.bool)
    keep[7] = False

    def drop(module: Any, inputs: Any, messages: torch.Tensor) -> torch.Tensor:
        return messages * keep.view(-1, 1, 1)

    handle = layer.register_message_forward_hook(drop)
    dropped = layer(x, edges)
    handle.remove()
    torch.testing.assert_close(dropped, layer(x, edges, keep.float()))


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_explainer_reads_the_same_attention(heads: int) -> None:
    from torch_geometric.explain import AttentionExplainer, Explainer
    from torch_geometric.nn import GATConv

    theirs = GATConv(C, 4, heads=heads)
    ours = GAT.from_pyg(theirs)
    x, edges = example("unsorted")
    edges = edges[:, edges[0] != edges[1]]
    masks = []
    for layer in (ours, theirs):
        explainer = Explainer(
            layer, AttentionExplainer(), explanation_type="model", edge_mask_type="object",
            model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
        )  # fmt: skip
        masks.append(explainer(x, edges).edge_mask)
    torch.testing.assert_close(*masks)
    assert ours._alpha is None


def test_gnn_explainer_finds_the_same_edges() -> None:
    from torch_geometric.explain import Explainer, GNNExplainer

    class Model(nn.Module):
        def __init__(self, first: nn.Module, second: nn.Module) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x, edge_index).relu(), edge_index)

    x, edges = example("unsorted")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = Model(pyg.GCNConv(C, 4), pyg.SAGEConv(4, 3))
        ours = Model(GCN.from_pyg(theirs.first), SAGE.from_pyg(theirs.second))
        found = []
        for model in (theirs, ours):
            torch.manual_seed(2)
            explainer = Explainer(
                model,
                GNNExplainer(epochs=5),
                explanation_type="model",
                edge_mask_type="object",
                model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
            )
            found.append(explainer(x, edges, index=3).edge_mask)
    assert found[0].count_nonzero() > 2
    torch.testing.assert_close(found[1], found[0])
