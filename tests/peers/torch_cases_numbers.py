"""Numbers: shapes, dtypes, strides, gradients of every kind, transforms, tracing."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import nn
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from torch_semantics import CONV, IN, SPARSE, common, gradients, raises, same, weight_of


@common("forward and gradients")
def _(kind, g):
    same(*kind.pair(g), kind.x(g))


@common("no bias")
def _(kind, g):
    ours, theirs = kind.pair(g, bias=False)
    assert ours.bias is None is theirs.bias
    assert "bias" in ours._parameters
    assert "bias" not in ours.state_dict()
    same(ours, theirs, kind.x(g))


@common("float64")
def _(kind, g):
    same(*kind.pair(g, dtype=torch.float64), kind.x(g, torch.float64))


@common("bfloat16: the bits of torch")
def _(kind, g):
    ours, theirs = kind.pair(g, dtype=torch.bfloat16)
    x = kind.x(g, torch.bfloat16)
    assert torch.equal(ours(x), theirs(x))
    same(ours, theirs, x)


@common("float16: the bits of torch")
def _(kind, g):
    ours, theirs = kind.pair(g, dtype=torch.float16)
    x = kind.x(g, torch.float16)
    assert torch.equal(ours(x), theirs(x))


@common("bfloat16 on a sparse graph: the bias before the one rounding")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g, backend="masked").bfloat16()
    x = kind.x(g, torch.bfloat16)
    assert torch.equal(layer(x), kind.dense(layer, x))


@common("an empty batch")
def _(kind, g):
    same(*kind.pair(g), kind.x(g)[:0])


@common("no batch dimension")
def _(kind, g):
    same(*kind.pair(g), kind.x(g)[0])


@common("every second sample of a larger batch")
def _(kind, g):
    same(*kind.pair(g), torch.cat([kind.x(g), kind.x(g)])[::2])


@common("channels that are not contiguous")
def _(kind, g):
    same(*kind.pair(g), torch.cat([kind.x(g), kind.x(g)], 1)[:, ::2])


@common("an expanded input")
def _(kind, g):
    same(*kind.pair(g), kind.x(g)[:1].expand(3, *kind.shape[1:]))


@common("input of integers is a RuntimeError")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (theirs, ours):
        raises(RuntimeError, lambda layer=layer: layer(torch.ones(kind.shape, dtype=torch.int64)))


@common("input of another dtype is a RuntimeError")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (theirs, ours):
        raises(RuntimeError, lambda layer=layer: layer(kind.x(g).double()), "ouble")


@common("a bias of another dtype is a RuntimeError")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (theirs, ours):
        layer.bias = nn.Parameter(layer.bias.detach().double())
        raises(RuntimeError, lambda layer=layer: layer(kind.x(g)))


@common("a wrong number of channels is a RuntimeError that names both")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (theirs, ours):
        raises(RuntimeError, lambda layer=layer: layer(kind.x(g)[:, 1:]), str(IN), str(IN - 1))


@common("a wrong number of dimensions is a RuntimeError")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = torch.ones(()) if kind is not CONV else torch.ones(1, 1, IN, 4, 4)
    for layer in (theirs, ours):
        raises(RuntimeError, lambda layer=layer: layer(x))


@common("the meta device infers shapes")
def _(kind, g):
    ours, theirs = kind.ours(device="meta"), kind.theirs(device="meta")
    x = torch.empty(kind.shape, device="meta")
    assert ours(x).is_meta
    assert ours(x).shape == theirs(x).shape


@common("frozen weights")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        layer.requires_grad_(False)
    same(ours, theirs, kind.x(g))


@common("a frozen bias")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        layer.bias.requires_grad_(False)
    same(ours, theirs, kind.x(g))


@common("only the bias is trained")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        weight_of(layer).requires_grad_(False)
    same(ours, theirs, kind.x(g))


@common("no_grad and set_grad_enabled(False)")
def _(kind, g):
    ours, _ = kind.pair(g)
    with torch.no_grad():
        assert not ours(kind.x(g)).requires_grad
    with torch.set_grad_enabled(False):
        assert not ours(kind.x(g)).requires_grad


@common("inference_mode before training")
def _(kind, g):
    ours, theirs = kind.pair(g)
    with torch.inference_mode():
        assert ours(kind.x(g)).is_inference()
    same(ours, theirs, kind.x(g))


@common("autocast")
def _(kind, g):
    ours, theirs = kind.pair(g)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine, other = gradients(ours, x := kind.x(g)), gradients(theirs, x)
    assert mine[0].dtype == torch.bfloat16
    assert torch.equal(mine[0], other[0])
    assert mine[2].dtype == torch.float32
    for one, two in zip(mine, other, strict=True):
        torch.testing.assert_close(one, two.reshape(one.shape), rtol=0.02, atol=0.02)


@common("autocast, switched off inside")
def _(kind, g):
    ours, theirs = kind.pair(g)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
        same(ours, theirs, kind.x(g))


@common("autocast leaves float64 alone")
def _(kind, g):
    ours, _ = kind.pair(g, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(kind.x(g, torch.float64)).dtype == torch.float64


@common("a gradient penalty: double backward")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x, found = kind.x(g), []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(layer(leaf).sin().sum(), leaf, create_graph=True)
        found.append(
            torch.autograd.grad(first.square().sum(), [leaf, weight_of(layer), layer.bias])
        )
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other.reshape(mine.shape), rtol=1e-4, atol=1e-5)


@common("gradcheck and gradgradcheck")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g, dtype=torch.float64)
    x = kind.x(g, torch.float64)[:1, ..., : 2 if kind is CONV else None]
    x = (torch.cat([x, x], -1) if kind is CONV else x)[..., :16].requires_grad_()
    if kind is CONV:
        x = x.detach()[..., :3, :3].requires_grad_()
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, x, fast_mode=True)


@common("two backward passes accumulate")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = kind.x(g)
    for layer in (ours, theirs):
        layer(x).sum().backward()
        out = layer(x).square().sum()
        out.backward(retain_graph=True)
        out.backward()
    torch.testing.assert_close(weight_of(ours).grad, theirs.weight.grad.view_as(weight_of(ours)))


@common("backward with a batch of vectors: is_grads_batched")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x, found = kind.x(g), []
    for layer in (ours, theirs):
        out = layer(x)
        vectors = torch.eye(3)[:, :1].view(3, *[1] * out.dim()).expand(3, *out.shape)
        leaves = [weight_of(layer), layer.bias]
        found.append(torch.autograd.grad(out, leaves, vectors, is_grads_batched=True))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other.reshape(mine.shape))


@common("functional_call with other weights")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = kind.x(g)
    mine = functional_call(ours, {n: 2 * p for n, p in ours.named_parameters()}, x)
    other = functional_call(theirs, {n: 2 * p for n, p in theirs.named_parameters()}, x)
    torch.testing.assert_close(mine, other)


@common("vmap over inputs")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = torch.stack([kind.x(g), kind.x(g)])
    torch.testing.assert_close(vmap(ours)(x), vmap(theirs)(x))


@common("per-sample gradients")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x, found = kind.x(g), []
    for layer in (ours, theirs):
        parameters = {n: p.detach() for n, p in layer.named_parameters()}

        def loss(parameters, one, layer=layer):
            return functional_call(layer, parameters, one[None]).square().sum()

        found.append(vmap(grad(loss), in_dims=(None, 0))(parameters, x))
    mine, other = found
    torch.testing.assert_close(mine["bias"], other["bias"])
    of_weight = mine["message_function.weight"]
    torch.testing.assert_close(of_weight, other["weight"].view_as(of_weight))


@common("an ensemble: stack_module_state and vmap")
def _(kind, g):
    pairs = [kind.pair(g) for _ in range(3)]
    x, found = kind.x(g), []
    for layers in zip(*pairs, strict=True):
        parameters, buffers = stack_module_state(list(layers))
        base = copy.deepcopy(layers[0])

        def call(parameters, buffers, base=base):
            return functional_call(base, (parameters, buffers), x)

        found.append(vmap(call)(parameters, buffers))
    torch.testing.assert_close(*found)


@common("jacrev and jacfwd")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x = kind.x(g)[:1]
    expected = jacrev(theirs)(x)
    torch.testing.assert_close(jacrev(ours)(x), expected)
    torch.testing.assert_close(jacfwd(ours)(x), expected)


@common("forward-mode derivatives")
def _(kind, g):
    ours, theirs = kind.pair(g)
    x, v = kind.x(g), kind.x(g)
    for mine, other in zip(jvp(ours, (x,), (v,)), jvp(theirs, (x,), (v,)), strict=True):
        torch.testing.assert_close(mine, other)


@common("activation checkpointing")
def _(kind, g):
    for reentrant in (False, True):
        ours, theirs = kind.pair(g)
        x = kind.x(g)
        mine = gradients(ours, x, lambda x, o=ours, r=reentrant: checkpoint(o, x, use_reentrant=r))
        for one, other in zip(mine, gradients(theirs, x), strict=True):
            torch.testing.assert_close(one, other.reshape(one.shape))


@common("saved tensors on the CPU, and anomaly detection")
def _(kind, g):
    ours, theirs = kind.pair(g)
    with torch.autograd.graph.save_on_cpu(), torch.autograd.detect_anomaly(check_nan=True):
        mine = gradients(ours, x := kind.x(g))
    for one, other in zip(mine, gradients(theirs, x), strict=True):
        torch.testing.assert_close(one, other.reshape(one.shape))


@common("deterministic algorithms")
def _(kind, g):
    torch.use_deterministic_algorithms(True)
    try:
        layer = kind.ours(SPARSE, generator=g)
        x = kind.x(g)
        assert torch.equal(layer(x), layer(x))
        torch.testing.assert_close(layer(x), kind.dense(layer, x))
    finally:
        torch.use_deterministic_algorithms(False)


@common("compile, fullgraph")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected = gradients(layer, x := kind.x(g), lambda x: kind.dense(layer, x))
    for mine, other in zip(gradients(layer, x, compiled), expected, strict=True):
        torch.testing.assert_close(mine, other)


@common("compile, dynamic: one graph for every batch size")
def _(kind, g):
    graphs = []

    def counting(module, _):
        graphs.append(module)
        return module

    layer = kind.ours(SPARSE, generator=g)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counting)
    for batch in (2, 3, 5, 9):
        x = torch.randn(batch, *kind.shape[1:], generator=g)
        torch.testing.assert_close(compiled(x), kind.dense(layer, x))
    assert len(graphs) == 1


@common("Module.compile")
def _(kind, g):
    ours, theirs = kind.pair(g)
    ours.compile(backend="eager")
    torch.testing.assert_close(ours(x := kind.x(g)), theirs(x))


@common("export with a dynamic batch")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g).eval()
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(layer, (kind.x(g),), dynamic_shapes=(batch,))
    x = torch.randn(7, *kind.shape[1:], generator=g)
    torch.testing.assert_close(program.module()(x), kind.dense(layer, x))


@common("jit.trace")
def _(kind, g):
    layer = kind.ours(SPARSE, generator=g)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)  # nothing is fixed by the trace
        traced = torch.jit.trace(layer, kind.x(g))
    x = torch.randn(7, *kind.shape[1:], generator=g)
    torch.testing.assert_close(traced(x), kind.dense(layer, x))


@common("fx takes the layer for a leaf")
def _(kind, g):
    model = nn.Sequential(kind.ours(SPARSE, generator=g), nn.ReLU())
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1"]
    torch.testing.assert_close(traced(x := kind.x(g)), kind.dense(model[0], x).relu())


@common("FlopCounterMode counts torch's operations")
def _(kind, g):
    ours, theirs = kind.pair(g)
    counts = []
    for layer in (ours, theirs):
        with FlopCounterMode(display=False) as counter:
            layer(kind.x(g)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@common("a subclass of Tensor comes out as it went in")
def _(kind, g):
    class Mine(torch.Tensor):
        pass

    ours, theirs = kind.pair(g)
    x = kind.x(g).as_subclass(Mine)
    assert type(theirs(x)) is type(ours(x)) is Mine
    torch.testing.assert_close(
        ours(x).as_subclass(torch.Tensor), theirs(x).as_subclass(torch.Tensor)
    )
