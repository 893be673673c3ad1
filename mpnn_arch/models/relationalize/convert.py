"""Turning the dense layers of any torch module into rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.complexity import complexity
from mpnn_arch.models.on_meta import refuse_lazy
from mpnn_arch.models.relationalize.attention import use_ordinary_path
from mpnn_arch.models.relationalize.kinds import KINDS, Kind, convert, layers_with_weights
from mpnn_arch.models.relationalize.reasons import outcomes
from mpnn_arch.models.relationalize.report import LayerOutcome, RelationalizeReport
from mpnn_arch.models.relationalize.which_graph import GraphRule, assign_graphs
from mpnn_arch.partition import Order
from mpnn_arch.rounds import MessageRound
from mpnn_arch.rounds.copied import deep_copy


def relationalize(
    module: nn.Module,
    graph: GraphRule,
    skip: Sequence[str] = ("first", "last"),
    *,
    order: Order = "first",
    backend: str = "auto",
    input_size: int | Sequence[int] | None = None,
    inputs: Tensor | Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """A copy of ``module`` whose dense layers are rounds on ``graph``.

    Dense layers are ``nn.Linear``, ``nn.Conv2d``, ``nn.Conv1d``, ``nn.MultiheadAttention`` (its
    four projections), and of transformers ``Conv1D`` and stacks of gated experts (three rounds an
    expert). Of a grouped conv every group is a round on the graph. Widths do not change. A round
    keeps the layer's bias and those of its weights that lie on an edge; on the complete graph the
    module's outputs are therefore unchanged. These layers stay dense: layers or groups narrower
    than the graph, depth-wise convs (which exchange nothing among channels), subclasses that
    add anything but another way to build them, tied, parametrised and hooked weights, and layers
    whose ``.weight`` or class a module around them asks for. The report gives the reason for every
    layer with weights.

    Args:
        module: from torchvision, timm, transformers or elsewhere; it is not changed.
        graph: of every round, or its spec; or by layer: a dict of name patterns and graphs, such as
            ``{"*.mlp.*": sparse, "*": "complete:16"}``, of which the first that fits counts, or a
            function (name, layer) -> graph. A layer without a graph, or with None, stays dense.
        skip: layers to leave dense: ``"first"`` and ``"last"`` of the module, or paths of layers
            or of parts of the module. In a model that starts with an embedding, which is the input
            layer, ``"first"`` names no layer, and ``"last"`` only a head.
        order: which nodes hold the larger shares.
        backend: of the rounds.
        input_size: shape of one input without the batch, for the cost; None: 224 x 224 pixels for
            a module that starts with a conv, the features for one that starts with a linear layer.
        inputs: instead of a size, an example such as ``{"input_ids": tokens}``; see
            :func:`~mpnn_arch.models.complexity`.

    Returns:
        The copy; its ``relationalize_report`` is a :class:`RelationalizeReport`.

    Raises:
        InputError: a name in ``skip`` or ``graph`` that the module does not have, weights whose
            shapes the first input would tell, or no layer that can become a round.

    Example:
        >>> import mpnn_arch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 10))
        >>> changed = mpnn_arch.relationalize(net, "ring:16,4")  # all but the first and the last
        >>> [type(layer).__name__ for layer in changed]
        ['Linear', 'ReLU', 'RelationalLinear', 'Linear']
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"relationalize takes a torch module, not {shown(module)}; give one")
    refuse_lazy(module)
    layers = layers_with_weights(module)
    dense = {name: layer for name, (layer, kind) in layers.items() if kind is not None}
    if not dense:
        raise InputError(
            f"{type(module).__name__} has no {' or '.join(kind.label for kind in KINDS[:2])} to "
            "turn into a round"
        )
    graphs = assign_graphs(graph, dense)
    found, rounds = _turned(layers, graphs, outcomes(module, layers, graphs, skip), order, backend)
    if not rounds:
        reasons = "; ".join(f"{o.name or 'it'}: {o.reason}" for o in found if o.name in dense)
        on = next((repr(g) for g in graphs.values() if g is not None), "a graph")
        raise InputError(
            f"no layer of {type(module).__name__} can be a round on {on} ({reasons[:300]}); use a "
            "graph of fewer nodes, or skip fewer layers"
        )
    # As the copies of their layers, rounds are in lists and partials of the module, too.
    converted: Any = deep_copy(module, {**rounds})
    for name, (layer, _) in layers.items():
        above, _, attribute = name.rpartition(".")
        if name and id(layer) in rounds:  # a __deepcopy__ of its own may copy the layer yet
            setattr(converted.get_submodule(above), attribute, rounds[id(layer)])
    use_ordinary_path(converted)
    before, after = _multiply_adds(
        module, converted, next(iter(dense.values())), input_size, inputs
    )
    converted.relationalize_report = RelationalizeReport(
        layers=tuple(found),
        parameters_before=sum(p.numel() for p in module.parameters()),
        parameters_after=sum(p.numel() for p in converted.parameters()),
        multiply_adds_before=before,
        multiply_adds_after=after,
        order=order,
        backend=backend,
        own_rounds=_own_rounds(module),
    )
    return cast(nn.Module, converted)


def _turned(
    layers: Mapping[str, tuple[nn.Module, Kind | None]],
    graphs: Mapping[str, RelationalGraph | None],
    expected: Mapping[str, tuple[str, str]],
    order: Order,
    backend: str,
) -> tuple[list[LayerOutcome], dict[int, nn.Module]]:
    """The outcome for every layer, and the rounds by the ids of the layers that become one."""
    found: list[LayerOutcome] = []
    rounds: dict[int, nn.Module] = {}
    for name, (layer, kind) in layers.items():
        outcome, reason = expected[name]
        graph = graphs[name] if outcome == "round" else None
        if kind is not None and graph is not None:
            try:
                rounds[id(layer)] = convert(kind, layer, graph, order, backend)
            except InputError as error:
                # An option of the layer that a round lacks; one of the caller's fails for every
                # layer.
                if _fails_anyway(graph, order, backend):
                    raise
                outcome, reason, graph = "left dense", str(error), None
        width, out_width = (None, None) if kind is None else kind.widths(layer)
        label = type(layer).__name__
        found.append(LayerOutcome(name, width, out_width, outcome, reason, label, graph))
    return found, rounds


def _own_rounds(module: nn.Module) -> tuple[str, ...]:
    """The rounds in ``module``, without those that an earlier call made."""
    parts = dict(module.named_modules())
    made: set[int] = set()
    for part in parts.values():
        report = getattr(part, "relationalize_report", None)
        if isinstance(report, RelationalizeReport):
            for name in report.names("round"):
                made.update(map(id, part.get_submodule(name).modules()))
    return tuple(
        name
        for name, part in parts.items()
        if isinstance(part, MessageRound) and id(part) not in made
    )


def _fails_anyway(graph: RelationalGraph, order: Order, backend: str) -> bool:
    plain = nn.Linear(graph.num_nodes, graph.num_nodes, device="meta")
    try:
        convert(KINDS[0], plain, graph, order, backend)
    except InputError:
        return True
    return False


def _multiply_adds(
    before: nn.Module,
    after: nn.Module,
    first: Any,
    input_size: int | Sequence[int] | None,
    inputs: Tensor | Mapping[str, Tensor] | None,
) -> tuple[int | None, int | None]:
    if inputs is not None:
        pair = [complexity(m, input_size, inputs=inputs).multiply_adds for m in (before, after)]
        return pair[0], pair[1]
    if input_size is None:
        if isinstance(first, nn.Conv2d):
            size: Sequence[int] = (first.in_channels, 224, 224)
        elif isinstance(first, nn.Linear):
            size = (first.in_features,)
        else:
            return None, None
    elif isinstance(input_size, int) and isinstance(first, nn.Conv2d):
        size = (first.in_channels, input_size, input_size)
    else:
        size = [input_size] if isinstance(input_size, int) else input_size
    try:
        costs = complexity(before, size).multiply_adds, complexity(after, size).multiply_adds
    except InputError:
        if input_size is not None:
            raise
        return None, None  # the guessed size does not fit; only the parameters are reported
    return costs
