"""The widget: a layer, what is on screen as traitlets, and one scene that is drawn."""

from __future__ import annotations

import operator
import os
import sys
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.io.figures import as_png
from mpnn_arch.rounds import MessageRound
from mpnn_arch.widget.export import REBUILDING, write_page
from mpnn_arch.widget.modules import STATIC, joined
from mpnn_arch.widget.recording import batch_size
from mpnn_arch.widget.scene import Scene, menus
from mpnn_arch.widget.shown_model import ShownModel
from mpnn_arch.widget.still import draw_scene
from mpnn_arch.widget.still_panels import parse_part
from mpnn_arch.widget.toggled import with_toggled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _in_marimo() -> bool:
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


_SET_BY_USER = (
    "aggr",
    "message",
    "playing",
    "round_index",
    "sample",
    "selected",
    "step",
    "theme",
    "toggled",
    "views",
)


class _Refused(InputError, traitlets.TraitError):
    """A trait cannot have this value; being a ``TraitError``, the trait keeps its old one."""


class RoundWidget(anywidget.AnyWidget):
    r"""One round of message exchange, to see and to touch

    .. math::
        x_v^{(r+1)} = \mathrm{AGG}(\{ f_{vu}(x_u^{(r)}),\ u \in N(v) \})

    Three linked views show it: the graph, the block weight matrix, and the equation with the
    numbers of what is selected. All numbers come from PyG's hooks on the layer itself. In a
    notebook, evaluate the widget to see it; :meth:`export_html` writes the same as a page.

    Args:
        layer_or_model: a round, or a module with rounds in it. The widget works on a copy, in
            evaluation mode.
        x: a batch, as the layer or model takes it; None draws one sample, from ``seed``, for a
            round.
        seed: draws x where there is none, and the weights of new edges, messages and aggregations.
        **shown: any of the attributes that can be set.

    Attributes:
        round_index: which of the model's rounds is shown.
        sample: which of the batch.
        step: how many messages and updates of this round have been made, 0 to :attr:`num_steps`.
            Nodes come one after the other: each receives its messages in the order of their
            senders, then updates.
        selected: ``"node:3"``, ``"edge:5-3"`` (from node 5 to node 3, whether or not there is an
            edge), or ``""``.
        toggled: pairs [u, v] whose edge is there if the layer that was given has none, and the
            other way around; in an undirected graph, both directions. All rounds on the graph of
            the round on screen follow.
        aggr, message: registered names; another than the first round's own is given to all rounds.
        views: which of ``"graph"``, ``"matrix"`` and ``"equation"`` are shown.
        playing: whether it steps by itself.
        theme: ``"auto"``, ``"light"`` or ``"dark"``.
        scene: what is drawn; see :func:`~mpnn_arch.widget.scene.make_scene`. Read only.
        error: why the last thing asked for on screen cannot be done, in one sentence.
        answered: how many changes asked for on screen were answered. Read only.

    Raises:
        InputError: nothing to show in the layer or model, a model that cannot be copied, an x that
            it does not take, or a trait set to what cannot be.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.widget import RoundWidget
        >>> widget = RoundWidget(RelationalLinear(graphs.ring(4, 2), 8, 8, activation="relu"))
        >>> widget.toggle(0, 2)  # an edge that the ring lacks
        >>> widget.layer.graph.num_edges, widget.num_steps
        (5, 18)
    """

    _esm = joined("widget.js")
    _css = (STATIC / "widget.css").read_text(encoding="utf-8")

    scene = traitlets.Dict().tag(sync=True)
    rounds = traitlets.List(traitlets.Unicode()).tag(sync=True)
    menus = traitlets.Dict().tag(sync=True)
    samples = traitlets.Int(1).tag(sync=True)
    round_index = traitlets.Int(0).tag(sync=True)
    sample = traitlets.Int(0).tag(sync=True)
    aggr = traitlets.Unicode().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)
    toggled: Any = traitlets.List().tag(sync=True)
    step = traitlets.Int(0, min=0).tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    views = traitlets.List(
        traitlets.Enum(["graph", "matrix", "equation"]), ["graph", "matrix", "equation"]
    ).tag(sync=True)
    theme = traitlets.Enum(["auto", "light", "dark"], "auto").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    answered = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, layer_or_model: nn.Module, x: Tensor | None = None, *, seed: int = 0, **shown: Any
    ) -> None:
        if not isinstance(layer_or_model, nn.Module):
            raise InputError(
                f"RoundWidget shows a round or a torch module with rounds, not a "
                f"{type(layer_or_model).__name__}: give for example RelationalLinear(graph, 64, 64)"
            )
        self._shown = ShownModel(layer_or_model, x, seed)
        self._from_screen = self._setting_back = False
        names, first = self._shown.names, self._shown.given_round(0)
        super().__init__(
            rounds=[name or type_before_parametrizations(first).__name__ for name in names],
            menus=menus(first),
            samples=batch_size(self._shown.given, self._shown.x),
            **self._shown.own,
        )
        self._show()
        self.step = self.num_steps
        self.observe(self._rebuild, names=list(REBUILDING))
        # What is on screen first, of which the others are a step or a part: in any order given.
        for name in sorted(shown, key=[*REBUILDING, *shown].index):
            if not self.has_trait(name):
                raise InputError(
                    f"RoundWidget has no {name!r}; its arguments are x, seed and the traits "
                    f"{', '.join(_SET_BY_USER)}"
                )
            setattr(self, name, shown[name])

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except InputError:
            raise
        except traitlets.TraitError as error:
            raise _Refused(str(error)) from None

    @property
    def model(self) -> nn.Module:
        """The layer or model as it is on screen."""
        return self._model

    @property
    def layer(self) -> MessageRound:
        """The round on screen."""
        return self._layer

    @property
    def num_steps(self) -> int:
        """Messages and updates of the round on screen: E + N."""
        return self.layer.plan.num_edges + self.layer.plan.num_nodes

    def toggle(self, u: int, v: int) -> None:
        """Take the edge from u to v away, or add it; in an undirected graph, both directions.

        Raises:
            InputError: a node that is not there, or one that would receive no message.
        """
        most = self.layer.graph.num_nodes - 1
        ends = [check_whole("a node", node, 0, most) for node in (u, v)]
        pair = ends if self.scene["directed"] else sorted(ends)
        self.toggled = with_toggled(self.toggled, pair)

    def draw(self) -> Figure:
        """What is on screen as a picture, see :func:`~mpnn_arch.widget.draw_round`.

        Raises:
            InputError: matplotlib is not installed.
        """
        return draw_scene(self.scene, step=self.step, selected=self.selected)

    def export_html(self, path: str | os.PathLike[str]) -> None:
        """Write what is on screen as one HTML file that needs neither Python nor a network.

        The messages are recorded in it, and as much as fits of what could be asked for next: every
        other aggregation, every edge toggled (graphs of up to 24 nodes, one edge at a time), the
        model's other rounds. A menu whose answer is not recorded is disabled. Whatever is on screen
        is kept in the address, so that a link restores it.

        Raises:
            InputError: the round alone is more than 2 MB.
        """
        write_page(path, self)

    def scene_of(self, *, largest_map: int = 28, **shown: Any) -> Scene:
        """The scene that there would be with other traits; what is on screen stays.

        Args:
            largest_map: pixels a side; larger maps are averaged down.
            **shown: any of ``round_index``, ``sample``, ``aggr``, ``message`` and ``toggled``.

        Raises:
            InputError: what cannot be.
        """
        return self._shown.made(self._rebuilding() | shown, largest_map)[2]

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what a reader did on screen; what cannot be is answered by a sentence there."""
        self._from_screen = True
        try:
            super().set_state(sync_data)
        except InputError as error:
            self.error = str(error)
            self.send_state([name for name in sync_data if name in self.keys])
        finally:
            self._from_screen = False
            # Also where nothing on screen changes: the screen says how long it waits for this.
            if not sync_data.keys().isdisjoint(REBUILDING):
                self.answered += 1

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and beside it its picture, for readers of a notebook that run no widget."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        if _in_marimo():  # it always runs the widget, and drawing takes seconds at 64 nodes
            return bundle
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        try:
            picture = as_png(self.draw())
        except InputError:  # matplotlib is not installed
            return bundle
        return {**data, "image/png": picture}, metadata

    # -- what is on screen ------------------------------------------------------------------

    def _rebuild(self, change: Any) -> None:
        if self._setting_back:
            return
        try:
            if change.name == "round_index" and self.toggled:
                old, new = (
                    self._shown.given_round(index).graph for index in (change.old, change.new)
                )
                if old != new:
                    self._set_back("toggled", [])
            self._show()
        except InputError as error:
            self._set_back(change.name, change.old)
            if not self._from_screen:
                raise
            self.error = str(error)

    def _set_back(self, name: str, value: Any) -> None:
        self._setting_back = True
        try:
            setattr(self, name, value)
        finally:
            self._setting_back = False

    def _show(self) -> None:
        ended = not self.scene or self.step >= self.num_steps
        self._model, self._layer, scene = self._shown.made(self._rebuilding())
        with self.hold_sync():
            self.error = ""
            self.scene = scene
            self.step = self.num_steps if ended else min(self.step, self.num_steps)
            try:
                parse_part(self.selected, scene["num_nodes"])
            except InputError:  # of a round on a larger graph
                self.selected = ""

    def _rebuilding(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in REBUILDING}

    # -- what cannot be ---------------------------------------------------------------------

    @traitlets.validate("round_index", "sample", "step")
    def _in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        most = {"round_index": len(self._shown.names) - 1, "sample": self.samples - 1}.get(name)
        if most is None:
            most = self.num_steps if self.scene else 0
        if not 0 <= value <= most:
            raise _Refused(f"{name}={value} is outside 0 to {most}: choose one of these")
        return int(value)

    @traitlets.validate("selected")
    def _names_a_part(self, proposal: Any) -> str:
        try:
            parse_part(proposal.value, self.layer.graph.num_nodes if self.scene else 0)
        except InputError as error:
            raise _Refused(str(error)) from None
        return str(proposal.value)

    @traitlets.validate("toggled")
    def _pairs_of_nodes(self, proposal: Any) -> list[list[int]]:
        try:
            pairs = [[operator.index(u), operator.index(v)] for u, v in proposal.value]
        except (TypeError, ValueError):
            raise _Refused(
                f"toggled={proposal.value!r} is not a list of pairs [u, v] of nodes, as [[0, 3]]"
            ) from None
        kept: list[list[int]] = []
        for pair in pairs:
            kept = with_toggled(kept, pair)
        return kept
