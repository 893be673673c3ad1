"""What the page shows, and that its code makes the same in a fresh process."""

import json
import subprocess
import sys

import pytest

from mpnn_arch import InputError, graphs
from mpnn_arch.explorer.choice import Choice, kept_file

pytest.importorskip("anywidget", reason="the widget's extra is not installed")
from mpnn_arch.widget import RoundWidget


def test_the_code_makes_what_is_on_screen(tmp_path):
    pytest.importorskip("sklearn")
    screens = [
        (Choice(graph="ring:8,4", channels=33), {"toggled": [[0, 4], [1, 2]], "aggr": "max"}),
        (Choice(graph="ba:9,3,1", channels=18, subject="conv"), {"message": "gated"}),
        (Choice(graph="ring:8,4", subject="mlp"), {"round_index": 1, "sample": 3, "step": 7}),
        (Choice(graph="ring:8,4", subject="resnet20"), {"round_index": 2}),
    ]
    script = ["import json", "scenes = []"]
    for choice, shown in screens:
        script += [choice.code(shown), "scenes.append(widget.scene)"]
    script.append(f"json.dump(scenes, open({str(tmp_path / 'scenes')!r}, 'w'))")
    subprocess.run([sys.executable, "-c", "\n".join(script)], check=True, capture_output=True)
    made = json.loads((tmp_path / "scenes").read_text())
    assert made == [RoundWidget(*choice.build(), **shown).scene for choice, shown in screens]


def test_a_file_of_other_content_leaves_the_code_of_the_first_as_it_was(tmp_path):
    first = kept_file(tmp_path, "Brain.edges", b"0 1\n1 2\n")
    second = kept_file(tmp_path, "other.edges", b"0 1\n1 2\n2 3\n")
    assert kept_file(tmp_path, "again.edges", b"0 1\n1 2\n") == first
    assert [Choice(graph=name).make_graph().num_nodes for name in (first, second)] == [3, 4]


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("undirected.csv", b"0,1,0,0\n1,0,1,1\n0,1,0,1\n0,1,1,0\n"),
        ("directed.csv", b"0,1,0\n0,0,1\n1,0,0\n"),
        ("alone.csv", b"0,0\n0,0\n"),
    ],
)
def test_the_code_of_an_uploaded_graph_needs_no_file(tmp_path, name, contents):
    path = kept_file(tmp_path, name, contents)
    choice = Choice(graph=path, channels=12, uploaded=True)
    code, made = choice.code({}), {}
    assert "file:" not in code
    exec(code, made)
    assert made["graph"] == choice.make_graph()
    assert made["widget"].scene == RoundWidget(*choice.build()).scene


def test_the_code_of_a_large_uploaded_graph_says_whose_copy_it_names(tmp_path):
    edges = b"".join(b"%d %d\n" % (u, v) for u in range(50) for v in range(u))
    code = Choice(graph=kept_file(tmp_path, "a.edges", edges), uploaded=True).code({})
    assert "name your own file" in code
    assert code.count("\n") < 10


def test_a_graph_is_made_once_for_the_plane_and_the_round(monkeypatch):
    made, parse = [], graphs.parse_one
    monkeypatch.setattr(graphs, "parse_one", lambda text: made.append(text) or parse(text))
    choice = Choice(graph="ring:8,4")
    assert choice.make_graph() == choice.build()[0].graph
    assert made == ["ring:8,4"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"subject": "poem"}, "no subject 'poem'"),
        ({"channels": 0}, "0 channels"),
        ({"graph": "ring:16,99"}, "degree is between"),
        ({"graph": "blob:3"}, "blob:3"),
        ({"graph": "ring:2000,2", "channels": 4000}, "more than a page can draw"),
        ({"graph": "ring:64,4", "channels": 16}, "cannot be shared"),
        ({"graph": "file:/nowhere.csv"}, "nowhere"),
        ({"graph": "ws_flex:16,1,0,0"}, "average_degree lies between"),
    ],
)
def test_what_cannot_be_shown_is_said(given, sentence):
    with pytest.raises(InputError, match=sentence):
        Choice(**given).build()


def test_an_address_holds_a_choice():
    choice = Choice(graph="lfr:num_nodes=20,mixing=0.2", subject="conv", channels=128)
    assert Choice.from_address(choice.address()) == choice
    assert Choice.from_address({}) == Choice()


@pytest.mark.parametrize(
    "asked",
    [
        {"see": "nothing"},
        {"channels": "65"},
        {"channels": "many"},
        {"digits": "imagenet"},
        {"graph": ["ring:8,4", "ring:8,2"], "see": ["linear", "conv"]},
    ],
)
def test_an_address_of_no_choice_is_the_default(asked):
    assert Choice.from_address(asked) == Choice()
