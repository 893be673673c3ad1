"""The graph and the block weight matrix of a scene, drawn with matplotlib."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.widget.decoded import Array, DecodedScene, SceneEdge

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Blue, neutral, orange, as in the widget: told apart by readers with every common kind of colour
# blindness.
_STOPS = ("#08519c", "#4292c6", "#f5f5f3", "#e6851e", "#993d00")
ACCENT, SOFT, ABSENT = "#6b2fa0", "#525d6b", "#c9ced6"
NOT_FINITE = (0.5, 0.5, 0.5, 1.0)
# Above, the channels of the nodes are not drawn one by one.
MOST_CHANNELS = 1024
# Above, nodes and blocks carry no number.
MOST_LABELS = 32


class Part(NamedTuple):
    """What is selected: a node (``source`` None) or an edge."""

    source: int | None
    target: int


def colours() -> Colormap:
    """The diverging scale of the widget."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("message", _STOPS)


def parse_part(selected: str, num_nodes: int) -> Part | None:
    """``"node:3"`` or ``"edge:5-3"`` taken apart; None for ``""``.

    Raises:
        InputError: it names nothing in a graph of so many nodes.
    """
    match = re.fullmatch(r"|node:(\d+)|edge:(\d+)-(\d+)", str(selected))
    if match is None or any(int(node) >= num_nodes for node in match.groups() if node):
        raise InputError(
            f"selected={shown(selected)} names nothing in a graph of {num_nodes} nodes: use "
            "'node:3', 'edge:5-3' (from 5 to 3) or ''"
        )
    node, u, v = match.groups()
    if node is not None:
        return Part(None, int(node))
    return Part(int(u), int(v)) if u is not None else None


def _sides(largest: float) -> str:
    return f"blue below 0, orange above, within \u00b1{largest:.3g}"


def draw_graph(axes: Axes, scene: DecodedScene, step: int, part: Part | None) -> None:
    """Nodes with a ring of their channels, and an arc for every message."""
    from matplotlib.patches import Circle

    n = scene.num_nodes
    axes.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.45), aspect="equal")
    axes.axis("off")
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    at = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1.0 if n > 1 else 0.0)
    rim = min(0.2, 0.8 * np.pi / max(n, 2))
    _draw_arcs(axes, scene, step, part, at, rim)
    said = f"arcs: mean of a message\n{_sides(scene.largest('mean'))}"
    axes.text(0, -1.45, said, fontsize=9, color=SOFT, ha="center", va="top")
    scale, largest_x, largest_out = colours(), scene.largest("x"), scene.largest("output")
    for v, (x, y) in enumerate(at):
        node, done = scene.nodes[v], scene.has_updated(v, step)
        held, largest = (node["output"], largest_out) if done else (node["x"], largest_x)
        sizes = scene.scene["out_sizes" if done else "in_sizes"]
        if sum(sizes) <= MOST_CHANNELS:
            with np.errstate(invalid="ignore"):  # a map may hold both infinities
                means = held.reshape(sizes[v], -1).mean(1) / largest
            _draw_ring(axes, (x, y), rim, means)
        finite = held[np.isfinite(held)]
        face = scale(0.5 + 0.5 * finite.mean() / largest) if finite.size else NOT_FINITE
        lit = part is not None and v in part
        edge = ACCENT if lit else SOFT
        disc = Circle((x, y), 0.62 * rim, fc=face, ec=edge, lw=2.5 if lit else 0.8, zorder=5)
        axes.add_patch(disc)
        if n <= MOST_LABELS:
            dark = np.dot(face[:3], (0.3, 0.59, 0.11)) < 0.5
            style: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 6}
            axes.text(x, y, str(v), color="white" if dark else "black", fontsize=9, **style)


def draw_matrix(axes: Axes, scene: DecodedScene, part: Part | None) -> None:
    """The weights block by block; where there is no edge there is no weight, and it is hatched."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Rectangle

    picture, x_ends, y_ends = _matrix(scene)
    box: dict[str, Any] = {
        "extent": (0, x_ends[-1], y_ends[-1], 0),
        "interpolation": "nearest",
        "aspect": "auto",
        "zorder": 1,
    }
    axes.set_box_aspect(1)  # also where more channels come than go: blocks have room for numbers
    largest = scene.largest("weights")
    full = Rectangle((0, 0), x_ends[-1], y_ends[-1], fc="white", ec=ABSENT, hatch="////", lw=0)
    axes.add_patch(full)
    axes.imshow(np.ma.masked_invalid(picture), cmap=colours(), vmin=-largest, vmax=largest, **box)
    if (lost := np.isinf(picture)).any():
        grey = ListedColormap([NOT_FINITE])
        axes.imshow(np.ma.masked_where(~lost, lost.astype(float)), cmap=grey, **box)
    n = scene.num_nodes
    if n <= 64:
        for end in x_ends:
            axes.axvline(end, color=SOFT, lw=0.8 if n <= 24 else 0.2, alpha=0.5)
        for end in y_ends:
            axes.axhline(end, color=SOFT, lw=0.8 if n <= 24 else 0.2, alpha=0.5)
    if part is not None:
        row = (0, y_ends[part.target]), x_ends[-1], np.diff(y_ends)[part.target]
        column = part.target if part.source is None else part.source
        along = (x_ends[column], 0), np.diff(x_ends)[column], y_ends[-1]
        block = (x_ends[column], y_ends[part.target]), along[1], row[2]
        faint: dict[str, Any] = {
            "fill": False,
            "ec": ACCENT,
            "lw": 1.2,
            "ls": ":",
            "clip_on": False,
            "zorder": 3,
        }
        strong = faint | {"lw": 2.4, "ls": "-"}
        axes.add_patch(Rectangle(*row, **(strong if part.source is None else faint)))
        axes.add_patch(Rectangle(*along, **faint))
        if part.source is not None:
            axes.add_patch(Rectangle(*block, **strong))
    axes.set(xlim=(0, x_ends[-1]), ylim=(y_ends[-1], 0))
    labels = [str(v) if n <= MOST_LABELS else "" for v in range(n)]
    size = 9 if n <= 16 else 6
    axes.set_xticks((x_ends[1:] + x_ends[:-1]) / 2, labels, fontsize=size)
    axes.set_yticks((y_ends[1:] + y_ends[:-1]) / 2, labels, fontsize=size)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xlabel(f"from node u (channels of x)\n{_sides(largest)}", fontsize=9, color=SOFT)
    axes.set_ylabel("to node v (channels of x')", fontsize=9, color=SOFT)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_arcs(
    axes: Axes, scene: DecodedScene, step: int, part: Part | None, at: Array, rim: float
) -> None:
    """Messages that were sent in the colour of their mean, others in grey."""
    n, scale = scene.num_nodes, colours()
    largest_mean, largest_size = scene.largest("mean"), scene.largest("size")
    for edge in scene.edges:
        sent = edge.place < scene.arrived(edge.target, step)
        lit = part is not None and (
            edge.target == part.target and part.source in (None, edge.source)
        )
        share = edge.size / largest_size if math.isfinite(edge.size) else 1.0
        width = (0.8 if n <= MOST_LABELS else 0.3) + (3 if n <= MOST_LABELS else 1) * share
        colour: Any = ABSENT
        if sent:
            finite = math.isfinite(edge.mean)
            colour = scale(0.5 + 0.5 * edge.mean / largest_mean) if finite else NOT_FINITE
        if lit:
            _draw_arc(axes, edge, at, rim, ACCENT, width + 3, zorder=2.5, alpha=0.45)
        arrow = lit and sent
        _draw_arc(axes, edge, at, rim, colour, width, zorder=3 if lit else 2 if sent else 1)
        if arrow and edge.source != edge.target and n <= MOST_LABELS:
            _draw_head(axes, edge, at, rim)
    if part is None or part.source is None or (part.source, part.target) in scene.edge_at:
        return
    axes.plot(*at[[part.source, part.target]].T, color=ACCENT, lw=1.5, ls=":", zorder=2)


def _control(edge: SceneEdge, at: Array) -> Array:
    """The middle of the arc's Bezier curve: bent to the centre, each direction to its own left."""
    a, b = at[edge.source], at[edge.target]
    length = float(np.hypot(*(b - a)))
    bend = 0.15 + 0.12 * length
    across = np.array([b[1] - a[1], a[0] - b[0]])
    return (a + b) / 2 * (1 - bend) - across * 0.06


def _draw_arc(
    axes: Axes, edge: SceneEdge, at: Array, rim: float, colour: Any, width: float, **style: Any
) -> None:
    from matplotlib.patches import Circle, PathPatch
    from matplotlib.path import Path

    if edge.source == edge.target:
        centre = at[edge.source] * (1 + 1.25 * rim) if at.any() else np.array([0, 1.25 * rim])
        axes.add_patch(
            Circle((centre[0], centre[1]), 0.35 * rim, fill=False, ec=colour, lw=width, **style)
        )
        return
    points = [at[edge.source], _control(edge, at), at[edge.target]]
    curve = Path(points, [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    axes.add_patch(PathPatch(curve, fill=False, ec=colour, lw=width, **style))


def _draw_head(axes: Axes, edge: SceneEdge, at: Array, rim: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    a, c, b = at[edge.source], _control(edge, at), at[edge.target]
    t = 1 - min(0.4, 1.05 * rim / float(np.hypot(*(b - a))))
    tip, behind = ((1 - s) ** 2 * a + 2 * s * (1 - s) * c + s**2 * b for s in (t, t - 0.06))
    arrow = FancyArrowPatch(
        behind, tip, arrowstyle="-|>", mutation_scale=13, color=ACCENT, shrinkA=0, shrinkB=0
    )
    arrow.set_zorder(4)
    axes.add_patch(arrow)


def _draw_ring(axes: Axes, centre: tuple[float, float], rim: float, values: Array) -> None:
    """A tick a channel, its number as its colour."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Wedge

    turn = 360 / len(values)
    gap = min(2.0, 0.15 * turn) if len(values) > 1 else 0.0
    ticks = [
        Wedge(centre, rim, 90 - (i + 1) * turn + gap, 90 - i * turn - gap, width=0.3 * rim)
        for i in range(len(values))
    ]
    scale = colours().with_extremes(bad=NOT_FINITE)
    ring = PatchCollection(ticks, cmap=scale, edgecolors=SOFT, linewidths=0.3, zorder=5)
    ring.set_array(np.ma.masked_invalid(values))
    ring.set_clim(-1, 1)
    axes.add_collection(ring)


def _matrix(scene: DecodedScene) -> tuple[Array, Array, Array]:
    """The weights as a picture with NaN where there is no edge, and where blocks begin and end.

    Weights that are not finite are infinite in it, since they are there. Kernels of a convolution
    are laid side by side; a block of one number fills its place.
    """
    raw = scene.scene
    kernel: tuple[int, int] = tuple(raw["kernel"]) or (1, 1)  # type: ignore[assignment]
    scales = kernel if raw["whole_blocks"] else (1, 1)
    y_ends = np.concatenate([[0], np.cumsum(raw["out_sizes"])]) * scales[0]
    x_ends = np.concatenate([[0], np.cumsum(raw["in_sizes"])]) * scales[1]
    picture: npt.NDArray[np.float64] = np.full((y_ends[-1], x_ends[-1]), np.nan)
    for edge in scene.edges:
        rows, columns = raw["out_sizes"][edge.target], raw["in_sizes"][edge.source]
        block = np.where(np.isfinite(edge.weights), edge.weights, np.inf)
        if raw["whole_blocks"] and math.prod(kernel) > 1:
            laid = block.reshape(rows, columns, *kernel).transpose(0, 2, 1, 3)
            block = laid.reshape(rows * kernel[0], columns * kernel[1])
        elif raw["whole_blocks"]:
            block = block.reshape(rows, columns)
        place = slice(y_ends[edge.target], y_ends[edge.target + 1])
        picture[place, x_ends[edge.source] : x_ends[edge.source + 1]] = block
    return picture, x_ends.astype(float), y_ends.astype(float)
