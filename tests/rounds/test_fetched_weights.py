"""Libraries that put weights elsewhere, and fetch them for a module's call (as accelerate does)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mpnn_arch import RelationalConv2d, RelationalLinear, graphs, models

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
LAYERS = {
    "linear": (lambda **kw: RelationalLinear(GRAPH, 16, 24, **kw), (5, 16)),
    "conv": (lambda **kw: RelationalConv2d(GRAPH, 16, 24, 3, padding=1, **kw), (2, 16, 5, 5)),
    "gated": (lambda **kw: RelationalLinear(GRAPH, 16, 24, message="gated", **kw), (5, 16)),
    "norm": (lambda **kw: RelationalLinear(GRAPH, 16, 24, norm="batch", **kw), (5, 16)),
}


def offload(model: nn.Module) -> None:
    """Leave parameters on the meta device, but while the module that has them is called."""
    for module in list(model.modules()):
        stored = {name: p.detach() for name, p in module._parameters.items() if p is not None}
        if not stored:
            continue

        def forward(
            *args: Any, module: nn.Module = module, stored: dict[str, Tensor] = stored
        ) -> Any:
            for name, tensor in stored.items():
                module._parameters[name] = nn.Parameter(tensor)
            out = type(module).forward(module, *args)
            for name, tensor in stored.items():
                module._parameters[name] = nn.Parameter(tensor.to("meta"))
            return out

        for name, tensor in stored.items():
            module._parameters[name] = nn.Parameter(tensor.to("meta"))
        module.forward = functools.update_wrapper(forward, module.forward)  # type: ignore[method-assign]


@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_fetched_for_the_call(
    name: str, called_before: bool, generator: torch.Generator
) -> None:
    make, shape = LAYERS[name]
    x = torch.randn(shape, generator=generator)
    layer = make(generator=torch.Generator().manual_seed(1)).eval()
    expected = make(generator=torch.Generator().manual_seed(1)).eval()(x)
    if called_before:  # so that its product is cached
        layer(x), layer(x)
    offload(layer)
    torch.testing.assert_close(layer(x), expected)
    assert all(parameter.is_meta for parameter in layer.parameters())
    assert "reference: " in layer.explain_backend()


def test_a_forward_that_was_put_back_is_the_product_again() -> None:
    layer = LAYERS["linear"][0]()
    function = layer.message_function
    own = function.forward
    function.forward = lambda *args: own(*args)
    assert layer.passes_messages
    function.forward = own
    assert not layer.passes_messages


def empty(make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """As in ``accelerate.init_empty_weights``: every parameter goes to the meta device."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, key: str, parameter: nn.Parameter | None) -> None:
        register(module, key, parameter)
        if parameter is not None:
            module._parameters[key] = nn.Parameter(parameter.to("meta"))

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "register_parameter", register_empty)
        layer = make()
    assert {parameter.device.type for parameter in layer.parameters()} == {"meta"}
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_a_round_is_built_while_parameters_go_to_the_meta_device(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights come later, and the graph is there."""
    make, shape = LAYERS[name]
    full, layer = make(), empty(make, monkeypatch)
    assert torch.equal(layer.edge_index, full.edge_index)
    layer.load_state_dict(full.state_dict(), assign=True)
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), full(x))


@pytest.mark.parametrize(
    "settings", [{}, {"message": "gated", "aggr": "lstm"}], ids=["linear", "gated, lstm"]
)
def test_a_model_is_built_while_parameters_go_to_the_meta_device(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> nn.Module:
        return models.build("mlp", GRAPH, in_features=16, hidden_features=16, **settings).eval()

    full, model = make(), empty(make, monkeypatch)
    model.load_state_dict(full.state_dict(), assign=True)
    x = torch.randn(5, 16)
    torch.testing.assert_close(model(x), full(x))


def test_index_tensors_follow_parameters_that_were_moved_one_by_one() -> None:
    layer, other = (LAYERS["linear"][0](aggr="max") for _ in range(2))
    other.load_state_dict(layer.state_dict())
    here = layer.plan
    layer.message_function.plan = here.to("meta")  # as if the round were built elsewhere
    x = torch.randn(5, 16)
    torch.testing.assert_close(layer(x), other(x))
    assert layer.plan is here


@pytest.fixture
def one_process():
    """A process group of this process alone, so that parameters can be sharded."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", LAYERS)
def test_sharded_parameters_are_drawn_as_whole_ones(name: str, one_process: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def draw(layer: nn.Module) -> dict[str, Tensor]:
        layer.reset_parameters(torch.Generator().manual_seed(1))
        if layer.norm is not None:
            layer.norm.reset_parameters()  # its statistics, too, are undefined after `to_empty`
        found = {f"reset {name}": p.detach().clone() for name, p in layer.named_parameters()}
        models.initialise(layer, "kaiming", torch.Generator().manual_seed(2))
        return found | {f"initialised {name}": p.detach() for name, p in layer.named_parameters()}

    make, shape = LAYERS[name]
    expected = draw(make())
    with torch.device("meta"):
        layer = make()
    fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
    layer.to_empty(device="cpu")
    drawn = draw(layer)
    assert drawn.keys() == expected.keys()
    for key, tensor in drawn.items():
        assert torch.equal(tensor.full_tensor(), expected[key]), key
    assert layer(torch.randn(shape)).isfinite().all()
