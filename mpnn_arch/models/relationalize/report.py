"""The outcome of a conversion, for every layer with weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.partition import Order


@dataclass(frozen=True)
class LayerOutcome:
    """The outcome for one layer with weights.

    Attributes:
        name: its path in the module.
        in_channels, out_channels: its widths, which do not change; None for a layer that is not
            dense.
        outcome: ``"round"``, ``"too narrow"`` (fewer channels than the graph has nodes),
            ``"grouped"`` (a depth-wise conv), ``"skipped"`` (by ``skip``), ``"no graph"`` (none
            was given for it), ``"left dense"``, or ``"not dense"`` (an embedding, a normalisation,
            ...).
        reason: why it is not a round; empty if it is one.
        kind: its class in the module.
        graph: of the round; None if it is not one.

    Example:
        >>> import mpnn_arch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10))
        >>> report = mpnn_arch.relationalize(net, "ring:16,4").relationalize_report
        >>> [(layer.name, layer.outcome) for layer in report.layers]
        [('0', 'skipped'), ('1', 'round'), ('2', 'skipped')]
    """

    name: str
    in_channels: int | None
    out_channels: int | None
    outcome: str
    reason: str = ""
    kind: str = ""
    graph: RelationalGraph | None = None


@dataclass(frozen=True)
class RelationalizeReport:
    """What :func:`relationalize` did; its ``str`` is a table.

    Attributes:
        layers: every layer of the module that has weights, in its order.
        parameters_before, parameters_after: numbers of parameters.
        multiply_adds_before, multiply_adds_after: of one input; None if no input size was known.
        order: which nodes hold the larger shares.
        backend: of the rounds.
        own_rounds: names of the rounds that the module had, which are left as they are.

    Example:
        >>> import mpnn_arch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10))
        >>> report = mpnn_arch.relationalize(net, "ring:16,4").relationalize_report
        >>> report.parameters_before, report.parameters_after
        (8970, 6154)
    """

    layers: tuple[LayerOutcome, ...]
    parameters_before: int
    parameters_after: int
    multiply_adds_before: int | None
    multiply_adds_after: int | None
    order: Order = "first"
    backend: str = "auto"
    own_rounds: tuple[str, ...] = ()

    def names(self, outcome: str) -> list[str]:
        """Layers with this outcome."""
        return [layer.name for layer in self.layers if layer.outcome == outcome]

    def __str__(self) -> str:
        lines = [
            f"{layer.name}: {layer.in_channels} -> {layer.out_channels}, {layer.outcome}"
            + (f" ({layer.reason})" if layer.reason else "")
            for layer in self.layers
            if layer.outcome != "not dense"
        ]
        # Models have dozens of the same normalisation: one line for each kind.
        others = Counter(
            (layer.kind, layer.reason) for layer in self.layers if layer.outcome == "not dense"
        )
        lines += [
            f"{count} x {kind}: not dense ({reason})" for (kind, reason), count in others.items()
        ]
        lines.append(f"parameters {self.parameters_before:,} -> {self.parameters_after:,}")
        if self.multiply_adds_before is not None:
            lines.append(
                f"multiply-adds {self.multiply_adds_before:,} -> {self.multiply_adds_after:,}"
            )
        return "\n".join(lines)
