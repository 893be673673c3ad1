"""Kinds of layers beyond Linear and Conv2d, and the reasons for those that stay."""

import pytest
import torch
from torch import nn

from mpnn_arch import (
    ChannelPartition,
    InputError,
    RelationalConv2d,
    RelationalGraph,
    RelationalLinear,
    graphs,
)
from mpnn_arch.models import complexity
from mpnn_arch.models.relationalize import RelationalAttention, RelationalConv1d, relationalize
from mpnn_arch.rounds.groups import is_complete


class Conv1D(nn.Module):
    """As in the transformers library: y = x W + b."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.empty(nx, nf)), nn.Parameter(torch.empty(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


def filled(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.3, generator=generator)
    return module


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def gradients(module, x, **kwargs):
    x = x.clone().requires_grad_()
    out = module(x, **kwargs)
    out.square().sum().backward()
    return out.detach(), x.grad


def check_equal(module, changed, x, **kwargs):
    for ours, theirs in zip(
        gradients(changed, x, **kwargs), gradients(module, x, **kwargs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


class TestConvs:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"stride": 2, "padding": 1},
            {"padding": "same", "dilation": 2},
            {"padding": "valid", "bias": False},
            {"padding": 2, "padding_mode": "circular"},
            {"padding": "same", "padding_mode": "reflect", "dilation": 3},
            {"padding": 3, "padding_mode": "replicate", "stride": 2},
        ],
    )
    def test_conv1d_is_a_round_over_maps_of_height_1(self, options, complete_graph):
        layer = filled(nn.Conv1d(12, 20, 5, **options))
        changed = relationalize(layer, complete_graph(4))
        assert isinstance(changed, RelationalConv1d)
        check_equal(layer, changed, draw(2, 12, 30))
        check_equal(layer, changed, draw(12, 30))
        transposed = draw(2, 30, 12).transpose(1, 2)
        assert changed(transposed).stride() == layer(transposed).stride()
        layer.weight.grad.zero_()
        changed.round.weight.grad.zero_()
        x = draw(2, 12, 30)
        for module in (layer, changed):
            module(x).square().sum().backward()
        grad = changed.round.weight.grad.flatten().sort().values
        theirs = layer.weight.grad.flatten().sort().values
        torch.testing.assert_close(grad, theirs, rtol=1e-3, atol=1e-3)

    def test_a_depthwise_conv1d_stays(self, complete_graph):
        module = nn.Sequential(
            nn.Conv1d(8, 8, 3, groups=8),
            nn.Conv1d(8, 8, 4, padding="same"),
            nn.Conv1d(8, 8, 3),
        )
        report = relationalize(module, complete_graph(4), skip=()).relationalize_report
        reasons = {layer.name: layer.reason for layer in report.layers}
        assert reasons["0"].startswith("depth-wise")
        assert report.names("round") == ["1", "2"]

    def test_a_subclass_that_is_only_built_otherwise_becomes_a_round(self, complete_graph):
        class Drawn(nn.Linear):
            def __init__(self, width):
                super().__init__(width, width)
                self.reset_parameters()

            def reset_parameters(self):
                nn.init.eye_(self.weight)
                nn.init.ones_(self.bias)

        class Scaled(Drawn):
            def forward(self, x):
                return 2 * super().forward(x)

        class Marked(Drawn):
            def __init__(self, width):
                super().__init__(width)
                self.scale = 2

        class Tuned(Drawn):
            def __init__(self, width):
                super().__init__(width)
                self.gain = nn.Parameter(torch.ones(()))

        module = nn.Sequential(Drawn(8), Scaled(8), Marked(8), Tuned(8))
        changed = relationalize(module, complete_graph(4), skip=())
        check_equal(module, changed, draw(3, 8))
        report = changed.relationalize_report
        assert report.names("round") == ["0"]
        reasons = [layer.reason.rpartition("<locals>.")[2] for layer in report.layers[1:]]
        added = [("Scaled", "forward"), ("Marked", "scale"), ("Tuned", "gain")]
        assert reasons == [f"{kind} adds {name!r} to nn.Linear" for kind, name in added]

    def test_conv1d_of_an_even_kernel_keeps_its_length(self, complete_graph):
        layer = filled(nn.Conv1d(8, 12, 4, padding="same"))
        check_equal(layer, relationalize(layer, complete_graph(4)), draw(2, 8, 9))

    @pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
    @pytest.mark.parametrize("padding", [1, "same"])
    def test_conv2d_keeps_its_padding_mode(self, mode, padding, complete_graph):
        layer = filled(nn.Conv2d(8, 12, 3, padding=padding, padding_mode=mode))
        check_equal(layer, relationalize(layer, complete_graph(4)), draw(2, 8, 7, 7))

    @pytest.mark.parametrize("backend", ["masked", "gather", "cpu", "reference"])
    @pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
    def test_every_group_is_a_round(self, kind, backend, complete_graph, random_graph):
        layer = filled(kind(24, 36, 3, stride=2, padding=1, groups=3))
        x = draw(2, 24, *(9,) * (1 if kind is nn.Conv1d else 2))
        changed = relationalize(layer, complete_graph(4), backend=backend)
        check_equal(layer, changed, x)
        round_ = getattr(changed, "round", changed)
        assert round_.graph.num_nodes == 12
        grad = round_.weight.grad.flatten().sort().values
        torch.testing.assert_close(
            grad, layer.weight.grad.flatten().sort().values, rtol=1e-3, atol=1e-3
        )
        sparse = relationalize(layer, random_graph(8, 0.3), backend=backend)
        round_ = getattr(sparse, "round", sparse)
        kept = round_.dense_weight().unflatten(0, (3, 12)).unflatten(2, (3, 8))
        own = layer.weight.unflatten(0, (3, 12))
        own = own if kind is nn.Conv2d else own.unsqueeze(-2)
        for i in range(3):
            block = kept[i, :, i]
            assert torch.equal(block[block != 0], own[i][block != 0])
            assert not kept[i, :, [j for j in range(3) if j != i]].any()
        shares = [block.any() for block in round_.dense_weight().split(12)]
        assert all(shares)
        sparse(x).sum().backward()

    @pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
    def test_a_grouped_state_dict_loads_on_the_complete_graph(self, kind, complete_graph):
        options = {"kernel_size": 3, "groups": 3, "bias": False}
        layer, other = kind(24, 36, **options), kind(24, 36, **options)
        changed = relationalize(layer, complete_graph(4))
        changed.load_state_dict(other.state_dict())
        check_equal(other, changed, draw(2, 24, *(9,) * (1 if kind is nn.Conv1d else 2)))
        sparse = relationalize(layer, graphs.ring(4, 2))
        with pytest.raises(RuntimeError, match=r"message_function\.weight"):
            sparse.load_state_dict(other.state_dict())

    def test_crossing_messages_are_no_groups(self):
        """As many messages as two complete graphs have, some of them between the two."""
        crossing = RelationalGraph(4, [[0, 1, 0, 2], [1, 0, 2, 0]], directed=True)
        assert crossing.edge_index.shape[1] == 8
        assert not is_complete(crossing, 2)
        assert is_complete(RelationalGraph(4, [[0, 2], [1, 3]]), 2)
        assert not is_complete(crossing, 3)

    def test_grouped_rounds_of_any_width(self, random_graph):
        graph = random_graph(5, 0.3)
        grouped = RelationalConv2d(graph, 14, 22, 3, groups=2, order="published")
        one = ChannelPartition(7, 5, "published").sizes
        assert grouped.in_partition.sizes == one * 2
        assert (
            grouped.plan.num_weights
            == 2 * RelationalConv2d(graph, 7, 11, 3, order="published").plan.num_weights
        )
        dense = nn.functional.conv2d(draw(1, 14, 5, 5), grouped.dense_weight(), grouped.bias)
        torch.testing.assert_close(grouped(draw(1, 14, 5, 5)), dense)

    def test_conv1d_of_transformers_is_a_round(self, complete_graph, random_graph):
        layer = filled(Conv1D(24, 12))
        changed = relationalize(layer, complete_graph(4))
        assert isinstance(changed, RelationalLinear)
        check_equal(layer, changed, draw(2, 5, 12))
        sparse = relationalize(layer, random_graph(8, 0.3))
        mask = sparse.plan.dense_mask
        assert torch.equal(sparse.dense_weight()[mask], layer.weight.T[mask])


class TestAttention:
    @pytest.mark.parametrize("batch_first", [True, False])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"bias": False},
            {"add_bias_kv": True, "add_zero_attn": True},
            {"kdim": 20, "vdim": 24},
        ],
    )
    @pytest.mark.parametrize("need_weights", [True, False])
    def test_it_equals_torchs(self, options, batch_first, need_weights, complete_graph):
        layer = filled(nn.MultiheadAttention(16, 4, batch_first=batch_first, **options))
        changed = relationalize(layer, complete_graph(8))
        assert isinstance(changed, RelationalAttention)
        query, key, value = draw(3, 6, 16), draw(3, 5, layer.kdim), draw(3, 5, layer.vdim)
        padding = torch.zeros(3, 5, dtype=torch.bool)
        padding[1, 3:] = True
        causal = torch.ones(6, 5, dtype=torch.bool).triu(1)
        each_head = causal.expand(12, 6, 5)
        if not batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        for mask in (None, causal, each_head, draw(6, 5)):
            pad = padding if mask is None or mask.dtype == torch.bool else draw(3, 5)
            for average in (True, False):
                given = {
                    "need_weights": need_weights,
                    "attn_mask": mask,
                    "key_padding_mask": pad,
                    "average_attn_weights": average,
                }
                results = []
                for module in (layer, changed):
                    own = [x.clone().requires_grad_() for x in (query, key, value)]
                    out, weights = module(*own, **given)
                    out.square().sum().backward()
                    results.append([out, *[x.grad for x in own], weights])
                for ours, theirs in zip(*results, strict=True):
                    if theirs is None:
                        assert ours is None
                        continue
                    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    def test_without_a_batch_and_in_inference(self, complete_graph):
        layer = filled(nn.MultiheadAttention(16, 4, batch_first=True)).eval()
        changed = relationalize(layer, complete_graph(8))
        for x in (draw(5, 16), draw(2, 5, 16)):
            with torch.no_grad():  # torch takes its fused path here
                for ours, theirs in zip(changed(x, x, x), layer(x, x, x), strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)

    def test_a_causal_hint_needs_its_mask(self, complete_graph):
        changed = relationalize(nn.MultiheadAttention(16, 4), complete_graph(8))
        x = draw(2, 5, 16)
        with pytest.raises(InputError, match="hint on attn_mask"):
            changed(x, x, x, is_causal=True)

    def test_dropout_acts_in_training_only(self, complete_graph):
        layer = filled(nn.MultiheadAttention(16, 4, dropout=0.9))
        changed = relationalize(layer, complete_graph(8))
        x = draw(6, 2, 16)
        with torch.random.fork_rng():
            assert not torch.equal(changed(x, x, x)[0], changed(x, x, x)[0])
        assert torch.equal(changed.eval()(x, x, x)[0], changed(x, x, x)[0])

    @pytest.mark.parametrize("norm_first", [True, False])
    def test_an_encoder_of_torch(self, norm_first, complete_graph, random_graph):
        layer = nn.TransformerEncoderLayer(
            16, 4, 32, dropout=0, batch_first=True, norm_first=norm_first
        )
        encoder = filled(nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first))
        changed = relationalize(encoder, complete_graph(8), skip=(), input_size=(5, 16))
        report = changed.relationalize_report
        assert report.names("round") == [
            f"layers.{i}.{part}" for i in range(2) for part in ("self_attn", "linear1", "linear2")
        ]
        assert report.multiply_adds_after == report.multiply_adds_before
        x = draw(2, 5, 16)
        check_equal(encoder, changed, x)
        padding = torch.zeros(2, 5, dtype=torch.bool)
        padding[1, 3:] = True
        for mode in (encoder.train, encoder.eval):
            mode()
            changed.train(encoder.training)
            with torch.no_grad():  # torch's fused path in eval mode
                ours, theirs = (m(x, src_key_padding_mask=padding) for m in (changed, encoder))
            torch.testing.assert_close(ours[~padding], theirs[~padding], rtol=1e-4, atol=1e-4)
        sparse = relationalize(encoder, random_graph(8, 0.3), skip=())
        sparse(x).sum().backward()
        assert all(p.grad is not None for p in sparse.parameters())

    def test_a_decoder_of_torch(self, complete_graph):
        decoder = filled(nn.TransformerDecoderLayer(16, 4, 32, dropout=0, batch_first=True))
        changed = relationalize(decoder, complete_graph(8), skip=())
        assert len(changed.relationalize_report.names("round")) == 4
        check_equal(decoder, changed, draw(2, 5, 16), memory=draw(2, 7, 16))

    def test_skipped_attention_keeps_no_other_layer_dense(self, random_graph):
        layer = nn.Sequential(nn.TransformerEncoderLayer(16, 4, 32), nn.Linear(16, 16))
        changed = relationalize(layer, random_graph(8, 0.3), skip=["0.self_attn"])
        assert changed.relationalize_report.names("skipped") == ["0.self_attn"]
        assert changed.relationalize_report.names("round") == ["0.linear1", "0.linear2", "1"]


class Experts(nn.Module):
    """A stack of experts, as transformers stores them."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.zeros(4, 16, 8))

    def forward(self, x):
        return torch.einsum("bi,eoi->bo", x, self.up)


class TestDenseStateDicts:
    """On complete graphs a dense module's state dict loads into its relational form."""

    @pytest.mark.parametrize(
        "layer",
        [
            nn.MultiheadAttention(16, 4, add_bias_kv=True),
            nn.MultiheadAttention(16, 4, kdim=20, vdim=24),
            nn.MultiheadAttention(16, 4, bias=False),
            nn.Conv1d(8, 12, 3),
            Conv1D(16, 16),
            Conv1D(24, 12),
            nn.TransformerEncoderLayer(16, 4, 32),
        ],
        ids=lambda layer: type(layer).__name__,
    )
    def test_it_loads(self, layer, complete_graph):
        filled(layer)
        changed = relationalize(layer, complete_graph(4), skip=())
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.zero_()
        holder = nn.ModuleDict({"inner": changed})  # under a prefix
        holder.load_state_dict({f"inner.{k}": v for k, v in layer.state_dict().items()})
        expected = relationalize(layer, complete_graph(4), skip=()).state_dict()
        assert changed.state_dict().keys() == expected.keys()
        for name, value in changed.state_dict().items():
            assert torch.equal(value, expected[name]), name

    def test_on_another_graph_it_is_refused(self, random_graph):
        layer = filled(nn.MultiheadAttention(16, 4))
        changed = relationalize(layer, random_graph(8, 0.3))
        before = {name: value.clone() for name, value in changed.state_dict().items()}
        with pytest.raises(RuntimeError, match=r"q_proj\.weight"):
            changed.load_state_dict(layer.state_dict())
        changed.load_state_dict(before)


class TestReasons:
    def test_every_layer_with_weights_has_one(self, random_graph):
        parametrised, normed = nn.Linear(16, 16), nn.Linear(16, 16)
        nn.utils.parametrizations.orthogonal(parametrised)
        with pytest.warns(FutureWarning), torch.no_grad():
            nn.utils.weight_norm(normed)
        hooked = nn.Linear(16, 16)
        hooked.register_forward_hook(lambda *_: None)
        module = nn.ModuleDict(
            {
                "embedding": nn.Embedding(8, 16),
                "norm": nn.LayerNorm(16),
                "rnn": nn.LSTM(16, 16),
                "up": nn.ConvTranspose2d(16, 16, 2),
                "volumes": nn.Conv3d(16, 16, 3),
                "experts": Experts(),
                "scale": nn.PReLU(16),
                "bilinear": nn.Bilinear(16, 16, 1),
                "parametrised": parametrised,
                "normed": normed,
                "hooked": hooked,
                "lazy": nn.LazyLinear(16),
                "linear": nn.Linear(16, 16),
            }
        )
        unknown = r"shape of lazy\.weight of this ModuleDict is not known.*call the model once"
        with pytest.raises(InputError, match=unknown):
            relationalize(module, random_graph(8, 0.3), skip=())
        with pytest.raises(InputError, match=unknown):
            complexity(module, (16,))
        changed = relationalize(
            nn.ModuleDict(dict(list(module.items())[:-2]) | {"linear": nn.Linear(16, 16)}),
            random_graph(8, 0.3),
            skip=(),
        )
        report = changed.relationalize_report
        reasons = {o.name: o.reason for o in report.layers if o.outcome != "round"}
        assert {name: reason.split()[:4] for name, reason in reasons.items()} == {
            "embedding": ["a", "table", "of", "vectors,"],
            "norm": ["a", "normalisation", "scales", "each"],
            "rnn": ["its", "matrices", "are", "inside"],
            "up": ["rounds", "have", "no", "transposed"],
            "volumes": ["rounds", "have", "no", "convolution"],
            "experts": ["a", "stack", "of", "matrices,"],
            "scale": ["its", "weights", "are", "vectors"],
            "bilinear": ["it", "multiplies", "two", "inputs"],
            "parametrised": ["its", "weight", "is", "parametrised;"],
            "normed": ["its", "weight", "is", "computed"],
            "hooked": ["it", "has", "hooks,", "which"],
        }
        assert report.names("round") == ["linear"]
        assert "1 x LayerNorm: not dense (a normalisation" in str(report)

    def test_a_layer_of_two_names_is_replaced_under_both(self, random_graph):
        module = nn.ModuleDict({"a": nn.Linear(16, 16)})
        module["b"] = module["a"]
        changed = relationalize(module, random_graph(8, 0.3), skip=())
        assert isinstance(changed["b"], RelationalLinear)
        assert changed["a"] is changed["b"]
