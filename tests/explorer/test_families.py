"""The families that the page offers by sliders."""

import pytest

from mpnn_arch.explorer.choice import Choice
from mpnn_arch.explorer.families import ABOUT, about, families, label, on_sliders, parameters, spec
from mpnn_arch.graphs import parse_one, ring
from mpnn_arch.graphs.generators import GENERATORS


def test_the_papers_family_comes_first():
    assert families()[0] == "ws_flex"
    assert {"ba", "complete", "er", "ring", "star", "tree", "ws"} <= set(families())
    assert len(families()) == len(set(families()))


@pytest.mark.parametrize("family", families())
def test_a_family_begins_with_a_graph(family):
    graph = parse_one(spec(family, {name: one.value for name, one in parameters(family).items()}))
    assert graph.num_nodes == 16


@pytest.mark.parametrize("family", ["ws_flex", "ws"])
def test_the_first_small_world_has_shortcuts(family):
    # With few edges and a low probability no edge may move, and the graph is the ring.
    values = {name: one.value for name, one in parameters(family).items()}
    graph = parse_one(spec(family, values))
    assert graph.num_edges == 32
    assert (graph.adjacency & ~ring(16, 4).adjacency).sum() / 2 >= 3


def test_the_page_begins_with_the_first_small_world():
    values = {name: one.value for name, one in parameters("ws_flex").items()}
    assert Choice().graph == spec("ws_flex", values)


def test_a_specification_names_what_it_has_to():
    assert spec("ws_flex", dict(zip(parameters("ws_flex"), (16, 4.5, 0.1, 0), strict=True))) == (
        "ws_flex:16,4.5,0.1,0"
    )
    given = {"num_nodes": 20, "average_degree": 4, "mixing": 0.2, "seed": 1}
    assert spec("lfr", given) == "lfr:num_nodes=20,average_degree=4,mixing=0.2,seed=1"


@pytest.mark.parametrize("family", families())
def test_sliders_find_a_specification_again(family):
    values = {name: one.value for name, one in parameters(family).items()}
    assert on_sliders(spec(family, values)) == (family, values)


@pytest.mark.parametrize(
    "text",
    ["ring:2000,2", "ring:16", "ring:16,x", "blob:3", "ba:nodes=16", "er", "", "ring:16,4,0,0"],
)
def test_what_no_slider_shows_is_left_to_the_name(text):
    assert on_sliders(text) is None


def test_labels_are_words():
    assert [label(name) for name in parameters("er")] == ["nodes", "edges", "seed"]


def test_every_family_is_described():
    assert set(ABOUT) == set(GENERATORS)
    assert all(about(family).endswith(".") and len(about(family)) < 90 for family in families())
