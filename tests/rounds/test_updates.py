"""Norms, squeeze-and-excitation and residuals, of neural networks and of graph neural networks."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpnn_arch import GraphRound, InputError, RelationalConv2d, RelationalGraph, RelationalLinear

GRAPH = RelationalGraph(4, [[0, 1, 2], [1, 2, 3]])


def plain(layer, x):
    """The sum of the messages and the bias, by torch's own product."""
    return F.linear(x, layer.dense_weight(), layer.bias)


def test_a_group_norm_has_one_group_per_node(generator):
    x = torch.randn(6, 8, generator=generator)
    layer = RelationalLinear(GRAPH, 8, 8, norm="group", generator=generator)
    torch.testing.assert_close(layer(x), nn.GroupNorm(4, 8)(plain(layer, x)))


def test_a_group_norm_takes_ragged_shares_of_maps(generator):
    layer = RelationalConv2d(GRAPH, 7, 9, 3, padding=1, norm="group", generator=generator)
    out = layer(torch.randn(3, 7, 5, 5, generator=generator))
    for share in out.split(layer.out_partition.sizes, dim=1):
        assert share.flatten(1).mean(1).abs().max() < 1e-5
        torch.testing.assert_close(
            share.flatten(1).var(1, correction=0), torch.ones(3), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 300.0])
def test_a_group_norm_of_few_bits_is_computed_in_float32(dtype, size, generator):
    norm = RelationalLinear(GRAPH, 8, 8, norm="group").norm.to(dtype)
    x = (size * torch.randn(6, 8, generator=generator)).to(dtype)
    out = norm(x)
    assert out.dtype == dtype
    assert torch.equal(out, norm.float()(x.float()).to(dtype))
    torch.testing.assert_close(out, nn.GroupNorm(4, 8).to(dtype)(x))


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
@pytest.mark.parametrize("size", [(), (5, 5)])
def test_norms_of_an_empty_batch_warn_of_nothing(norm, size):
    kind = RelationalConv2d if size else RelationalLinear
    layer = kind(GRAPH, 7, 9, *size[:1], norm=norm)
    x = torch.zeros(0, 7, *size, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = layer(x)
        out.sum().backward()
    assert out.shape[:2] == (0, 9)
    assert x.grad.shape == x.shape
    assert all((p.grad == 0).all() for p in layer.parameters())


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
def test_all_updates_work_on_vectors_maps_and_graphs(norm, generator):
    update = {"norm": norm, "squeeze_excitation": 2, "residual": True, "activation": "relu"}
    init = {**update, "generator": generator}
    vectors = RelationalLinear(GRAPH, 9, 9, **init)
    maps = RelationalConv2d(GRAPH, 9, 9, 3, padding=1, **init)
    gnn = GraphRound(9, 9, "shared_linear", **init)
    rows = torch.randn(6, 9, generator=generator)
    cases = [
        (vectors, (rows,)),
        (maps, (torch.randn(2, 9, 4, 4, generator=generator),)),
        (gnn, (rows, torch.tensor([[0, 1, 5, 3], [1, 2, 4, 0]]))),
    ]
    for layer, inputs in cases:
        out = layer(*inputs)
        assert out.shape == inputs[0].shape
        out.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_squeeze_and_excitation_scales_whole_shares(generator):
    layer = RelationalLinear(GRAPH, 7, 9, squeeze_excitation=2, generator=generator)
    x = torch.randn(3, 7, generator=generator)
    for share in (layer(x) / plain(layer, x)).split(layer.out_partition.sizes, dim=1):
        assert (share > 0).all()
        assert (share < 1).all()
        torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert layer.multiply_adds() == RelationalLinear(GRAPH, 7, 9).multiply_adds() + 2 * 4 * 2


def test_a_residual_adds_the_input(generator):
    layer = RelationalLinear(GRAPH, 8, 8, residual=True, generator=generator)
    x = torch.randn(3, 8, generator=generator)
    torch.testing.assert_close(layer(x), plain(layer, x) + x)


def test_a_residual_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="these are 8 -> 9 channels"):
        RelationalLinear(GRAPH, 8, 9, residual=True)
    layer = RelationalConv2d(GRAPH, 8, 8, 3, residual=True)
    with pytest.raises(InputError, match=r"adds \(1, 8, 5, 5\) to \(1, 8, 3, 3\)"):
        layer(torch.zeros(1, 8, 5, 5))
