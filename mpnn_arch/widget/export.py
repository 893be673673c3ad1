"""The widget as one HTML file that runs from its recorded scenes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Any

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import check_writable, write_text
from mpnn_arch.widget.modules import joined
from mpnn_arch.widget.patch import difference
from mpnn_arch.widget.scene import Scene
from mpnn_arch.widget.toggled import with_toggled

if TYPE_CHECKING:
    from mpnn_arch.widget.round_widget import RoundWidget

MOST_BYTES = 2_000_000
# Above, the pairs of nodes are too many to record the round with each of them toggled.
MOST_NODES_TOGGLED = 24

# Pixels a side of the maps in a page, to record more of them.
LARGEST_MAP = 14
# The traits that decide which layer is on screen, and which of its messages.
REBUILDING = ("round_index", "sample", "aggr", "message", "toggled")

# The page may load nothing from anywhere: what it needs is inside.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>One round of message exchange</title>
<style>
{css}
</style>
</head>
<body class="mpnn-page">
<main class="mpnn-round" id="round-{name}">
<h1 class="mr-hidden">One round of message exchange</h1>
</main>
<noscript>This page draws with JavaScript, which is switched off.</noscript>
<script type="application/json" id="recorded-{name}">{recorded}</script>
<script type="module">
{esm}
const recorded = JSON.parse(document.getElementById("recorded-{name}").textContent);
const places = [...document.querySelectorAll("#round-{name}")];
renderRecorded(places.find((place) => !place.querySelector(".mr")), recorded);
</script>
</body>
</html>
"""


def write_page(path: str | os.PathLike[str], widget: RoundWidget) -> None:
    """Write ``widget`` to ``path``, with as many answers recorded as fit 2 MB.

    Raises:
        InputError: what is on screen alone does not fit, or the file cannot be written.
    """
    path = check_writable(path)  # first, since recording the answers takes a while
    kept = ("rounds", "menus", "samples", "step", "selected", "views", "theme", *REBUILDING)
    state = {name: getattr(widget, name) for name in kept}
    scene = widget.scene_of(largest_map=LARGEST_MAP)
    recorded: dict[str, Any] = {"state": state, "scene": scene, "patches": {}}
    size = len(_page(widget, recorded).encode())
    if size > MOST_BYTES:
        raise InputError(
            f"the page would have {size:,} bytes, more than {MOST_BYTES:,}: show a round of fewer "
            "channels, or smaller maps"
        )
    for changes in _changes(widget, scene):
        for change in changes:
            key, patch = _answer(widget, scene, change)
            answer_size = len(json.dumps({key: patch}, separators=(",", ":")))
            if size + answer_size > MOST_BYTES:
                break
            size += answer_size
            recorded["patches"][key] = patch
    write_text(path, _page(widget, recorded))


def answer_key(shown: dict[str, Any]) -> str:
    """The key of a recorded scene; the page makes the same string of what is asked for."""
    pairs = " ".join(f"{u}-{v}" for u, v in sorted(shown["toggled"]))
    return "|".join([*(str(shown[name]) for name in REBUILDING[:4]), pairs])


def _changes(widget: RoundWidget, scene: Scene) -> Iterator[list[dict[str, Any]]]:
    """What could be asked for next, one change from what is on screen; by kind."""
    yield [{"round_index": index} for index in range(len(widget.rounds))]
    yield [{"aggr": name} for name in widget.menus["aggr"]]
    graph = widget.layer.graph
    if graph.num_nodes <= MOST_NODES_TOGGLED:
        nodes = range(graph.num_nodes)
        pairs = (
            product(nodes, nodes) if scene["directed"] else combinations_with_replacement(nodes, 2)
        )
        yield [{"toggled": with_toggled(widget.toggled, list(pair))} for pair in pairs]
    yield [{"message": name} for name in widget.menus["message"]]
    yield [{"sample": sample} for sample in range(widget.samples)]


def _answer(widget: RoundWidget, scene: Scene, change: dict[str, Any]) -> tuple[str, Scene]:
    """The key and the patch of a change; of one that cannot be, the sentence that says why."""
    key = answer_key({name: getattr(widget, name) for name in REBUILDING} | change)
    try:
        return key, difference(scene, widget.scene_of(largest_map=LARGEST_MAP, **change))
    except InputError as error:
        return key, {"error": str(error)}


def _page(widget: RoundWidget, recorded: dict[str, Any]) -> str:
    text = json.dumps(recorded, separators=(",", ":"), allow_nan=False)
    return _PAGE.format(
        policy=_POLICY,
        css=widget._css,
        esm=joined("recorded_page.js"),
        # Several pages may be pasted into one, where each finds its own parts.
        name=hashlib.sha256(text.encode()).hexdigest()[:12],
        recorded=text.replace("<", "\\u003c"),
    )
