"""Every constructor argument of PyG's layers is taken over, with the same numbers, or refused."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn import MessagePassing

from mpnn_arch import InputError
from mpnn_arch.rounds.gnn import GAT, GCN, GIN, GINE, SAGE, Graph

C, D, E, N = 6, 4, 30, 9
ROUNDS = {
    pyg.GCNConv: GCN,
    pyg.SAGEConv: SAGE,
    pyg.GraphConv: Graph,
    pyg.GINConv: GIN,
    pyg.GINEConv: GINE,
    pyg.GATConv: GAT,
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(C, 5), nn.ReLU(), nn.Linear(5, D))


LEARNED = pyg.aggr.SoftmaxAggregation(learn=True, t=0.3)
POWER = pyg.aggr.PowerMeanAggregation(learn=True, p=1.5)
MLP = pyg.aggr.MLPAggregation(C, C, max_num_elements=12, num_layers=1)
# What every layer inherits; the values differ from the defaults.
INHERITED: dict[str, list[Any]] = {
    "aggr": ["max", "std", "median", LEARNED, POWER],
    "aggr_kwargs": [{"aggr": "softmax", "aggr_kwargs": {"t": 3.0, "learn": True}}],
    "flow": ["target_to_source"],
}
REFUSED: dict[str, list[Any]] = {"node_dim": [-3], "decomposed_layers": [2]}
WIDE: list[Any] = [["mean", "max"], "lstm", MLP]

# Constructor argument -> values other than its default, all of which are taken over. `in_channels`
# and the like are in every call; None: that argument is the layer's shape.
TAKEN: dict[type, dict[str, list[Any] | None]] = {
    pyg.GCNConv: {
        "in_channels": None,
        "out_channels": None,
        "improved": [True],
        "cached": [True],
        "add_self_loops": [False],
        "normalize": [False],
        "bias": [False],
    },
    pyg.SAGEConv: {
        "in_channels": None,
        "out_channels": None,
        "aggr": ["sum", *INHERITED["aggr"], *WIDE],
        "normalize": [True],
        "root_weight": [False],
        "project": [True, {"project": True, "flow": "target_to_source"}],
        "bias": [False],
    },
    pyg.GraphConv: {"in_channels": None, "out_channels": None, "bias": [False]},
    pyg.GINConv: {"nn": None, "eps": [0.7], "train_eps": [True]},
    pyg.GINEConv: {
        "nn": None,
        "eps": [0.7],
        "train_eps": [True],
        "edge_dim": [3],
    },
    pyg.GATConv: {
        "in_channels": None,
        "out_channels": None,
        "heads": [3],
        "concat": [
            {"heads": 3, "concat": False},
            {"heads": 2, "concat": False, "aggr": "max"},
        ],
        "negative_slope": [0.7],
        "dropout": [0.6],
        "add_self_loops": [False],
        "edge_dim": [3, 1],
        "fill_value": [
            {"edge_dim": 3, "fill_value": fill}
            for fill in (0.5, "add", "max", torch.tensor([1.0, 2.0, 3.0]))
        ],
        "bias": [False],
        "residual": [True],
    },
}


def arguments(kind: type) -> set[str]:
    """All of them, those of ``**kwargs`` included; GATConv sets its own ``node_dim``."""
    inherited = inspect.signature(MessagePassing.__init__).parameters
    own = inspect.signature(kind.__init__).parameters
    return {*own, *inherited} - {"self", "kwargs"}


def cases() -> list[Any]:
    found = []
    for kind, own in TAKEN.items():
        for argument, values in {**INHERITED, **own}.items():
            for value in values or []:
                given = value if isinstance(value, dict) else {argument: value}
                found.append(pytest.param(kind, given, id=f"{kind.__name__}-{given}"))
    return found


def make(kind: type, given: dict[str, Any]) -> MessagePassing:
    with torch.random.fork_rng():
        torch.manual_seed(8 if kind is pyg.GATConv else 3)
        if kind in (pyg.GINConv, pyg.GINEConv):
            layer = kind(network(), **given)
        else:
            layer = kind(C, D, **given)
        for parameter in layer.parameters():  # biases start at zero, which would hide them
            nn.init.uniform_(parameter, -0.9 if kind is pyg.GATConv else 0.2, 0.9)
    return layer


def call(layer: nn.Module, x: torch.Tensor, edges: torch.Tensor, kind: type) -> dict[str, Any]:
    arguments_of_call: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(5)
    width = getattr(layer, "edge_dim", None)
    if kind is pyg.GINEConv:
        width = C if layer.lin is None else 3
    if width:
        arguments_of_call["edge_attr"] = torch.randn(E, width, generator=generator)
    if kind in (pyg.GCNConv, pyg.GraphConv):
        arguments_of_call["edge_weight"] = torch.rand(E, generator=generator)
    return arguments_of_call


def graph(ordered: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Edges in any order, with self-loops and an isolated node; or by receiver, as LSTM needs."""
    generator = torch.Generator().manual_seed(1)
    edges = torch.randint(0, N - 1, (2, E), generator=generator)
    edges[:, ::9] = edges[:1, ::9]
    x = 2 * torch.rand(N, C, generator=generator) + 0.1
    return x, edges[:, edges[1].argsort(stable=True)] if ordered else edges


@pytest.mark.parametrize("kind", list(TAKEN))
def test_no_argument_is_unaccounted_for(kind: type) -> None:
    assert {*TAKEN[kind], *INHERITED, *REFUSED} == arguments(kind)


@pytest.mark.parametrize(("kind", "given"), cases())
def test_an_argument_is_taken_over(kind: type, given: dict[str, Any]) -> None:
    theirs = make(kind, given)
    ours = ROUNDS[kind].from_pyg(theirs)
    needs_order = any(given.get("aggr") is value or given.get("aggr") == value for value in WIDE)
    x, edges = graph(needs_order)
    rest = call(theirs, x, edges, kind)
    for mode in (True, False):
        theirs.train(mode), ours.train(mode)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            expected = theirs(x, edges, **rest)
            torch.manual_seed(0)
            out = ours(x, edges, **rest)
        assert expected.std() > 1e-3
        torch.testing.assert_close(out, expected)
    plain = make(kind, {})
    with torch.no_grad():
        usual = plain(x, edges, **call(plain, x, edges, kind))
    if not {"cached", "edge_dim", "dropout", "add_self_loops"} & {*given}:
        assert usual.shape != out.shape or not torch.allclose(usual, out), "the value does nothing"
    sums = [
        sorted(float(p.grad.abs().sum()) for p in layer.parameters() if p.grad is not None)
        for layer in (theirs, ours)
        if layer.zero_grad() is None and layer(x, edges, **rest).square().sum().backward() is None
    ]
    torch.testing.assert_close(*map(torch.tensor, sums), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", list(TAKEN))
@pytest.mark.parametrize("argument", REFUSED)
def test_an_argument_without_a_round_is_refused_by_name(kind: type, argument: str) -> None:
    for value in REFUSED[argument]:
        layer = make(kind, {})
        setattr(layer, argument, value)
        with pytest.raises(InputError, match=f"with {argument}={value}"):
            ROUNDS[kind].from_pyg(layer)


def test_an_aggregation_that_widens_is_refused_where_pyg_cannot_use_it() -> None:
    for kind in (pyg.GCNConv, pyg.GINConv, pyg.GATConv):
        with pytest.raises(InputError, match="widens its messages"):
            ROUNDS[kind].from_pyg(make(kind, {"aggr": ["mean", "max"]}))


@pytest.mark.parametrize("kind", list(TAKEN))
def test_requires_grad_training_and_dtype_are_kept(kind: type) -> None:
    layer = make(kind, {"aggr": pyg.aggr.SoftmaxAggregation(learn=True)}).double()
    for number, parameter in enumerate(layer.parameters()):
        parameter.requires_grad_(number % 2 == 0)
    layer.eval()
    ours = ROUNDS[kind].from_pyg(layer)
    assert not any(module.training for module in ours.modules())

    def kept(module: nn.Module) -> list[tuple[Any, ...]]:
        return sorted(
            (p.numel(), float(p.detach().sum()), p.requires_grad, str(p.dtype))
            for p in module.parameters()
        )

    if kind in (pyg.GINConv, pyg.GINEConv):  # there eps is a buffer of PyG's unless trained
        assert [k for k in kept(ours) if k[0] > 1 or k[2]] == [
            k for k in kept(layer) if k[0] > 1 or k[2]
        ]
    else:
        assert kept(ours) == kept(layer)


def hook(layer: Any) -> None:
    layer.register_message_forward_hook(lambda *_: None)


def forward_hook(layer: Any) -> None:
    layer.register_forward_hook(lambda *_: None)


def spectral(layer: Any) -> None:
    torch.nn.utils.parametrizations.spectral_norm(layer.lin)


def older_spectral(layer: Any) -> None:
    torch.nn.utils.spectral_norm(layer.lin)


def pruned(layer: Any) -> None:
    torch.nn.utils.prune.l1_unstructured(layer.lin, "weight", 2)


def explained(layer: Any) -> None:
    layer.explain = True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (hook, "has hooks"),
        (forward_hook, "has hooks"),
        (spectral, "parametrised"),
        (older_spectral, "parametrised"),
        (pruned, "parametrised"),
        (explained, "being explained"),
    ],
)
def test_what_would_be_lost_is_refused(change: Callable[[Any], None], message: str) -> None:
    layer = make(pyg.GCNConv, {})
    change(layer)
    with pytest.raises(InputError, match=message):
        GCN.from_pyg(layer)


def test_unknown_channels_are_refused() -> None:
    with pytest.raises(InputError, match="not known yet"):
        SAGE.from_pyg(pyg.SAGEConv(-1, D))


def test_improved_counts_without_edge_weights_and_from_pyg_says_so() -> None:
    """PyG 2.8 drops the weight 2 of the self-loops where the edges have no weights."""
    x, edges = graph(ordered=False)
    theirs = pyg.GCNConv(C, D, improved=True)
    with pytest.warns(UserWarning, match=r"ignores improved=True.*set improved=False"):
        ours = ROUNDS[pyg.GCNConv].from_pyg(theirs)
    torch.testing.assert_close(ours(x, edges), theirs(x, edges, torch.ones(edges.shape[1])))
    ours.improved = False
    torch.testing.assert_close(ours(x, edges), theirs(x, edges))


@pytest.mark.parametrize(
    "changed", [{"improved": True}, {"add_self_loops": False}, {"flow": "target_to_source"}]
)
def test_a_gcn_whose_settings_change_does_not_keep_its_edges(changed: dict[str, Any]) -> None:
    x, edges = torch.randn(3, C), torch.tensor([[0, 1, 0], [1, 2, 2]])
    layer, expected = GCN(C, D, cached=True), GCN(C, D, **changed)
    expected.load_state_dict(layer.state_dict())
    before = layer(x, edges)
    for name, value in changed.items():
        setattr(layer, name, value)
    assert not torch.allclose(layer(x, edges), before)
    for _ in range(2):
        torch.testing.assert_close(layer(x, edges), expected(x, edges))


@pytest.mark.parametrize("kind", [pyg.GINConv, pyg.GINEConv])
@pytest.mark.parametrize("first", [nn.BatchNorm1d(C), nn.ReLU()])
def test_a_learned_eps_survives_the_first_call(kind: type, first: nn.Module) -> None:
    """A network that does not tell its channels leaves them to the first input."""
    theirs = kind(nn.Sequential(first, nn.Linear(C, D)), eps=0.1, train_eps=True)
    nn.init.constant_(theirs.eps, 0.7)
    ours = ROUNDS[kind].from_pyg(theirs)
    x, edges = graph(ordered=False)
    rest = call(theirs, x, edges, kind)
    theirs.eval(), ours.eval()
    torch.testing.assert_close(ours(x, edges, **rest), theirs(x, edges, **rest))
    assert ours.eps.item() == pytest.approx(0.7)
