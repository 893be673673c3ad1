"""Manners of a module: construction, parameters, state dicts, copies, hooks, parametrisations."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections import OrderedDict

import torch
from torch import nn
from torch.nn.utils import (
    clip_grad_norm_,
    parameters_to_vector,
    parametrizations,
    parametrize,
    prune,
    vector_to_parameters,
)
from torch_semantics import (
    COMPLETE,
    CONV,
    IN,
    OTHER,
    OUT,
    SPARSE,
    common,
    gradients,
    raises,
    same,
    weight_of,
)

from mpnn_arch import to_dense
from mpnn_arch.rounds import initialise_matrix, on_matrix


@common("device and dtype where it is built")
def _(kind, g):
    layer = kind.ours(device="cpu", dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    with torch.device("meta"):
        assert all(p.is_meta for p in kind.ours().parameters())


@common("the default dtype")
def _(kind, g):
    torch.set_default_dtype(torch.float64)
    try:
        assert kind.ours().bias.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@common("repr")
def _(kind, g):
    for layer in (kind.ours(), kind.theirs()):
        said = repr(layer)
        assert f"{kind.name}(" in said
        assert str(IN) in said
        assert str(OUT) in said
    assert "bias=False" in repr(kind.ours(bias=False))
    assert kind.ours().extra_repr() in repr(kind.ours())


@common("positions of the arguments, after the graph")
def _(kind, g):
    extra = (3, 2, 1, 1) if kind is CONV else ()
    mine = type(kind.ours())(COMPLETE, IN, OUT, *extra, False)
    other = type(kind.theirs())(IN, OUT, *extra, **({"bias": False}))
    x = kind.x(g)
    assert mine.bias is None is other.bias
    assert mine(x).shape == other(x).shape


@common("the number of parameters, and weight and bias as leaves")
def _(kind, g):
    ours, theirs = kind.pair(g)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in ours.parameters())
    assert len(list(ours.parameters())) == 2


@common("the weight as a matrix")
def _(kind, g):
    ours, theirs = kind.pair(g)
    assert torch.equal(ours.dense_weight(), theirs.weight)
    sparse = kind.ours(SPARSE)
    assert sparse.dense_weight().shape == theirs.weight.shape


@common("the same seed draws the same weights again, and torch's range")
def _(kind, g):
    drawn = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            drawn.append(kind.ours())
    assert torch.equal(drawn[0].weight, drawn[1].weight)
    _, theirs = kind.pair(g)
    bound = theirs.weight[0].numel() ** -0.5
    assert 0.9 * bound < drawn[0].weight.abs().max() <= bound
    assert drawn[0].bias.abs().max() <= bound


@common("reset_parameters")
def _(kind, g):
    layer = kind.ours()
    before = [p.clone() for p in layer.parameters()]
    with torch.random.fork_rng():
        layer.reset_parameters()
    assert not any(map(torch.equal, before, layer.parameters()))


@common("state dict: strict load of torch's")
def _(kind, g):
    same(*kind.pair(g), kind.x(g))


@common("state dict: inside a network, under a prefix")
def _(kind, g):
    theirs = nn.Sequential(nn.Identity(), kind.theirs())
    ours = nn.Sequential(nn.Identity(), kind.ours())
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x := kind.x(g)), theirs(x))
    assert all(key.startswith("a.1.") for key in ours.state_dict(prefix="a."))


@common("state dict: a missing key is a RuntimeError that names it")
def _(kind, g):
    for layer in (kind.ours(), kind.theirs()):
        state = layer.state_dict()
        del state["bias"]
        raises(RuntimeError, lambda s=state, m=layer: m.load_state_dict(s), "Missing", "bias")


@common("state dict: an unexpected key is a RuntimeError that names it")
def _(kind, g):
    for layer in (kind.ours(), kind.theirs()):
        state = OrderedDict(layer.state_dict(), extra=torch.ones(1))
        raises(RuntimeError, lambda s=state, m=layer: m.load_state_dict(s), "Unexpected", "extra")


@common("state dict: non-strict reports keys and loads the rest")
def _(kind, g):
    for layer in (kind.ours(), kind.theirs()):
        state = OrderedDict(layer.state_dict(), extra=torch.ones(1))
        state["bias"] = torch.zeros(OUT)
        del state[next(key for key in state if key.endswith("weight"))]
        result = layer.load_state_dict(state, strict=False)
        assert len(result.missing_keys) == 1
        assert result.unexpected_keys == ["extra"]
        assert layer.bias.count_nonzero() == 0


@common("state dict: a wrong shape is a RuntimeError")
def _(kind, g):
    for layer in (kind.ours(), kind.theirs()):
        state = OrderedDict(layer.state_dict(), bias=torch.ones(OUT + 1))
        raises(RuntimeError, lambda s=state, m=layer: m.load_state_dict(s), "size mismatch", "bias")


@common("state dict: weights of another graph are a RuntimeError")
def _(kind, g):
    state = kind.ours(OTHER).state_dict()
    raises(RuntimeError, lambda: kind.ours(SPARSE).load_state_dict(state), "belong to a graph")


@common("state dict: values of another dtype are converted")
def _(kind, g):
    ours, theirs = kind.pair(g)
    ours.load_state_dict({n: t.double() for n, t in theirs.state_dict().items()})
    assert ours.bias.dtype == torch.float32


@common("state dict: keep_vars")
def _(kind, g):
    ours, _ = kind.pair(g)
    assert ours.state_dict(keep_vars=True)["bias"] is ours.bias
    assert not ours.state_dict()["bias"].requires_grad


@common("state dict: assign=True takes the tensors themselves")
def _(kind, g):
    ours, _ = kind.pair(g)
    state = kind.ours().double().state_dict()
    ours.load_state_dict(state, assign=True)
    assert ours.bias.data_ptr() == state["bias"].data_ptr()
    assert ours.bias.dtype == torch.float64


@common("state dict: loading keeps requires_grad")
def _(kind, g):
    ours, theirs = kind.pair(g)
    ours.requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    assert not any(p.requires_grad for p in ours.parameters())


@common("state dict: hooks before and after saving and loading")
def _(kind, g):
    ours, _ = kind.pair(g)
    seen = []
    ours.register_state_dict_pre_hook(lambda *_: seen.append("saving"))
    ours.register_state_dict_post_hook(lambda m, state, *_: seen.append("saved"))
    ours.register_load_state_dict_pre_hook(lambda *_: seen.append("loading"))
    ours.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
    ours.load_state_dict(ours.state_dict())
    assert seen == ["saving", "saved", "loading", "loaded"]


@common("torch.save of a state dict, weights_only")
def _(kind, g):
    ours, _ = kind.pair(g)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    other = kind.ours()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x := kind.x(g)), ours(x))


@common("torch.save of the module")
def _(kind, g):
    ours, _ = kind.pair(g)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x := kind.x(g)), ours(x))


@common("deepcopy")
def _(kind, g):
    ours, _ = kind.pair(g)
    other = copy.deepcopy(ours)
    expected = ours(x := kind.x(g))
    with torch.no_grad():
        ours.weight.zero_()
    assert torch.equal(other(x), expected)


@common("pickle")
def _(kind, g):
    ours, _ = kind.pair(g)
    assert torch.equal(pickle.loads(pickle.dumps(ours))(x := kind.x(g)), ours(x))


@common("copying weights in no_grad")
def _(kind, g):
    ours, theirs = kind.ours(), kind.theirs()
    with torch.no_grad():
        ours.weight.copy_(theirs.weight.flatten(0, 1))
        ours.bias.copy_(theirs.bias)
    same(ours, theirs, kind.x(g))


@common("assigning weight and bias")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        layer.weight = nn.Parameter(2 * layer.weight.detach())
        layer.bias = nn.Parameter(torch.zeros(OUT))
    same(ours, theirs, kind.x(g))
    ours.bias = theirs.bias = None
    same(ours, theirs, kind.x(g))
    ours.weight.data = 3 * ours.weight.data
    theirs.weight.data = 3 * theirs.weight.data
    same(ours, theirs, kind.x(g))


@common("two layers share one weight")
def _(kind, g):
    (a, b), (c, d) = kind.pair(g), kind.pair(g)
    for one, two in ((a, c), (b, d)):
        two.weight = one.weight
    assert len(list(nn.ModuleList([a, c]).parameters())) == 3
    for one, two in ((a, c), (b, d)):
        (one(x := kind.x(g.manual_seed(1))) * two(x)).sum().backward()
    torch.testing.assert_close(a.weight.grad, b.weight.grad.view_as(a.weight))


@common("Sequential, ModuleList, ModuleDict, apply, named_modules")
def _(kind, g):
    layer = kind.ours()
    visited = []
    for holder in (nn.Sequential(layer), nn.ModuleList([layer]), nn.ModuleDict({"0": layer})):
        holder.apply(lambda m: visited.append(m))
        assert dict(holder.named_modules())["0"] is layer
    assert visited.count(layer) == 3


@common("get_parameter, get_submodule, buffers of one's own")
def _(kind, g):
    layer = kind.ours()
    assert layer.get_parameter("bias") is layer.bias
    layer.register_buffer("mine", torch.ones(1))
    layer.add_module("child", nn.Linear(1, 1))
    assert layer.get_submodule("child") is layer.child
    assert "mine" in layer.state_dict()


@common("train, eval and zero_grad")
def _(kind, g):
    ours, _ = kind.pair(g)
    assert ours.training
    assert not ours.eval().training
    gradients(ours, kind.x(g))
    ours.zero_grad()
    assert ours.bias.grad is None
    gradients(ours, kind.x(g))
    ours.zero_grad(set_to_none=False)
    assert ours.weight.grad.count_nonzero() == 0


@common("half, bfloat16, double, float, to, type")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for change in ("half", "bfloat16", "double", "float"):
        getattr(ours, change)()
        assert ours.weight.dtype == getattr(theirs, change)().weight.dtype
    ours.to(torch.float64)
    ours.type(torch.float32)
    torch.testing.assert_close(ours(x := kind.x(g)), theirs(x), rtol=0.02, atol=0.02)


@common("to_empty, then load")
def _(kind, g):
    ours, theirs = kind.pair(g)
    fresh = kind.ours(device="meta").to_empty(device="cpu")
    fresh.load_state_dict(ours.state_dict())
    same(fresh, theirs, kind.x(g))


@common("from the meta device by assign=True")
def _(kind, g):
    ours, theirs = kind.pair(g)
    fresh = kind.ours(device="meta")
    fresh.load_state_dict(ours.state_dict(), assign=True)
    same(fresh, theirs, kind.x(g))


@common("skip_init")
def _(kind, g):
    extra = (3,) if kind is CONV else ()
    ours, theirs = kind.pair(g)
    fresh = nn.utils.skip_init(type(ours), COMPLETE, IN, OUT, *extra)
    fresh.load_state_dict(theirs.state_dict())
    same(fresh, theirs, kind.x(g))


@common("share_memory")
def _(kind, g):
    ours, theirs = kind.pair(g)
    ours.share_memory()
    assert all(p.is_shared() for p in ours.parameters())
    same(ours, theirs, kind.x(g))


@common("parameters swapped on conversion")
def _(kind, g):
    ours, theirs = kind.pair(g)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        weight = ours.weight
        ours.double()
        ours.load_state_dict({n: t.double() for n, t in theirs.state_dict().items()})
        assert ours.weight is weight
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    same(ours, theirs.double(), kind.x(g, torch.float64))


@common("forward hooks change input and output")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        layer.register_forward_pre_hook(lambda m, args: (2 * args[0],))
        layer.register_forward_hook(lambda m, args, out: out + 1)
    same(ours, theirs, kind.x(g))


@common("forward hooks with keyword arguments, and their removal")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for name, layer in (("x", ours), ("input", theirs)):
        handle = layer.register_forward_hook(lambda m, a, kw, out: 2 * out, with_kwargs=True)
        twice = layer(**{name: kind.x(g.manual_seed(1))})
        handle.remove()
        torch.testing.assert_close(twice, 2 * layer(kind.x(g.manual_seed(1))))


@common("full backward hooks see the gradients of output and input")
def _(kind, g):
    seen = []
    for layer in kind.pair(g):
        layer.register_full_backward_pre_hook(lambda m, out: seen.append(out[0]))
        layer.register_full_backward_hook(lambda m, into, out: (seen.append(into[0]), None)[1])
        gradients(layer, kind.x(g.manual_seed(1)))
    before, into, *theirs = seen
    torch.testing.assert_close([before, into], theirs)


@common("hooks on the leaves")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        weight_of(layer).register_hook(lambda grad: 3 * grad)
        layer.bias.register_post_accumulate_grad_hook(lambda p: (p.grad.neg_(), None)[1])
    same(ours, theirs, kind.x(g))


@common("a parametrisation by element, of weight and of bias")
def _(kind, g):
    class Soft(nn.Module):
        def forward(self, x):
            return x.tanh()

    ours, theirs = kind.pair(g)
    parametrize.register_parametrization(ours.message_function, "weight", Soft())
    parametrize.register_parametrization(theirs, "weight", Soft())
    for layer in (ours, theirs):
        parametrize.register_parametrization(layer, "bias", Soft())
    x = kind.x(g)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x), theirs(x))
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    mine = ours.message_function.parametrizations.weight.original.grad
    torch.testing.assert_close(mine, theirs.parametrizations.weight.original.grad.view_as(mine))
    parametrize.remove_parametrizations(ours.message_function, "weight")
    parametrize.remove_parametrizations(ours, "bias")
    torch.testing.assert_close(ours(x), theirs(x))


@common("weight_norm of the matrix")
def _(kind, g):
    ours, theirs = kind.pair(g)
    on_matrix(ours, parametrizations.weight_norm)
    parametrizations.weight_norm(theirs)
    x = kind.x(g)
    ours(x).sum().backward()
    theirs(x).sum().backward()
    mine = ours.message_function.parametrizations.weight.original0
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(mine.grad, theirs.parametrizations.weight.original0.grad)


@common("spectral_norm of the matrix")
def _(kind, g):
    ours, theirs = kind.pair(g)
    with torch.random.fork_rng():
        on_matrix(ours, parametrizations.spectral_norm, n_power_iterations=60)
        parametrizations.spectral_norm(theirs, n_power_iterations=60)
    torch.testing.assert_close(ours(x := kind.x(g)), theirs(x), rtol=1e-3, atol=1e-4)


@common("orthogonal on the complete graph")
def _(kind, g):
    ours, _ = kind.pair(g)
    on_matrix(ours, parametrizations.orthogonal)
    rows = ours.dense_weight().detach()
    columns = rows.mT @ rows
    torch.testing.assert_close(columns, torch.eye(rows.shape[-1]).expand_as(columns))


@common("a norm of the flat weight is refused with a way out")
def _(kind, g):
    layer = kind.ours(SPARSE)
    parametrizations.weight_norm(layer.message_function)
    raises(ValueError, lambda: layer(kind.x(g)), "on_matrix")


@common("pruning by magnitude, and its removal")
def _(kind, g):
    ours, theirs = kind.pair(g)
    prune.l1_unstructured(ours.message_function, "weight", 0.5)
    prune.l1_unstructured(theirs, "weight", 0.5)
    torch.testing.assert_close(ours(x := kind.x(g)), theirs(x))
    prune.remove(ours.message_function, "weight")
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.weight.view_as(theirs.weight), theirs.weight)


@common("global pruning over several layers")
def _(kind, g):
    pairs = [kind.pair(g), kind.pair(g)]
    prune.global_unstructured(
        [(ours.message_function, "weight") for ours, _ in pairs], prune.L1Unstructured, amount=0.3
    )
    prune.global_unstructured(
        [(theirs, "weight") for _, theirs in pairs], prune.L1Unstructured, amount=0.3
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours(x := kind.x(g)), theirs(x))


@common("pruning of the bias")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        prune.l1_unstructured(layer, "bias", 0.5)
    torch.testing.assert_close(ours(x := kind.x(g)), theirs(x))
    torch.testing.assert_close(ours(x), theirs(x))


@common("structured pruning by a mask")
def _(kind, g):
    ours, theirs = kind.pair(g)
    prune.ln_structured(theirs, "weight", 0.25, 2, 0)
    prune.custom_from_mask(ours.message_function, "weight", theirs.weight_mask.flatten(0, 1))
    torch.testing.assert_close(ours(x := kind.x(g)), theirs(x))


@common("an initialisation by element")
def _(kind, g):
    ours, theirs = kind.pair(g)
    nn.init.normal_(ours.weight, generator=g.manual_seed(5))
    nn.init.normal_(theirs.weight, generator=g.manual_seed(5))
    for layer in (ours, theirs):
        nn.init.constant_(layer.bias, 2.0)
    same(ours, theirs, kind.x(g))


@common("an initialisation of the matrix")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for init in (nn.init.xavier_uniform_, nn.init.kaiming_normal_, nn.init.orthogonal_):
        initialise_matrix(ours, init, generator=g.manual_seed(5))
        init(theirs.weight, generator=g.manual_seed(5))
        same(ours, theirs, kind.x(g))


@common("one step of SGD with momentum and of AdamW")
def _(kind, g):
    for optimiser in (torch.optim.SGD, torch.optim.AdamW):
        ours, theirs = kind.pair(g)
        kwargs = {"momentum": 0.9} if optimiser is torch.optim.SGD else {}
        for layer in (ours, theirs):
            steps = optimiser(layer.parameters(), lr=0.1, weight_decay=0.1, **kwargs)
            for _ in range(2):
                gradients(layer, kind.x(g.manual_seed(1)))
                steps.step()
        torch.testing.assert_close(ours.dense_weight(), theirs.weight, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-3, atol=1e-4)


@common("parameter groups: no decay for biases")
def _(kind, g):
    ours, _ = kind.pair(g)
    biases = [p for n, p in ours.named_parameters() if n.endswith("bias")]
    weights = [p for n, p in ours.named_parameters() if not n.endswith("bias")]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    steps = torch.optim.SGD(groups, lr=0.1, weight_decay=1.0)
    assert [p.numel() for p in biases] == [OUT]
    gradients(ours, kind.x(g))
    steps.step()
    torch.optim.SGD(groups, lr=0.1).load_state_dict(steps.state_dict())


@common("clip_grad_norm_ and the vector of all parameters")
def _(kind, g):
    ours, theirs = kind.pair(g)
    for layer in (ours, theirs):
        gradients(layer, kind.x(g.manual_seed(1)))
    norms = [clip_grad_norm_(layer.parameters(), 0.1) for layer in (ours, theirs)]
    torch.testing.assert_close(*norms)
    vector = parameters_to_vector(ours.parameters())
    assert len(vector) == len(parameters_to_vector(theirs.parameters()))
    vector_to_parameters(2 * vector, ours.parameters())
    torch.testing.assert_close(ours.dense_weight(), 2 * theirs.weight)


@common("GradScaler")
def _(kind, g):
    ours, _ = kind.pair(g)
    steps = torch.optim.SGD(ours.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    before = ours.weight.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ours(kind.x(g)).float().square().mean()
    scaler.scale(loss).backward()
    scaler.step(steps)
    scaler.update()
    assert not torch.equal(before, ours.weight)


@common("weight averages: SWA and EMA")
def _(kind, g):
    ours, theirs = kind.pair(g)
    averages = [torch.optim.swa_utils.AveragedModel(layer) for layer in (ours, theirs)]
    for average, layer in zip(averages, (ours, theirs), strict=True):
        average.update_parameters(layer)
        with torch.no_grad():
            weight_of(layer).mul_(3)
        average.update_parameters(layer)
    torch.testing.assert_close(averages[0](x := kind.x(g)), averages[1](x))


@common("TorchScript is refused with what to use")
def _(kind, g):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raises(Exception, lambda: torch.jit.script(kind.ours(SPARSE)), "torch.jit.trace")


@common("quantize_dynamic says that it leaves the layer, and takes its dense twin")
def _(kind, g):
    model = nn.Sequential(kind.ours(SPARSE, generator=g))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.ao.quantization.quantize_dynamic(model)
    assert any("to_dense" in str(one.message) for one in caught)
    twin = to_dense(model)
    assert type(twin[0]) is type(kind.theirs())
    torch.testing.assert_close(twin(x := kind.x(g)), model(x))
