"""Every message with every aggregation, over vectors and maps, against loops over the graph."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.nn import Aggregation, MLPAggregation

from mpnn_arch import InputError, MessageFunction, RelationalConv2d, RelationalGraph
from mpnn_arch.models import build
from mpnn_arch.rounds import RelationalLinear, message_functions
from mpnn_arch.rounds.aggregations import aggregations
from mpnn_arch.rounds.chunks import chunks_of
from mpnn_arch.rounds.messages import EdgeProduct, GatedMessage

# A path with a chord: degrees 3, 3, 4, 2 with self-loops.
EDGES = [[0, 1, 2, 0], [1, 2, 3, 2]]
GRAPH = RelationalGraph(4, EDGES)
EVEN = ("scalar", "identity")  # need shares of one size


def make(kind, message, aggr="sum", *, graph=GRAPH, seed=0, **kwargs):
    """A small round with ragged shares where the message allows them, and an input for it."""
    widths = (8, 8) if message in EVEN else (7, 9)
    generator = torch.Generator().manual_seed(seed)
    init = {"message": message, "aggr": aggr, "dtype": torch.float64, "generator": generator}
    x = torch.randn(2, widths[0], *((4, 3) if kind == "conv" else ()), generator=generator)
    if kind == "conv":
        layer = RelationalConv2d(graph, *widths, 3, stride=2, padding=1, **init, **kwargs)
    else:
        layer = RelationalLinear(graph, *widths, **init, **kwargs)
    return layer, x.double()


def works_on(kind):
    """Names of the messages that run over vectors (mlp) or maps (conv)."""
    other = "vectors_instead" if kind == "mlp" else "maps_instead"
    return [m for m in message_functions if not getattr(message_functions.get(m), other)]


# -- the oracle: for v in nodes, for u in neighbours -----------------------------------------


def blocks_of(flat, rows, columns):
    """Cut an edge-by-edge weight vector into its matrices (or stacks of kernels)."""
    cut, start = [], 0
    for r, c in zip(rows, columns, strict=True):
        cut.append(flat[start : start + r * c].unflatten(0, (r, c)))
        start += r * c
    return cut


class Oracle:
    """The message of one edge, computed from the parameters in plain loops."""

    def __init__(self, layer, kind):
        self.f, self.kind = layer.message_function, kind
        self.ins, self.outs = layer.in_partition.sizes, layer.out_partition.sizes
        self.edges = layer.graph.edge_index.T.tolist()
        self.layer = layer

    def product(self, product, edge, x, pooled=False, pointwise=False):
        rows, columns = product.rows.tolist(), product.columns.tolist()
        w = blocks_of(product.weight, rows, columns)[edge]
        bias = None
        if product.bias is not None:
            bias = product.bias[sum(rows[:edge]) : sum(rows[: edge + 1])]
        return self.apply(w, x, bias, pooled, pointwise)

    def apply(self, w, x, bias=None, pooled=False, pointwise=False, groups=1):
        if self.kind == "mlp" or pooled:
            return F.linear(x, w, bias)
        stride, padding = (1, 0) if pointwise else (2, 1)
        return F.conv2d(x, w, bias, stride, padding, groups=groups)

    def block(self, edge):
        """W_vu of a weight in the plan's layout: a matrix a target, its senders side by side."""
        u, v = self.edges[edge]
        senders = [[i for i, j in self.edges if j == node] for node in range(len(self.outs))]
        widths = [sum(self.ins[i] for i in each) for each in senders]
        start = sum(self.outs[node] * widths[node] for node in range(v))
        rows = self.f.weight[start : start + self.outs[v] * widths[v]]
        column = sum(self.ins[i] for i in senders[v][: senders[v].index(u)])
        return rows.unflatten(0, (self.outs[v], widths[v]))[:, column : column + self.ins[u]]

    def message(self, edge, x):
        """f_vu(x_u) for the edge, given the list of all nodes' shares."""
        u, v = self.edges[edge]
        return getattr(self, type(self.f).__name__)(edge, x[u], x[v], x)

    def LinearMessage(self, e, x_u, x_v, x):
        return self.apply(self.block(e), x_u)

    ConvMessage = LinearMessage

    def AffineMessage(self, e, x_u, x_v, x):
        return self.product(self.f.product, e, x_u)

    def GatedMessage(self, e, x_u, x_v, x):
        return self.product(self.f.value, e, x_u) * self.product(self.f.gate, e, x_u).sigmoid()

    def BilinearMessage(self, e, x_u, x_v, x):
        return self.product(self.f.source, e, x_u) * self.product(self.f.target, e, x_v)

    def LowRankMessage(self, e, x_u, x_v, x):
        return self.product(self.f.up, e, self.product(self.f.down, e, x_u), pointwise=True)

    def EdgeMLPMessage(self, e, x_u, x_v, x):
        hidden = self.product(self.f.inner, e, x_u).clamp(min=0)
        return self.product(self.f.outer, e, hidden, pointwise=True)

    def ScalarMessage(self, e, x_u, x_v, x):
        w = self.f.scale.weight[e]
        if self.kind == "mlp":
            return w * x_u
        return self.apply(w.expand(x_u.shape[1], 1, 3, 3), x_u, groups=x_u.shape[1])

    def SeparableConvMessage(self, e, x_u, x_v, x):
        rows = self.f.depthwise.rows.tolist()
        kernels = blocks_of(self.f.depthwise.weight, rows, [1] * len(rows))[e]
        maps = self.apply(kernels, x_u, groups=x_u.shape[1])
        return self.product(self.f.pointwise, e, maps, pointwise=True)

    def AttentionMessage(self, e, x_u, x_v, x):
        def logit(edge):
            u, v = self.edges[edge]
            source, target = (x[n].flatten(2).mean(2) if x[n].dim() > 2 else x[n] for n in (u, v))
            total = self.product(self.f.source_logit, edge, source, pooled=True)
            total = total + self.product(self.f.target_logit, edge, target, pooled=True)
            return F.leaky_relu(total, 0.2)

        rivals = [i for i, (_, v) in enumerate(self.edges) if v == self.edges[e][1]]
        alpha = torch.stack([logit(i) for i in rivals]).softmax(0)[rivals.index(e)]
        value = self.product(self.f.value, e, x_u)
        return value * alpha.view(*alpha.shape, *[1] * (value.dim() - 2))

    def SharedAttentionMessage(self, e, x_u, x_v, x):
        def h(node, size):
            return F.linear(x[node], self.f.weight[:size, : self.ins[node]])

        def logit(edge):
            u, v = self.edges[edge]
            size = self.outs[v]
            a, b = self.f.source_logit[0, :size], self.f.target_logit[0, :size]
            return F.leaky_relu(h(u, size) @ a + h(v, size) @ b, 0.2)

        u, v = self.edges[e]
        rivals = [i for i, (_, w) in enumerate(self.edges) if w == v]
        alpha = torch.stack([logit(i) for i in rivals]).softmax(0)[rivals.index(e)]
        return h(u, self.outs[v]) * alpha[:, None]

    def SharedLinearMessage(self, e, x_u, x_v, x):
        u, v = self.edges[e]
        return self.apply(self.f.weight[: self.outs[v], : self.ins[u]], x_u)

    SharedConvMessage = SharedLinearMessage

    def IdentityMessage(self, e, x_u, x_v, x):
        return x_u


def power_mean(m):
    return m.clamp(1e-4, 100).square().mean(0).clamp(1e-4, 100).sqrt()


def std(m):
    var = m.square().mean(0) - m.mean(0).square()
    return torch.where(var > 1e-5, var.clamp(min=1e-5).sqrt(), 0.0)


# name -> the aggregate of a stack of messages (k, B, C, ...)
BY_HAND = {
    "sum": lambda m: m.sum(0),
    "add": lambda m: m.sum(0),
    "mean": lambda m: m.mean(0),
    "max": lambda m: m.max(0).values,
    "min": lambda m: m.min(0).values,
    "mul": lambda m: m.prod(0),
    "var": lambda m: m.square().mean(0) - m.mean(0).square(),
    "std": std,
    "softmax": lambda m: (m.softmax(0) * m).sum(0),
    "median": lambda m: m.median(0).values,
    "quantile": lambda m: m.quantile(0.5, 0),
    "power-mean": power_mean,
}


def aggregate_by_hand(layer, name, messages, node):
    """AGG of one node's messages, (k, B, C_v, ...), its wide results projected back."""
    if name in BY_HAND:
        return BY_HAND[name](messages)
    size = messages.shape[2]
    if name == "attentional":
        gate = layer.aggr_module.gate_nn
        logits = torch.einsum("c,kbc...->kb...", gate.weight[0, :size], messages) + gate.bias
        return (logits.softmax(0).unsqueeze(2) * messages).sum(0)
    if name == "multi":
        wide = [BY_HAND[one](messages) for one in ("mean", "max", "std")]
    else:
        degrees = layer.plan.edge_ptr.diff().double()
        average, degree = (degrees + 1).log().mean(), degrees[node]
        scales = [1.0, (degree + 1).log() / average, average / (degree + 1).log()]
        parts = [BY_HAND[one](messages) for one in ("mean", "min", "max", "std")]
        wide = [scale * part for scale in scales for part in parts]
    sizes = [s * s * len(wide) for s in layer.out_partition.sizes]
    start = sum(sizes[:node])
    weight = layer.projection.weight[start : start + sizes[node]].view(size, -1)
    return torch.einsum("oc,bc...->bo...", weight, torch.cat(wide, dim=1))


def round_by_hand(layer, kind, aggr, x):
    """The whole round in two loops."""
    oracle = Oracle(layer, kind)
    shares = x.split(layer.in_partition.sizes, dim=1)
    new = []
    for v in range(layer.graph.num_nodes):
        received = []
        for edge, (_, target) in enumerate(oracle.edges):
            if target == v:
                received.append(oracle.message(edge, shares))
        new.append(aggregate_by_hand(layer, aggr, torch.stack(received), v))
    out = torch.cat(new, dim=1)
    return out + layer.bias.view(-1, *[1] * (out.dim() - 2))


@pytest.mark.parametrize("aggr", list(aggregations))
@pytest.mark.parametrize(
    ("kind", "message"), [(kind, m) for kind in ("mlp", "conv") for m in works_on(kind)]
)
def test_every_message_with_every_aggregation(kind, message, aggr):
    layer, x = make(kind, message, aggr)
    x.requires_grad_()
    out = layer(x)
    assert out.shape == (2, layer.out_channels, *((2, 2) if kind == "conv" else ()))
    torch.testing.assert_close(out, round_by_hand(layer, kind, aggr, x))

    inputs = {"x": x, **dict(layer.named_parameters())}
    cotangent = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(out, inputs.values(), cotangent)
    by_hand = torch.autograd.grad(round_by_hand(layer, kind, aggr, x), inputs.values(), cotangent)
    for name, grad, expected in zip(inputs, grads, by_hand, strict=True):
        torch.testing.assert_close(grad, expected, msg=lambda text, name=name: f"{name}: {text}")
    still = [name for name, grad in zip(inputs, by_hand, strict=True) if grad.abs().max() < 1e-9]
    assert still == (["aggr_module.gate_nn.bias"] if aggr == "attentional" else [])  # of a softmax

    order = [2, 0, 3, 1]
    permuted = RelationalGraph(4, np.array(EDGES)[::-1, order])
    twin, _ = make(kind, message, aggr, graph=permuted, seed=5)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(x), out)


@pytest.mark.parametrize(
    ("kind", "message"), [(k, m) for k in ("mlp", "conv") for m in works_on(k) if m not in EVEN]
)
def test_the_node_with_the_largest_share_may_send_to_none(kind, message):
    edges = [[1, 3, 2, 3, 4, 5, 1], [0, 0, 1, 2, 3, 4, 5]]
    sink = RelationalGraph(6, edges, directed=True, self_loops=False)
    layer, x = make(kind, message, "mean", graph=sink)
    assert layer.in_partition.sizes == (2, 1, 1, 1, 1, 1)
    torch.testing.assert_close(layer(x), round_by_hand(layer, kind, "mean", x))


# -- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [m for m in works_on("mlp") if m != "identity"])
@pytest.mark.parametrize("aggr", list(aggregations))
def test_a_round_starts_at_the_scale_of_a_linear_sum(message, aggr):
    """Root mean square 1/sqrt(3) for input of 1, whatever AGG and f are."""
    random = np.random.default_rng(0).random((16, 16)) < 0.35
    graph = RelationalGraph.from_adjacency(random.astype(int))
    generator = torch.Generator().manual_seed(0)
    kwargs = {"message_kwargs": {"rank": 4}} if message == "low_rank" else {}
    layer = RelationalLinear(
        graph, 128, 128, bias=False, message=message, aggr=aggr, generator=generator, **kwargs
    )
    # Products of many messages are mostly tiny and rarely huge: only their mean square is kept.
    out = layer(torch.randn(256, 128, generator=generator))
    size = out.square().mean().sqrt().item() * math.sqrt(3)
    # Attention weights that are uneven at the start add a little.
    slack = 12 if aggr == "mul" else 4 if "attention" in message else 2.2
    assert 1 / slack < size < slack


@pytest.mark.parametrize("aggr", ["sum", "mean", "max", "min", "std", "softmax", "median", "multi"])
def test_activations_keep_their_scale_over_several_rounds(aggr):
    graph = RelationalGraph(16, np.stack([np.arange(16), (np.arange(16) + 1) % 16]))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 64, generator=generator)
    by_sum = x
    for _ in range(4):
        init = {"bias": False, "generator": generator}
        by_sum = RelationalLinear(graph, 64, 64, **init)(by_sum)
        x = RelationalLinear(graph, 64, 64, aggr=aggr, **init)(x)
    ratio = (x.square().mean() / by_sum.square().mean()).sqrt().item()
    assert 0.1 < ratio < 10


@pytest.mark.parametrize("message", ["linear", "gated", "attention", "shared_linear"])
@pytest.mark.parametrize("aggr", ["mean", "max", "softmax", "attentional", "multi"])
def test_a_round_in_chunks_is_the_round(monkeypatch, message, aggr):
    layer, x = make("mlp", message, aggr)
    layer.backend = "reference"
    x.requires_grad_()
    inputs = [x, *layer.parameters()]
    out = round_by_hand(layer, "mlp", aggr, x)
    grads = torch.autograd.grad(out.square().sum(), inputs)
    monkeypatch.setattr(type(layer), "max_message_elements", 12)
    assert len(chunks_of(layer, x, layer.max_message_elements)) > 1
    chunked = layer(x)
    torch.testing.assert_close(chunked, out)
    for grad, expected in zip(
        torch.autograd.grad(chunked.square().sum(), inputs), grads, strict=True
    ):
        torch.testing.assert_close(grad, expected)


class ByTheMostMessages(Aggregation):
    """Depends on how many messages the node with the most of them receives, as an LSTM's padding"""

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
        most = int(index.bincount().max())
        return most * self.reduce(x, index, ptr, dim_size, dim, reduce="sum")


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("aggr", ["lstm", "gru", ByTheMostMessages, "mean+max"])
def test_aggregations_of_whole_messages_have_the_same_numbers_in_chunks(
    monkeypatch, kind, aggr, samples
):
    star = RelationalGraph(4, [[0, 0, 0], [1, 2, 3]])
    layer = RelationalLinear(star, 8, 8, message="gated", aggr=aggr)
    x = torch.randn(samples, 8, generator=torch.Generator().manual_seed(0))
    if kind == "conv":
        layer = RelationalConv2d(star, 8, 8, 3, padding=1, message="gated", aggr=aggr)
        x = torch.randn(samples, 8, 3, 2, generator=torch.Generator().manual_seed(0))
    whole = layer(x)
    expected = torch.autograd.grad(whole.square().sum(), [*layer.parameters()])
    monkeypatch.setattr(type(layer), "max_message_elements", whole.numel() * 2 // samples)
    assert (len(chunks_of(layer, x, layer.max_message_elements)) > 1) == (samples > 1)
    chunked = layer(x)
    torch.testing.assert_close(chunked, whole)
    grads = torch.autograd.grad(chunked.square().sum(), [*layer.parameters()])
    torch.testing.assert_close(grads, expected)


class NormedMessage(GatedMessage):
    """With a batch norm over the messages of all edges and samples, and a dropout."""

    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.norm, self.dropout = nn.BatchNorm1d(plan.largest_out), nn.Dropout()

    def reset_parameters(self, generator=None):
        for part in (self.value, self.gate):
            part.reset_parameters(generator)

    def forward(self, x_j, edges):
        messages = super().forward(x_j, edges)
        return self.dropout(self.norm(messages.flatten(0, 1)).view_as(messages))


MLP_OVER_MESSAGES = MLPAggregation(2, 2, max_num_elements=8, num_layers=2, hidden_channels=4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("message", "aggr"), [(NormedMessage, "sum"), ("gated", MLP_OVER_MESSAGES)]
)
def test_batch_norms_in_messages_and_aggregations_are_those_of_a_round_without_chunks(
    monkeypatch, message, aggr, training
):
    def step():
        one = torch.Generator().manual_seed(0)
        layer = RelationalLinear("ring:4,2", 8, 8, message=message, aggr=aggr, generator=one)
        layer.train(training)
        x = torch.randn(5, 8, generator=one, requires_grad=True)
        torch.manual_seed(1)  # of the dropout
        out = layer(x)
        grads = torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])
        return len(chunks_of(layer, x, layer.max_message_elements)), [out, *grads, *layer.buffers()]

    _, whole = step()
    monkeypatch.setattr(RelationalLinear, "max_message_elements", 60)
    chunks, chunked = step()
    assert (chunks == 1) == training
    torch.testing.assert_close(chunked, whole)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("backend", ["masked", "gather"])
@pytest.mark.parametrize("aggr", ["sum", "mean"])
def test_sum_and_mean_are_fused(kind, backend, aggr):
    for message in ("linear", "shared_linear") if kind == "mlp" else ("conv", "shared_conv"):
        layer, x = make(kind, message, aggr)
        layer.backend = "reference"
        out = layer(x)
        layer.backend = backend
        torch.testing.assert_close(layer(x), out)
        dense = layer.dense_weight()
        plain = F.linear(x, dense) if kind == "mlp" else F.conv2d(x, dense, None, 2, 1)
        torch.testing.assert_close(plain, out - layer.bias.view(-1, *[1] * (out.dim() - 2)))


@pytest.mark.parametrize(
    ("message", "aggr"), [("gated", "sum"), ("low_rank", "sum"), ("linear", "max")]
)
def test_what_cannot_be_fused_says_why(message, aggr):
    layer, _ = make("mlp", message, aggr)
    assert "is not" in layer.explain_backend()
    for backend in ("masked", "gather", "cpu", "triton"):
        with pytest.raises(InputError, match="use backend='reference'"):
            layer.backend = backend
    with pytest.raises(InputError, match=r"not one product with its weights: .* is not"):
        layer.dense_weight()


@pytest.mark.parametrize(
    ("kind", "message", "sentence"),
    [
        ("conv", "linear", "works on vectors, this round is over maps; use message='conv'"),
        ("conv", "shared_attention", "use message='attention'"),
        ("mlp", "conv", "needs a kernel_size; over vectors use message='linear'"),
        ("mlp", "separable_conv", "over vectors use message='linear'"),
    ],
)
def test_a_message_for_the_other_kind_of_round_names_what_to_use(kind, message, sentence):
    with pytest.raises(InputError, match=sentence):
        make(kind, message)


def test_scalar_messages_need_shares_of_one_size():
    with pytest.raises(InputError, match="they are of 1 to 3 channels"):
        RelationalLinear(GRAPH, 6, 9, message="scalar")


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.complex64])
def test_scalar_messages_refuse_another_dtype_as_matrices_do(dtype):
    with pytest.raises(RuntimeError, match="dtype"):
        torch.nn.Linear(6, 6)(torch.ones(2, 6, dtype=dtype))
    layer = RelationalLinear("ring:3,2", 6, 6, message="scalar")
    for kind in (RuntimeError, InputError):
        with pytest.raises(kind, match=rf"the input is {dtype} .* convert the input by"):
            layer(torch.ones(2, 6, dtype=dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 6).bfloat16()).shape == (2, 6)


# -- custom messages and aggregations ---------------------------------------------------------


class SineMessage(MessageFunction):
    """f_vu(x_u) = sin(W_vu x_u)."""

    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.product = EdgeProduct(plan, self.geometry, **self.factory)

    def forward(self, x_j, edges):
        return self.product(x_j, edges).sin()


class LogSumExp(Aggregation):
    """log of the mean of exp."""

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
        return self.reduce(x.exp(), index, ptr, dim_size, dim, reduce="mean").log()


@pytest.mark.parametrize("aggr", [LogSumExp, LogSumExp()])
@pytest.mark.parametrize(
    ("model", "kwargs"),
    [
        ("mlp", {"in_features": 64, "hidden_features": 32}),
        ("resnet20", {"image_size": 8, "in_channels": 1, "width_multiplier": 0.5}),
    ],
)
def test_custom_messages_and_aggregations_train(model, kwargs, aggr):
    network = build(model, GRAPH, num_classes=3, message=SineMessage, aggr=aggr, **kwargs)
    x, y = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    of_messages = {name: p for name, p in network.named_parameters() if "message_function" in name}
    before = {name: p.detach().clone() for name, p in of_messages.items()}
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, p in of_messages.items():
        assert not torch.equal(p, before[name]), name


def test_a_message_of_a_wrong_shape_names_the_expected_one():
    class Wrong(MessageFunction):
        """Lacks the padding."""

        def forward(self, x_j):
            return x_j[:, :, :1]

    layer = RelationalLinear(GRAPH, 7, 9, message=Wrong)
    with pytest.raises(InputError, match=r"shape \(12, 5, 1\); expected \(12, 5, 3\)"):
        layer(torch.zeros(5, 7))


def test_multiply_adds_of_custom_messages_and_aggregations():
    assert RelationalLinear(GRAPH, 8, 8, message=SineMessage).multiply_adds() == 12 * 4
    gated = RelationalConv2d(GRAPH, 8, 8, 3, message="gated")
    assert gated.multiply_adds((5, 5)) == 2 * 12 * 4 * 9 * 25
    attended = RelationalLinear(GRAPH, 8, 8, aggr="attentional")
    assert attended.multiply_adds() == 12 * 4 + 12 * 2
    wide = RelationalLinear(GRAPH, 8, 8, aggr=["mean", "max"])
    assert wide.multiply_adds() == 12 * 4 + 4 * 2 * 4
    assert isinstance(wide.projection, nn.Module)
