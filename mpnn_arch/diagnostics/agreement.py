"""Agreement of the implementations of one round, in values and in gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.kernels.backends import names, unavailable_reason
from mpnn_arch.rounds.layers import RelationalConv2d, RelationalLinear

#: dtype -> largest relative difference attributable to rounding.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-12,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One implementation of a layer, compared with passing the messages edge by edge.

    Each difference is the largest absolute one over the largest absolute value of the reference.

    Attributes:
        name: the backend, or the plain torch layer.
        differences: of the output and the gradients, by name; empty if not computed.
        unavailable: why it could not be computed here, else None.

    Example:
        >>> from mpnn_arch.diagnostics.agreement import Agreement
        >>> Agreement(name="gather", differences={"output": 1e-16, "grad x": 3e-16}).largest
        3e-16
    """

    name: str
    differences: dict[str, float]
    unavailable: str | None = None

    @property
    def largest(self) -> float:
        """The largest of the differences; NaN counts as infinite."""
        return max((d if d == d else float("inf") for d in self.differences.values()), default=0.0)


def compare_backends(
    graph: GivenGraph,
    in_channels: int,
    out_channels: int,
    *,
    batch_size: int = 32,
    kernel_size: int | None = None,
    image_size: int = 8,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> list[Agreement]:
    """Build one layer on every backend; compare outputs and gradients with the reference.

    The reference passes messages along every edge. It is compared with every other backend and
    with ``nn.Linear`` (``nn.Conv2d``) whose weight is assembled from the messages' weights.

    Args:
        graph: of the round, or its specification.
        in_channels: channels in.
        out_channels: channels out.
        batch_size: number of random inputs.
        kernel_size: if given, a conv round with such kernels, stride 1, padded to the same size.
        image_size: height and width of the conv round's maps.
        dtype: of weights and inputs. The reference of 16-bit ones computes in float32, as its own
            sums over edges would round more than what they are to judge.
        device: where to compute.
        seed: of weights and inputs.

    Raises:
        InputError: the layer cannot be built, for example with fewer channels than nodes.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.diagnostics.agreement import compare_backends
        >>> found = compare_backends(graphs.ring(4, 2), 8, 8, dtype=torch.float64)
        >>> max(agreement.largest for agreement in found if agreement.differences) < 1e-12
        True
    """
    generator = torch.Generator().manual_seed(seed)

    def build(backend: str) -> RelationalLinear | RelationalConv2d:
        if kernel_size is None:
            layer: RelationalLinear | RelationalConv2d = RelationalLinear(
                graph, in_channels, out_channels, backend=backend, generator=generator, dtype=dtype
            )
        else:
            layer = RelationalConv2d(
                graph,
                in_channels,
                out_channels,
                kernel_size,
                padding=kernel_size // 2,
                backend=backend,
                generator=generator,
                dtype=dtype,
            )
        return layer.to(device)

    reference = build("reference")
    state = reference.state_dict()
    space = () if kernel_size is None else (image_size, image_size)
    x = _normal((batch_size, in_channels, *space), dtype, generator).to(device)
    out_shape = reference(x).shape
    direction = _normal(tuple(out_shape), dtype, generator).to(device)

    def plain() -> nn.Module:
        layer: nn.Linear | nn.Conv2d = (
            nn.Linear(in_channels, out_channels)
            if kernel_size is None
            else nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        )
        layer.to(device=device, dtype=dtype)
        assert layer.bias is not None
        assert reference.bias is not None
        with torch.no_grad():
            layer.weight.copy_(reference.dense_weight())
            layer.bias.copy_(reference.bias)
        return layer

    def like_reference(backend: str) -> nn.Module:
        layer = build(backend)
        layer.load_state_dict(state)
        return layer

    edges = reference.plan.dense_index
    wide = torch.float32 if dtype.itemsize == 2 else dtype
    expected = _run(reference.to(wide), x.to(wide), direction.to(wide), edges)
    dense = "nn.Linear" if kernel_size is None else "nn.Conv2d"
    agreements = []
    for name in (*names(), dense):
        reason = name != dense and unavailable_reason(name, torch.device(device).type, dtype)
        if reason:
            agreements.append(Agreement(name=name, differences={}, unavailable=reason))
            continue
        try:
            with torch.random.fork_rng(devices=[]):
                layer = plain() if name == dense else like_reference(name)
                got = _run(layer, x, direction, edges)
        except InputError as error:
            agreements.append(Agreement(name=name, differences={}, unavailable=str(error)))
            continue
        differences = {
            what: float((got[what] - value).abs().max() / value.abs().max())
            for what, value in expected.items()
        }
        agreements.append(Agreement(name=name, differences=differences))
    return agreements


def _run(layer: nn.Module, x: Tensor, direction: Tensor, edges: Tensor) -> dict[str, Tensor]:
    """Output and gradients; of a dense weight, the gradient where the graph has edges."""
    x = x.clone().requires_grad_()
    out = layer(x)
    (out * direction).sum().backward()
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    assert isinstance(bias, nn.Parameter)
    assert x.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None
    dense = isinstance(layer, (nn.Linear, nn.Conv2d))
    return {
        "output": out.detach(),
        "grad input": x.grad,
        "grad weight": weight.grad.flatten(0, 1)[edges] if dense else weight.grad,
        "grad bias": bias.grad,
    }


def _normal(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=generator)
