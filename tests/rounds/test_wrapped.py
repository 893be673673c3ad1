"""Parts of a round that a library has wrapped or hooked, to save memory or to fetch weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
)

from mpnn_arch import RelationalConv2d, RelationalLinear, graphs, to_dense

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
LAYERS = {
    "linear": (lambda **kw: RelationalLinear(GRAPH, 16, 24, **kw), (5, 16)),
    "mean": (lambda **kw: RelationalLinear(GRAPH, 16, 24, aggr="mean", **kw), (5, 16)),
    "conv": (lambda **kw: RelationalConv2d(GRAPH, 16, 24, 3, padding=1, **kw), (2, 16, 5, 5)),
    "max": (lambda **kw: RelationalLinear(GRAPH, 16, 24, aggr="max", **kw), (5, 16)),
    "gated": (lambda **kw: RelationalLinear(GRAPH, 16, 24, message="gated", **kw), (5, 16)),
}


def pair(name: str, generator: torch.Generator) -> tuple[Any, Any, Tensor]:
    """Two equal layers and an input."""
    make, shape = LAYERS[name]
    layer, other = make(), make()
    other.load_state_dict(layer.state_dict())
    return layer, other, torch.randn(shape, generator=generator)


def check_same(model: nn.Module, layer: nn.Module, x: Tensor) -> None:
    for _ in range(2):  # the second time with a product that is cached
        out, expected = model(x), layer(x)
        torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    for mine, other in zip(model.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("name", LAYERS)
def test_checkpointing_of_every_module_leaves_the_product(
    name: str, generator: torch.Generator
) -> None:
    layer, other, x = pair(name, generator)
    model = nn.Sequential(layer, nn.ReLU())
    apply_activation_checkpointing(model)  # its default: every module that is not the model
    assert type(layer.message_function).__name__ == "CheckpointWrapper"
    assert layer.passes_messages == other.passes_messages
    check_same(model, nn.Sequential(other, nn.ReLU()), x)
    if not layer.passes_messages:
        torch.testing.assert_close(layer.dense_weight(), other.dense_weight())
    assert layer.multiply_adds((5, 5)) == other.multiply_adds((5, 5))
    for one in (layer, other):
        one.reset_parameters(generator.manual_seed(1))
    for mine, expected in zip(layer.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, expected)


class Fetching(nn.Module):
    """A module around another that has its weights during a call only, as FSDP's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.full = {name: p.data for name, p in inner.named_parameters()}
        self.empty()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def empty(self) -> None:
        for parameter in self.inner.parameters():
            parameter.data = parameter.data[:0]

    def forward(self, *args: Any) -> Tensor:
        for name, parameter in self.inner.named_parameters():
            parameter.data = self.full[name]
        out: Tensor = self.inner(*args)
        return out


@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_module_around_the_message_function_is_called(
    name: str, called_before: bool, generator: torch.Generator
) -> None:
    layer, other, x = pair(name, generator)
    if called_before:
        layer(x), layer(x)
    layer.message_function = Fetching(layer.message_function)
    assert layer.explain_backend() == "reference: the message function is in a Fetching"
    torch.testing.assert_close(layer(x), other(x))
    layer.message_function.empty()
    check_same(layer, other, x)


@pytest.mark.parametrize("name", LAYERS)
def test_a_hook_before_a_call_brings_the_weights(name: str, generator: torch.Generator) -> None:
    """As those of FSDP2 and DeepSpeed."""
    layer, other, x = pair(name, generator)
    layer(x), layer(x)
    function = layer.message_function
    full = {key: p.data for key, p in function.named_parameters()}

    def empty(*_: Any) -> None:
        for parameter in function.parameters():
            parameter.data = parameter.data[:0]

    def fill(*_: Any) -> None:
        for key, parameter in function.named_parameters():
            parameter.data = full[key]

    empty()
    function.register_forward_pre_hook(fill)
    check_same(layer, other, x)


@pytest.mark.parametrize("name", ["linear", "mean", "conv"])
def test_hooks_on_the_message_function_are_called(name: str, generator: torch.Generator) -> None:
    layer, _, x = pair(name, generator)
    x.requires_grad_()
    expected = layer(x)
    function, seen = layer.message_function, []
    handles = [
        function.register_forward_pre_hook(lambda *_: seen.append("before")),
        function.register_forward_hook(lambda *_: seen.append("after")),
        function.register_full_backward_hook(lambda *_: seen.append("backward")),
    ]
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert seen == ["before", "after"] * 2 + ["backward"]
    assert "a hook on calls of the message function" in layer.explain_backend()
    with pytest.raises(ValueError, match="a hook on calls of the message function is registered"):
        to_dense(layer)
    for handle in handles:
        handle.remove()
    assert not layer.passes_messages
    assert torch.equal(layer(x), expected)
    assert len(seen) == 5
