"""One round as a picture: what the widget shows, where no widget can run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from mpnn_arch.checks import check_whole
from mpnn_arch.io.figures import new_figure
from mpnn_arch.widget.decoded import Array, DecodedScene
from mpnn_arch.widget.recording import input_for, record
from mpnn_arch.widget.scene import MOST_NODES, Scene, make_scene
from mpnn_arch.widget.still_panels import (
    ABSENT,
    ACCENT,
    SOFT,
    Part,
    draw_graph,
    draw_matrix,
    parse_part,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_MESSAGES, _MOST_NUMBERS = 8, 4


def draw_round(
    layer_or_model: nn.Module,
    x: Tensor | None = None,
    *,
    round_index: int = 0,
    sample: int = 0,
    step: int | None = None,
    selected: str = "",
    seed: int = 0,
) -> Figure:
    """A picture of one round: the graph, the block weight matrix and the equation.

    It shows what :class:`~mpnn_arch.widget.RoundWidget` shows in the same state, and needs
    matplotlib alone.

    Args:
        layer_or_model: a round, or a module with rounds in it.
        x: a batch, as the layer or model takes it; None draws one sample, from ``seed``, for a
            round.
        round_index: which of the model's rounds.
        sample: which of the batch.
        step: how many messages and updates have been made, 0 to E + N; None for all.
        selected: ``"node:3"``, ``"edge:5-3"`` (from node 5 to node 3), or ``""``.
        seed: draws x where there is none.

    Raises:
        InputError: no such round, sample, step or part, an x that the layer does not take, or
            matplotlib is not installed.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.widget import draw_round
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
        >>> figure = draw_round(layer, step=3, selected="node:1")
        >>> [axes.get_title() for axes in figure.axes][:2]
        ['step 3 of 16: message 3 → 0', 'weight matrix (W)']
        >>> figure.savefig("round.png")
    """
    recordings = record(layer_or_model, input_for(layer_or_model, x, seed), sample)
    round_index = check_whole("round_index", round_index, 0, len(recordings) - 1)
    name = list(recordings)[round_index]
    scene = make_scene(recordings[name], name=name, index=round_index)
    return draw_scene(scene, step=step, selected=selected)


def draw_scene(scene: Scene, *, step: int | None = None, selected: str = "") -> Figure:
    """A picture of a scene, see :func:`~mpnn_arch.widget.scene.make_scene`; else as draw_round.

    Raises:
        InputError: a step or part that is not there, or matplotlib is not installed.
    """
    decoded = DecodedScene(scene)
    steps = decoded.num_steps
    step = steps if step is None else check_whole("step", step, 0, steps)
    part = parse_part(selected, decoded.num_nodes)
    drawn = decoded.num_nodes <= MOST_NODES
    figure = new_figure(11 if drawn else 7.5, 4.6)
    figure.set_layout_engine("constrained", h_pad=0.1)
    axes = figure.subplots(1, 2 + drawn, width_ratios=[1] * (1 + drawn) + [0.9])
    if drawn:
        draw_graph(axes[0], decoded, step, part)
        axes[0].set_title(decoded.step_text(step), fontsize=10)
    draw_matrix(axes[-2], decoded, part)
    axes[-2].set_title(f"weight matrix ({scene['matrix']})", fontsize=10)
    _write_equation(axes[-1], decoded, step, part)
    return figure


def _write_equation(axes: Axes, scene: DecodedScene, step: int, part: Part | None) -> None:
    """The equation, and the numbers of what is selected."""
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    aggr = scene.scene["aggr"]
    sign = r"\sum" if aggr == "sum" else rf"\mathrm{{{re.sub(r'[^A-Za-z]', '', aggr) or 'AGG'}}}"
    bias = " + b_v" if "bias" in scene.nodes[0] else ""
    message = _as_math(scene.scene["formula"])
    if aggr != "sum" or "+" in message:
        message = f"({message})"
    body = rf"{sign}_{{u\in N(v)}} {message}{bias}"
    axes.text(0, 0.97, rf"$x_v' = \sigma\left({body}\right)$", fontsize=11, va="top")
    axes.text(0, 0.84, rf"$\sigma$: {scene.scene['update']}", fontsize=9, color=SOFT, va="top")
    if part is None:
        lines = _facts(scene)
    elif part.source is None:
        lines = _of_node(scene, part.target, step)
    else:
        lines = _of_edge(scene, part.source, part.target, step)
    for place, (label, text, colour) in enumerate(lines):
        height = 0.74 - 0.068 * place
        axes.text(0, height, label, fontsize=9, color=colour, va="top")
        axes.text(0.3, height, text, fontsize=9, color=colour, va="top", family="monospace")


_Line = tuple[str, str, str]


def _facts(scene: DecodedScene) -> list[_Line]:
    facts = scene.scene["facts"]
    names = ("nodes", "edges", "parameters", "multiply_adds")
    lines = [(name.replace("_", "-"), f"{facts[name]:,}", "black") for name in names]
    for label, key in (("C", "clustering_coefficient"), ("L", "average_path_length")):
        value = facts[key]
        absent = "one node" if facts["nodes"] == 1 else "not connected"
        lines.append((label, absent if value is None else f"{value:.3f}", "black"))
    return lines


def _of_node(scene: DecodedScene, v: int, step: int) -> list[_Line]:
    node, arrived = scene.nodes[v], scene.arrived(v, step)
    rows, sources = scene.scene["out_sizes"][v], node["sources"]
    lines: list[_Line] = [(f"node {v}", f"{len(sources)} messages, {arrived} there", ACCENT)]
    added = [
        (key, label) for key, label in (("bias", "b"), ("residual", "residual")) if key in node
    ]
    most = _MOST_MESSAGES - len(added)
    for place, u in enumerate(sources[:most]):
        edge = scene.edge_at[u, v]
        numbers = edge.mean if edge.message is None else edge.message
        colour = "black" if place < arrived else ABSENT
        lines.append((f"from {u}", _numbers(numbers, rows), colour))
    if len(sources) > most:
        lines.append(("", f"... {len(sources) - most} more", SOFT))
    grown = _grown(node, arrived, len(sources), rows)
    if grown is not None:
        so_far = " so far" if arrived < len(sources) else ""
        lines.append((f"{scene.scene['aggr']}{so_far}", _numbers(grown, rows), ACCENT))
    lines += [(label, _numbers(node[key], rows), "black") for key, label in added]
    if scene.has_updated(v, step):
        lines.append((r"$x' = \sigma(...)$", _numbers(node["output"], rows), ACCENT))
    return lines


def _of_edge(scene: DecodedScene, u: int, v: int, step: int) -> list[_Line]:
    edge = scene.edge_at.get((u, v))
    if edge is None:
        return [
            (f"no edge from node {u} to node {v}:", "", ACCENT),
            ("no message, and no weights", "", "black"),
        ]
    rows, columns = scene.scene["out_sizes"][v], scene.scene["in_sizes"][u]
    name, kernel = scene.scene["matrix"], scene.scene["kernel"]
    shape = " x ".join(map(str, (rows, columns, *kernel)))
    message = edge.mean if edge.message is None else edge.message
    lines: list[_Line] = [
        (f"edge {u} to {v}", "sent" if edge.place < scene.arrived(v, step) else "waits", ACCENT),
        (f"block {name}", shape if scene.scene["whole_blocks"] else "one number", "black"),
        (f"x of {u}", _numbers(scene.nodes[u]["x"], columns), "black"),
        ("message", _numbers(message, rows), "black"),
    ]
    return lines


def _grown(node: dict[str, Any], arrived: int, count: int, rows: int) -> Array | None:
    """AGG over the messages that have arrived."""
    if arrived == count:
        aggregate: Array = node["aggregate"]
        return aggregate
    if not arrived or "partial" not in node:
        return None
    partial: Array = node["partial"].reshape(count, rows, -1)[arrived - 1]
    return partial


def _numbers(values: Array | float, rows: int) -> str:
    """The first few numbers, one per channel: a map is its mean."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    if flat.size > rows:
        with np.errstate(invalid="ignore"):  # a map may hold both infinities
            flat = flat.reshape(rows, -1).mean(axis=1)
    few, digits = _MOST_NUMBERS, "6.2f"
    largest = np.abs(flat[np.isfinite(flat)]).max(initial=0.0)
    if 0.01 <= largest < 0.1:
        digits = "6.3f"
    elif largest and not 0.1 <= largest < 10000:
        few, digits = _MOST_NUMBERS - 1, "8.1e"
    more = " ..." if flat.size > few else ""
    numbers = " ".join(f"{value:{digits}}" for value in flat[:few])
    return re.sub(r"-(0\.0+)(?!\S)", r" \1", numbers) + more  # what rounds to 0 has no sign


def _as_math(formula: str) -> str:
    """``"W_vu x_u + b_vu"`` in matplotlib's TeX."""
    made = re.sub(r"_(\w+)", r"_{\1}", formula)
    for plain, tex in (("alpha", r"\alpha"), ("·", r"\cdot"), ("*", r"\ast")):
        made = made.replace(plain, tex)
    return re.sub(r"(?<!\\)\b(sigmoid|relu)\b", r"\\mathrm{\1}", made)
