"""The model that the widget's traits describe: with edges toggled, messages and AGG swapped."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.rounds import MessageRound
from mpnn_arch.rounds.copied import deep_copy
from mpnn_arch.rounds.wrapped import uncompiled
from mpnn_arch.widget.recording import input_for, record, rounds_of
from mpnn_arch.widget.rewire import rewire
from mpnn_arch.widget.scene import Scene, make_scene, message_name
from mpnn_arch.widget.toggled import Pair, toggled_graph


class ShownModel:
    """A copy of a model, in evaluation mode, from which every change on screen is made anew.

    Args:
        layer_or_model: a round, or a module with rounds in it.
        x: a batch; None draws one sample, from ``seed``, for a round.
        seed: draws x where there is none, and the weights of new edges, messages and aggregations.

    Attributes:
        given: the copy.
        x: the batch.
        names: of the rounds, in the order in which they run; one that never runs is left out.
        own: AGG and message of the first round, which menus begin with.

    Raises:
        InputError: nothing to show, a model that cannot be copied, or an x that it does not take.
    """

    def __init__(self, layer_or_model: nn.Module, x: Tensor | None, seed: int) -> None:
        self.given = _own_copy(layer_or_model)
        self.x = input_for(layer_or_model, x, seed)
        self.names = list(record(self.given, self.x))
        first = self.given_round(0)
        self.own = {"aggr": str(first.aggr), "message": message_name(first)}
        self._seed = seed
        self._latest: tuple[Any, nn.Module] | None = None  # what was made last, and of what

    def given_round(self, index: int) -> MessageRound:
        """The round as it was given."""
        return rounds_of(self.given)[self.names[index]]

    def made(
        self, shown: dict[str, Any], largest_map: int = 28
    ) -> tuple[nn.Module, MessageRound, Scene]:
        """The model, its round and the scene of these traits: the same traits, the same weights.

        Args:
            shown: ``round_index``, ``sample``, ``aggr``, ``message`` and ``toggled``, see
                :class:`~mpnn_arch.widget.RoundWidget`.
            largest_map: pixels a side; larger maps are averaged down.

        Raises:
            InputError: what cannot be.
        """
        index = shown["round_index"]
        name, graph = self.names[index], self.given_round(index).graph
        model = self._rewired(
            graph,
            [(int(u), int(v)) for u, v in shown["toggled"]],
            {key: shown[key] for key in self.own if shown[key] != self.own[key]},
        )
        recording = record(model, self.x, shown["sample"])[name]
        scene = make_scene(recording, name=name, index=index, largest_map=largest_map)
        layer = rounds_of(model)[name]
        # Of a directed graph each direction is toggled and counted, also when all go both ways.
        scene["directed"] = graph.is_directed
        if scene["directed"] and not layer.graph.is_directed:
            scene["facts"]["edges"] *= 2
        return model, layer, scene

    def _rewired(
        self, graph: RelationalGraph, pairs: list[Pair], swapped: dict[str, str]
    ) -> nn.Module:
        """The given model with edges toggled in every round on ``graph``, and swaps in all."""
        if not pairs and not swapped:
            return self.given
        wanted = (graph, sorted(pairs), swapped)
        if self._latest and self._latest[0] == wanted:  # another round or sample of the same model
            return self._latest[1]
        changed = toggled_graph(graph, pairs)
        model = deep_copy(self.given)
        for name in self.names:
            layer = rounds_of(model)[name]
            on = changed if layer.graph == graph else layer.graph
            if on == layer.graph and not swapped:
                continue
            made = rewire(layer, on, seed=self._seed, **swapped)
            if not name:
                model = made
            else:
                model.set_submodule(name, made)
        self._latest = wanted, model
        return model


def _own_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, and without torch's compilation: its rounds are replaced."""
    try:
        made = deep_copy(uncompiled(model)).eval()
    except (TypeError, RuntimeError) as error:  # a lock, an open file, a process group
        raise InputError(
            f"RoundWidget shows a copy, and this {type(model).__name__} cannot be copied: {error}; "
            "give the part of it that holds the rounds"
        ) from error
    for name, part in list(made.named_modules()):
        if uncompiled(part) is not part:
            made.set_submodule(name, uncompiled(part))
    return made
