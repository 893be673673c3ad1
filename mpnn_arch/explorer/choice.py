"""What a reader chose on the page: a layer or network, its input, and the code that makes both.

Torch is imported when the layer is built: the page shows its controls before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from mpnn_arch import graphs
from mpnn_arch.checks import check_choice
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph

if TYPE_CHECKING:
    from torch import Tensor, nn

# What can be seen, as the page calls it.
SUBJECTS = {
    "linear": "one linear round",
    "conv": "one convolutional round",
    "mlp": "an MLP, on real digits",
    "resnet20": "a ResNet-20, on real digits",
}
# Those of them that are networks, as a sentence begins with them.
NETWORKS = {"mlp": "The paper's MLP", "resnet20": "A ResNet-20"}
# Of digits; they come with packages and need no network.
DATASETS = ("digits", "mnist5k")
# Of a round, as the page offers them.
CHANNELS = ("16", "32", "64", "128", "256", "512")
# Nodes of a graph that the page takes; a round of more would keep the browser busy.
MOST_NODES = 1024
_SAMPLES = 16  # test images to step through
# Of an uploaded graph, which its code lists; code of more is no longer read.
_MOST_EDGES = 1000


def kept_file(folder: Path, name: str, contents: bytes) -> str:
    """Write a graph's file below ``folder``, and return the specification that reads it.

    Another content is another path: code that was taken along keeps its graph.
    """
    own = folder / hashlib.sha256(contents).hexdigest()[:8]
    own.mkdir(exist_ok=True)
    path = own / f"graph{Path(name).suffix.lower()}"
    path.write_bytes(contents)
    return f"file:{path}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A graph, and what stands on it; the same choice is the same numbers in every process.

    Attributes:
        graph: a specification, as ``"ws_flex:16,4,0.3,0"``; see :func:`mpnn_arch.graphs.parse_one`.
        subject: one of :data:`SUBJECTS`.
        channels: of the round, in and out; a network has its own.
        dataset: of the digits, ``"digits"`` or ``"mnist5k"``.
        uploaded: whether ``graph`` names a copy that the page keeps, and nobody else.

    Raises:
        InputError: an unknown subject, or fewer channels than 1.
    """

    graph: str = "ws_flex:16,4,0.3,0"
    subject: str = "linear"
    channels: int = 64
    dataset: str = "digits"
    uploaded: bool = False

    def __post_init__(self) -> None:
        check_choice("subject", self.subject, SUBJECTS)
        if self.channels < 1:
            raise InputError(f"a round of {self.channels} channels holds nothing; use 1 or more")

    @classmethod
    def from_address(cls, asked: Mapping[str, Any]) -> Choice:
        """What a page's address asks for; what is absent, or cannot be chosen, is the default."""
        chosen: dict[str, Any] = {}
        if isinstance(asked.get("graph"), str):
            chosen["graph"] = asked["graph"]
        if asked.get("see") in [*SUBJECTS]:
            chosen["subject"] = asked["see"]
        if asked.get("channels") in CHANNELS:
            chosen["channels"] = int(asked["channels"])
        if asked.get("digits") in DATASETS:
            chosen["dataset"] = asked["digits"]
        return cls(**chosen)

    def address(self) -> dict[str, str]:
        """The parameters of the page's address that :meth:`from_address` reads."""
        values = (self.graph, self.subject, str(self.channels), self.dataset)
        return dict(zip(("graph", "see", "channels", "digits"), values, strict=True))

    def make_graph(self) -> RelationalGraph:
        """The graph.

        Raises:
            InputError: a specification of no graph, or a graph too large for a page.
        """
        return self._graph

    @cached_property
    def _graph(self) -> RelationalGraph:
        # Made once, for the plane and for the round: an lfr graph takes seconds.
        graph = graphs.parse_one(self.graph)
        if graph.num_nodes > MOST_NODES:
            raise InputError(
                f"{self.graph!r} has {graph.num_nodes} nodes, more than a page can draw; choose "
                f"{MOST_NODES} or fewer"
            )
        return graph

    def build(self) -> tuple[nn.Module, Tensor | None]:
        """The round or network, and what to send through it; None for random numbers.

        Raises:
            InputError: as :meth:`make_graph`, fewer channels than nodes, or a data set that is
                not in memory.
        """
        graph = self.make_graph()
        import torch

        from mpnn_arch import models
        from mpnn_arch.rounds import RelationalConv2d, RelationalLinear
        from mpnn_arch.training.data import ImageDataset, load_dataset

        generator = torch.Generator().manual_seed(0)
        made: dict[str, Any] = {"activation": "relu", "generator": generator}
        if self.subject == "linear":
            return RelationalLinear(graph, self.channels, self.channels, **made), None
        if self.subject == "conv":
            layer = RelationalConv2d(graph, self.channels, self.channels, 3, padding=1, **made)
            return layer, None
        data = load_dataset(self.dataset)
        if not isinstance(data, ImageDataset):
            raise InputError(
                f"the data set {self.dataset!r} is read from a folder; choose digits or mnist5k"
            )
        x = data.test_images[:_SAMPLES]
        if self.subject == "mlp":
            x = x.flatten(1)
            return models.build("mlp", graph, in_features=x.shape[1]), x
        return models.build(self.subject, graph, in_channels=x.shape[1]), x

    def code(self, shown: dict[str, Any]) -> str:
        """A few lines of Python that make the same, with what was changed on screen.

        Args:
            shown: traits of the widget that differ from what it started with, such as ``toggled``.
        """
        if self.subject in NETWORKS:
            vectors = self.subject == "mlp"
            imports = [
                "from mpnn_arch import graphs, models",
                "from mpnn_arch.training.data import load_dataset",
            ]
            images = f"load_dataset({self.dataset!r}).test_images[:{_SAMPLES}]"
            made = [
                f"x = {images}{'.flatten(1)' if vectors else ''}",
                f'layer = models.build("{self.subject}", graph, '
                f"{'in_features' if vectors else 'in_channels'}=x.shape[1])",
            ]
        else:
            name, kernel = {
                "linear": ("RelationalLinear", ""),
                "conv": ("RelationalConv2d", " 3, padding=1,"),
            }[self.subject]
            imports = ["import torch", f"from mpnn_arch import {name}, graphs"]
            made = [
                "generator = torch.Generator().manual_seed(0)",
                f"layer = {name}(graph, {self.channels}, {self.channels},{kernel} "
                'activation="relu", generator=generator)',
            ]
        lines = [
            *imports,
            "from mpnn_arch.widget import RoundWidget",
            "",
            *self._graph_code(),
            *made,
        ]
        given = ["layer", *(["x"] if self.subject in NETWORKS else [])]
        given += [f"{name}={pformat(value)}" for name, value in shown.items()]
        return "\n".join([*lines, f"widget = RoundWidget({', '.join(given)})", "widget"])

    def _graph_code(self) -> list[str]:
        """The lines that make the graph, an uploaded one from its edges: its copy does not last."""
        named = f"graph = graphs.parse_one({self.graph!r})"
        if not self.uploaded:
            return [named]
        graph = self.make_graph()
        if graph.num_edges > _MOST_EDGES:
            return [f"{named}  # the page's copy, for now: name your own file"]
        senders, receivers = graph.edges
        once = senders != receivers if graph.is_directed else senders < receivers
        directed = ", directed=True" if graph.is_directed else ""
        return [
            f"senders = {senders[once].tolist()}",
            f"receivers = {receivers[once].tolist()}",
            f"graph = graphs.RelationalGraph({graph.num_nodes}, [senders, receivers]{directed})",
        ]
