"""A scene with its numbers unpacked: what a drawing of one round needs, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.widget.scene import Scene, unpack

Array = npt.NDArray[np.float64]

_PACKED = (
    *("mean", "size", "x", "aggregate", "output", "bias", "residual"),
    *("messages", "partial", "weights"),
)


@dataclass(frozen=True)
class SceneEdge:
    """One message of a scene.

    Attributes:
        source, target: the nodes u and v.
        place: how many messages v receives before this one.
        mean, size: mean and root mean square of the message.
        weights: the entries of the block W_vu, or one number.
        message: (channels of v, ...), None where a scene holds the mean alone.
    """

    source: int
    target: int
    place: int
    mean: float
    size: float
    weights: Array
    message: Array | None


class DecodedScene:
    """The nodes and edges of ``scene``, in the order in which they are stepped through."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.num_nodes = int(scene["num_nodes"])
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[SceneEdge] = []
        self.begin = [0]  # the step before each node's first message
        for v in range(self.num_nodes):
            packed = scene["nodes"][str(v)]
            node: dict[str, Any] = {key: unpack(packed[key]) for key in _PACKED if key in packed}
            node["sources"] = [int(u) for u in packed["sources"]]
            self.nodes.append(node)
            self.edges += self._edges_to(v, node)
            self.begin.append(self.begin[-1] + len(node["sources"]) + 1)

    @property
    def num_steps(self) -> int:
        """Messages and updates: E + N."""
        return self.begin[-1]

    @cached_property
    def edge_at(self) -> dict[tuple[int, int], SceneEdge]:
        """The edge from u to v under (u, v)."""
        return {(edge.source, edge.target): edge for edge in self.edges}

    def largest(self, key: str) -> float:
        """The largest finite absolute value of ``key`` over all nodes; 1 where all are 0."""
        return _largest([node[key] for node in self.nodes if key in node])

    def arrived(self, v: int, step: int) -> int:
        """How many messages node v has received after ``step`` steps."""
        return min(max(step - self.begin[v], 0), len(self.nodes[v]["sources"]))

    def has_updated(self, v: int, step: int) -> bool:
        """Whether node v has updated after ``step`` steps."""
        return step >= self.begin[v + 1]

    def step_text(self, step: int) -> str:
        """What the last of ``step`` steps did, in words."""
        if step == 0:
            return "before the round"
        v = next(v for v in range(self.num_nodes) if self.begin[v + 1] >= step)
        place = step - 1 - self.begin[v]
        sources = self.nodes[v]["sources"]
        did = f"message {sources[place]} → {v}" if place < len(sources) else f"node {v} updates"
        return f"step {step} of {self.num_steps}: {did}"

    def _edges_to(self, v: int, node: dict[str, Any]) -> list[SceneEdge]:
        scene, made, start = self.scene, [], 0
        kernel = math.prod(scene["kernel"])
        rows, pixels = scene["out_sizes"][v], math.prod(scene["map_out"])
        for place, u in enumerate(node["sources"]):
            count = rows * scene["in_sizes"][u] * kernel if scene["whole_blocks"] else 1
            share = slice(place * rows * pixels, (place + 1) * rows * pixels)
            message = node["messages"][share] if "messages" in node else None
            numbers = node["weights"][start : start + count]
            means = float(node["mean"][place]), float(node["size"][place])
            made.append(SceneEdge(u, v, place, *means, numbers, message))
            start += count
        return made


def _largest(arrays: list[Array]) -> float:
    values = [float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) for array in arrays]
    return max(values, default=0.0) or 1.0
