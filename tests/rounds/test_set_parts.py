"""Parts of a round that are set after it was built: as its constructor takes them, or refused."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv, MaxAggregation, SAGEConv, SoftmaxAggregation

from mpnn_arch import (
    ChannelPartition,
    FusedRound,
    GraphRound,
    InputError,
    MessageRound,
    RelationalConv2d,
    RelationalLinear,
    graphs,
)
from mpnn_arch.models.relationalize import RelationalConv1d
from mpnn_arch.rounds.gnn import GAT, GIN, GINE, SAGE, Graph

GRAPH, OTHER = graphs.parse_one("ws_flex:8,4,0.2,0"), graphs.parse_one("ring:8,2")
KINDS = [FusedRound, MessageRound]
AGGREGATIONS = ["max", "mean", "softmax", "attentional", MaxAggregation, MaxAggregation()]


def built(kind, **settings):
    """The same weights for the same settings, of the layer and for its input."""
    return kind(GRAPH, 16, 16, generator=torch.Generator().manual_seed(0), **settings)


@pytest.mark.parametrize("name", ["aggr", "aggr_module"])
@pytest.mark.parametrize("aggr", AGGREGATIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_an_aggregation_is_set_by_what_the_constructor_takes(kind, aggr, name, generator):
    x = torch.randn(3, 16, generator=generator, dtype=torch.float64)
    layer = built(kind, dtype=torch.float64)
    layer(x)  # by the product, whose choice is cached
    expected = kind(GRAPH, 16, 16, aggr=aggr, dtype=torch.float64)
    setattr(layer, name, aggr)
    expected.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), expected(x), rtol=1e-12, atol=1e-12)
    assert layer.aggr == expected.aggr
    again = copy.deepcopy(layer)
    again.aggr = "sum"
    torch.testing.assert_close(again(x), built(kind, dtype=torch.float64)(x))
    torch.testing.assert_close(layer(x), expected(x))


@pytest.mark.parametrize("kind", KINDS)
def test_norm_activation_residual_and_squeeze_are_set_by_what_the_constructor_takes(
    kind, generator
):
    x = torch.randn(5, 16, generator=generator, dtype=torch.float64)
    layer = built(kind, activation="tanh", dtype=torch.float64)
    layer(x)
    layer.activation = torch.relu  # in the place of a module
    layer.norm = "group"
    layer.residual = True
    layer.squeeze = 2
    settings = {"norm": "group", "residual": True, "squeeze_excitation": 2}
    expected = kind(GRAPH, 16, 16, activation="relu", dtype=torch.float64, **settings)
    expected.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), expected(x), rtol=1e-12, atol=1e-12)
    layer.activation = "silu"
    assert type(layer.activation) is nn.SiLU
    layer.activation = layer.norm = layer.squeeze = None
    layer.residual = False
    torch.testing.assert_close(layer(x), built(kind, dtype=torch.float64)(x))


def test_a_norm_of_maps_is_set_by_name():
    layer = RelationalConv2d(GRAPH, 16, 16, 3, dtype=torch.float64)
    layer.norm = "batch"
    assert type(layer.norm) is nn.BatchNorm2d
    assert layer(torch.ones(2, 16, 5, 5, dtype=torch.float64)).dtype is torch.float64


WRONG = [
    ("aggr", None, "an aggregation is a name such as 'sum'"),
    ("aggr_module", nn.ReLU(), "an aggregation is a name such as 'sum'"),
    ("aggr", "nope", "choose one of"),
    ("aggr", ["mean", "max"], "returns 2 times .*takes 1 times; build a round with it"),
    ("activation", nn.ReLU, "an activation is a name"),
    ("activation", 3, "an activation is a name"),
    ("norm", "nope", "choose one of"),
    ("norm", 3, "a norm is a name"),
    ("residual", "no", "residual is True or False"),
    ("squeeze", 0, "a squeeze reduction"),
    ("graph", OTHER, r"its weights belong to RelationalGraph\(.*rewire\(layer, graph\)"),
    ("graph", "ring:8", "its weights belong to"),
    ("graph", None, "its weights belong to"),
    ("edge_index", OTHER.edge_index, r"its weights belong to RelationalGraph\(.*rewire\(layer"),
    ("edge_index", GRAPH.edge_index.flip(0).int(), "its weights belong to"),
    ("edge_index", None, "its weights belong to"),
    ("in_channels", 32, "cannot be set to 32"),
    ("out_partition", ChannelPartition.from_sizes([1, 3, 2, 2, 2, 2, 2, 2]), "build a new round"),
    ("flow", "target_to_source", "cannot be set to 'target_to_source'"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_constructor_refuses_is_refused(kind, name, value, message, generator):
    layer, x = built(kind), torch.randn(3, 16, generator=generator)
    before, expected = getattr(layer, name), layer(x)
    with pytest.raises(InputError, match=message) as error:
        setattr(layer, name, value)
    assert "\n" not in str(error.value)
    assert getattr(layer, name) is before
    torch.testing.assert_close(layer(x), expected)
    layer.load_state_dict(built(kind).state_dict())


GEOMETRY = [
    ("kernel_size", 1),
    ("stride", (2, 2)),
    ("padding", 0),
    ("padding", "same"),
    ("dilation", 2),
]
OF_CONV2D = [*GEOMETRY, ("groups", 2), ("padding_mode", "reflect")]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((RelationalConv2d, *case) for case in OF_CONV2D),
        *((RelationalConv1d, *case) for case in GEOMETRY),
    ],
)
def test_a_geometry_that_torchs_convolutions_read_at_every_call_is_refused(kind, name, value):
    layer = kind(GRAPH, 16, 16, 3, padding=1)
    own = getattr(layer, name)
    with pytest.raises(InputError, match=f"{name} of a built {kind.__name__} cannot be set to"):
        setattr(layer, name, value)
    assert getattr(layer, name) == own
    layer.stride, layer.padding = 1, 1


@pytest.mark.parametrize("backend", ["auto", "masked", "reference"])
def test_a_message_function_brings_its_geometry(backend, generator):
    settings = {"message": "conv", "backend": backend, "dtype": torch.float64}
    layer, other = (
        FusedRound(GRAPH, 16, 16, message_kwargs={"kernel_size": 3, "padding": padding}, **settings)
        for padding in (1, 0)
    )
    x = torch.randn(2, 16, 5, 5, generator=generator, dtype=torch.float64)
    layer(x)  # whose product is cached for this shape
    again = copy.copy(layer)
    for one in (layer, again):
        expected = again(x)
        one.message_function = other.message_function
        one.bias = other.bias
        torch.testing.assert_close(one(x), other(x), rtol=1e-12, atol=1e-12)
        if one is layer:
            assert torch.equal(again(x), expected)
    padded = RelationalConv2d(GRAPH, 16, 16, 3, padding=1)
    with pytest.raises(InputError, match="message_function of a built RelationalConv2d"):
        padded.message_function = RelationalConv2d(GRAPH, 16, 16, 3).message_function
    padded.message_function = RelationalConv2d(GRAPH, 16, 16, 3, padding=1).message_function


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_edges_may_be_set(kind, generator):
    """As libraries do that place or fetch tensors one by one."""
    layer, x = built(kind), torch.randn(3, 16, generator=generator)
    expected = layer(x)
    layer.edge_index = layer.edge_index.to("meta")
    layer.edge_index = GRAPH.edge_index.clone()
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_set_on_a_shallow_copy_or_hooked_there_is_the_copys(kind, generator):
    layer, x = built(kind), torch.randn(3, 16, generator=generator)
    copied, expected = copy.copy(layer), layer(x)
    assert torch.equal(copied(x), expected)  # warm, both
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hook = copied.register_message_forward_hook(lambda *_: seen.append(1))
    copied(x), layer(x)
    assert seen == [1]
    hook.remove()
    copied.aggr = "max"
    assert layer.aggr == "sum"
    assert torch.equal(layer(x), expected)
    with_max = kind(GRAPH, 16, 16, aggr="max")
    with_max.load_state_dict(layer.state_dict())
    torch.testing.assert_close(copied(x), with_max(x))
    assert copied.bias is layer.bias
    assert copied.message_function is layer.message_function
    del layer
    copied.load_state_dict(built(kind).state_dict())


@pytest.mark.parametrize("step", ["message", "aggregate", "update", "message_and_aggregate"])
def test_a_step_that_a_fused_product_would_go_past_is_refused(step):
    with pytest.raises(InputError, match=f"{step} is a method of RelationalLinear.*in a subclass"):
        setattr(RelationalLinear(GRAPH, 16, 16), step, lambda inputs: inputs)


def test_fuse_is_pygs_switch_between_product_and_messages(generator):
    layer, x = built(RelationalLinear), torch.randn(3, 16, generator=generator)
    expected = layer(x)
    layer.fuse = False
    assert layer.explain_backend() == "reference: fuse is False"
    torch.testing.assert_close(layer(x), expected)
    layer.fuse = True
    assert not layer.passes_messages
    assert torch.equal(layer(x), expected)


def test_a_round_whose_graph_comes_with_the_input_takes_them_too(generator):
    x, edges = torch.randn(3, 16, generator=generator), torch.tensor([[0, 1, 2], [1, 2, 1]])
    layer = GraphRound(16, 16)
    layer.aggr = "max"
    expected = GraphRound(16, 16, aggr="max")
    expected.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x, edges), expected(x, edges))
    with pytest.raises(InputError, match="needs the degrees of the data"):
        layer.aggr = "degree-scaled"
    layer.flow = "target_to_source"
    assert not torch.equal(layer(x, edges), expected(x, edges))


def test_parts_are_made_in_the_mode_of_the_layer():
    layer = built(FusedRound).eval()
    layer.norm, layer.aggr = "batch", "std"
    assert not layer.norm.training
    assert not layer.aggr_module.training


def test_a_wider_aggregation_is_refused_where_a_layer_of_its_own_takes_it():
    layer = SAGE(4, 3, ["mean", "max"])
    layer.aggr = ["min", "max"]
    x, edges = torch.ones(3, 4), torch.tensor([[0, 1, 2], [1, 2, 1]])
    assert layer(x, edges).shape == (3, 3)
    with pytest.raises(InputError, match=r"returns 1 times .*takes 2 times"):
        layer.aggr = "max"


class Cap(torch.nn.Module):
    """Parts of one text and other settings."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, x):
        return x.clamp(max=self.most)


def test_a_part_set_on_a_lazy_layer_is_known_by_being_set_and_not_by_its_text(generator):
    x, edges = torch.randn(3, 5, generator=generator), torch.tensor([[0, 1, 2], [1, 2, 1]])
    layer = GraphRound(-1, 4, activation=Cap(1.0), aggr=SoftmaxAggregation(t=1.0))
    layer.activation, layer.aggr = Cap(0.1), SoftmaxAggregation(t=9.0)
    own = layer.activation, layer.aggr_module
    layer(x, edges)
    assert (layer.activation, layer.aggr_module) == own

    class Capped(GraphRound):
        def __init__(self, in_channels, out_channels):
            super().__init__(in_channels, out_channels)
            self.activation = Cap(0.5)

    layer = Capped(-1, 4)
    layer(x, edges)
    assert layer.activation.most == 0.5


@pytest.mark.parametrize("name", ["norm", "activation", "residual"])
@pytest.mark.parametrize(
    "made",
    [
        lambda: SAGE(4, 4),
        lambda: Graph(4, 4),
        lambda: GAT(4, 4),
        lambda: GIN(4, torch.nn.Linear(4, 4)),
        lambda: GINE(4, torch.nn.Linear(4, 4)),
    ],
)
def test_a_part_that_the_update_does_not_read_is_refused(made, name):
    layer = made()
    value = {"norm": "batch", "activation": "relu", "residual": True}[name]
    with pytest.raises(InputError, match=rf"would have no effect on a .* layer\.{name}"):
        setattr(layer, name, value)
    setattr(layer, name, None if name != "residual" else False)
    own = type("Own", (type(layer),), {})  # its forward may read it
    layer.__class__ = own
    setattr(layer, name, value)


@pytest.mark.parametrize("in_channels", [5, -1])
def test_settings_of_a_gat_are_set_as_in_pyg(in_channels, generator):
    x, edges = torch.randn(3, 5, generator=generator), torch.tensor([[0, 1, 2], [1, 2, 1]])
    layer = GAT(in_channels, 4, dropout=0.5)
    layer.dropout, layer.negative_slope = 0.0, 0.7
    out = layer(x, edges)
    theirs = GATConv(5, 4, negative_slope=0.7)
    expected = GAT.from_pyg(theirs)
    expected.load_state_dict(layer.state_dict())
    torch.testing.assert_close(out, expected(x, edges))
    assert (layer.dropout, layer.negative_slope) == (0.0, 0.7)


@pytest.mark.parametrize("kind", [MessageRound, FusedRound])
def test_a_round_is_not_decomposed(kind):
    layer = built(kind)
    assert layer.decomposed_layers == 1
    with pytest.raises(InputError, match="a round is not decomposed"):
        layer.decomposed_layers = 2


@pytest.mark.parametrize("built_with", [{}, {"aggr": "softmax", "aggr_kwargs": {"learn": True}}])
def test_parts_set_on_a_lazy_layer_are_those_of_its_first_call(built_with, generator):
    x, edges = torch.randn(3, 5, generator=generator), torch.tensor([[0, 1, 2], [1, 2, 1]])
    layer = GraphRound(-1, 4, activation="relu", norm="batch", **built_with)
    layer.aggr = "max"
    layer.activation = torch.tanh
    layer.norm = "layer"
    out = layer(x, edges)
    expected = GraphRound(5, 4, aggr="max", activation="tanh", norm="layer")
    expected.load_state_dict(layer.state_dict())
    torch.testing.assert_close(out, expected(x, edges))
    torch.testing.assert_close(layer(x, edges), out)
    bare = GraphRound(-1, 4, **built_with)
    bare.norm = "layer"
    assert bare(x, edges).shape == (3, 4)
    assert "norm.weight" in bare.state_dict()


def test_parts_of_a_lazy_layer_keep_the_hooks_mode_and_settings_they_were_given(generator):
    x, edges = torch.randn(3, 5, generator=generator), torch.tensor([[0, 1, 2], [1, 2, 1]])
    layer, seen = SAGE(-1, 4, project=True, aggr=SoftmaxAggregation(t=1.0)), []
    parts = dict(layer.named_modules())
    for name, part in parts.items():
        part.register_forward_hook(lambda module, inputs, out, name=name: seen.append(name))
    handle = parts["root"].register_forward_hook(lambda *_: seen.append("removed"))
    layer.neighbours.eval()
    layer.aggr_module.note = "kept"
    layer(x, edges)
    assert dict(layer.named_modules()) == parts
    assert {*seen} == {*parts, "removed"}
    assert (layer.neighbours.training, layer.root.training) == (False, True)
    assert (layer.aggr_module.note, layer.root.in_features) == ("kept", 5)
    handle.remove()
    seen.clear()
    layer(x, edges)
    assert {*seen} == {*parts}

    attention = GraphRound(-1, 4, "shared_attention")
    attention.message_function.negative_slope = 0.9
    out = attention(x, edges)
    expected = GraphRound(5, 4, "shared_attention", message_kwargs={"negative_slope": 0.9})
    expected.load_state_dict(attention.state_dict())
    torch.testing.assert_close(out, expected(x, edges))


def test_a_lazy_layer_draws_the_weights_of_one_that_knows_its_channels_second():
    x, edges = torch.zeros(3, 5), torch.tensor([[0, 1, 2], [1, 2, 1]])
    lazy = GraphRound(-1, 4, generator=torch.Generator().manual_seed(3))
    lazy(x, edges)
    one = torch.Generator().manual_seed(3)
    GraphRound(1, 4, generator=one)
    assert torch.equal(
        lazy.message_function.weight, GraphRound(5, 4, generator=one).message_function.weight
    )


def test_a_lazy_layer_whose_weight_is_pruned_before_its_channels_are_known_says_so():
    layer = GraphRound(-1, 4)
    torch.nn.utils.prune.random_unstructured(layer.message_function, "weight", 1)
    with pytest.raises(InputError, match=r"message_function.weight .* was removed, pruned or"):
        layer(torch.zeros(3, 5), torch.tensor([[0, 1, 2], [1, 2, 1]]))


def test_the_root_weight_of_a_sage_is_switched_as_in_pyg(generator):
    x, edges = torch.randn(3, 5, generator=generator), torch.tensor([[0, 1, 2], [1, 2, 1]])
    theirs = SAGEConv(5, 4)
    layer = SAGE.from_pyg(theirs)
    with_root = layer(x, edges)
    theirs.root_weight = layer.root_weight = False
    torch.testing.assert_close(layer(x, edges), theirs(x, edges))
    assert not torch.equal(layer(x, edges), with_root)
    layer.root_weight = True
    assert torch.equal(layer(x, edges), with_root)
    bare = SAGE(5, 4, root_weight=False)
    with pytest.raises(InputError, match="root_weight=True on a SAGE that was built without"):
        bare.root_weight = True
    assert bare.root_weight is False
    with pytest.raises(InputError, match="root_weight"):
        layer.root_weight = "no"
    # A layer that PyG built with the weight and whose switch was set before is taken over.
    theirs.root_weight = False
    torch.testing.assert_close(SAGE.from_pyg(theirs)(x, edges), theirs(x, edges))
