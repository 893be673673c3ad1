"""A round with an edge more or less, or another message or AGG, keeps its other weights."""

import pytest
import torch
from torch.nn.utils import parametrize, prune

from mpnn_arch import InputError, MessageFunction, RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.rounds import message_functions
from mpnn_arch.rounds.messages import EdgeProduct
from mpnn_arch.widget import edge_weights
from mpnn_arch.widget.recording import record
from mpnn_arch.widget.rewire import rewire
from mpnn_arch.widget.toggled import toggled_graph

OVER_VECTORS = [n for n in message_functions if not message_functions.get(n).vectors_instead]
OVER_MAPS = [n for n in message_functions if not message_functions.get(n).maps_instead]


def ring():
    return graphs.ring(8, 4)


def messages_of(layer, x):
    pairs = zip(layer.plan.source.tolist(), layer.plan.target.tolist(), strict=True)
    return dict(zip(pairs, record(layer, x)[""].messages, strict=True))


@pytest.mark.parametrize("message", OVER_VECTORS)
def test_messages_along_the_other_edges_stay(message, generator):
    layer = RelationalLinear(ring(), 16, 16, message=message, generator=generator)
    x = torch.randn(3, 16, generator=generator)
    changed = rewire(layer, toggled_graph(layer.graph, [(0, 4), (1, 2)]))
    before, after = messages_of(layer, x), messages_of(changed, x)
    assert set(after) - set(before) == {(0, 4), (4, 0)}
    assert set(before) - set(after) == {(1, 2), (2, 1)}
    touched = {0, 1, 2, 4} if "attention" in message else set()
    for (u, v), sent in before.items():
        if (u, v) in after and v not in touched:  # attention shares 1 out among other neighbours
            torch.testing.assert_close(after[u, v], sent)


@pytest.mark.parametrize("message", OVER_MAPS)
def test_messages_over_maps_stay_too(message, generator):
    layer = RelationalConv2d(ring(), 16, 16, 3, padding=1, message=message, generator=generator)
    x = torch.randn(2, 16, 5, 5, generator=generator)
    changed = rewire(layer, toggled_graph(layer.graph, [(0, 4)]))
    before, after = messages_of(layer, x), messages_of(changed, x)
    for (u, v), sent in before.items():
        if not ("attention" in message and v in (0, 4)):
            torch.testing.assert_close(after[u, v], sent)


def test_unequal_shares_stay_when_the_largest_loses_an_edge(generator):
    layer = RelationalLinear(
        ring(), 17, 17, message="attention", generator=generator, norm="layer", activation="relu"
    )
    changed = rewire(layer, toggled_graph(layer.graph, [(0, 0)]))
    x = torch.randn(2, 17, generator=generator)
    before, after = messages_of(layer, x), messages_of(changed, x)
    torch.testing.assert_close(after[0, 1], before[0, 1])


def test_an_edge_that_comes_back_is_the_same_edge(generator):
    layer = RelationalLinear(ring(), 16, 16, generator=generator)
    there = toggled_graph(layer.graph, [(0, 4), (1, 5)])
    once, other_order = rewire(layer, there), rewire(layer, toggled_graph(layer.graph, [(1, 5)]))
    x = torch.randn(1, 16, generator=generator)
    assert torch.equal(messages_of(once, x)[5, 1], messages_of(other_order, x)[5, 1])
    back = rewire(layer, toggled_graph(layer.graph, [(0, 4), (0, 4)]))
    assert torch.equal(back.message_function.weight, layer.message_function.weight)


def test_weights_are_chosen_one_by_one_at_changed_nodes_alone(generator, monkeypatch):
    chosen, of = [], edge_weights._Entries.of
    monkeypatch.setattr(
        edge_weights._Entries, "of", lambda self, v, *edges: chosen.append(v) or of(self, v, *edges)
    )
    layer = RelationalLinear(ring(), 19, 17, generator=generator)
    rewire(layer, toggled_graph(layer.graph, [(2, 6), (3, 4)]))
    assert set(chosen) == {2, 3, 4, 6}
    rewire(layer, layer.graph)
    assert set(chosen) == {2, 3, 4, 6}


def test_what_was_given_stays_as_it_is(generator):
    layer = RelationalLinear(ring(), 16, 16, generator=generator)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    rewire(layer, toggled_graph(layer.graph, [(0, 4)]), message="gated", aggr="max")
    assert all(torch.equal(tensor, layer.state_dict()[name]) for name, tensor in before.items())
    assert layer.aggr == "sum"


def test_cost_and_state_dict_follow(generator):
    layer = RelationalLinear(ring(), 16, 16, generator=generator)
    changed = rewire(layer, toggled_graph(layer.graph, [(0, 4)]))
    assert changed.multiply_adds() == layer.multiply_adds() + 8
    fresh = RelationalLinear(changed.graph, 16, 16)
    fresh.load_state_dict(changed.state_dict())
    x = torch.randn(2, 16, generator=generator)
    torch.testing.assert_close(fresh(x), changed(x))


def test_a_swapped_aggregation_keeps_the_messages(generator):
    layer = RelationalLinear(ring(), 16, 16, generator=generator, backend="masked")
    x = torch.randn(2, 16, generator=generator)
    changed = rewire(layer, layer.graph, aggr="max")
    sent = messages_of(changed, x)
    for pair, message in messages_of(layer, x).items():
        torch.testing.assert_close(sent[pair], message)
    received = torch.stack([message for (_, v), message in sent.items() if v == 0])
    expected = received.amax(0) + changed.bias[:2]
    torch.testing.assert_close(changed(x)[0, :2], expected)


@pytest.mark.parametrize("aggr", ["attentional", "mean+max", "max"])
def test_another_precision_is_kept(generator, aggr):
    layer = RelationalLinear(ring(), 16, 16, dtype=torch.float64, generator=generator)
    changed = rewire(layer, toggled_graph(layer.graph, [(0, 4)]), message="gated", aggr=aggr)
    assert {parameter.dtype for parameter in changed.parameters()} == {torch.float64}
    assert changed(torch.ones(1, 16, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("message", ["linear", "affine"])
@pytest.mark.parametrize("kind", ["pruned", "parametrised"])
def test_numbers_of_computed_weights_stay(generator, message, kind):
    layer = RelationalLinear(ring(), 16, 16, message=message, generator=generator)
    part = layer.message_function if message == "linear" else layer.message_function.product
    x = torch.randn(2, 16, generator=generator)
    if kind == "pruned":
        prune.l1_unstructured(part, "weight", 0.5)
    else:
        parametrize.register_parametrization(part, "weight", torch.nn.Tanh())
    for _ in range(2):  # before and after a step
        changed = rewire(layer, toggled_graph(layer.graph, [(0, 4)]))
        before, after = messages_of(layer, x), messages_of(changed, x)
        for pair, sent in before.items():
            torch.testing.assert_close(after[pair], sent)
        layer(x).sum().backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.sub_(0.1 * parameter.grad)


def test_arguments_of_a_message_are_kept(generator):
    layer = RelationalLinear(
        ring(), 32, 32, message="low_rank", message_kwargs={"rank": 3}, generator=generator
    )
    changed = rewire(layer, toggled_graph(layer.graph, [(0, 4)]))
    assert changed.message_function.rank == 3


def test_a_message_of_ones_own_with_a_number_an_edge(generator):
    class Loudness(MessageFunction):
        def __init__(self, plan, **kwargs):
            super().__init__(plan, **kwargs)
            self.loudness = torch.nn.Parameter(torch.empty(plan.num_edges))

        def reset_parameters(self, generator=None):
            torch.nn.init.uniform_(self.loudness, generator=generator)

        def forward(self, x_j):
            return x_j * self.loudness[:, None, None]

        def multiply_adds(self, spatial_size=()):
            return 0

    layer = RelationalLinear(ring(), 16, 16, message=Loudness, generator=generator)
    changed = rewire(layer, toggled_graph(layer.graph, [(0, 4)]))
    x = torch.randn(2, 16, generator=generator)
    before, after = messages_of(layer, x), messages_of(changed, x)
    assert len(after) == len(before) + 2
    for pair, sent in before.items():
        torch.testing.assert_close(after[pair], sent)


class Normed(MessageFunction):
    """A message of one's own, with arguments, torch's layers and buffers."""

    def __init__(self, plan, hidden, *, loud=1.0, **kwargs):
        super().__init__(plan, **kwargs)
        self.inner = EdgeProduct(plan, rows=hidden, **self.factory)
        self.outer = EdgeProduct(plan, columns=hidden, **self.factory)
        self.norm = torch.nn.BatchNorm1d(hidden)
        self.louder = loud  # under another name than the argument's
        self.shift = torch.nn.Parameter(
            torch.zeros(24)
        )  # as many as the ring of degree 2 has edges
        self.register_buffer("received", plan.target.bincount())
        self.register_buffer("calls", torch.zeros(plan.num_edges))

    def reset_parameters(self, generator=None):
        for product in (self.inner, self.outer):
            product.reset_parameters(generator, self.initial_gain)

    def multiply_adds(self, spatial_size=()):
        return 0

    def forward(self, x_j):
        if self.training:
            self.calls += torch.arange(len(self.calls))
        hidden = self.inner(x_j)
        hidden = self.norm(hidden.flatten(0, 1)).view_as(hidden)
        return self.outer(hidden) * self.louder + self.shift[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_message_of_ones_own_keeps_its_arguments_statistics_and_dtype(generator, dtype):
    kwargs = {"message": Normed, "message_kwargs": {"hidden": 7, "loud": 3.0}, "dtype": dtype}
    layer = RelationalLinear(ring(), 16, 16, generator=generator, **kwargs)
    x = 1 + torch.randn(20, 16, generator=generator).to(dtype)
    for _ in range(3):
        layer(x)
    layer.eval()
    state = torch.random.get_rng_state()
    there = rewire(layer, graphs.ring(8, 2))
    back = rewire(layer, ring())
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(back(x), layer(x), rtol=0, atol=0)
    before, after = messages_of(layer, x), messages_of(there, x)
    assert len(after) == 24
    assert set(after) < set(before)
    for pair, sent in after.items():
        torch.testing.assert_close(sent, before[pair])
    function, old = there.message_function, layer.message_function
    assert function.received.tolist() == [3] * 8  # of the new graph
    kept = [i for i, pair in enumerate(before) if pair in after]
    assert torch.equal(function.calls, old.calls[kept])


@pytest.mark.parametrize("message", ["linear", "gated"])
@pytest.mark.parametrize("kind", ["plain", "pruned", "parametrised"])
def test_frozen_weights_stay_frozen(message, kind):
    layer = RelationalLinear(ring(), 16, 16, message=message)
    part = layer.message_function if message == "linear" else layer.message_function.gate
    if kind == "pruned":
        prune.l1_unstructured(part, "weight", 0.5)
    elif kind == "parametrised":
        parametrize.register_parametrization(part, "weight", torch.nn.Tanh())
    part.requires_grad_(False)
    with torch.no_grad():
        changed = rewire(layer, toggled_graph(layer.graph, [(0, 4)]))
    trained = {name: p.requires_grad for name, p in changed.named_parameters()}
    frozen = "message_function." + ("weight" if message == "linear" else "gate.weight")
    assert [name for name in trained if not trained[name]] == [frozen]


def test_a_list_with_a_network_an_edge_follows_its_edges(generator):
    class Networks(MessageFunction):
        def __init__(self, plan, **kwargs):
            super().__init__(plan, **kwargs)
            width = plan.largest_out
            of_edge = [torch.nn.Linear(width, width) for _ in range(plan.num_edges)]
            self.networks = torch.nn.ModuleList(
                torch.nn.Sequential(one, torch.nn.BatchNorm1d(width)) for one in of_edge
            )
            self.scales = torch.nn.ParameterList(torch.rand(()) for _ in range(plan.num_edges))

        def reset_parameters(self, generator=None):
            pass

        def multiply_adds(self, spatial_size=()):
            return 0

        def forward(self, x_j):
            of_edges = zip(self.networks, self.scales, x_j, strict=True)
            return torch.stack([scale * network(x) for network, scale, x in of_edges])

    layer = RelationalLinear(ring(), 16, 16, message=Networks, generator=generator)
    x = torch.randn(5, 16, generator=generator)
    layer(x)
    layer.eval()
    # As many edges, the others at other places.
    for pairs in ([(0, 4), (1, 2)], [(0, 4)], [(0, 1)]):
        changed = rewire(layer, toggled_graph(layer.graph, pairs))
        before, after = messages_of(layer, x), messages_of(changed, x)
        for pair in set(before) & set(after):
            torch.testing.assert_close(after[pair], before[pair])


def test_the_global_random_state_is_left_alone():
    layer = RelationalLinear(ring(), 16, 16)
    state = torch.random.get_rng_state()
    rewire(layer, toggled_graph(layer.graph, [(0, 4)]), message="gated", aggr="attentional")
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_directed_graph_toggles_one_direction(generator):
    graph = graphs.RelationalGraph(4, [[0, 1, 2], [1, 2, 3]], directed=True)
    assert toggled_graph(graph, [(3, 0)]).edges.shape[1] == graph.edges.shape[1] + 1


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [([(0, 8)], "no edge from 0 to 8"), ([(0, 0), (0, 1), (0, 2), (0, 6), (0, 7)], "node 0 would")],
)
def test_what_cannot_be_toggled_is_said(pairs, sentence):
    with pytest.raises(InputError, match=sentence):
        toggled_graph(ring(), pairs)


def test_a_swap_that_does_not_fit_is_said():
    layer = RelationalLinear(ring(), 16, 17)
    with pytest.raises(InputError, match="must be of one size"):
        rewire(layer, layer.graph, message="scalar")
    with pytest.raises(InputError, match="no message function 'shout'"):
        rewire(layer, layer.graph, message="shout")
    with pytest.raises(InputError, match="those of 8 nodes, and the graph has 4: give one of as"):
        rewire(layer, "ring:4,2")


def test_a_message_class_and_a_list_of_aggregations_are_taken_as_by_a_round(generator):
    layer = RelationalLinear(ring(), 16, 16, generator=generator)
    gated = message_functions.get("gated")
    changed = rewire(layer, ring(), message=gated, aggr=["mean", "max"])
    named = rewire(layer, ring(), message="gated", aggr="mean+max")
    x = torch.randn(3, 16, generator=generator)
    assert torch.equal(changed(x), named(x))
    assert changed.aggr == ["mean", "max"]


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("kind", ["name", "instance", "list"])
def test_a_degree_scaled_aggregation_takes_the_degrees_of_the_graph(generator, kind, learned):
    kwargs = {"aggr": ["mean"], "scaler": ["identity", "attenuation"], "train_norm": learned}
    given = {"aggr": "degree-scaled", "aggr_kwargs": kwargs}
    one = RelationalLinear(ring(), 16, 16, **given).aggr_module
    if kind != "name":
        given = {"aggr": one if kind == "instance" else ["max", one]}
    layer = RelationalLinear(ring(), 16, 16, generator=generator, **given)
    with torch.no_grad():
        for parameter in layer.aggr_module.parameters():
            parameter.mul_(2)
    x = torch.randn(3, 16, generator=generator)
    torch.testing.assert_close(rewire(layer, ring())(x), layer(x), rtol=0, atol=0)
    changed = rewire(layer, graphs.ring(8, 2))
    degrees = [t for n, t in changed.aggr_module.state_dict().items() if n.endswith("deg_lin")]
    assert degrees == [10 if learned else 3]  # twice the old, or those of the new
