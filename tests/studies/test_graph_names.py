import pytest

from mpnn_arch import InputError, graphs
from mpnn_arch.studies.graph_names import expand, family_and_parameters


def test_a_list_becomes_the_calls_that_make_its_graphs():
    made = expand(["sample:16/48"])
    assert len(made) == 48
    for name, graph in made.items():
        assert name.startswith("ws_flex:16,")
        assert graphs.parse_one(name) == graph
    assert list(made.values()) == graphs.sample(16, 48)


@pytest.mark.parametrize("spec", ["sample:16/48/2:5", "sample:16/48/3", "sample:16/48/:2"])
def test_parts_of_a_list_have_the_names_they_have_in_the_list(spec):
    names, parts = expand(["sample:16/48"]), expand([spec])
    assert list(parts.values()) == graphs.parse(spec)
    assert parts.items() <= names.items()


@pytest.mark.parametrize(
    "spec", ["ws_flex:16,4,0.2,0", "ws_flex:16,4.0,0.20", "ws_flex:16, 4,rewiring_probability=0.2"]
)
def test_one_graph_has_one_name(spec):
    assert list(expand([spec])) == ["ws_flex:16,4,0.2,0"]


def test_a_graph_asked_for_twice_is_there_once():
    assert list(expand(["complete:16", "ring:16,4", "complete:16"])) == ["complete:16", "ring:16,4"]


def test_parameters_are_read_from_a_name():
    family, parameters = family_and_parameters("ws_flex:16,4.5,0.2,7")
    assert family == "ws_flex"
    assert parameters["average_degree"] == 4.5
    assert parameters["seed"] == 7
    assert family_and_parameters("file:brain.csv") == ("file", {})


def test_a_name_that_is_no_graph_is_refused():
    with pytest.raises(InputError, match="galaxy"):
        expand(["galaxy:16"])


def test_a_null_is_named_by_its_seed_and_the_name_of_its_graph():
    names = list(expand(["rewired:3/sample:16/48/2:4", "rewired:3/ws_flex:16, 4,0.20"]))
    assert names[2] == "rewired:3/ws_flex:16,4,0.2,0"
    assert names[:2] == [f"rewired:3/{name}" for name in expand(["sample:16/48/2:4"])]
    assert list(expand(names)) == names
