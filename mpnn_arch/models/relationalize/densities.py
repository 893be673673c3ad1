"""Densities by layer that favour small layers, and graphs of these densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mpnn_arch.checks import check_range, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph, complete, ws_flex
from mpnn_arch.models.relationalize.experts import is_stack_of_experts
from mpnn_arch.models.relationalize.kinds import layers_with_weights
from mpnn_arch.models.relationalize.reasons import outcomes


@dataclass(frozen=True)
class WeightShape:
    """The shape of a layer's weight.

    Attributes:
        fan_in, fan_out: channels.
        kernel: entries of its kernels by axis, as (3, 3); empty for a linear layer.
        count: equal weights in the layer, as the four projections of attention, the groups of a
            conv, or three matrices an expert.

    Example:
        >>> from mpnn_arch.models.relationalize import WeightShape
        >>> WeightShape(fan_in=64, fan_out=128, kernel=(3, 3)).size
        73728
    """

    fan_in: int
    fan_out: int
    kernel: tuple[int, ...] = ()
    count: int = 1

    @property
    def size(self) -> int:
        """Number of weights."""
        size = self.count * self.fan_in * self.fan_out
        for length in self.kernel:
            size *= length
        return size

    @property
    def score(self) -> float:
        """What density is proportional to: (n_in + n_out + kh + kw) / (n_in n_out kh kw)."""
        one = self.size / self.count
        return (self.fan_in + self.fan_out + sum(self.kernel)) / one


def erdos_renyi_kernel_densities(
    shapes: Mapping[str, WeightShape], density: float, least: float = 0.0
) -> dict[str, float]:
    r"""A density for every layer, such that all together have the given one.

    .. math::
        d_l = \min(1, \epsilon \frac{n_{in} + n_{out} + k_h + k_w}{n_{in} n_{out} k_h k_w}),
        \qquad \sum_l d_l m_l = d \sum_l m_l

    with m_l the number of weights of layer l. Layers that would exceed 1 are dense, and epsilon is
    chosen for the others.

    Args:
        shapes: of the layers' weights, by name.
        density: d, of all weights together, in (0, 1].
        least: density below which no layer can go.

    Raises:
        InputError: no layer, or a density outside (0, 1] or below ``least``.

    Source: Evci, Gale, Menick, Castro, Elsen, *Rigging the Lottery*, ICML 2020, section 3 and
    appendix; Mocanu et al., Nature Communications 2018, for linear layers.

    Example:
        >>> from mpnn_arch.models.relationalize import WeightShape, erdos_renyi_kernel_densities
        >>> shapes = {"first": WeightShape(3, 64, (3, 3)), "second": WeightShape(64, 64, (3, 3))}
        >>> found = erdos_renyi_kernel_densities(shapes, density=0.2)
        >>> {name: round(one, 2) for name, one in found.items()}
        {'first': 1.0, 'second': 0.16}
    """
    density = check_range("density", density, 0.0, 1.0)
    if not shapes:
        raise InputError("there is no layer to give a density; give shapes of weights")
    if density == 0:
        raise InputError("density is above 0, 0 was given; choose a larger one")
    if density < least:
        raise InputError(
            f"density {density:g} is below {least:g}, that of the sparsest graph of so many nodes; "
            "choose a larger one, or graphs of more nodes"
        )
    wanted = density * sum(shape.size for shape in shapes.values())

    def densities(epsilon: float) -> dict[str, float]:
        return {name: min(1.0, max(least, epsilon * shape.score)) for name, shape in shapes.items()}

    low, high = 0.0, 1 / min(shape.score for shape in shapes.values())
    for _ in range(200):  # bisection to the last bit: the sum grows with epsilon
        middle = (low + high) / 2
        total = sum(d * shapes[name].size for name, d in densities(middle).items())
        low, high = (middle, high) if total < wanted else (low, middle)
    return densities(high)


def erdos_renyi_kernel(
    module: nn.Module,
    density: float,
    *,
    num_nodes: int = 16,
    skip: Sequence[str] = ("first", "last"),
    rewiring_probability: float = 0.15,
    seed: int = 0,
) -> dict[str, RelationalGraph]:
    """A graph for every layer of ``module`` that can be a round, by Erdos-Renyi-kernel densities.

    ``relationalize(module, erdos_renyi_kernel(module, 0.2))`` keeps a fifth of the weights of
    these layers, large layers a smaller share than small ones. Graphs are WS-flex graphs of the
    needed number of edges, and complete where the density reaches 1; the number of edges is an
    integer, so that densities are met to 1 / N^2 of a layer, and to the shares' differences of
    one channel.

    Args:
        module: to be relationalized; it is not changed.
        density: of the weights of all rounds together, in (0, 1].
        num_nodes: of every graph; narrower layers stay dense.
        skip: layers to leave dense, as for :func:`relationalize`.
        rewiring_probability: of the graphs.
        seed: of the first graph; the next ones have the next seeds.

    Returns:
        Graphs by the names of layers, for ``graph`` of :func:`relationalize`.

    Raises:
        InputError: no layer can be a round on so many nodes, or a density that graphs of so many
            nodes cannot have.

    Source: see :func:`erdos_renyi_kernel_densities`.

    Example:
        >>> from torch import nn
        >>> from mpnn_arch import relationalize
        >>> from mpnn_arch.models import erdos_renyi_kernel
        >>> widths = [32, 64, 64, 256, 10]
        >>> net = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(widths, widths[1:])))
        >>> found = erdos_renyi_kernel(net, 0.4)
        >>> {name: round(graph.density, 2) for name, graph in found.items()}
        {'1': 0.51, '2': 0.3}
        >>> type(relationalize(net, found)[1]).__name__
        'RelationalLinear'
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"densities are those of a torch module, not {shown(module)}; give one")
    num_nodes = check_whole("num_nodes", num_nodes, 4)
    seed = check_whole("seed", seed, 0)
    shapes = _shapes(module, num_nodes, skip)
    if not shapes:
        raise InputError(
            f"no layer of {type(module).__name__} can be a round on {num_nodes} nodes; use fewer"
        )
    # Of the N^2 blocks a ring, the sparsest WS-flex graph, has 3 N, with its self-loops.
    densities = erdos_renyi_kernel_densities(shapes, density, least=3 / num_nodes)
    graphs = {}
    for number, (name, one) in enumerate(densities.items()):
        degree = one * num_nodes - 1  # without the self-loop
        if degree > num_nodes - 1 - 1 / num_nodes:
            graphs[name] = complete(num_nodes)
        else:
            graphs[name] = ws_flex(num_nodes, max(2.0, degree), rewiring_probability, seed + number)
    return graphs


def _shapes(module: nn.Module, num_nodes: int, skip: Sequence[str]) -> dict[str, WeightShape]:
    layers = layers_with_weights(module)
    if all(kind is None for _, kind in layers.values()):
        return {}
    found = outcomes(module, layers, dict.fromkeys(layers, complete(num_nodes)), skip)
    return {
        name: _shape(layer, kind.widths(layer))
        for name, (layer, kind) in layers.items()
        if kind is not None and found[name][0] == "round"
    }


def _shape(layer: Any, widths: tuple[int, int]) -> WeightShape:
    if isinstance(layer, nn.MultiheadAttention):
        mean = (2 * layer.embed_dim + layer.kdim + layer.vdim) // 4  # fan-in of its projections
        return WeightShape(mean, layer.embed_dim, count=4)
    if is_stack_of_experts(layer):
        return WeightShape(*widths, count=3 * len(layer.down_proj))
    groups = getattr(layer, "groups", 1)  # each of which is a round on the graph
    fan_in, fan_out = (width // groups for width in widths)
    return WeightShape(fan_in, fan_out, tuple(getattr(layer, "kernel_size", ())), groups)
