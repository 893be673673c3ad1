"""Message passing equals the masked dense layer equals torch's own, values and gradients."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpnn_arch import (
    InputError,
    MessageRound,
    RelationalConv2d,
    RelationalGraph,
    RelationalLinear,
    graphs,
)
from mpnn_arch.rounds.messages.initial import fan_in_bound

# (in, out) over 9 nodes: even shares, ragged shares, shares of a single channel
WIDTHS = [(18, 27), (22, 31), (9, 10)]


def gradients(module, x, *, seed=0):
    """Output, and gradients for input and every parameter, under a random cotangent."""
    x = x.clone().requires_grad_()
    out = module(x)
    cotangent = torch.randn(
        out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(seed)
    )
    names, parameters = zip(*module.named_parameters(), strict=True)
    grads = torch.autograd.grad(out, [x, *parameters], cotangent)
    return out, grads[0], dict(zip(names, grads[1:], strict=True))


@pytest.mark.parametrize(("width_in", "width_out"), WIDTHS)
def test_linear_round_is_the_masked_and_the_plain_linear(graph, generator, width_in, width_out):
    init = {"dtype": torch.float64, "generator": generator}
    reference = RelationalLinear(graph, width_in, width_out, backend="reference", **init)
    masked = RelationalLinear(graph, width_in, width_out, backend="masked", **init)
    masked.load_state_dict(reference.state_dict())
    plain = nn.Linear(width_in, width_out, dtype=torch.float64)
    plain.weight.data = reference.dense_weight().detach()
    plain.bias.data = reference.bias.detach()
    x = torch.randn(5, width_in, dtype=torch.float64, generator=generator)

    out, grad_x, grads = gradients(reference, x)
    out_masked, grad_x_masked, grads_masked = gradients(masked, x)
    out_plain, grad_x_plain, grads_plain = gradients(plain, x)

    torch.testing.assert_close(out, out_masked)
    torch.testing.assert_close(out, out_plain)
    torch.testing.assert_close(grad_x, grad_x_masked)
    torch.testing.assert_close(grad_x, grad_x_plain)
    weight = "message_function.weight"
    torch.testing.assert_close(grads[weight], grads_masked[weight])
    torch.testing.assert_close(
        grads[weight], grads_plain["weight"].flatten()[reference.plan.dense_index]
    )
    torch.testing.assert_close(grads["bias"], grads_plain["bias"])


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_conv_round_is_the_masked_and_the_plain_conv(
    graph, generator, kernel_size, stride, dilation
):
    geometry = (kernel_size, stride, kernel_size // 2, dilation)
    init = {"dtype": torch.float64, "generator": generator}
    reference = RelationalConv2d(graph, 11, 13, *geometry, backend="reference", **init)
    masked = RelationalConv2d(graph, 11, 13, *geometry, backend="masked", **init)
    masked.load_state_dict(reference.state_dict())
    plain = nn.Conv2d(11, 13, *geometry, dtype=torch.float64)
    plain.weight.data = reference.dense_weight().detach()
    plain.bias.data = reference.bias.detach()
    x = torch.randn(2, 11, 9, 10, dtype=torch.float64, generator=generator)

    out, grad_x, grads = gradients(reference, x)
    out_masked, grad_x_masked, grads_masked = gradients(masked, x)
    out_plain, grad_x_plain, grads_plain = gradients(plain, x)

    assert out.shape[2:] == reference.output_size(9, 10)
    for other in (out_masked, out_plain):
        torch.testing.assert_close(out, other)
    for other in (grad_x_masked, grad_x_plain):
        torch.testing.assert_close(grad_x, other)
    weight = "message_function.weight"
    torch.testing.assert_close(grads[weight], grads_masked[weight])
    torch.testing.assert_close(
        grads[weight], grads_plain["weight"].flatten(0, 1)[reference.plan.dense_index]
    )
    torch.testing.assert_close(grads["bias"], grads_plain["bias"])


@pytest.mark.parametrize("backend", ["reference", "masked"])
def test_gradcheck(generator, backend):
    graph = RelationalGraph(4, [[0, 1, 2], [1, 2, 3]])
    layer = RelationalLinear(graph, 6, 7, backend=backend, dtype=torch.float64)
    x = torch.randn(3, 6, dtype=torch.float64, generator=generator, requires_grad=True)

    def run(x, weight, bias):
        names = {"message_function.weight": weight, "bias": bias}
        return torch.func.functional_call(layer, names, x)

    torch.testing.assert_close(layer(x), F.linear(x, layer.dense_weight(), layer.bias))
    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.bias))


@pytest.mark.parametrize("backend", ["auto", "reference", "masked", "gather"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_complete_graph_is_the_dense_layer(generator, kind, backend):
    """torch's own layer with the same numbers: its output, and its gradient for every one."""
    complete = RelationalGraph.from_adjacency(np.ones((4, 4), dtype=int))
    made = {"dtype": torch.float64, "generator": generator, "backend": backend}
    if kind == "linear":
        layer = RelationalLinear(complete, 10, 6, **made)
        dense = nn.Linear(10, 6, dtype=torch.float64)
        x = torch.randn(5, 10, dtype=torch.float64, generator=generator)
    else:
        geometry = (3, 2, 1, 1)
        layer = RelationalConv2d(complete, 10, 6, *geometry, **made)
        dense = nn.Conv2d(10, 6, *geometry, dtype=torch.float64)
        x = torch.randn(2, 10, 7, 8, dtype=torch.float64, generator=generator)
    assert layer.weight.numel() == dense.weight.numel()
    dense.weight.data = layer.weight.detach().view_as(dense.weight)
    dense.bias.data = layer.bias.detach()
    torch.testing.assert_close(layer.dense_weight(), dense.weight)

    out, grad_x, grads = gradients(layer, x)
    wanted, wanted_x, wanted_grads = gradients(dense, x)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(grad_x, wanted_x)
    weight = grads["message_function.weight"].view_as(dense.weight)
    torch.testing.assert_close(weight, wanted_grads["weight"])
    torch.testing.assert_close(grads["bias"], wanted_grads["bias"])
    assert set(grads) == {"message_function.weight", "bias"}


def test_parameters_exist_only_for_real_channels(graph):
    layer = RelationalLinear(graph, 22, 31)
    size_in, size_out = layer.in_partition.sizes, layer.out_partition.sizes
    by_edges = sum(size_out[v] * size_in[u] for u, v in graph.edge_index.T.tolist())
    assert layer.weight.numel() == by_edges == layer.multiply_adds()
    assert sum(p.numel() for p in layer.parameters()) == by_edges + 31


def test_linear_has_the_interface_of_nn_linear(graph):
    layer = RelationalLinear(graph, 18, 9, bias=False)
    assert layer.bias is None
    assert (layer.in_features, layer.out_features) == (18, 9)
    assert layer(torch.zeros(18)).shape == (9,)
    assert layer(torch.zeros(2, 3, 18)).shape == (2, 3, 9)
    assert layer(torch.zeros(0, 18)).shape == (0, 9)
    assert RelationalLinear(graph, 18, 9, dtype=torch.float64).weight.dtype == torch.float64
    assert RelationalLinear(graph, 18, 9, device="meta").weight.is_meta


def test_conv_has_the_interface_of_nn_conv2d(graph):
    layer = RelationalConv2d(graph, 9, 18, (1, 3), padding="same", bias=False)
    assert layer(torch.zeros(2, 9, 5, 6)).shape == (2, 18, 5, 6)
    assert layer(torch.zeros(9, 5, 6)).shape == (18, 5, 6)
    valid = RelationalConv2d(graph, 9, 18, 3, padding="valid")
    assert valid(torch.zeros(1, 9, 5, 6)).shape == (1, 18, 3, 4)
    with pytest.raises(InputError, match="as it keeps the size of maps; use stride 1"):
        RelationalConv2d(graph, 9, 18, 3, stride=2, padding="same")
    uneven = {"kernel_size": 4, "padding": "same"}
    with pytest.raises(InputError, match="RelationalConv2d pads, and no message function"):
        MessageRound(graph, 9, 18, "conv", message_kwargs=uneven)


def test_initialisation_follows_the_generator_and_leaves_the_global_state(graph):
    before = torch.get_rng_state()
    first, second = (
        RelationalConv2d(graph, 9, 18, 3, generator=torch.Generator().manual_seed(7))
        for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_equal_fan_ins_have_one_bound():
    equal, other = (RelationalLinear(graphs.ring(8, 4), size, size).plan for size in (16, 17))
    assert fan_in_bound(equal, 9, torch.ones(8)).tolist() == [(10 * 9) ** -0.5]
    assert len(fan_in_bound(other, 9, torch.ones(8))) == other.num_weights


def test_initial_weights_are_bounded_by_the_nodes_own_fan_in(graph):
    layer = RelationalLinear(graph, 90, 180, dtype=torch.float64)
    plan = layer.plan
    for node in range(graph.num_nodes):
        start, end = plan.weight_offset[node : node + 2].tolist()
        bound = plan.fan_in[node].item() ** -0.5
        largest = layer.weight[start:end].abs().max().item()
        assert 0.9 * bound < largest <= bound


def test_the_round_compiles_and_exports(generator):
    graph = RelationalGraph(4, [[0, 1, 2], [1, 2, 3]])
    layer = RelationalLinear(graph, 10, 13, backend="masked", generator=generator)
    x = torch.randn(3, 10, generator=generator)
    expected = F.linear(x, layer.dense_weight(), layer.bias)
    exported = torch.export.export(layer, (x,))
    torch.testing.assert_close(exported.module()(x), expected)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), expected)


def test_exports_as_products_from_a_model_with_a_module_in_two_places(generator):
    # torch.export then runs objects of classes that it derives from those of the parts.
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.act = torch.nn.ReLU()
            self.first = torch.nn.Sequential(RelationalLinear("ring:4,2", 10, 13), self.act)
            self.second = RelationalLinear("ring:4,2", 13, 7, aggr="mean")

        def forward(self, x):
            return self.act(self.second(self.first(x)))

    model, x = Model(), torch.randn(3, 10, generator=generator)
    exported = torch.export.export(model, (x,))
    products = [node for node in exported.graph.nodes if "block_product" in str(node.target)]
    assert len(products) == 2
    torch.testing.assert_close(exported.module()(x), model(x))


def test_deepcopy_and_move_keep_the_plan(graph):
    layer = copy.deepcopy(RelationalLinear(graph, 18, 9)).to(torch.float64)
    assert layer.weight.dtype == torch.float64
    assert layer.edge_index.dtype == torch.int64
    assert layer(torch.zeros(2, 18, dtype=torch.float64)).shape == (2, 9)


@pytest.mark.parametrize("copied", [lambda layer: layer, copy.deepcopy, copy.copy])
def test_a_deleted_layer_frees_its_weights_at_once(copied, graph, generator):
    layer = copied(RelationalLinear(graph, 18, 9, activation="relu", norm="batch"))
    layer(torch.randn(4, 18, generator=generator)).sum().backward()
    weight = weakref.ref(layer.weight)
    gc.collect()
    gc.disable()  # which would free a cycle of references, sooner or later
    try:
        del layer
        assert weight() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("given", ["edge_index", "of the output's shape"])
def test_a_second_argument_that_is_no_residual_is_refused_in_every_call(graph, given):
    layer = RelationalLinear(graph, 18, 18, backend="masked")
    x = torch.zeros(2, 18)
    second = layer.edge_index if given == "edge_index" else torch.ones(2, 18, dtype=torch.long)
    for _ in range(2):
        with pytest.raises(InputError, match="the graph of this round is fixed"):
            layer(x, second)
        layer(x)  # whose product is cached


def test_a_residual_of_a_complex_round_is_complex(graph):
    layer = RelationalLinear(graph, 18, 18, backend="masked", dtype=torch.complex64)
    x = torch.randn(2, 18, dtype=torch.complex64)
    for _ in range(2):
        torch.testing.assert_close(layer(x, x), layer(x) + x)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_plan_follows_the_layer_to_the_gpu(graph):
    layer = RelationalLinear(graph, 18, 9)
    x = torch.randn(4, 18)
    on_cpu = layer(x)
    torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), on_cpu, rtol=1e-4, atol=1e-4)
