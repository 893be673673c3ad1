"""The picture of a round: its numbers are the layer's, its steps and parts the widget's."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.collections import PatchCollection

from mpnn_arch import InputError, RelationalConv2d, RelationalGraph, RelationalLinear, graphs
from mpnn_arch.widget import draw_round, record
from mpnn_arch.widget.decoded import DecodedScene
from mpnn_arch.widget.scene import make_scene
from mpnn_arch.widget.still_panels import _matrix

UPDATED = r"$x' = \sigma(...)$"


@pytest.fixture
def layer(generator):
    more = {"activation": "relu", "generator": generator, "backend": "masked"}
    return RelationalLinear(graphs.ring(8, 4), 32, 33, **more)


def texts(figure):
    return [text.get_text() for text in figure.axes[-1].texts]


def decoded(layer, x):
    return DecodedScene(make_scene(record(layer, x)[""]))


def test_the_decoded_scene_is_the_round(graph, generator):
    layer = RelationalLinear(graph, 20, 23, activation="relu", generator=generator)
    layer.backend = "masked"
    x = torch.randn(1, 20, generator=generator)
    scene = decoded(layer, x)
    assert [(e.target, e.source) for e in scene.edges] == [
        (v, u) for u, v in graph.edge_index.T.tolist()
    ]
    matrix, across, down = _matrix(scene)
    weight = layer.dense_weight().detach().numpy()
    np.testing.assert_allclose(np.nan_to_num(matrix), weight, atol=1e-3)
    assert across.tolist() == list(layer.in_partition.offsets)
    assert down.tolist() == list(layer.out_partition.offsets)
    absent = np.isnan(matrix)[down[:-1].astype(int)][:, across[:-1].astype(int)]
    np.testing.assert_array_equal(absent, ~graph.adjacency)
    assert scene.num_steps == graph.edge_index.shape[1] + 9
    for v, node in enumerate(scene.nodes):
        start = layer.out_partition.offsets[v]
        size = layer.out_partition.sizes[v]
        summed = np.sum([e.message for e in scene.edges if e.target == v], axis=0)
        np.testing.assert_allclose(summed, node["aggregate"], atol=2e-3)
        out = layer(x)[0, start : start + size].detach().numpy()
        np.testing.assert_allclose(node["output"], out, atol=1e-3)


def test_the_picture_says_what_the_colours_are(layer):
    graph, matrix, _ = draw_round(layer).axes
    sides = "blue below 0, orange above, within ±"
    assert any(sides in text.get_text() for text in graph.texts)
    largest = layer.dense_weight().abs().max().item()
    assert f"{sides}{largest:.3g}" in matrix.get_xlabel()


def test_kernels_lie_side_by_side(generator):
    layer = RelationalConv2d(graphs.ring(4), 4, 8, 3, padding=1, generator=generator)
    matrix, across, down = _matrix(decoded(layer, torch.randn(1, 4, 5, 5, generator=generator)))
    assert matrix.shape == (24, 12)
    assert (across[-1], down[-1]) == (12, 24)
    kernel = layer.dense_weight()[5, 3].detach().numpy()
    np.testing.assert_allclose(matrix[15:18, 9:12], kernel, atol=1e-3)


def test_a_matrix_of_few_rows_is_drawn_as_high_as_wide(generator):
    layer = RelationalLinear(graphs.ring(16, 4), 160, 32, generator=generator)
    figure = draw_round(layer)
    figure.savefig(io.BytesIO())
    box = figure.axes[1].get_window_extent()
    assert box.height == pytest.approx(box.width, rel=0.01)
    labels = [label.get_window_extent() for label in figure.axes[1].get_yticklabels()]
    assert all(above.y0 > below.y1 - 2 for above, below in pairwise(labels))


def test_the_numbers_of_a_node_are_the_layers(layer):
    x = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    lines = texts(draw_round(layer, x, selected="node:5"))
    out = layer(x)[0, 21:25].tolist()
    shown = [float(number) for number in lines[lines.index(UPDATED) + 1].split()]
    assert shown == pytest.approx(out, abs=0.006)
    assert "5 messages, 5 there" in lines


@pytest.mark.parametrize("nodes", [8, 16])
def test_the_numbers_of_a_node_lead_to_its_output(nodes, generator):
    kwargs = {"residual": True, "activation": "relu", "generator": generator}
    layer = RelationalLinear(graphs.complete(nodes), 2 * nodes, 2 * nodes, **kwargs)
    figure = draw_round(layer, selected="node:1")
    lines = texts(figure)
    by_label = {
        label: np.array([float(number) for number in lines[lines.index(label) + 1].split()])
        for label in ("sum", "b", "residual", UPDATED)
    }
    before = by_label["sum"] + by_label["b"] + by_label["residual"]
    np.testing.assert_allclose(by_label[UPDATED], np.maximum(before, 0), atol=0.021)
    lowest = min(text.get_position()[1] for text in figure.axes[2].texts)
    assert lowest > -0.02  # it stays beside the drawing


@pytest.mark.parametrize("size", [1e5, 0.05, 1e-6])
def test_numbers_keep_their_digits(layer, size):
    x = size * torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.bias.zero_()
    lines = texts(draw_round(layer, x, selected="node:5"))
    out = layer(x)[0, 21:25].detach()
    shown = [float(number) for number in lines[lines.index(UPDATED) + 1].split() if number != "..."]
    assert len(shown) >= 3
    assert shown == pytest.approx(out[: len(shown)].tolist(), abs=0.06 * float(out.max()))


def test_what_rounds_to_nothing_has_no_sign(layer):
    with torch.no_grad():
        layer.bias[21:25] = torch.tensor([-0.001, -0.01, 0.0, 1.0])
    lines = texts(draw_round(layer, selected="node:5"))
    assert lines[lines.index("b") + 1] == "  0.00  -0.01   0.00   1.00"


def test_a_step_shows_what_has_arrived(layer):
    before = draw_round(layer, selected="node:1", step=0)
    assert "before the round" in before.axes[0].get_title()
    assert "5 messages, 0 there" in texts(before)
    assert not {"sum", "sum so far", UPDATED} & set(texts(before))
    some = draw_round(layer, selected="node:1", step=6 + 2)
    assert some.axes[0].get_title() == "step 8 of 48: message 1 → 1"
    assert "sum so far" in texts(some)
    recording = record(layer, torch.randn(1, 32, generator=torch.Generator().manual_seed(0)))[""]
    first, second = (recording.messages[5 + place, :4] for place in (0, 1))
    shown = texts(some)[texts(some).index("sum so far") + 1]
    assert [float(n) for n in shown.split()[:4]] == pytest.approx(
        (first + second).tolist(), abs=0.006
    )
    done = draw_round(layer, selected="node:1", step=12)
    assert done.axes[0].get_title() == "step 12 of 48: node 1 updates"
    assert UPDATED in texts(done)


def test_rings_hold_a_tick_for_every_channel(layer):
    rings = [c for c in draw_round(layer).axes[0].collections if isinstance(c, PatchCollection)]
    assert [len(ring.get_paths()) for ring in rings] == list(layer.out_partition.sizes)


def test_an_edge_and_a_missing_edge(layer):
    assert "4 x 4" in texts(draw_round(layer, selected="edge:1-3"))
    assert "no edge from node 1 to node 5:" in texts(draw_round(layer, selected="edge:1-5"))


@pytest.mark.parametrize(
    "layer",
    [
        RelationalLinear(graphs.ring(8, 4), 32, 32, message="gated", aggr="max"),
        RelationalLinear(graphs.ring(8, 4), 32, 32, message="edge_mlp", aggr="mean+max"),
        RelationalLinear(RelationalGraph(4, [[0, 2], [1, 3]]), 4, 4, bias=False),
        RelationalLinear(RelationalGraph(1, [[0], [0]]), 3, 3),
        RelationalConv2d(graphs.ring(8, 4), 16, 16, 3, padding=1),
    ],
    ids=["gated", "edge_mlp", "not connected", "one node", "conv"],
)
@pytest.mark.parametrize("selected", ["", "node:0", "edge:0-0"])
def test_any_round_can_be_drawn(layer, selected):
    figure = draw_round(layer, selected=selected)
    figure.draw_without_rendering()  # mathtext is parsed here
    assert len(figure.axes) == 3


def test_one_node_is_not_called_disconnected():
    figure = draw_round(RelationalLinear(RelationalGraph(1, [[0], [0]]), 3, 3))
    said = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert "one node" in said
    assert "not connected" not in said


def test_above_256_nodes_the_matrix_stands_alone():
    figure = draw_round(RelationalLinear(graphs.ring(260, 2), 260, 260))
    assert [ax.get_title() for ax in figure.axes] == ["weight matrix (W)", ""]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"step": 49}, "step is between 0 and 48, 49"),
        ({"step": -1}, "step is between 0 and 48, -1"),
        ({"step": 1.5}, "step is an integer between 0 and 48, 1.5"),
        ({"selected": "node:8"}, "selected='node:8' names nothing"),
        ({"selected": 3}, "selected=3 names nothing"),
        ({"round_index": 1}, "round_index is between 0 and 0, 1"),
        ({"sample": 1}, "no sample 1"),
        ({"x": [1.0]}, "x is a torch tensor"),
    ],
)
def test_what_is_not_there_is_said(layer, wrong, said):
    with pytest.raises(InputError, match=said):
        draw_round(layer, **wrong)


def test_the_widget_draws_what_is_on_screen(layer):
    pytest.importorskip("anywidget", reason="the widget's extra is not installed")
    from mpnn_arch.io.figures import as_png
    from mpnn_arch.widget import RoundWidget

    widget = RoundWidget(layer, step=8, selected="node:1")
    expected = as_png(draw_round(layer, selected="node:1", step=8))
    assert as_png(widget.draw()) == expected
    data, _ = widget._repr_mimebundle_()
    assert data["image/png"] == expected
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    widget.toggle(0, 4)
    assert "17" in texts(RoundWidget(widget.layer).draw())


def test_in_marimo_no_picture_is_drawn(monkeypatch):
    """It runs every widget, and a slider would wait for the picture."""
    pytest.importorskip("anywidget", reason="the widget's extra is not installed")
    marimo = pytest.importorskip("marimo", reason="marimo is not installed")
    from mpnn_arch.widget import RoundWidget

    widget = RoundWidget(RelationalLinear(graphs.ring(4, 2), 8, 8))
    monkeypatch.setattr(marimo, "running_in_notebook", lambda: True)
    monkeypatch.setattr(widget, "draw", lambda: pytest.fail("a picture was drawn"))
    data, _ = widget._repr_mimebundle_()
    assert "image/png" not in data
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize("fill", [torch.nan, torch.inf, 3e38])
def test_numbers_that_are_not_finite_are_drawn_without_a_warning(layer, recwarn, fill):
    figure = draw_round(layer, torch.full((1, 32), fill))
    figure.savefig(io.BytesIO())
    assert not recwarn.list
    discs = [patch for patch in figure.axes[0].patches if patch.zorder == 5]
    assert len(discs) == 8
    assert all(disc.get_facecolor()[3] == 1 for disc in discs)  # a label is read on its disc


@pytest.mark.parametrize("lost", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_grey_and_written_as_what_it_is(generator, recwarn, lost):
    layer = RelationalLinear(graphs.ring(8, 4), 32, 33, generator=generator)
    with torch.no_grad():
        layer.bias[5] = lost  # of node 1
        layer.weight.zero_()[0] = lost  # of the first message to node 0
    figure = draw_round(layer, torch.ones(1, 32), selected="node:1")
    figure.savefig(io.BytesIO())
    assert not recwarn.list
    axes = figure.axes[0]
    grey = [one.get_edgecolor() for one in axes.patches].count((0.5, 0.5, 0.5, 1.0))
    assert grey == 1  # the arc, or loop, of one message
    tick = axes.collections[1].get_facecolor()[0]
    assert tick.tolist() == [0.5, 0.5, 0.5, 1.0]
    assert any(f"{float(lost):6.2f}" in text.get_text() for text in figure.axes[2].texts)


def test_a_weight_that_is_not_finite_is_not_hatched_as_absent(layer, recwarn):
    with torch.no_grad():
        layer.weight[7] = torch.nan
    image = draw_round(layer).axes[1].images[-1]
    assert image.get_array().count() == 1
    place = np.argwhere(~np.ma.getmaskarray(image.get_array()))[0]
    assert layer.dense_weight()[tuple(place)].isnan()
    assert image.to_rgba(image.get_array())[tuple(place)].tolist() == [0.5, 0.5, 0.5, 1.0]
    image.figure.savefig(io.BytesIO())
    assert not recwarn.list
