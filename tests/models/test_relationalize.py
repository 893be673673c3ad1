"""Dense layers of any module turned into rounds."""

import functools

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import VisionTransformer

import mpnn_arch
from mpnn_arch import InputError, RelationalConv2d, RelationalLinear
from mpnn_arch.models.relationalize import RelationalAttention
from mpnn_arch.rounds import MessageRound


def seeded(build, *args, gain=1.0, **kwargs):
    """A module of torchvision's with reproducible weights, in eval mode.

    They are ``gain`` over the root of the fan-in, so that the signal lives through many layers.
    """
    with torch.device("meta"):  # its own initialisation takes longer than the test
        module = build(*args, **kwargs)
    module = module.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            size = gain * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.05
            with torch.no_grad():
                parameter.normal_(0, size, generator=generator)
        if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
            part.reset_parameters()
    return module


ZOO = {
    # name -> (module, image size, rounds of 16 nodes)
    "resnet18": (lambda: seeded(torchvision.models.resnet18), 64, 19),
    "mobilenet_v3_small": (
        lambda: seeded(torchvision.models.mobilenet_v3_small, gain=2.5),
        64,
        39,
    ),  # of 54: not 11 depth-wise, 2 of 8 channels, first, last
    "vit_b_16": (lambda: seeded(torchvision.models.vit_b_16, image_size=32), 32, 36),
}


@pytest.mark.parametrize("name", list(ZOO))
def test_complete_graph_changes_no_output(name, complete_graph):
    build, size, num_rounds = ZOO[name]
    module = build()
    changed = mpnn_arch.relationalize(module, complete_graph(16), input_size=size, backend="masked")
    report = changed.relationalize_report
    rounds = [m for m in changed.modules() if isinstance(m, MessageRound)]
    attention = [m for m in changed.modules() if isinstance(m, RelationalAttention)]
    assert len(report.names("round")) == num_rounds == len(rounds) - 3 * len(attention)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = module(x)
        assert out.std() > 0.01
        torch.testing.assert_close(changed(x), out, rtol=1e-4, atol=1e-5 * out.std().item())
        kept = [part.weight.clone() for part in rounds]
        for part in rounds:
            part.weight.zero_()
        assert (changed(x) - out).abs().max() > 0.1 * out.std()  # the rounds matter
        for part, weight in zip(rounds, kept, strict=True):
            part.weight.copy_(weight)
    assert report.multiply_adds_after == report.multiply_adds_before
    assert report.parameters_after == report.parameters_before
    assert not any(isinstance(m, MessageRound) for m in module.modules())


def test_sparse_graph_keeps_the_weights_that_survive(random_graph):
    graph = random_graph(16, 0.3)
    module = seeded(torchvision.models.resnet18)
    changed = mpnn_arch.relationalize(module, graph, input_size=(3, 64, 64), backend="masked")
    before, after = module.layer2[0].conv1, changed.layer2[0].conv1
    assert isinstance(after, RelationalConv2d)
    assert (after.stride, after.padding, after.kernel_size) == ((2, 2), (1, 1), (3, 3))
    mask = after.plan.dense_mask
    assert torch.equal(after.dense_weight()[mask], before.weight[mask])
    assert not after.dense_weight()[~mask].any()
    report = changed.relationalize_report
    assert report.multiply_adds_after < report.multiply_adds_before
    assert report.parameters_after == sum(p.numel() for p in changed.parameters())
    assert type(changed.conv1) is nn.Conv2d
    assert type(changed.fc) is nn.Linear
    assert report.names("skipped") == ["conv1", "fc"]
    assert [layer.reason for layer in report.layers if layer.outcome == "skipped"] == [
        "skip has 'first'",
        "skip has 'last'",
    ]
    out = changed(torch.zeros(2, 3, 64, 64))
    out.sum().backward()
    assert after.weight.grad is not None
    assert "multiply-adds" in str(report).splitlines()[-1]


def test_report_names_what_stays_dense_and_why(random_graph):
    graph = random_graph(16, 0.3)
    report = mpnn_arch.relationalize(
        seeded(torchvision.models.mobilenet_v3_small), graph
    ).relationalize_report
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert "depth-wise" in reasons["features.1.block.0.0"]
    assert reasons["features.1.block.1.fc1"] == "8 channels for 16 nodes"
    assert report.names("grouped")
    assert report.names("too narrow")


class Reader(nn.Module):
    """Uses its layer's weight without calling the layer."""

    def __init__(self):
        super().__init__()
        self.used, self.called = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        return nn.functional.linear(self.called(x).to(self.called.weight.dtype), self.used.weight)


def test_a_weight_that_is_read_is_left_dense(random_graph):
    changed = mpnn_arch.relationalize(Reader(), random_graph(8, 0.3), skip=(), input_size=(16,))
    (left,) = [o for o in changed.relationalize_report.layers if o.outcome == "left dense"]
    assert (left.name, left.reason) == ("used", "Reader reads its weight directly")
    assert changed.relationalize_report.names("round") == ["called"]


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.called = nn.Linear(16, 16), nn.Linear(16, 16)
        self.parts = nn.ModuleDict({"used": nn.Linear(16, 16), "called": nn.Linear(16, 16)})


class ReaderByName(Named):
    """Finds the layers whose weights it uses by their names."""

    def forward(self, x):
        x = nn.functional.linear(self.called(x), getattr(self, "used").weight)  # noqa: B009
        return nn.functional.linear(self.parts["called"](x), self.parts["used"].weight)


class ReaderOfAny(Named):
    """Uses the weights of layers whose names are not written where it reads them."""

    def forward(self, x):
        for name in ("used", "called"):
            x = nn.functional.linear(x, getattr(self, name).weight)
        return self.parts["called"](self.parts["used"](x))


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [(ReaderByName, ["called", "parts.called"]), (ReaderOfAny, ["parts.used", "parts.called"])],
)
def test_a_weight_that_is_read_by_its_layers_name_is_left_dense(kind, rounds, complete_graph):
    module = seeded(kind)
    changed = mpnn_arch.relationalize(module, complete_graph(8), skip=(), input_size=(16,))
    assert changed.relationalize_report.names("round") == rounds
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed(x), module(x))


def test_a_layer_whose_class_is_asked_for_is_left_dense(complete_graph):
    """As PyG's GPSConv, which leaves out an attention of another class without a word."""

    class Asker(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn, self.inner = nn.MultiheadAttention(16, 2), nn.Sequential(nn.Linear(16, 16))
            self.conv, self.called = nn.Conv1d(16, 16, 1), nn.Linear(16, 16)

        def forward(self, x):
            if isinstance(self.attn, nn.MultiheadAttention):
                x = x + self.attn(x, x, x)[0]
            if type(self.conv) is nn.Conv1d:
                x = x + self.conv(x.t()).t()
            if isinstance(self.inner[0], (nn.Conv2d, nn.Linear)):
                x = x + self.inner(x)
            return x if isinstance(self.called, nn.Identity) else self.called(x)

    module = seeded(Asker)
    changed = mpnn_arch.relationalize(module, complete_graph(8), skip=())
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed(x), module(x), rtol=1e-4, atol=1e-5)
    report = changed.relationalize_report
    assert report.names("round") == ["called"]
    assert [(layer.name, layer.reason) for layer in report.layers if layer.reason] == [
        (name, "Asker asks for its class, and a round has another")
        for name in ("attn", "inner.0", "conv")
    ]
    graphs = {"attn": complete_graph(8)}
    with pytest.raises(InputError, match="attn: Asker asks for its class"):
        mpnn_arch.relationalize(module, graphs, skip=())


@pytest.mark.parametrize("which", ["*linear*", "*1.linear2", "*self_attn"])
@pytest.mark.parametrize("compiled", [False, True])
def test_encoder_layers_with_rounds_take_their_ordinary_path(which, compiled, complete_graph):
    layer = seeded(nn.TransformerEncoderLayer, 16, 2, 32, batch_first=True)
    module = nn.TransformerEncoder(layer, 2).eval()
    changed = mpnn_arch.relationalize(module, {which: complete_graph(8)}, skip=())
    assert not changed.relationalize_report.names("left dense")
    if compiled:
        changed = torch.compile(changed, backend="eager")
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        out, expected = (m(x, src_key_padding_mask=padding) for m in (changed, module))
    torch.testing.assert_close(out[~padding], expected[~padding], rtol=1e-4, atol=1e-5)


def test_an_encoder_layer_that_was_given_a_round_can_be_kept_from_its_fused_path(random_graph):
    """As notebooks/differences.md says."""
    layer = seeded(nn.TransformerEncoderLayer, 16, 2, 32, batch_first=True).eval()
    layer.linear1 = RelationalLinear(random_graph(8, 0.3), 16, 32)
    layer.activation_relu_or_gelu = 0
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), mpnn_arch.to_dense(layer)(x), rtol=1e-4, atol=1e-5)


class Keeper(nn.Module):
    """Calls its layers by other ways than its attributes."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(16, 16), nn.Conv1d(16, 16, 1)
        self.all, self.last = [self.one], functools.partial(self.two)

    def forward(self, x):
        for layer in self.all:
            x = layer(x)
        return self.last(x.unsqueeze(-1)).squeeze(-1)


def test_layers_in_lists_and_partials_are_the_rounds(random_graph):
    module = Keeper()
    changed = mpnn_arch.relationalize(module, random_graph(8, 0.3), skip=())
    assert changed.all == [changed.one]
    assert changed.last.func is changed.two
    assert module.all == [module.one] != changed.all
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    middle = x @ changed.one.dense_weight().T + changed.one.bias
    rounds = changed.two.round
    expected = middle @ rounds.dense_weight()[..., 0, 0].T + rounds.bias
    torch.testing.assert_close(changed(x), expected)
    inside = mpnn_arch.relationalize(nn.Sequential(nn.Linear(16, 16), Keeper()), "ring:8,2", ())
    assert inside[1].all == [inside[1].one]
    assert isinstance(inside[1].one, RelationalLinear)


class CopiesItself(Reader):
    def __deepcopy__(self, memo):
        made = CopiesItself()
        made.load_state_dict(self.state_dict())
        return made


def test_a_module_that_copies_itself_gets_its_rounds(random_graph):
    changed = mpnn_arch.relationalize(CopiesItself(), random_graph(8, 0.3), skip=())
    assert isinstance(changed.called, RelationalLinear)


def test_tied_weights_are_left_dense(random_graph):
    a, b, c = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
    b.weight = a.weight
    changed = mpnn_arch.relationalize(nn.Sequential(a, b, c), random_graph(8, 0.3), skip=())
    assert changed.relationalize_report.names("left dense") == ["0", "1"]
    assert isinstance(changed[2], RelationalLinear)


def test_skip_takes_paths(random_graph):
    module = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)))
    graph = random_graph(8, 0.3)
    changed = mpnn_arch.relationalize(module, graph, skip=["1", "last"])
    assert changed.relationalize_report.names("round") == ["0", "2"]
    with pytest.raises(InputError, match="no part '7' to skip"):
        mpnn_arch.relationalize(module, graph, skip=["7"])


def test_a_layer_alone_becomes_a_round(complete_graph):
    layer = nn.Conv2d(16, 16, (3, 5), padding="same", dilation=2).eval()
    changed = mpnn_arch.relationalize(layer, complete_graph(8))
    assert isinstance(changed, RelationalConv2d)
    x = torch.randn(1, 16, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed(x), layer(x), rtol=1e-4, atol=1e-5)


def test_global_random_state_is_left_alone(random_graph):
    module = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)))
    before = torch.random.get_rng_state()
    mpnn_arch.relationalize(module, random_graph(8, 0.3))
    assert torch.equal(before, torch.random.get_rng_state())


def test_frozen_layers_stay_frozen(random_graph):
    module = nn.Linear(16, 16).requires_grad_(False)
    changed = mpnn_arch.relationalize(module, random_graph(8, 0.3))
    assert not any(p.requires_grad for p in changed.parameters())


class TestBadInput:
    def test_groups_too_narrow_for_the_graph(self, random_graph):
        with pytest.raises(InputError, match=r"4 channels in each of its 4 groups for 8 nodes"):
            mpnn_arch.relationalize(nn.Conv2d(16, 16, 3, groups=4), random_graph(8, 0.3))

    def test_graph_with_too_many_nodes(self, random_graph):
        with pytest.raises(InputError, match="8 channels for 30 nodes"):
            mpnn_arch.relationalize(nn.Linear(8, 40), random_graph(30, 0.3))

    def test_nothing_dense(self, random_graph):
        with pytest.raises(InputError, match=r"ReLU has no nn.Linear or nn.Conv2d"):
            mpnn_arch.relationalize(nn.ReLU(), random_graph(8, 0.3))


def test_vision_transformers_attention_is_a_round(random_graph):
    with torch.device("meta"):
        module = VisionTransformer(32, 16, 2, 4, 64, 128)
    changed = mpnn_arch.relationalize(module, random_graph(16, 0.3), input_size=32)
    outcome = changed.relationalize_report
    assert not outcome.names("left dense")
    assert len(outcome.names("round")) == 6
    assert outcome.names("not dense")[0] == ""  # the class token
    assert outcome.multiply_adds_after < outcome.multiply_adds_before
