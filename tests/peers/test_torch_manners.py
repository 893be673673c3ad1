"""What users of ``nn.Linear`` and ``nn.Conv2d`` do with a layer works on a round."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from mpnn_arch import InputError, MessageFunction, RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.rounds import on_matrix

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
OTHER = graphs.parse_one("ring:8,2")
COMPLETE = graphs.parse_one("complete:8")
LAYERS = {
    "linear": (lambda graph, **kw: RelationalLinear(graph, 16, 24, **kw), (5, 16)),
    "conv": (lambda graph, **kw: RelationalConv2d(graph, 16, 24, 3, **kw), (2, 16, 7, 6)),
}


@pytest.fixture(params=LAYERS)
def kind(request):
    return LAYERS[request.param]


@pytest.fixture
def x(kind, generator):
    return torch.randn(kind[1], generator=generator)


def dense(layer, x):
    """The same layer by torch's own product."""
    if x.dim() == 2:
        return nn.functional.linear(x, layer.dense_weight(), layer.bias)
    return nn.functional.conv2d(x, layer.dense_weight(), layer.bias)


# -- state dicts ------------------------------------------------------------------------------


def test_a_dense_state_dict_loads_into_the_complete_graph(kind, x, generator):
    like = nn.Linear(16, 24) if x.dim() == 2 else nn.Conv2d(16, 24, 3)
    layer = kind[0](COMPLETE)
    assert not torch.allclose(layer(x), like(x))
    layer.load_state_dict(like.state_dict())
    torch.testing.assert_close(layer(x), like(x))
    inside = nn.Sequential(kind[0](COMPLETE))
    inside.load_state_dict({f"0.{name}": value for name, value in like.state_dict().items()})
    torch.testing.assert_close(inside(x), like(x))


def test_a_dense_state_dict_does_not_load_into_a_sparse_graph(kind):
    like = kind[0](COMPLETE)
    state = {"weight": like.dense_weight(), "bias": like.bias}
    with pytest.raises(RuntimeError, match=r"message_function\.weight"):
        kind[0](GRAPH).load_state_dict(state)


def test_a_mismatch_is_a_runtime_error_and_an_input_error(kind):
    state = kind[0](OTHER).state_dict()
    for error in (RuntimeError, InputError):
        with pytest.raises(error, match="belong to a graph of 8 nodes and 24 messages"):
            kind[0](GRAPH).load_state_dict(state)


@pytest.mark.parametrize("assign", [False, True])
def test_a_layer_from_the_meta_device_loads(assign, kind, x, generator):
    source = kind[0](GRAPH, generator=generator)
    with torch.device("meta"):
        layer = kind[0](GRAPH)
    if not assign:
        layer = layer.to_empty(device="cpu")
    layer.load_state_dict(source.state_dict(), assign=assign)
    assert torch.equal(layer(x), source(x))
    with pytest.raises(RuntimeError, match="belong to"):
        layer.load_state_dict(kind[0](OTHER).state_dict())


def test_to_empty_keeps_the_graph(kind, x, generator):
    with torch.device("meta"):
        layer = kind[0](GRAPH)
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters(generator)
    fresh = kind[0](GRAPH)
    for name, buffer in fresh.named_buffers():
        assert torch.equal(layer.get_buffer(name), buffer), name
    torch.testing.assert_close(layer(x), dense(layer, x))


def test_fake_tensors(kind, x):
    layer = kind[0](GRAPH)
    with FakeTensorMode(), pytest.raises(InputError, match="build it before, on device='meta'"):
        kind[0](GRAPH)
    with FakeTensorMode(allow_non_fake_inputs=True):
        out = layer(torch.empty(x.shape))
        out.sum().backward()
    assert isinstance(out, FakeTensor)
    assert out.shape == layer(x).shape


def test_skip_init(kind, x, generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = (
            nn.utils.skip_init(RelationalLinear, GRAPH, 16, 24)
            if x.dim() == 2
            else nn.utils.skip_init(RelationalConv2d, GRAPH, 16, 24, 3)
        )
    layer.reset_parameters(generator)
    torch.testing.assert_close(layer(x), dense(layer, x))


# -- workflows --------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_on_the_first_step(reentrant, kind, x, generator):
    layer = kind[0](GRAPH, generator=generator)  # backend="auto" times in this very call
    x.requires_grad_()
    checkpoint(layer, x, use_reentrant=reentrant).square().sum().backward()
    expected = torch.autograd.grad(dense(layer, x).square().sum(), [x, layer.bias])
    torch.testing.assert_close(x.grad, expected[0])
    torch.testing.assert_close(layer.bias.grad, expected[1])


@pytest.mark.parametrize("backend", ["auto", "gather", "masked", "cpu"])
def test_inference_mode_before_training(backend, kind, x):
    # A graph of its own: its tables are built by the first call, in inference mode.
    graph = graphs.ws_flex(8, average_degree=4, rewiring_probability=0.5, seed=len(backend))
    layer = kind[0](graph, backend=backend)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_jit_trace_sees_the_round(kind, x, generator):
    layer = kind[0](GRAPH, generator=generator)
    traced = torch.jit.trace(layer, x)
    other = torch.randn(x.shape, generator=generator)
    torch.testing.assert_close(traced(other), dense(layer, other))


def test_symbolic_tracing_takes_a_round_for_a_leaf(kind, x, generator):
    model = nn.Sequential(kind[0](GRAPH, generator=generator), nn.ReLU())
    traced = fx.symbolic_trace(model)
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert calls == ["0", "1"]
    torch.testing.assert_close(traced(x), dense(model[0], x).relu())


def test_copies_and_pickles(kind, x, generator):
    layer = kind[0](GRAPH, generator=generator)
    expected = dense(layer, x)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(copied(x), expected)


def test_onnx_export_in_standard_operators(kind, x, generator, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model = nn.Sequential(kind[0](GRAPH, generator=generator, aggr="mean"), nn.ReLU()).eval()
    path = tmp_path / "model.onnx"
    batch = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, dynamic_shapes=batch)
    program.save(path)
    assert {node.domain for node in program.model.graph} == {""}
    session = onnxruntime.InferenceSession(path)
    more = torch.cat([x, -x, 2 * x])
    (out,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), dense(model[0], more).relu())


# -- parametrisations -------------------------------------------------------------------------

NORMS = [
    parametrizations.spectral_norm,
    parametrizations.weight_norm,
    nn.utils.spectral_norm,
    nn.utils.weight_norm,
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__module__.split(".")[-1])
def test_the_norm_of_a_vector_is_refused(norm, backend, kind, x):
    layer = kind[0](GRAPH, backend=backend)
    norm(layer.message_function)
    with pytest.raises(InputError, match=r"takes? the flat weight of this round for a vector"):
        layer(x)


@pytest.mark.parametrize("initialise", [nn.init.xavier_uniform_, nn.init.orthogonal_])
def test_an_initialisation_that_needs_a_matrix_is_refused(initialise):
    with pytest.raises(ValueError, match=r"fewer than 2 dimensions|2 or more dimensions"):
        initialise(RelationalLinear(GRAPH, 16, 24).weight)


def test_structured_pruning_is_refused_and_the_unstructured_is_the_matrix_one(x, kind):
    layer = kind[0](GRAPH)
    if x.dim() == 2:
        with pytest.raises(ValueError, match="multidimensional"):
            prune.ln_structured(layer.message_function, "weight", 0.3, 2, 0)
    prune.l1_unstructured(layer.message_function, "weight", 0.5)
    torch.testing.assert_close(layer(x), dense(layer, x))
    kept = layer.dense_weight().count_nonzero() / layer.message_function.weight.numel()
    assert abs(kept - 0.5) < 0.01


def test_pruning_of_the_layer_itself_is_refused_and_leaves_it(kind, x):
    layer = kind[0](GRAPH)
    before, names = layer(x), list(layer.state_dict())
    for apply in (prune.l1_unstructured, prune.random_unstructured):
        with pytest.raises(InputError, match=r"prune layer\.message_function instead"):
            apply(layer, "weight", 0.5)
    assert list(layer.state_dict()) == names
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("arguments", [{}, {"aggr": "mean"}, {"backend": "reference"}])
def test_a_pruned_round_trains_and_stays_pruned(arguments, x, kind, generator):
    layer = kind[0](GRAPH, generator=generator, **arguments)
    prune.l1_unstructured(layer.message_function, "weight", 0.5)
    kept = layer.dense_weight() != 0
    for _ in range(3):
        layer.zero_grad()
        layer(x).square().mean().backward()
        before = layer.dense_weight().detach().clone()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter -= 0.1 * parameter.grad
        assert not torch.equal(layer.dense_weight(), before)
        torch.testing.assert_close(layer(x), dense(layer, x))
    assert torch.equal(layer.dense_weight() != 0, kept)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), dense(layer, x))


def test_spectral_norm_of_the_matrix(kind, x, generator):
    layer = kind[0](GRAPH, generator=generator)
    before = layer.dense_weight().detach().flatten(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        on_matrix(layer, parametrizations.spectral_norm, n_power_iterations=100)
    layer.eval()
    norm = torch.linalg.matrix_norm(before, ord=2)
    torch.testing.assert_close(layer.dense_weight().flatten(1), before / norm)
    torch.testing.assert_close(layer(x), dense(layer, x))
    layer(x).sum().backward()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_a_parametrised_round_trains_as_torchs_layer(norm, training, kind, x, generator):
    layer, theirs = kind[0](COMPLETE), (nn.Linear(16, 24) if x.dim() == 2 else nn.Conv2d(16, 24, 3))
    layer.load_state_dict(theirs.state_dict())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm(theirs.train(training))
        torch.manual_seed(0)
        on_matrix(layer.train(training), norm)
    assert layer.message_function.training == training
    for module in (layer, theirs):  # the power iteration of spectral_norm makes a step at each call
        for _ in range(3):
            loss = checkpoint(module.train(), x, use_reentrant=False).square().mean()
            for parameter, grad in zip(
                own := [p for p in module.parameters() if p.requires_grad],
                torch.autograd.grad(loss, own),
                strict=True,
            ):
                parameter.data -= 0.1 * grad
    torch.testing.assert_close(layer(x), theirs(x))


def test_a_pruned_round_is_checkpointed_on_the_first_step(kind, x):
    layer = kind[0](GRAPH)
    prune.l1_unstructured(layer.message_function, "weight", 0.5)
    for _ in range(2):
        checkpoint(layer, x, use_reentrant=False).sum().backward()


def test_weight_norm_of_the_matrix(kind, x, generator):
    layer = kind[0](GRAPH, generator=generator)
    before = layer.dense_weight().detach()
    on_matrix(layer, parametrizations.weight_norm)
    gain = layer.message_function.parametrizations.weight.original0
    torch.testing.assert_close(gain.flatten(), before.flatten(1).norm(dim=1))
    torch.testing.assert_close(layer.dense_weight(), before)
    torch.testing.assert_close(layer(x), dense(layer, x))


def test_a_parametrised_round_moves_to_another_device(kind, x, generator):
    layer = kind[0](COMPLETE, generator=generator)
    on_matrix(layer, parametrizations.weight_norm)
    expected = layer(x).shape
    assert layer.to("meta")(x.to("meta")).shape == expected


def test_a_parametrisation_that_leaves_the_graph_is_refused():
    with pytest.raises(InputError, match="orthogonal gives weights to pairs of nodes without"):
        on_matrix(RelationalLinear(GRAPH, 16, 24), parametrizations.orthogonal)


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, "16 input channels cannot be divided into 3 equal groups"),
        ({"groups": 8}, "2 channels cannot be shared among 8 nodes"),
        ({"groups": 1.5}, "groups is an integer"),
        (
            {"padding_mode": "mirror"},
            "choose one of zeros, reflect, replicate, circular",
        ),
        ({"padding": "same", "stride": 2}, "padding='same' is not possible"),
    ],
)
def test_options_of_conv2d_that_a_round_does_not_have(options, message):
    with pytest.raises(InputError, match=message):
        RelationalConv2d(GRAPH, 16, 24, **{"kernel_size": 3} | options)


def test_a_graph_in_the_wrong_place():
    with pytest.raises(InputError, match=r"it comes first, as in RelationalLinear\(graph, 512"):
        RelationalLinear(512, 512, GRAPH)


def test_a_message_may_call_its_parameters_what_it_likes(generator):
    class Scaled(MessageFunction):
        def __init__(self, plan, **kwargs):
            super().__init__(plan, **kwargs)
            for name in ("gain", "plan_", "rows", "bias", "scale", "kernel", "shares"):
                self.register_parameter(name, nn.Parameter(torch.ones(())))

        def forward(self, x_j):
            return x_j * self.gain * self.rows

        def reset_parameters(self, generator=None):
            pass

        def multiply_adds(self, spatial_size=()):
            return 0

    x = torch.randn(3, 16, generator=generator)
    layer = RelationalLinear(GRAPH, 16, 16, message=Scaled, bias=False)
    adjacency = torch.from_numpy(GRAPH.adjacency).float()
    expected = torch.einsum("vu,buc->bvc", adjacency, x.view(3, 8, 2)).flatten(1)
    torch.testing.assert_close(layer(x), expected)
