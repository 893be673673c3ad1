"""PyG's and torch's workflows with GNN layers: to_hetero, compilation, lazy channels, odd input."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.nn import to_hetero

from mpnn_arch import GraphRound, InputError, RelationalGraph, RelationalLinear
from mpnn_arch.rounds.gnn import GAT, GCN, GIN, GINE, SAGE, Graph, tie, untie
from mpnn_arch.rounds.messages import SharedLinearMessage

C = 5


def network(width: int = C) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 6), nn.ReLU(), nn.Linear(6, 4))


LAYERS: dict[str, Any] = {
    "round": lambda: GraphRound(C, 4, "shared_linear", ["mean", "max"]),
    "attention": lambda: GraphRound(C, 4, "shared_attention"),
    "gcn": lambda: GCN(C, 4, improved=True),
    "gcn plain": lambda: GCN(C, 4, normalize=False),
    "sage": lambda: SAGE(C, 4, "max", normalize=True, project=True),
    "sage median": lambda: SAGE(C, 4, "median"),
    "graph": lambda: Graph(C, 4),
    "gin": lambda: GIN(C, network()),
    "gine": lambda: GINE(C, network(), edge_dim=3),
    "gat": lambda: GAT(C, 4, heads=2, edge_dim=3, residual=True),
    "gat max": lambda: GAT(C, 4, heads=2, edge_dim=3, aggr="max", concat=False),
    "gat reversed": lambda: GAT(C, 4, flow="target_to_source", edge_dim=3, fill_value=0.5),
}


def example(num_nodes: int, num_edges: int) -> tuple[Any, ...]:
    """Edges out of order, with self-loops."""
    generator = torch.Generator().manual_seed(num_nodes)
    edges = torch.randint(0, num_nodes, (2, num_edges), generator=generator)
    edges[1, ::5] = edges[0, ::5]
    x = torch.randn(num_nodes, C, generator=generator)
    return x, edges, torch.rand(num_edges, 3, generator=generator)


def arguments(name: str, num_nodes: int, num_edges: int) -> tuple[Any, ...]:
    x, edges, features = example(num_nodes, num_edges)
    if name.startswith(("gat", "gine")):
        return x, edges, features
    return (x, edges) if name.startswith(("sage", "gin")) else (x, edges, features[:, 0])


# PyG's median counts the messages of every node, whose number a compiler cannot know.
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "sage median"])
def test_a_layer_compiles_whole_and_once_for_all_sizes(name: str) -> None:
    torch._dynamo.reset()
    layer = LAYERS[name]()
    graphs = 0

    def counting(module: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module.forward

    compiled = torch.compile(layer, backend=counting, fullgraph=True, dynamic=True)
    for size in ((9, 20), (12, 31), (7, 16)):
        given = arguments(name, *size)
        x = given[0].clone().requires_grad_()
        out, expected = compiled(x, *given[1:]), layer(x, *given[1:])
        torch.testing.assert_close(out, expected)
        grad, wanted = (torch.autograd.grad(y.square().sum(), x)[0] for y in (out, expected))
        torch.testing.assert_close(grad, wanted)
    assert graphs == 1


# PyG's median, and a softmax without a number of nodes, count them by the numbers of the edges.
@pytest.mark.parametrize("name", [n for n in LAYERS if n not in ("sage median", "attention")])
def test_a_layer_is_exported_for_all_sizes(name: str) -> None:
    layer, given = LAYERS[name](), arguments(name, 9, 20)
    nodes, edges = torch.export.Dim("nodes", min=2), torch.export.Dim("edges", min=2)
    sizes = ({0: nodes}, {1: edges}, {0: edges})[: len(given)]
    exported = torch.export.export(layer, given, dynamic_shapes=sizes).module()
    for size in ((9, 20), (12, 31), (7, 16)):
        other = arguments(name, *size)
        torch.testing.assert_close(exported(*other), layer(*other))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_generated_code_gives_the_same_numbers(name: str) -> None:
    torch._dynamo.reset()
    layer = LAYERS[name]()
    given = arguments(name, 9, 20)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    torch.testing.assert_close(compiled(*given), layer(*given))


def test_the_weight_of_a_self_loop_keeps_its_gradient_when_compiled() -> None:
    torch._dynamo.reset()
    layer = GCN(C, 4)
    x, edges, features = example(9, 20)
    weight = features[:, 0].clone().requires_grad_()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    grads = [
        torch.autograd.grad(one(x, edges, weight).square().sum(), weight)[0]
        for one in (compiled, layer)
    ]
    assert grads[1][0] != 0  # edge 0 is a self-loop
    torch.testing.assert_close(*grads)


# -- to_hetero --------------------------------------------------------------------------------

TYPES = (
    ["paper", "author"],
    [("paper", "cites", "paper"), ("author", "writes", "paper"), ("paper", "by", "author")],
)


class Two(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


HETERO = {
    "sage": lambda: Two(SAGE(C, 6), SAGE(6, 4)),
    "sage lazy": lambda: Two(SAGE((-1, -1), 6), SAGE((-1, -1), 4)),
    "graph lazy": lambda: Two(Graph((-1, -1), 6), Graph((-1, -1), 4)),
    "gin": lambda: Two(GIN(C, network()), GIN(4, network(4))),
    "gat": lambda: Two(
        GAT((-1, -1), 6, add_self_loops=False), GAT((-1, -1), 4, add_self_loops=False)
    ),
}


@pytest.mark.parametrize("name", HETERO)
def test_to_hetero(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    author_width = 3 if "lazy" in name or name == "gat" else C
    xs = {
        "paper": torch.randn(6, C, generator=generator),
        "author": torch.randn(4, author_width, generator=generator),
    }
    edges = {
        TYPES[1][0]: torch.tensor([[0, 1, 5, 2], [3, 3, 0, 1]]),
        TYPES[1][1]: torch.tensor([[3, 0, 1], [5, 0, 0]]),
        TYPES[1][2]: torch.tensor([[5, 2], [0, 3]]),
    }
    model = to_hetero(HETERO[name](), TYPES, aggr="sum")
    out = model(xs, edges)
    assert {kind: tuple(value.shape) for kind, value in out.items()} == {
        "paper": (6, 4),
        "author": (4, 4),
    }
    first = {key: copy.deepcopy(layer) for key, layer in model.first.items()}
    weights = [torch.cat([p.flatten() for p in layer.parameters()]) for layer in first.values()]
    if len({len(weight) for weight in weights}) == 1:
        assert not torch.allclose(weights[0], weights[1]), "every type of edge has its own weights"
    for value in out.values():
        assert torch.isfinite(value).all()
    sum(value.square().sum() for value in out.values()).backward()
    # The authors receive from papers alone: the second layer on the first layers' results.
    hidden = {
        "author": first["paper__by__author"]((xs["paper"], xs["author"]), edges[TYPES[1][2]]),
        "paper": first["paper__cites__paper"]((xs["paper"], xs["paper"]), edges[TYPES[1][0]])
        + first["author__writes__paper"]((xs["author"], xs["paper"]), edges[TYPES[1][1]]),
    }
    last = model.second["paper__by__author"]
    pair = hidden["paper"].relu(), hidden["author"].relu()
    torch.testing.assert_close(last(pair, edges[TYPES[1][2]]), out["author"])


# -- input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_graph_gives_no_rows_and_one_without_edges_its_own_nodes(name: str) -> None:
    layer = LAYERS[name]()
    x, edges, *rest = arguments(name, 6, 0)
    assert torch.isfinite(layer(x, edges, *rest)).all()
    none = layer(x[:0], edges, *rest)
    assert none.shape == (0, *layer(x, edges, *rest).shape[1:])


@pytest.mark.parametrize("name", LAYERS)
def test_every_form_of_the_edges_gives_the_same(name: str) -> None:
    if name == "gat reversed":
        pytest.skip("a sparse tensor and a reversed flow exclude each other")
    layer = LAYERS[name]()
    x, edges, *rest = arguments(name, 8, 25)
    dense = torch.zeros(8, 8).index_put((edges[1], edges[0]), torch.ones(()))
    edges = dense.nonzero().T.flip(0)  # without duplicates, ordered by receiver
    rest = [one[: edges.shape[1]] for one in rest]
    expected = layer(x, edges, *rest)
    torch.testing.assert_close(layer(x, edges.int(), *rest), expected)
    torch.testing.assert_close(layer(x, EdgeIndex(edges), *rest), expected)
    weights = rest[0] if rest and rest[0].dim() == 1 else torch.ones(edges.shape[1])
    if name.startswith(("gat", "gine")):
        return
    adjacency = torch.sparse_coo_tensor(edges.flip(0), weights, (8, 8)).coalesce()
    for form in (adjacency, adjacency.to_sparse_csr(), adjacency.to_sparse_csc()):
        torch.testing.assert_close(layer(x, form), expected)


class Rows:
    """What torch_sparse's SparseTensor shows of itself: entries by row, a row being a receiver."""

    def __init__(self, edges: torch.Tensor, value: Any, size: tuple[int, int]) -> None:
        self.entries, self.shape = (edges[1], edges[0], value), (size[1], size[0])

    def coo(self) -> tuple[Any, ...]:
        return self.entries

    def size(self, dim: int) -> int:
        return self.shape[dim]


def test_the_sparse_tensor_of_torch_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in with its interface, for torch-sparse is not a dependency."""
    monkeypatch.setattr("torch_geometric.typing.SparseTensor", Rows)
    monkeypatch.setattr("mpnn_arch.rounds.gnn.gat.SparseTensor", Rows)
    x, edges, features = example(6, 10)
    weight = features[:, 0]
    for layer in (Graph(C, 4), GCN(C, 4)):
        torch.testing.assert_close(layer(x, Rows(edges, weight, (6, 6))), layer(x, edges, weight))
    layer = SAGE(C, 4)
    edges[1] %= 3
    rows = Rows(edges, None, (6, 3))
    torch.testing.assert_close(layer((x, None), rows), layer((x, None), edges, size=(6, 3)))
    with pytest.raises(InputError, match="SAGE has no edge weights"):
        layer((x, None), Rows(edges, weight, (6, 3)))
    with pytest.raises(InputError, match="give an edge_index"):
        GAT(C, 4)(x, Rows(edges, None, (6, 6)), return_attention_weights=True)


def test_a_size_counts_beside_an_edge_index_that_has_none() -> None:
    x, edges, _ = example(6, 10)
    edges[1] %= 3
    layer = SAGE(C, 4)
    expected = layer((x, None), edges, size=(6, 3))
    torch.testing.assert_close(layer((x, None), EdgeIndex(edges), size=(6, 3)), expected)
    half = EdgeIndex(edges, sparse_size=(6, None))
    torch.testing.assert_close(layer((x, None), half, size=(6, 3)), expected)
    with pytest.raises(InputError, match="the graph has 4 sources, x has 6 rows"):
        layer((x, None), EdgeIndex(edges), size=(4, 3))


def test_an_input_that_would_be_misread_is_refused() -> None:
    x, edges, features = example(6, 10)
    layer = SAGE(C, 4)
    with pytest.raises(InputError, match=r"give size=\(N, M\)"):
        layer((x, None), edges)
    with pytest.raises(InputError, match="the graph has 4 targets, x has 6 rows"):
        layer((x, x), edges, size=(6, 4))
    with pytest.raises(InputError, match="10 edges, 3 values"):
        Graph(C, 4)(x, edges, features[:3, 0])
    with pytest.raises(InputError, match="would swap their sides"):
        SAGE(C, 4, flow="target_to_source")((x, x), edges)
    with pytest.raises(InputError, match="no flow 'sideways'"):
        SAGE(C, 4, flow="sideways")
    with pytest.raises(InputError, match="takes a pair of 5 and 3 channels"):
        SAGE((C, 3), 4)(x, edges)
    with pytest.raises(InputError, match="needs the degrees of the data"):
        GraphRound(C, 4, "shared_linear", "degree-scaled")
    with pytest.raises(InputError, match="SharedAttentionMessage reads the receivers"):
        GraphRound(C, 4, "shared_attention")((x, None), edges, size=(6, 6))
    adjacency = torch.sparse_coo_tensor(edges.flip(0), torch.ones(10), (6, 6)).coalesce()
    with pytest.raises(InputError, match="stores values of its own"):
        Graph(C, 4)(x, adjacency, torch.ones(adjacency._nnz()))


@pytest.mark.parametrize(
    "lazy", [lambda: GCN(-1, 4), lambda: Graph((-1, -1), 4), lambda: GAT(-1, 4, residual=True)]
)
def test_lazy_channels_are_those_of_the_first_input(lazy: Any) -> None:
    layer = lazy()
    handle: list[Any] = []
    layer.register_forward_hook(lambda *args: handle.append(args[2]))
    parameters = list(layer.parameters())
    x, edges, _ = example(6, 10)
    out = layer(x, edges)
    assert out.shape == (6, 4)
    assert len(handle) == 1
    assert [id(p) for p in layer.parameters()] == [id(p) for p in parameters]
    torch.testing.assert_close(layer(x, edges), out)
    with pytest.raises(InputError, match="takes"):
        layer(x[:, :2], edges)


LAZY: dict[str, Any] = {
    "round": lambda n, m: GraphRound(n, 4),
    "gcn": lambda n, m: GCN(n, 4),
    "sage": lambda n, m: SAGE((n, m), 4, project=True),
    "sage of widened messages": lambda n, m: SAGE(n, 4, "multi", aggr_kwargs=MULTI),
    "graph": lambda n, m: Graph((n, m), 4),
    "gat": lambda n, m: GAT((n, m), 4, heads=2, residual=True),
    "gine": lambda n, m: GINE(n, nn.Linear(C, 4), train_eps=True, edge_dim=3),
}
MULTI = {"aggrs": ["mean", "max"], "mode": "cat"}


@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_layer_takes_its_channels_from_a_state_dict(name: str) -> None:
    x, edges, features = example(6, 10)
    known, lazy = LAZY[name](C, C - 2), nn.ModuleList([LAZY[name](-1, -1)])
    pair = name in ("sage", "graph", "gat")
    given = ((x, x[:, 2:]) if pair else x, edges, *([features] if name == "gine" else []))
    expected = known(*given)
    parameters = list(map(id, lazy.parameters()))
    lazy.load_state_dict(nn.ModuleList([known]).state_dict())
    assert list(map(id, lazy.parameters())) == parameters
    torch.testing.assert_close(lazy[0](*given), expected)


def test_a_state_dict_that_fits_no_channels_is_torchs_error() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        GCN(-1, 4).load_state_dict(GCN(C, 3).state_dict())


def test_a_subclass_without_in_channels_of_its_own_is_not_lazy() -> None:
    class Fixed(GraphRound):
        def __init__(self) -> None:
            super().__init__(-1, 4)

    with pytest.raises(InputError, match="take in_channels as its own first argument"):
        Fixed()


# The other two count nodes by the numbers in the edges, which meta tensors do not hold.
@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"sage median", "attention"}))
def test_a_layer_on_the_meta_device_gives_the_shape(name: str) -> None:
    given = arguments(name, 9, 20)
    layer = LAYERS[name]()
    out = layer.to("meta")(*[one.to("meta") for one in given])
    assert out.is_meta
    assert out.shape == LAYERS[name]()(*given).shape


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.parametrize("name", LAYERS)
def test_sparse_features_are_taken_as_dense_ones(name: str, layout: torch.layout) -> None:
    x, *rest = arguments(name, 6, 10)
    layer = LAYERS[name]().eval()
    torch.testing.assert_close(layer(x.to_sparse(layout=layout), *rest), layer(x, *rest))


# -- what tie and untie do not copy -------------------------------------------------------------


def test_untie_refuses_what_it_would_lose() -> None:
    graph = RelationalGraph(3, [[0, 1], [1, 2]])
    with pytest.raises(InputError, match="divides messages by the degrees"):
        untie(GCN(2, 2), graph)
    with pytest.raises(InputError, match="also has activation"):
        untie(GraphRound(2, 2, "shared_linear", activation="ReLU"), graph)
    learned = GraphRound(2, 2, "shared_linear", "softmax", aggr_kwargs={"learn": True, "t": 2.0})
    with torch.no_grad():
        learned.aggr_module.t.fill_(7.0)
    assert untie(learned, graph).aggr_module.t.item() == 7.0


class Doubled(GraphRound):
    def update(self, inputs: Tensor) -> Tensor:
        return 2 * super().update(inputs)


class Squashed(SharedLinearMessage):
    def forward(self, x_j: Tensor) -> Tensor:
        return super().forward(x_j).tanh()


def test_tie_and_untie_refuse_a_class_of_ones_own() -> None:
    with pytest.raises(InputError, match="a class of your own, Doubled, which is not copied"):
        untie(Doubled(2, 2), "ring:4,2")
    with pytest.raises(InputError, match="a class of your own, Squashed"):
        untie(GraphRound(2, 2, Squashed), "ring:4,2")
    with pytest.raises(InputError, match="a class of your own, Squashed"):
        tie(RelationalLinear("ring:4,2", 8, 8, message=Squashed, bias=False))


def test_untie_follows_the_flow_on_a_directed_graph() -> None:
    directed = RelationalGraph(3, [[0, 1, 2, 0], [1, 2, 0, 2]], directed=True)
    layer = GraphRound(2, 2, bias=False, flow="target_to_source")
    x = torch.randn(5, 3, 2)
    expected = layer(x, directed.edge_index).flatten(1)
    torch.testing.assert_close(untie(layer, directed)(x.flatten(1)), expected)
