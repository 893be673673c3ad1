"""A bias of another dtype than its layer: refused, as by ``nn.Linear`` and ``nn.Conv2d``."""

import pytest
import torch
from torch import nn

from mpnn_arch import InputError, RelationalConv2d, RelationalLinear, graphs

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
ROUNDS = {
    "auto": {},
    "masked": {"backend": "masked"},
    "reference": {"backend": "reference"},
    "mean": {"aggr": "mean"},
    "max": {"aggr": "max"},
}


def layers(kind, **kwargs):
    if kind == "linear":
        return RelationalLinear(GRAPH, 16, 24, **kwargs), torch.ones(5, 16)
    return RelationalConv2d(GRAPH, 16, 24, 3, **kwargs), torch.ones(5, 16, 4, 4)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("round_", ROUNDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_is_refused(kind, round_, dtype):
    layer, x = layers(kind, **ROUNDS[round_])
    layer(x)  # prepares the product of this shape
    layer.bias = nn.Parameter(layer.bias.detach().to(dtype))
    for batch in (x, x[:0]):
        with pytest.raises(RuntimeError, match=rf"bias is {dtype}.*torch\.float32") as error:
            layer(batch)
        assert isinstance(error.value, InputError)


@pytest.mark.parametrize("round_", ROUNDS)
def test_autocast_casts_it_unless_it_is_float64(round_):
    layer, x = layers("linear", **ROUNDS[round_])
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
        assert out.dtype == torch.bfloat16
        layer.bias = nn.Parameter(layer.bias.detach().double())
        with pytest.raises(RuntimeError, match=r"bias is torch\.float64"):
            layer(x)


@pytest.mark.parametrize("message", ["gated", "low_rank", "affine", "edge_mlp"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_messages_with_weights_of_the_same_dtype_take_it(message, dtype):
    layer, x = layers("linear", message=message, dtype=dtype)
    assert layer(x.to(dtype)).dtype == dtype


def test_weights_that_a_library_casts_for_the_call_take_it():
    """As FSDP2 with a mixed precision, which shards the message function."""
    layer, x = layers("linear")

    def cast(module, args):
        module.weight.data = module.weight.data.bfloat16()
        return tuple(
            arg.bfloat16() if torch.is_tensor(arg) and arg.is_floating_point() else arg
            for arg in args
        )

    layer.message_function.register_forward_pre_hook(cast)
    assert layer.bias.dtype == torch.float32
    assert layer(x).dtype == torch.bfloat16
