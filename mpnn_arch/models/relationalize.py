"""Turning the dense layers of any torch module into rounds."""

from __future__ import annotations

import copy
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mpnn_arch.checks import as_list, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.complexity import complexity
from mpnn_arch.partition import Order
from mpnn_arch.rounds import RelationalConv2d, RelationalLinear

_DENSE = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class LayerOutcome:
    """The outcome for one dense layer.

    Attributes:
        name: its path in the module.
        in_channels, out_channels: its widths, which do not change.
        outcome: ``"round"``, ``"too narrow"`` (fewer channels than the graph has nodes),
            ``"grouped"``, ``"skipped"`` (as requested) or ``"left dense"``.
        reason: why it is not a round; empty if it is one.
    """

    name: str
    in_channels: int
    out_channels: int
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class RelationalizeReport:
    """What :func:`relationalize` did; its ``str`` is a table.

    Attributes:
        layers: every dense layer of the module, in its order.
        parameters_before, parameters_after: numbers of parameters.
        multiply_adds_before, multiply_adds_after: of one input; None if no input size was known.
    """

    layers: tuple[LayerOutcome, ...]
    parameters_before: int
    parameters_after: int
    multiply_adds_before: int | None
    multiply_adds_after: int | None

    def names(self, outcome: str) -> list[str]:
        """Layers with this outcome."""
        return [layer.name for layer in self.layers if layer.outcome == outcome]

    def __str__(self) -> str:
        lines = [
            f"{layer.name}: {layer.in_channels} -> {layer.out_channels}, {layer.outcome}"
            + (f" ({layer.reason})" if layer.reason else "")
            for layer in self.layers
        ]
        lines.append(f"parameters {self.parameters_before:,} -> {self.parameters_after:,}")
        if self.multiply_adds_before is not None:
            lines.append(
                f"multiply-adds {self.multiply_adds_before:,} -> {self.multiply_adds_after:,}"
            )
        return "\n".join(lines)


def relationalize(
    module: nn.Module,
    graph: RelationalGraph,
    skip: Sequence[str] = ("first", "last"),
    *,
    order: Order = "first",
    backend: str = "auto",
    input_size: int | Sequence[int] | None = None,
) -> nn.Module:
    """A copy of ``module`` whose ``nn.Linear`` and ``nn.Conv2d`` layers are rounds on ``graph``.

    Widths do not change. A round keeps the layer's bias and those of its weights that lie on an
    edge; on the complete graph the module's outputs are therefore unchanged. These layers stay
    dense: layers narrower than the graph, grouped convs (whose connectivity is restricted already),
    subclasses with their own forward, tied weights, and layers whose ``.weight`` is read by their
    parent module (as ``nn.MultiheadAttention`` reads that of its output projection).

    Args:
        module: from torchvision, timm or elsewhere; it is not changed.
        graph: of every round.
        skip: layers to leave dense: ``"first"`` and ``"last"`` of the module, or paths of layers
            or of parts of the module.
        order: which nodes hold the larger shares.
        backend: of the rounds.
        input_size: shape of one input without the batch, for the cost; None: 224 x 224 pixels for
            a module that starts with a conv, the features for one that starts with a linear layer.

    Returns:
        The copy; its ``relationalize_report`` is a :class:`RelationalizeReport`.

    Raises:
        InputError: a name in ``skip`` that the module does not have, or no layer that can become
            a round.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"relationalize takes a torch module, not {shown(module)}; give one")
    if not isinstance(graph, RelationalGraph):
        raise InputError(
            f"the graph is a RelationalGraph, not {shown(graph)}; use a generator or graphs.parse"
        )
    converted: Any = copy.deepcopy(module)
    dense = [(name, part) for name, part in converted.named_modules() if isinstance(part, _DENSE)]
    if not dense:
        raise InputError(
            f"{type(module).__name__} has no nn.Linear or nn.Conv2d to turn into a round"
        )
    skipped = _skipped(converted, [name for name, _ in dense], skip)
    shared = _shared_weights(converted)
    outcomes = []
    for name, layer in dense:
        outcome, reason = _outcome(converted, name, layer, graph, skipped, shared)
        outcomes.append(LayerOutcome(name, *_channels(layer), outcome, reason))
        if outcome == "round":
            converted = _replace(converted, name, _as_round(layer, graph, order, backend))
    if not any(layer.outcome == "round" for layer in outcomes):
        reasons = "; ".join(f"{o.name or 'it'}: {o.reason}" for o in outcomes[:3])
        raise InputError(
            f"no layer of {type(module).__name__} can be a round on {graph!r} ({reasons}); use a "
            "graph of fewer nodes, or skip fewer layers"
        )
    before, after = _multiply_adds(module, converted, dense[0][1], input_size)
    converted.relationalize_report = RelationalizeReport(
        layers=tuple(outcomes),
        parameters_before=sum(p.numel() for p in module.parameters()),
        parameters_after=sum(p.numel() for p in converted.parameters()),
        multiply_adds_before=before,
        multiply_adds_after=after,
    )
    changed: nn.Module = converted
    return changed


def _skipped(module: nn.Module, dense: list[str], skip: Sequence[str]) -> set[str]:
    if isinstance(skip, str):
        skip = (skip,)
    skip = as_list("skip", skip)
    parts = dict(module.named_modules())
    skipped = set()
    for name in skip:
        if name in ("first", "last"):
            # A single layer is neither first nor last of anything.
            if len(dense) > 1:
                skipped.add(dense[0 if name == "first" else -1])
        elif name in parts:
            skipped.update(d for d in dense if d == name or d.startswith(f"{name}."))
        else:
            raise InputError(
                f"{type(module).__name__} has no part {name!r} to skip; give 'first', 'last' or a "
                f"path such as {dense[0]!r}"
            )
    return skipped


def _shared_weights(module: nn.Module) -> set[int]:
    uses = Counter(
        id(parameter) for part in module.modules() for parameter in part.parameters(recurse=False)
    )
    return {key for key, count in uses.items() if count > 1}


def _outcome(
    module: nn.Module,
    name: str,
    layer: nn.Linear | nn.Conv2d,
    graph: RelationalGraph,
    skipped: set[str],
    shared: set[int],
) -> tuple[str, str]:
    if name in skipped:
        return "skipped", "as requested"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "grouped", (
            f"its {layer.groups} groups already restrict its connectivity; a round needs groups=1"
        )
    narrowest = min(_channels(layer))
    if narrowest < graph.num_nodes:
        return "too narrow", f"{narrowest} channels for {graph.num_nodes} nodes"
    if type(layer) not in _DENSE:
        return "left dense", f"{type(layer).__name__} is more than a dense layer"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return "left dense", f"it pads with {layer.padding_mode!r}"
    if id(layer.weight) in shared:
        return "left dense", "its weight is shared with another layer"
    if isinstance(layer.weight, nn.parameter.UninitializedParameter):
        return "left dense", "its widths are not known before its first input"
    parent_name, _, child = name.rpartition(".")
    parent = module.get_submodule(parent_name)
    if parent is not layer and _reads_weight(type(parent), child):
        return "left dense", f"{type(parent).__name__} reads its weight directly"
    return "round", ""


def _reads_weight(parent: type[nn.Module], child: str) -> bool:
    """Whether a method of ``parent`` other than its initialisation uses ``self.<child>.weight``."""
    pattern = re.compile(rf"\bself\.{re.escape(child)}\.(weight|bias)\b")
    return any(pattern.search(source) for source in _method_sources(parent))


def _method_sources(kind: type[nn.Module]) -> Iterator[str]:
    for base in kind.__mro__:
        if base in (nn.Module, object):
            continue
        for name, method in vars(base).items():
            if name == "__init__" or "init" in name or "reset" in name or not callable(method):
                continue
            try:
                yield inspect.getsource(method)
            except (OSError, TypeError):  # defined at run time: no source
                continue


def _channels(layer: nn.Linear | nn.Conv2d) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def _as_round(
    layer: nn.Linear | nn.Conv2d, graph: RelationalGraph, order: Order, backend: str
) -> nn.Module:
    """The round that keeps those of ``layer``'s weights that lie on an edge."""
    keywords: dict[str, Any] = {
        "bias": layer.bias is not None,
        "backend": backend,
        "order": order,
        "generator": torch.Generator(),  # the draw is overwritten; the global state is not touched
        "device": "meta" if layer.weight.is_meta else "cpu",
        "dtype": layer.weight.dtype,
    }
    round_: RelationalLinear | RelationalConv2d
    if isinstance(layer, nn.Linear):
        round_ = RelationalLinear(graph, layer.in_features, layer.out_features, **keywords)
    else:
        round_ = RelationalConv2d(
            graph,
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            **keywords,
        )
    if not layer.weight.is_meta:
        with torch.no_grad():
            round_.weight.copy_(layer.weight.detach().cpu()[round_.plan.dense_mask])
            if round_.bias is not None and layer.bias is not None:
                round_.bias.copy_(layer.bias.detach().cpu())
        round_.to(layer.weight.device)
    round_.weight.requires_grad_(layer.weight.requires_grad)
    if round_.bias is not None and layer.bias is not None:
        round_.bias.requires_grad_(layer.bias.requires_grad)
    return round_.train(layer.training)


def _replace(module: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
    return module


def _multiply_adds(
    before: nn.Module,
    after: nn.Module,
    first: nn.Linear | nn.Conv2d,
    input_size: int | Sequence[int] | None,
) -> tuple[int | None, int | None]:
    channels = _channels(first)[0]
    if input_size is None:
        size: Sequence[int] = (channels, 224, 224) if isinstance(first, nn.Conv2d) else (channels,)
    else:
        size = (channels, input_size, input_size) if isinstance(input_size, int) else input_size
    try:
        costs = complexity(before, size).multiply_adds, complexity(after, size).multiply_adds
    except InputError:
        if input_size is not None:
            raise
        return None, None  # the guessed size does not fit; only the parameters are reported
    return costs
