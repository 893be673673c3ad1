"""``RelationalLinear`` in place of ``nn.Linear``, case by case, and those that do not apply."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
import torch_cases_module  # noqa: F401  (fills COMMON)
import torch_cases_numbers  # noqa: F401
from torch import nn
from torch_semantics import COMMON, IN, LINEAR, OUT, SPARSE, Table, gradients, raises, same

from mpnn_arch import to_dense

TABLE = Table(LINEAR, dict(COMMON))
TABLE.not_applicable |= {
    "weight is a (out, in) parameter": "it is the vector of all entries on the edges, as absent "
    "pairs have no parameter; dense_weight() is the matrix",
    "the order of parameters is weight, bias": "the weight belongs to the message function, which "
    "comes after the round's own bias",
    "LazyLinear": "the number of channels and their shares decide the parameters; the graph comes "
    "first, so RelationalLinear(graph, in, out) says them",
    "in_features=0 or out_features=0": "every node of the graph has at least one channel",
}
case = TABLE.case


@case("in_features and out_features")
def _(kind, g):
    ours, theirs = kind.ours(), kind.theirs()
    assert (ours.in_features, ours.out_features) == (theirs.in_features, theirs.out_features)


@case("sequences: (B, T, C)")
def _(kind, g):
    same(*kind.pair(g), torch.randn(2, 3, IN, generator=g))


@case("four leading dimensions")
def _(kind, g):
    same(*kind.pair(g), torch.randn(2, 1, 3, 2, IN, generator=g))


@case("an empty dimension among the leading ones")
def _(kind, g):
    same(*kind.pair(g), torch.randn(2, 0, 3, IN, generator=g))


@case("a transposed sequence")
def _(kind, g):
    same(*kind.pair(g), torch.randn(2, IN, 5, generator=g).transpose(1, 2))


@case("a column-major matrix")
def _(kind, g):
    same(*kind.pair(g), torch.randn(IN, 5, generator=g).t())


@case("nested tensors, of both layouts")
def _(kind, g):
    ours, theirs = kind.pair(g)
    rows = [torch.randn(n, IN, generator=g) for n in (2, 3)]
    for layout in (torch.strided, torch.jagged):
        x = torch.nested.nested_tensor(rows, layout=layout)
        for mine, other in zip(ours(x).unbind(), theirs(x).unbind(), strict=True):
            torch.testing.assert_close(mine, other)


@case("sparse matrices as input, gradients included")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g)
    x = kind.x(g) * (kind.x(g) > 0)
    expected = gradients(layer, x)[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that CSR is in beta
        inputs = x.to_sparse(), x.to_sparse_csr()
    for sparse in inputs:
        mine = gradients(layer, x, lambda _, sparse=sparse: layer(sparse))[2:]
        for one, two in zip(mine, expected, strict=True):
            torch.testing.assert_close(one, two)


@case("sequences in bfloat16, no bias")
def _(kind, g):
    ours, theirs = kind.pair(g, bias=False, dtype=torch.bfloat16)
    x = torch.randn(2, 3, IN, generator=g).bfloat16()
    assert torch.equal(ours(x), theirs(x))


@case("complex numbers are a RuntimeError or torch's result")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = kind.x(g).to(torch.complex64)
    for layer in (ours, theirs):
        raises(RuntimeError, lambda layer=layer: layer(x))


@case("a sequence model: nn.TransformerEncoderLayer's feed-forward layers")
def _(kind, g):
    block = nn.TransformerEncoderLayer(IN, 2, OUT, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 5, IN, generator=g)
    expected = block(x)
    ours, _ = kind.pair(g)
    ours.load_state_dict(block.linear1.state_dict())
    block.linear1 = ours
    torch.testing.assert_close(block.train()(x), expected)


@case("LBFGS with a closure")
def _(kind, g):
    losses = []
    for layer in kind.pair(g):
        steps = torch.optim.LBFGS(layer.parameters(), lr=0.1, max_iter=3)
        x = kind.x(g.manual_seed(1))

        def closure(layer=layer, steps=steps, x=x):
            steps.zero_grad()
            loss = (layer(x) - 1).square().mean()
            loss.backward()
            return loss

        steps.step(closure)
        losses.append(float(closure()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@case("fuse_linear_bn_eval of the dense twin")
def _(kind, g):
    layer, norm = kind.ours(SPARSE, generator=g), nn.BatchNorm1d(OUT)
    norm.running_mean.normal_(generator=g)
    norm.running_var.uniform_(0.5, 2, generator=g)
    fused = torch.nn.utils.fusion.fuse_linear_bn_eval(to_dense(layer).eval(), norm.eval())
    torch.testing.assert_close(fused(x := kind.x(g)), norm(layer(x)))


@case("the Hessian by torch.func")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = kind.x(g)[0]
    found = [torch.func.hessian(lambda x, m=m: m(x).sin().sum())(x) for m in (ours, theirs)]
    torch.testing.assert_close(*found)


@case("torch.autograd.functional.jacobian, vectorised")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = kind.x(g)[0]
    found = [torch.autograd.functional.jacobian(m, x, vectorize=True) for m in (ours, theirs)]
    torch.testing.assert_close(*found)


@case("a sparse graph equals its matrix, gradients included")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g)
    x = torch.randn(2, 3, IN, generator=g)
    mine = gradients(layer, x)
    other = gradients(layer, x, lambda x: F.linear(x, layer.dense_weight(), layer.bias))
    for one, two in zip(mine, other, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", TABLE.cases)
def test_a_case_holds(name: str) -> None:
    if failure := TABLE.fails(name):
        raise failure
