"""The assignment of graphs to the rounds of a model."""

from __future__ import annotations

from collections.abc import Sequence

from mpnn_arch.checks import counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph, given
from mpnn_arch.graphs.given import GivenGraph

Graphs = GivenGraph | Sequence[GivenGraph] | None
"""A graph, its specification (which may name several), or a list of either; None: dense."""


def as_graphs(graph: Graphs) -> tuple[RelationalGraph, ...]:
    """``graph`` as a tuple: empty for the dense model, one, or one per stage or round.

    Raises:
        InputError: anything other than relational graphs and their specifications.
    """
    return () if graph is None else tuple(given.as_graphs(graph))


class GraphAssignment:
    """Gives each round of a model its graph, in the order in which the rounds are built.

    Shared by the factory that builds layers and the meter that counts them, so that they agree.

    Args:
        graphs: none (every layer is dense), one, one per stage, or one per round.
        name: the model, for error messages.
        num_stages: its stages.
        num_rounds: its rounds, without projection shortcuts, which use their block's first graph.

    Raises:
        InputError: any other number of graphs.
    """

    def __init__(
        self, graphs: Sequence[RelationalGraph], name: str, num_stages: int, num_rounds: int
    ) -> None:
        if len(graphs) not in {0, 1, num_stages, num_rounds}:
            raise InputError(
                f"{name} takes one graph, one per stage ({num_stages}) or one per round "
                f"({num_rounds}); {len(graphs)} were given"
            )
        self._graphs = tuple(graphs)
        self._per_round = len(graphs) > 1 and len(graphs) == num_rounds
        self.name = name
        self.stage = "stem"
        self._stage_index = 0
        self.rounds_made = 0

    @property
    def is_dense(self) -> bool:
        """Whether the model has no graph."""
        return not self._graphs

    def start_stage(self, index: int, label: str | None = None) -> None:
        """Start stage ``index`` (from 0): the next rounds belong to it."""
        self._stage_index = index
        self.stage = label or f"stage {index + 1}"

    def peek(self) -> RelationalGraph | None:
        """The next round's graph; None if the model is dense."""
        if not self._graphs:
            return None
        if len(self._graphs) == 1:
            return self._graphs[0]
        return self._graphs[self.rounds_made if self._per_round else self._stage_index]

    def next(self) -> RelationalGraph | None:
        """The next round's graph; advances to the round after it."""
        graph = self.peek()
        self.rounds_made += 1
        return graph

    def check_width(self, graph: RelationalGraph, channels: int, what: str = "") -> None:
        """Reject a layer with fewer channels than the graph has nodes.

        Raises:
            InputError: naming the stage and both numbers.
        """
        if channels < graph.num_nodes:
            where = f"{self.stage}{' ' + what if what else ''}"
            raise InputError(
                f"{where} of {self.name} has {counted(channels, 'channel')}, fewer than the "
                f"{graph.num_nodes} nodes of its graph, each of which needs at least one: use a "
                "graph of fewer nodes or a wider model"
            )
