import pytest

from mpnn_arch import InputError, graphs
from mpnn_arch.studies import StudyConfig
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


def test_the_graphs_of_a_list_in_a_file_need_it_once(tmp_path):
    path = tmp_path / "my list.csv"
    header = "num_nodes,density,rewiring_probability,seed,clustering_coefficient"
    path.write_text(f"{header}\n16,0.25,0.2,0,0.4\n16,0.3,0.1,1,0.5\n16,0.25,0.2,0,0.4\n")
    specs = (f"list:{path}", f"rewired:0/list:{path}", "ring:16,4", "ws_flex:16,4,0.2,0")
    config = StudyConfig(model="mlp", dataset="digits", graphs=specs, seeds=(0,))
    names = ("ws_flex:16,4,0.2,0", "ws_flex:16,4.8,0.1,1")
    assert config.graphs == (*names, *(f"rewired:0/{name}" for name in names), "ring:16,4")
    assert graphs.parse(specs[0]) == [graphs.parse_one(names[i]) for i in (0, 1, 0)]
    assert StudyConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "it has no row"),
        ("num_nodes;density;seed\n16;0.25;0\n", "no column density"),
        ("num_nodes,density,rewiring_probability,seed\n16,0.25,0.2\n", "line 2: '' is not an"),
        ("num_nodes,density,rewiring_probability,seed\n16,a,0.2,0\n", "line 2: 'a' is not a num"),
    ],
)
def test_a_list_that_is_none(tmp_path, text, said):
    path = tmp_path / "list.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        graphs.parse(f"list:{path}")


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
