"""Rounds with a step or a ``forward`` of their own work, or say in one line what is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import Aggregation

from mpnn_arch import (
    FusedRound,
    GraphRound,
    InputError,
    MessageFunction,
    MessageRound,
    RelationalLinear,
    graphs,
)
from mpnn_arch.rounds import LinearMessage
from mpnn_arch.rounds.messages import EdgeProduct
from mpnn_arch.rounds.shares import split_shares

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")


class Unknown(GraphRound):
    def message(self, x_j: Tensor, edge_typo: Tensor) -> Tensor:
        return x_j * edge_typo


class Weighted(MessageRound):
    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return x_j * edge_weight


class WeightedFused(FusedRound):
    def message(self, x_j: Tensor, pos_j: Tensor) -> Tensor:
        return x_j * pos_j


class Rooted(RelationalLinear):
    def update(self, inputs: Tensor, root: Tensor) -> Tensor:
        return inputs + root


class United(GraphRound):
    def message(self, x_j: Tensor, edge_weight: Tensor | None) -> Tensor:
        return x_j if edge_weight is None else x_j * edge_weight.view(-1, 1, 1)


# As it is where annotations are no strings.
United.message.__annotations__["edge_weight"] = Tensor | None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: United(4, 4), r"no X \| None among them: write Optional\[X\], or none"),
        (lambda: Unknown(4, 4), "Unknown.message names edge_typo, and Unknown.forward hands x, "),
        (lambda: Weighted(GRAPH, 16, 16), "Weighted.message names edge_weight, .* x, residual to"),
        (lambda: WeightedFused(GRAPH, 16, 16), "names pos_j, .*or hand pos to propagate"),
        (lambda: Rooted(GRAPH, 16, 16), "Rooted.update names root, and Rooted.forward hands"),
    ],
)
def test_an_argument_that_no_forward_hands_on_is_refused_by_name(make, words):
    with pytest.raises(InputError, match=words):
        make()


class Sent(MessageRound):
    """The equation as the README prints it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.propagate(self.edge_index, x=split_shares(x, self.plan))


class SentAlong(GraphRound):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x.unsqueeze(1))


def test_a_forward_of_ones_own_hands_on_the_features_alone(generator):
    x = torch.randn(3, 16, generator=generator)
    plain = MessageRound(GRAPH, 16, 24)
    own = Sent(GRAPH, 16, 24)
    own.load_state_dict(plain.state_dict())
    torch.testing.assert_close(own(x), plain(x))

    nodes = torch.randn(8, 5, generator=generator)
    given = GraphRound(5, 6)
    along = SentAlong(5, 6)
    along.load_state_dict(given.state_dict())
    torch.testing.assert_close(along(nodes, GRAPH.edge_index), given(nodes, GRAPH.edge_index))

    with pytest.raises(InputError, match="Sent has residual=True, and its forward hands none"):
        Sent(GRAPH, 16, 16, residual=True)(x)


@pytest.mark.parametrize("base", [MessageRound, FusedRound, RelationalLinear])
@pytest.mark.parametrize("batch", [3, 8])  # another number than nodes, and as many
def test_features_that_are_not_split_are_refused(base, batch):
    class Whole(base):
        def forward(self, x: Tensor) -> Tensor:
            return self.propagate(self.edge_index, x=x)

    with pytest.raises(InputError, match=rf"Whole hands .*\({batch}, 16\) to .* split_shares\(x, "):
        Whole(GRAPH, 16, 24)(torch.zeros(batch, 16))


def returning(base: type, function) -> type:
    class Own(base):
        def message(self, x_j: Tensor) -> Tensor:
            return function(x_j)

    return Own


@pytest.mark.parametrize("base", [MessageRound, RelationalLinear])
@pytest.mark.parametrize(
    "function", [lambda m: m[:, :, :1], lambda m: torch.cat([m, m], 2), lambda m: m.sum(2), id]
)
@pytest.mark.parametrize("channels", [16, 18])  # equal shares, and unequal ones
def test_messages_of_another_shape_are_refused(base, function, channels):
    layer = returning(base, function)(GRAPH, channels, channels)
    with pytest.raises(InputError, match=r"Own has messages of .*; expected \(\d+, B, "):
        layer(torch.zeros(2, channels))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [1, 3])
def test_aggregates_of_other_channels_are_refused(bias, width):
    layer = returning(GraphRound, lambda m: m[:, :, :width])(4, 4, bias=bias)
    with pytest.raises(InputError, match=rf"aggregates of shape \(8, {width}\); expected 4"):
        layer(torch.zeros(8, 4), GRAPH.edge_index)


class WithoutSuper(Aggregation):
    def __init__(self):
        self.power = 2

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
        return self.reduce(x**self.power, index, ptr, dim_size, dim)


class LateSuper(WithoutSuper):
    def __init__(self):
        self.power = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("aggr", [WithoutSuper, LateSuper, WithoutSuper(), ["sum", WithoutSuper()]])
def test_an_aggregation_without_super_is_one_sentence(aggr):
    with pytest.raises(InputError, match=r"begin it with super\(\).__init__\(\)"):
        RelationalLinear(GRAPH, 16, 16, aggr=aggr)


def test_a_class_that_is_defined_anew_has_its_own_steps(generator):
    def first():
        class Again(GraphRound):
            def message(self, x_j: Tensor) -> Tensor:
                return x_j

        return Again

    def second():
        class Again(GraphRound):
            def message(self, x_j: Tensor, x_i: Tensor) -> Tensor:
                return x_j - x_i

        return Again

    x = torch.randn(8, 4, generator=generator)
    edge_index = GRAPH.edge_index
    classes = [first(), second()]
    for cls, less in zip([*classes, *classes], [0, 1, 0, 1], strict=True):
        out = cls(4, 4, bias=False)(x, edge_index)
        expected = torch.zeros(8, 4)
        for u, v in edge_index.T.tolist():
            expected[v] += x[u] - less * x[v]
        torch.testing.assert_close(out, expected)


def test_a_class_may_have_the_name_of_its_base(generator):
    class Named(MessageRound):
        pass

    Named(GRAPH, 16, 16)
    base = Named

    class Named(base):
        def message(self, x_j: Tensor) -> Tensor:
            return 2 * x_j

    x = torch.randn(3, 16, generator=generator)
    nodes = 2 * x.view(3, 8, 2)
    expected = torch.zeros(3, 8, 2)
    for u, v in GRAPH.edge_index.T.tolist():
        expected[:, v] += nodes[:, u]
    torch.testing.assert_close(Named(GRAPH, 16, 16, bias=False)(x), expected.flatten(1))


class Clamped:
    """Mixed into a message function, in place of a subclass of its own."""

    def forward(self, x_j, edges):
        return super().forward(x_j, edges).clamp(-0.1, 0.1)


class ClampedMessage(Clamped, LinearMessage):
    pass


class ClampedAgain(ClampedMessage):
    pass


class DoubledBlocks(LinearMessage):
    def edge_blocks(self, edges=slice(None)):
        return 2 * super().edge_blocks(edges)


class DoubledWeight(LinearMessage):
    def current_weight(self):
        return 2 * super().current_weight()


class TripledShares(FusedRound):
    def aggregate_shares(self, messages, index, num_nodes):
        return 3 * super().aggregate_shares(messages, index, num_nodes)


MIXED = [ClampedMessage, ClampedAgain, DoubledBlocks, DoubledWeight]


@pytest.mark.parametrize("message", MIXED)
@pytest.mark.parametrize("aggr", ["sum", "mean"])
def test_what_messages_are_computed_from_holds_on_the_fast_path(message, aggr, generator):
    graph = graphs.parse_one("ws_flex:8,4,0.2,0")
    layer = FusedRound(graph, 17, 19, message=message, aggr=aggr, dtype=torch.float64)
    plain = MessageRound(graph, 17, 19, message=message, aggr=aggr, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(3, 17, generator=generator, dtype=torch.float64)
    for _ in range(3):  # the later calls with a product that is cached
        torch.testing.assert_close(layer(x), plain(x))
    assert layer.passes_messages == (message is not DoubledWeight)


def test_a_mixin_names_the_arguments_of_a_message():
    class Product:
        def forward(self, x_j, x_i):
            return self.product(x_j - x_i)

    class Difference(Product, MessageFunction):
        def __init__(self, plan, **kwargs):
            super().__init__(plan, **kwargs)
            self.product = EdgeProduct(plan, self.geometry, **self.factory)

    assert Difference.arguments == ("x_j", "x_i")
    assert not Difference.fusable
    layer = FusedRound(graphs.parse_one("ring:4,2"), 8, 8, message=Difference, bias=False)
    assert layer(torch.ones(2, 8)).abs().max() == 0


def test_arguments_of_a_message_after_a_star_are_refused():
    with pytest.raises(InputError, match=r"declares x_j, x_i; .*none of them after a \*"):

        class ByName(MessageFunction):
            def forward(self, *, x_j, x_i):
                return x_j - x_i


def test_shares_are_aggregated_by_the_subclass(generator):
    layer = TripledShares(graphs.parse_one("ring:8,2"), 16, 16, bias=False)
    x = torch.randn(3, 16, generator=generator)
    matrix = layer.message_function.dense_weight()
    torch.testing.assert_close(layer(x), 3 * x @ matrix.T)
    assert "overrides" in layer.explain_backend()


@pytest.mark.parametrize("aggr", ["sum", "mean"])
def test_hooks_on_the_aggregation_are_called(aggr, generator):
    layer = FusedRound(graphs.parse_one("ring:8,2"), 16, 16, aggr=aggr)
    x, seen = torch.randn(3, 16, generator=generator), []
    expected = layer(x), layer(x)
    handle = layer.aggr_module.register_forward_hook(lambda part, given, out: seen.append(out))
    torch.testing.assert_close(layer(x), expected[1])
    assert [tuple(out.shape) for out in seen] == [(8, 3, 2)]
    assert layer.explain_backend() == (
        "reference: a hook on calls of the aggregation is registered"
    )
    handle.remove()
    assert torch.equal(layer(x), expected[1])
    assert len(seen) == 1
