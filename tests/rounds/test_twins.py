"""``FusedRound`` is ``MessageRound``: the same numbers and gradients from the same parameters.

Every registered message with every registered aggregation, over vectors and maps. What the numbers
are, the loops of ``test_swaps`` say.
"""

import warnings

import pytest
import torch

from mpnn_arch import FusedRound, InputError, MessageRound, RelationalGraph
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.rounds import message_functions
from mpnn_arch.rounds.aggregations import aggregations

GRAPH = RelationalGraph(5, [[0, 1, 2, 0, 3], [1, 2, 3, 2, 4]])
BACKENDS = ("masked", "gather")  # the others are compared with these where kernels are tested


def works_on(kind):
    other = "vectors_instead" if kind == "vectors" else "maps_instead"
    return [name for name in message_functions if not getattr(message_functions.get(name), other)]


def make(twin, kind, message, aggr, **kwargs):
    """A round with all of sigma: bias, norm, residual and activation."""
    geometry = {} if kind == "vectors" else ConvGeometry.of(3, 1, 1, 1)._asdict()
    # Ragged shares where the message allows them, of as many channels for the residual.
    width = 10 if message in ("scalar", "identity") else 13
    return twin(
        GRAPH,
        width,
        width,
        message=message,
        aggr=aggr,
        norm="layer",
        activation=torch.tanh,
        residual=True,
        message_kwargs=geometry,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
        **kwargs,
    )


def run(layer, x, cotangent):
    """The output, and the gradient for the input and for every parameter by its name."""
    inputs = {"x": x.clone().requires_grad_(), **dict(layer.named_parameters())}
    out = layer(inputs["x"])
    grads = torch.autograd.grad(out, inputs.values(), cotangent)
    return {"output": out, **dict(zip(inputs, grads, strict=True))}


@pytest.mark.parametrize("aggr", list(aggregations))
@pytest.mark.parametrize(
    ("kind", "message"),
    [(kind, message) for kind in ("vectors", "maps") for message in works_on(kind)],
)
def test_the_fused_round_is_the_message_round(kind, message, aggr):
    equation = make(MessageRound, kind, message, aggr)
    generator = torch.Generator().manual_seed(1)
    space = () if kind == "vectors" else (4, 3)
    x, cotangent = torch.randn(
        2, 6, equation.in_channels, *space, dtype=torch.float64, generator=generator
    )
    expected = run(equation, x, cotangent)
    # The messages matter: two rounds without any would be equal too.
    still = [name for name, grad in expected.items() if grad.abs().max() < 1e-6]
    assert still == (["aggr_module.gate_nn.bias"] if aggr == "attentional" else [])  # of a softmax
    with torch.no_grad():
        silent = equation.update(torch.zeros_like(x), x)
    assert (expected["output"] - silent).abs().max() > 0.01

    twin = make(FusedRound, kind, message, aggr)
    fusable = twin.why_not_fused() is None
    assert fusable == (
        aggr in ("sum", "add", "mean")
        and message in ("linear", "shared_linear", "conv", "shared_conv")
    )
    for backend in BACKENDS if fusable else ("auto",):
        # A twin of its own seed: what it computes with came through the state dict.
        twin = make(FusedRound, kind, message, aggr, backend=backend)
        twin.reset_parameters(torch.Generator().manual_seed(7))
        twin.load_state_dict(equation.state_dict())
        for name, value in run(twin, x, cotangent).items():
            at = f"{name} by {backend}"
            torch.testing.assert_close(
                value, expected[name], msg=lambda text, at=at: f"{at}: {text}"
            )


@pytest.mark.parametrize("twin", [MessageRound, FusedRound])
@pytest.mark.parametrize(
    ("kind", "message"),
    [(kind, message) for kind in ("vectors", "maps") for message in works_on(kind)],
)
def test_a_traced_round_fixes_no_size_of_its_example(kind, message, twin):
    layer, more = make(twin, kind, message, "max"), () if kind == "vectors" else (5, 4)
    layer.norm = None  # torch's own compares traced sizes
    layer.max_message_elements = 1  # one chunk nonetheless, since another batch has others
    generator = torch.Generator().manual_seed(1)
    few, many = (
        torch.randn(batch, layer.in_channels, *more, dtype=torch.float64, generator=generator)
        for batch in (2, 7)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(layer, few)
    torch.testing.assert_close(traced(many), layer(many))


def test_a_trace_of_a_wrong_message_says_so():
    class Wrong(MessageRound):
        def message(self, x_j, x_i, index):
            return super().message(x_j, x_i, index)[:, :, :-1]

    with pytest.raises(InputError, match=r"has messages of shape \(4, 2, 1\)"):
        torch.jit.trace(Wrong(RelationalGraph(2, [[0], [1]]), 4, 4), torch.zeros(2, 4))
