"""The widget's state, and the page that it writes."""

import json
import re
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrize import register_parametrization

from mpnn_arch import (
    GraphRound,
    InputError,
    RelationalConv2d,
    RelationalGraph,
    RelationalLinear,
    graphs,
)
from mpnn_arch.widget.export import MOST_BYTES, answer_key
from mpnn_arch.widget.patch import patched
from mpnn_arch.widget.rewire import rewire

pytest.importorskip("anywidget")
from mpnn_arch.widget import RoundWidget


@pytest.fixture
def layer(generator):
    return RelationalLinear(
        graphs.ring(8, 4), 32, 33, activation="relu", generator=generator, backend="masked"
    )


@pytest.fixture
def widget(layer):
    return RoundWidget(layer)


def test_it_shows_a_round_that_is_done(widget, layer):
    assert widget.step == widget.num_steps == layer.plan.num_edges + 8
    assert (widget.aggr, widget.message) == ("sum", "linear")
    assert widget.scene["difference"] < 1e-5
    assert widget.rounds == ["RelationalLinear"]


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"veiws": ["graph"]}, "has no 'veiws'.*theme, toggled, views"),
        ({"views": ["graf"]}, "'graph', 'matrix', 'equation'.*'graf'"),
        ({"theme": "black"}, "'auto', 'light', 'dark'.*'black'"),
        ({"step": "last"}, "an int, not the str 'last'"),
    ],
)
def test_what_cannot_be_shown_is_refused(layer, shown, words):
    with pytest.raises(InputError, match=words):
        RoundWidget(layer, **shown)


def test_toggling_rebuilds_the_layer_and_keeps_the_other_weights(widget, layer):
    before = widget.scene["facts"]
    widget.toggle(4, 0)
    assert widget.toggled == [[0, 4]]
    after = widget.scene["facts"]
    old, new = layer.dense_weight(), widget.layer.dense_weight()
    there = old != 0
    assert torch.equal(new[there], old[there])
    assert after["parameters"] - before["parameters"] == 5 * 4 + 4 * 4
    assert after["multiply_adds"] - before["multiply_adds"] == 5 * 4 + 4 * 4
    assert after["clustering_coefficient"] != before["clustering_coefficient"]
    assert after["average_path_length"] < before["average_path_length"]
    assert widget.step == widget.num_steps
    scene = widget.scene
    widget.toggle(0, 4)
    assert widget.toggled == []
    assert widget.scene["facts"] == before
    widget.toggle(0, 4)
    assert widget.scene == scene  # the same edge, the same weights


def test_a_directed_graph_that_a_toggle_makes_symmetric_stays_directed(tmp_path):
    graph = graphs.RelationalGraph(4, [[0, 1, 1, 2, 3], [1, 0, 2, 3, 2]], directed=True)
    widget = RoundWidget(RelationalLinear(graph, 8, 8))
    widget.toggle(2, 1)  # the one direction that lacks
    assert widget.scene["directed"]
    assert widget.scene["facts"]["edges"] == 6
    widget.export_html(tmp_path / "round.html")
    _, recorded = recorded_in(tmp_path / "round.html")
    shown = recorded["state"] | {"toggled": []}
    assert "directed" not in recorded["patches"][answer_key(shown)]  # 2 to 1 again
    widget.toggle(2, 1)
    assert widget.toggled == []
    assert widget.layer.graph == graph


def test_the_layer_that_was_given_is_left_alone(layer):
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.train()
    widget = RoundWidget(layer, toggled=[[0, 4]], aggr="max")
    assert widget.layer.aggr == "max"
    assert layer.aggr == "sum"
    assert layer.training
    assert all(torch.equal(tensor, layer.state_dict()[name]) for name, tensor in state.items())
    assert not layer.passes_messages


def test_swapping_aggregation_and_message(widget):
    widget.aggr = "max"
    assert widget.scene["aggr"] == "max"
    assert widget.scene["difference"] is None
    widget.aggr, widget.message = "sum", "gated"
    assert widget.scene["message"] == "gated"
    widget.message = "linear"
    assert widget.scene["difference"] < 1e-5


def test_stepping_is_a_trait(widget):
    widget.step = 3
    assert widget.step == 3
    widget.toggle(0, 4)
    assert widget.step == 3  # the step on screen stays where it was


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("step", 1000, "step=1000 is outside"),
        ("round_index", 1, "round_index=1 is outside 0 to 0"),
        ("sample", 1, "sample=1 is outside 0 to 0"),
        ("selected", "node:8", "names nothing"),
        ("selected", "nonsense", "names nothing"),
        ("toggled", [[0, 9]], "no edge from 0 to 9"),
        ("toggled", [3], "not a list of pairs"),
        ("toggled", [[0.5, 3]], "not a list of pairs"),
        ("toggled", [[0, u] for u in (0, 1, 2, 6, 7)], "no message at all"),
        ("aggr", "loudest", "loudest"),
        ("message", "scalar", "one size"),
    ],
)
def test_what_cannot_be_is_refused_and_the_screen_stays(widget, name, value, sentence):
    before, scene = getattr(widget, name), widget.scene
    with pytest.raises(InputError, match=re.escape(sentence)):
        setattr(widget, name, value)
    assert getattr(widget, name) == before
    assert widget.scene == scene
    # From the screen, the sentence is shown there instead, and the page goes on.
    widget.set_state({name: value})
    assert sentence in widget.error
    assert getattr(widget, name) == before
    widget.set_state({"toggled": [[0, 4]]})
    assert widget.error == ""
    assert widget.scene != scene


@pytest.mark.parametrize("node", ["a", 1.5, -1, 8])
def test_what_is_no_node_is_not_toggled(widget, node):
    with pytest.raises(InputError, match="a node is"):
        widget.toggle(0, node)
    assert widget.toggled == []


def test_a_model_shows_its_rounds_one_after_the_other(generator):
    ring, other = graphs.ring(8, 4), graphs.complete(8)
    model = nn.Sequential(
        nn.Linear(5, 16),
        RelationalLinear(ring, 16, 24, activation="relu", generator=generator),
        RelationalLinear(ring, 24, 16, generator=generator),
        RelationalLinear(other, 16, 8, generator=generator),
    )
    x = torch.randn(3, 5, generator=generator)
    widget = RoundWidget(model, x)
    assert widget.rounds == ["1", "2", "3"]
    widget.toggle(0, 4)
    assert widget.model[1].graph == widget.model[2].graph != ring
    assert widget.model[3].graph == other
    widget.round_index = 1
    assert widget.toggled == [[0, 4]]
    assert widget.layer is widget.model[2]
    widget.round_index = 2  # on another graph, on which nothing is toggled
    assert widget.toggled == []
    assert widget.scene["facts"]["edges"] == 28
    before = widget.scene
    widget.sample = 2
    assert widget.scene != before


def test_a_convolution_needs_no_input(generator):
    layer = RelationalConv2d(graphs.ring(8, 4), 8, 9, 3, padding=1, generator=generator)
    scene = RoundWidget(layer).scene
    assert scene["kernel"] == [3, 3]
    assert scene["map_out"] == [12, 12]


@pytest.mark.parametrize(
    ("given", "x", "sentence"),
    [
        (nn.Linear(3, 3), torch.ones(1, 3), "no round on a graph"),
        (nn.Linear(3, 3), None, "no round on a graph"),
        (GraphRound(3, 3), None, "no round on a graph .* untie"),
        (nn.Sequential(RelationalLinear("ring:4,2", 4, 4)), None, "give x"),
        (RelationalLinear("ring:4,2", 4, 4), torch.ones(1, 5), "this round takes"),
        (RelationalLinear("ring:4,2", 4, 4), [1.0], "x is a torch tensor"),
        (RelationalGraph(2, [[0], [1]]), None, "not a RelationalGraph"),
    ],
)
def test_what_cannot_be_shown_is_said(given, x, sentence):
    with pytest.raises(InputError, match=sentence):
        RoundWidget(given, x)


def recorded_in(path):
    page = path.read_text(encoding="utf-8")
    data = re.search(
        r'<script type="application/json" id="recorded-[0-9a-f]+">(.*?)</script>', page, re.S
    )
    return page, json.loads(data[1])


def test_the_page_is_one_file_that_loads_nothing(widget, tmp_path):
    path = tmp_path / "round.html"
    widget.step, widget.selected = 5, "edge:1-0"
    widget.export_html(path)
    page, recorded = recorded_in(path)
    assert path.stat().st_size < MOST_BYTES
    assert "default-src 'none'" in page
    without_namespaces = page.replace("http://www.w3.org/", "")
    assert not re.search(r"https?://|<link|\bsrc=|@import|\bimport\(|fetch\(", without_namespaces)
    assert recorded["scene"] == widget.scene
    assert recorded["state"]["step"] == 5
    assert recorded["state"]["selected"] == "edge:1-0"


def test_the_page_answers_toggles_and_swaps_as_python_does(widget, tmp_path):
    widget.export_html(tmp_path / "round.html")
    _, recorded = recorded_in(tmp_path / "round.html")
    base = {name: recorded["state"][name] for name in ("round_index", "sample", "message")}
    for change in ({"toggled": [[0, 4]]}, {"toggled": [[0, 1]]}, {"aggr": "max"}):
        shown = {"aggr": "sum", "toggled": []} | base | change
        patch = recorded["patches"][answer_key(shown)]
        scene = widget.scene_of(**change)
        assert patched(recorded["scene"], patch) == {
            k: v for k, v in scene.items() if v is not None
        }
    refused = recorded["patches"][
        answer_key({"aggr": "sum", "toggled": []} | base | {"message": "scalar"})
    ]
    assert "one size" in refused["error"]


def test_a_complete_graph_of_64_nodes_and_512_channels_fits(tmp_path, generator):
    layer = RelationalLinear(graphs.complete(64), 512, 512, generator=generator)
    RoundWidget(layer).export_html(tmp_path / "round.html")
    assert (tmp_path / "round.html").stat().st_size < MOST_BYTES


def test_a_page_records_the_rounds_of_a_model(tmp_path, generator):
    rounds = [RelationalConv2d(graphs.ring(8, 4), 8, 8, 3, padding=1) for _ in range(3)]
    widget = RoundWidget(nn.Sequential(*rounds), torch.randn(2, 8, 40, 40, generator=generator))
    widget.export_html(tmp_path / "model.html")
    _, recorded = recorded_in(tmp_path / "model.html")
    assert recorded["scene"]["map_out"] == [14, 14]
    base = {"sample": 0, "aggr": "sum", "message": "conv", "toggled": []}
    for index in (1, 2):
        patch = recorded["patches"][answer_key(base | {"round_index": index})]
        scene = widget.scene_of(round_index=index, largest_map=14)
        assert patched(recorded["scene"], patch) == scene


@pytest.fixture
def two_sizes(generator):
    return nn.Sequential(
        RelationalLinear(graphs.ring(6, 2), 12, 12, generator=generator),
        RelationalLinear(graphs.ring(4, 2), 12, 12, generator=generator),
    )


def test_what_is_selected_goes_with_a_round_on_a_larger_graph(two_sizes):
    widget = RoundWidget(two_sizes, torch.ones(1, 12), selected="node:5")
    widget.round_index = 1
    assert widget.selected == ""
    widget.selected = "edge:1-3"
    widget.round_index = 0
    assert widget.selected == "edge:1-3"


def test_the_last_step_of_a_round_is_that_of_the_one_before(two_sizes):
    widget = RoundWidget(two_sizes, torch.ones(1, 12), round_index=1, step=0)
    widget.set_state({"round_index": 0, "step": widget.num_steps, "selected": ""})
    assert (widget.round_index, widget.step, widget.num_steps) == (0, 24, 24)


def test_what_is_shown_is_given_in_any_order(two_sizes):
    shown = {"step": 14, "selected": "edge:0-2", "toggled": [[0, 2]], "round_index": 1}
    widget = RoundWidget(two_sizes, torch.ones(1, 12), **shown)
    assert {name: getattr(widget, name) for name in shown} == shown
    assert widget.layer.graph.num_edges == 5


def test_a_pair_twice_is_not_toggled(widget):
    widget.toggled = [[0, 4], [1, 5], [0, 4]]
    assert widget.toggled == [[1, 5]]


def test_only_rounds_that_change_are_made_anew(monkeypatch):
    made = []

    def counted(layer, *args, **kwargs):
        made.append(layer)
        return rewire(layer, *args, **kwargs)

    monkeypatch.setattr("mpnn_arch.widget.shown_model.rewire", counted)
    model = torch.nn.Sequential(
        *(RelationalLinear(graphs.ring(nodes, 2), 16, 16) for nodes in (8, 8, 4))
    )
    widget = RoundWidget(model, torch.ones(2, 16))
    widget.toggle(0, 4)
    assert len(made) == 2  # the third is on another graph
    shown = widget.model
    widget.round_index, widget.sample = 1, 1
    assert widget.model is shown
    assert len(made) == 2
    widget.aggr = "max"
    assert len(made) == 5


def test_pages_pasted_into_one_find_their_own_parts(tmp_path):
    for nodes in (4, 8):
        layer = RelationalLinear(graphs.ring(nodes, 2), 16, 16)
        RoundWidget(layer).export_html(tmp_path / f"{nodes}.html")
    first, second = (
        re.findall(r'(?: id=|(?:ById|All)\()"#?((?:round|recorded)[^"]*)"', path.read_text())
        for path in (tmp_path / "4.html", tmp_path / "8.html")
    )
    assert first == [first[0], first[1], first[1], first[0]]  # made, and looked for
    assert not {*first} & {*second}


def test_a_page_that_cannot_be_written_is_said(widget, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for name, reason in {
        "nowhere/round.html": "create its folder",
        "file/round.html": "a part of the path is a file",
        ".": "it is a folder",
    }.items():
        with pytest.raises(InputError, match=reason):
            widget.export_html(tmp_path / name)
    monkeypatch.setattr("mpnn_arch.widget.export.MOST_BYTES", 1000)
    with pytest.raises(InputError, match="more than 1,000"):
        widget.export_html(tmp_path / "round.html")
    assert not (tmp_path / "round.html").exists()


def test_weights_that_are_not_finite_are_shown_and_exported(tmp_path):
    layer = RelationalLinear("ring:8,4", 16, 16)
    with torch.no_grad():
        layer.weight[3], layer.weight[5] = torch.nan, torch.inf
    widget = RoundWidget(layer)
    assert widget.scene["difference"] < 1e-5  # of the outputs that are finite
    widget.export_html(tmp_path / "round.html")
    with torch.no_grad():
        layer.weight.fill_(torch.nan)
    widget = RoundWidget(layer)
    assert widget.scene["difference"] is None
    widget.export_html(tmp_path / "round.html")
    assert "NaN," not in (tmp_path / "round.html").read_text(encoding="utf-8")


def test_rounds_in_compiled_modules_are_toggled(generator):
    layer = RelationalLinear("ring:8,4", 16, 16, generator=generator)
    assert RoundWidget(torch.compile(layer)).scene == RoundWidget(layer).scene
    widget = RoundWidget(nn.Sequential(torch.compile(layer)), torch.ones(1, 16))
    assert widget.rounds == ["0"]
    widget.toggle(0, 4)
    assert widget.scene["facts"]["edges"] == 17
    assert widget.scene["difference"] < 1e-5


def test_a_parametrised_message_keeps_its_name():
    layer = RelationalLinear("ring:8,4", 16, 16)
    register_parametrization(layer.message_function, "weight", nn.Tanh())
    register_parametrization(layer, "bias", nn.Tanh())
    widget = RoundWidget(layer)
    assert widget.rounds == ["RelationalLinear"]
    assert widget.message == "linear"
    assert widget.scene["formula"] == "W_vu x_u"


def test_what_cannot_be_copied_is_said():
    model = nn.Sequential(RelationalLinear("ring:8,4", 16, 16))
    model.lock = threading.Lock()
    with pytest.raises(InputError, match="this Sequential cannot be copied"):
        RoundWidget(model, torch.ones(1, 16))


def test_a_pruned_round_after_a_step():
    layer = RelationalLinear("ring:8,4", 16, 16)
    prune.l1_unstructured(layer.message_function, "weight", 0.5)
    layer(torch.ones(2, 16)).sum().backward()
    assert RoundWidget(layer).scene["difference"] < 1e-5


@pytest.mark.filterwarnings("ignore:.*hook needs messages")
@pytest.mark.parametrize("kind", ["forward", "message_forward", "aggregate_forward"])
def test_hooks_that_change_a_round_are_named_beside_the_difference(kind):
    layer = RelationalLinear("ring:8,4", 16, 16)
    register = getattr(layer, f"register_{kind}_hook")
    register(lambda module, inputs, out: None)
    reads = RoundWidget(layer).scene
    register(lambda module, inputs, out: 2 * out)
    changes = RoundWidget(layer).scene
    assert not any("hooks" in note for note in reads["notes"])
    assert any("hooks" in note for note in changes["notes"])
    assert reads["difference"] < 1e-5 < changes["difference"]


def test_the_screen_is_answered_also_where_nothing_changes():
    widget = RoundWidget(RelationalLinear(graphs.ring(8, 4), 16, 16))
    widget.set_state({"step": 3})
    assert widget.answered == 0
    widget.set_state({"aggr": "sum"})
    assert widget.answered == 1
    widget.set_state({"aggr": "no such name"})
    assert (widget.answered, widget.aggr) == (2, "sum")
