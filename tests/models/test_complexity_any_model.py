"""The cost of models of tokens, and of attention without a layer, equals the flop counter's."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mpnn_arch import GraphRound, InputError
from mpnn_arch.models import complexity
from mpnn_arch.rounds.gnn import GAT, GCN, GIN, SAGE, Graph


class Language(nn.Module):
    """Embedding, functional causal attention, a head that has the embedding's weight."""

    def __init__(self, fused):
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight
        self.fused = fused

    def forward(self, tokens, scale=None):
        q, k, v = self.qkv(self.embedding(tokens)).chunk(3, -1)
        if self.fused:
            out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return {"logits": self.head(out if scale is None else out * scale)}


def flops(model, *args, **kwargs):
    # The counter does not know the fused attention of the CPU; its products are the same.
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*args, **kwargs)
    return counter.get_total_flops()


@pytest.mark.parametrize("fused", [True, False])
def test_tokens_and_functional_attention(fused):
    model, tokens = Language(fused).eval(), torch.arange(14).reshape(2, 7)
    costs = complexity(model, inputs=tokens)
    assert costs.multiply_adds == flops(model, tokens) // 4  # two inputs, two flops
    by_name = {row.name: row for row in costs.layers}
    assert by_name["Language"].multiply_adds == 2 * 7 * 7 * 16
    assert by_name["head"].parameters == 0  # counted with the embedding
    named = {"tokens": tokens, "scale": torch.ones(2, 1, 1)}
    assert complexity(model, inputs=named).multiply_adds == costs.multiply_adds


def test_products_that_torchs_counter_passes_over():
    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.query = nn.Bilinear(6, 5, 4), nn.Parameter(torch.ones(4))
            self.offset = nn.Parameter(torch.ones(()))

        def forward(self, x):
            pairs = self.pair(x, x[..., :5])
            return (pairs @ self.query + self.offset).softmax(-1)

    costs = complexity(Scores(), (3, 6))
    assert [row.multiply_adds for row in costs.layers] == [3 * 4, 3 * 4 * 6 * 5 + 3 * 4 * 5]


@pytest.mark.parametrize(
    "options",
    [{}, {"kdim": 8, "vdim": 8}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"bias": False}],
)
def test_multi_head_attention(options):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True, **options)

        def forward(self, x):
            other = x[..., : self.attention.kdim]
            return self.attention(x, other, other)

    model, x = Own(), torch.zeros(1, 5, 16)
    assert complexity(model, (5, 16)).multiply_adds == flops(model, x) // 2


@pytest.mark.parametrize(
    ("inputs", "size"), [(3, None), ({}, None), ({"tokens": 3}, None), (torch.ones(1, 3), 3)]
)
def test_wrong_inputs(inputs, size):
    with pytest.raises(InputError):
        complexity(Language(True), size, inputs=inputs)


@pytest.mark.parametrize(
    "layer",
    [
        GraphRound(5, 4),
        GCN(5, 4, add_self_loops=False),
        GIN(5, nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4))),
        SAGE(5, 4, aggr=["mean", "max"]),
        Graph(5, 4),
        GAT(5, 4, heads=2, add_self_loops=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_rounds_whose_graph_comes_with_the_input(layer):
    edge_index = torch.tensor([[0, 1, 2, 3, 0], [1, 0, 3, 2, 2]])
    x = torch.randn(1, 6, 5)
    costs = complexity(layer.eval(), inputs={"x": x, "edge_index": edge_index})
    assert 2 * costs.multiply_adds == flops(layer, x, edge_index) > 0
    assert costs.layers[0].output_shape == tuple(layer(x, edge_index).shape[1:])
    assert costs.layers[0].parameters == sum(p.numel() for p in layer.parameters())
    with pytest.raises(InputError, match=r"depend on the graph of its input; use mpnn_arch.models"):
        layer.multiply_adds()
