"""``RelationalConv2d`` in place of ``nn.Conv2d``, case by case, and those that do not apply."""

from __future__ import annotations

import pytest
import torch
import torch_cases_module  # noqa: F401  (fills COMMON)
import torch_cases_numbers  # noqa: F401
from torch import nn
from torch_semantics import (
    COMMON,
    COMPLETE,
    CONV,
    IN,
    OUT,
    SPARSE,
    Table,
    gradients,
    raises,
    same,
)

from mpnn_arch import RelationalConv2d, to_dense
from mpnn_arch.kernels import cpu

TABLE = Table(CONV, dict(COMMON))
TABLE.not_applicable |= {
    "weight is a (out, in, K, K) parameter": "it is (entries on the edges, K, K), as absent pairs "
    "have no parameter; dense_weight() has torch's shape",
    "the order of parameters is weight, bias": "the weight belongs to the message function, which "
    "comes after the round's own bias",
    "LazyConv2d": "the number of channels and their shares decide the parameters; the graph comes "
    "first, so RelationalConv2d(graph, in, out, 3) says them",
    "in_channels=0": "every node of the graph has at least one channel",
}
case = TABLE.case


def like(g: torch.Generator, kernel, shape=(2, IN, 7, 6), **kwargs) -> None:
    """Ours is torch's with such a kernel and such options."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = nn.Conv2d(IN, OUT, kernel, **kwargs)
        ours = RelationalConv2d(COMPLETE, IN, OUT, kernel, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(shape, generator=g)
    same(ours, theirs, x, rtol=1e-4, atol=1e-4)
    if x.dim() == 4:
        assert ours.output_size(*shape[2:]) == tuple(theirs(x).shape[2:])


OPTIONS = {
    "1 x 1 kernels": (1, {}),
    "5 x 5 kernels, padding 2": (5, {"padding": 2}),
    "kernels of 1 x 3": ((1, 3), {}),
    "kernels of 3 x 1, padding (1, 0)": ((3, 1), {"padding": (1, 0)}),
    "even kernels": (2, {}),
    "a kernel as large as the map": ((7, 6), {}),
    "stride 2": (3, {"stride": 2}),
    "stride (2, 1)": (3, {"stride": (2, 1)}),
    "a stride larger than the kernel": (2, {"stride": 3}),
    "a stride that leaves a rest: sizes round down": (3, {"stride": 4}),
    "padding 1": (3, {"padding": 1}),
    "padding larger than the kernel": (3, {"padding": 4}),
    "padding='valid'": (3, {"padding": "valid"}),
    "padding='same', odd kernels": (3, {"padding": "same"}),
    "padding='same', kernels of 3 x 5": ((3, 5), {"padding": "same"}),
    "padding='same', dilated": (3, {"padding": "same", "dilation": 2}),
    "padding='same', even kernels": (4, {"padding": "same"}),
    "dilation 2": (3, {"dilation": 2}),
    "dilation (1, 2) with stride 2 and padding": (
        3,
        {"dilation": (1, 2), "stride": 2, "padding": 1},
    ),
    "padding_mode='reflect'": (3, {"padding": 1, "padding_mode": "reflect"}),
    "padding_mode='replicate'": (3, {"padding": (2, 1), "padding_mode": "replicate"}),
    "padding_mode='circular'": (3, {"padding": 1, "padding_mode": "circular"}),
    "padding_mode='circular', padding='same'": (4, {"padding": "same", "padding_mode": "circular"}),
    "lists for pairs": ([3, 2], {"stride": [1, 2], "padding": [1, 1]}),
}


def _add(name: str, kernel, kwargs) -> None:
    @case(name)
    def _(kind, g):
        like(g, kernel, **kwargs)


for _name, (_kernel, _kwargs) in OPTIONS.items():
    _add(_name, _kernel, _kwargs)


@case("channels_last input")
def _(kind, g):
    ours, theirs = kind.pair(g)
    same(ours, theirs, kind.x(g).to(memory_format=torch.channels_last))
    ours.to(memory_format=torch.channels_last)
    same(ours, theirs, kind.x(g))
    x = kind.x(g).to(memory_format=torch.channels_last)
    for backend in ("masked", "gather", "reference", *(["cpu"] if cpu.is_available() else [])):
        sparse = kind.ours(SPARSE, backend=backend)
        for _ in range(2):  # the second call takes the cached product
            assert sparse(x).stride() == theirs(x).stride()
        assert sparse(x.contiguous()).is_contiguous()


@case("maps that are not square, of 1 x W")
def _(kind, g):
    like(g, (1, 3), shape=(2, IN, 1, 9))


@case("groups")
def _(kind, g):
    like(g, 3, groups=2, stride=2)


@case("maps without a batch, with stride and padding")
def _(kind, g):
    like(g, 3, shape=(IN, 7, 6), stride=2, padding=1)


@case("kernel_size, stride, padding, dilation, groups, padding_mode as attributes")
def _(kind, g):
    options = {"stride": 2, "padding": (1, 0), "dilation": 2}
    ours, theirs = kind.ours(**options), kind.theirs(**options)
    for name in ("kernel_size", *options, "groups", "padding_mode", "in_channels", "out_channels"):
        assert getattr(ours, name) == getattr(theirs, name)


@case("a kernel larger than the map is a RuntimeError")
def _(kind, g):
    for layer in kind.pair(g):
        raises(RuntimeError, lambda layer=layer: layer(torch.ones(1, IN, 2, 2)))


@case("maps without pixels are a RuntimeError")
def _(kind, g):
    for layer in kind.pair(g):
        raises(RuntimeError, lambda layer=layer: layer(torch.ones(1, IN, 0, 4)))


@case("padding='same' with a stride is a ValueError")
def _(kind, g):
    for build in (kind.ours, kind.theirs):
        raises(ValueError, lambda build=build: build(padding="same", stride=2), "same")
    raises(ValueError, lambda: kind.ours(padding="same", stride=2), "use stride 1")


@case("an unknown padding or padding_mode is a ValueError that lists them")
def _(kind, g):
    for build in (kind.ours, kind.theirs):
        raises(ValueError, lambda build=build: build(padding="full"), "full", "same", "valid")
        raises(ValueError, lambda build=build: build(padding_mode="mirror"), "reflect", "circular")


@case("fuse_conv_bn_eval of the dense twin")
def _(kind, g):
    layer, norm = kind.ours(SPARSE, generator=g), nn.BatchNorm2d(OUT)
    norm.running_mean.normal_(generator=g)
    norm.running_var.uniform_(0.5, 2, generator=g)
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(to_dense(layer).eval(), norm.eval())
    torch.testing.assert_close(fused(x := kind.x(g)), norm(layer(x)), rtol=1e-4, atol=1e-4)


@case("without mkldnn")
def _(kind, g):
    ours, theirs = kind.pair(g)
    with torch.backends.mkldnn.flags(enabled=False):
        same(ours, theirs, kind.x(g), rtol=1e-4, atol=1e-4)


@case("a sparse graph equals its kernels, gradients included")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g, stride=2, padding=1, dilation=2)
    mine = gradients(layer, x := kind.x(g))
    for one, two in zip(mine, gradients(layer, x, lambda x: kind.dense(layer, x)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", TABLE.cases)
def test_a_case_holds(name: str) -> None:
    if failure := TABLE.fails(name):
        raise failure
