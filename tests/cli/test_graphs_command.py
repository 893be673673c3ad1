from pathlib import Path

import pandas as pd
import pytest

from mpnn_arch import graphs
from mpnn_arch.cli.graphs import _names, _title
from mpnn_arch.graphs import RelationalGraph, generate, list_generators, list_measures
from mpnn_arch.studies.graph_names import expand

SHARED = Path(__file__).parents[2].parent / "shared"


def test_list_names_everything(run):
    code, out, _ = run("graphs", "list")
    assert code == 0
    for name in [*list_generators(), *list_measures()]:
        assert name in out
    assert "published:64/3942" in out
    assert "`" not in out  # no markup of docstrings


@pytest.mark.parametrize("suffix", ["npy", "csv", "txt", "graphml", "gexf"])
def test_make_writes_a_file_that_loads_again(run, tmp_path, suffix):
    path = tmp_path / f"graph.{suffix}"
    assert run("graphs", "make", "ws_flex:16,4,0.2,1", "--out", path)[0] == 0
    assert RelationalGraph.from_file(path) == generate("ws_flex", 16, 4, 0.2, 1)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    code, _, err = run("graphs", "make", "complete:4", "--out", path)
    assert code == 2
    assert "--force" in err
    assert run("graphs", "make", "complete:4", "--out", path, "--force")[0] == 0
    assert RelationalGraph.from_file(path) == generate("complete", 4)


def test_make_shows_the_graph(run):
    assert "8 nodes, 28 edges" in run("graphs", "make", "complete:8")[1]


def test_measure_prints_a_table_or_writes_it(run, tmp_path):
    code, out, _ = run("graphs", "measure", "complete:8", "sample:64/52/0:2", "-m", "diameter")
    assert code == 0
    assert "complete:8" in out
    assert "sample:64/52/0:2 [1]" in out
    path = tmp_path / "table.csv"
    assert run("graphs", "measure", "complete:8", "ring:9,4", "--out", path)[0] == 0
    table = pd.read_csv(path)
    assert table["graph"].tolist() == ["complete:8", "ring:9,4"]
    assert table["average_path_length"].tolist() == [1.0, 1.5]
    assert run("graphs", "measure", "ws_flex:20,6,0.1", "--all")[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "way_out"),
    [
        ("two.edges", "0 1\n2 3\n", "on the command line by --reachable-only"),
        ("a.csv", "Ann,Bob\n", "name a list of edges .edges"),
        ("a.dat", "0 1\n", "name it .txt, .csv"),
    ],
)
def test_measure_names_a_way_out_that_the_command_line_has(run, tmp_path, name, content, way_out):
    (tmp_path / name).write_text(content)
    code, _, err = run("graphs", "measure", f"file:{tmp_path / name}")
    assert code == 2
    assert way_out in err


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("sample:16/48/2:4", ["sample:16/48/2", "sample:16/48/3"]),
        ("sample:16/48/-1:", ["sample:16/48/47"]),
        ("ring:8,2", ["ring:8,2"]),
        ("sample:16/48", [f"sample:16/48/{i}" for i in range(48)]),
        (
            "rewired:3/sample:16/48/0:2",
            [f"rewired:3/{name}" for name in expand(["sample:16/48/0:2"])],
        ),
    ],
)
def test_drawn_graphs_have_names_that_parse(spec, names):
    found = graphs.parse(spec)
    given = _names(spec, len(found))
    assert len(found) == 1 or given == names
    assert [graphs.parse_one(name) for name in given] == found


def test_titles_tell_the_measures_and_fit():
    graph = graphs.parse_one("ring:8,4")
    lines = _title("ring:8,4", graph).split("\n")
    assert lines == ["ring:8,4", "8 nodes, 16 edges", "C 0.500, L 1.429"]
    long = _title("file:" + "folder$/" * 60 + "graph.edges", graph)
    assert len(long.split("\n")) == 5
    assert all(len(line.replace("\\", "")) <= 40 for line in long.split("\n"))
    assert "graph.edges" in long
    apart = graphs.RelationalGraph(4, [[0, 1], [1, 0]])
    assert _title("two", apart).endswith("not connected")
    directed = graphs.RelationalGraph(3, [[0, 1, 2], [1, 2, 0]], directed=True)
    assert "C " in _title("one-way", directed)


@pytest.mark.parametrize("layout", ["ring", "spring", "matrix"])
def test_draw_writes_a_picture(run, tmp_path, layout):
    path = tmp_path / "graph.png"
    assert run("graphs", "draw", "sample:16/48/0:2", "--layout", layout, "--out", path)[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["graph.png"]


def test_sample_sweeps_and_picks(run, tmp_path):
    out = tmp_path / "sweep"
    args = ("sample", "--num-nodes", 16, "--degrees", 5, "--probabilities", 6, "--bins", 8)
    code, stdout, _ = run("graphs", *args, "--out", out)
    assert code == 0
    assert stdout.startswith("60 graphs")
    picked = pd.read_csv(out / "sample.csv")
    assert 5 < len(picked) <= 60
    row = picked.iloc[0]
    graph = generate("ws_flex", 16, row.average_degree, row.rewiring_probability, int(row.seed))
    listed = graphs.parse(f"list:{out / 'sample.csv'}")
    assert len(listed) == len(picked)
    assert listed[0] == graph
    picture = tmp_path / "two.png"
    picked.head(2).to_csv(tmp_path / "two.csv", index=False)
    assert run("graphs", "draw", f"list:{tmp_path / 'two.csv'}", "--out", picture)[0] == 0
    assert graph.clustering_coefficient == pytest.approx(row.clustering_coefficient)
    assert run("graphs", *args, "--repeats", 1, "--out", out)[0] == 2


@pytest.mark.skipif(not SHARED.exists(), reason=f"the published files {SHARED} are missing")
def test_connectomes_are_shown_with_the_papers_values(run):
    code, out, _ = run("graphs", "connectomes", "--root", SHARED)
    assert code == 0
    assert "0.551" in out
    assert "2.380" in out


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("make", "torus:4"), "is not a graph spec"),
        (("make", "sample:64/52/0:2"), "names 2 graphs"),
        (("make", "complete:4", "--out", "graph.pdf"), "unknown format"),
        (("make", "complete:4", "--out", "absent/graph.csv"), "cannot be written"),
        (("measure", "complete:4", "-m", "colour"), "no measure 'colour'"),
        (("draw", "complete:4", "--out", "graph.txt"), "a picture is"),
        (("draw", "sample:64/449", "--out", "graph.png"), "one picture holds 64"),
        (("sample", "--bins", 0, "--out", "sweep"), "bins is between 1 and 10000"),
    ],
)
def test_bad_input_exits_with_2_and_one_sentence(run, tmp_path, monkeypatch, args, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("graphs", *args)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
