import csv
import io
from http.client import IncompleteRead
from itertools import combinations, permutations
from pathlib import Path
from typing import ClassVar
from urllib.error import URLError

import networkx as nx
import numpy as np
import pytest

from mpnn_arch import InputError, RelationalGraph
from mpnn_arch.graphs import (
    CONNECTOMES,
    connectome,
    connectome_measures,
    generate,
    parse,
    parse_one,
    published,
    remote,
    rewired,
    sample,
)
from mpnn_arch.io.cache_folder import user_cache

SHARED = Path(__file__).parents[2].parent / "shared"
needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason=f"the published files {SHARED} are missing"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MPNN_ARCH_DATA", raising=False)
    monkeypatch.setattr(remote, "urlopen", no_network)


def no_network(url, timeout):
    raise URLError("no network in tests")


def serve(monkeypatch, body, length=None):
    """Answer every download with ``body``."""

    def answer(url, timeout):
        served = io.BytesIO(body)
        served.headers = {"Content-Length": str(len(body) if length is None else length)}
        return served

    monkeypatch.setattr(remote, "urlopen", answer)


def left_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


# -- lists ------------------------------------------------------------------------------------


@needs_shared
def test_published_lists_in_both_formats(tmp_path):
    with (SHARED / "published" / "graphs_n64_52.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    graphs = published(64, 52, SHARED)
    assert len(graphs) == 52
    for graph, row in zip(graphs, rows, strict=True):
        assert graph.clustering_coefficient == pytest.approx(float(row["clustering_coefficient"]))
    np.save(
        tmp_path / "graphs_n64_52.npy", [[float(value) for value in row.values()] for row in rows]
    )
    assert published(64, 52, tmp_path) == graphs


@needs_shared
def test_a_published_list_is_fetched_verified_and_stored(tmp_path, monkeypatch):
    with (SHARED / "published" / "graphs_n16_48.csv").open(newline="") as file:
        rows = [[float(value) for value in row.values()] for row in csv.DictReader(file)]
    file = io.BytesIO()
    np.save(file, rows)
    serve(monkeypatch, file.getvalue())
    graphs = published(16, 48)
    assert graphs == published(16, 48, SHARED)
    monkeypatch.setattr(remote, "urlopen", no_network)
    assert published(16, 48) == graphs  # from the cache
    assert [path.name for path in left_in(user_cache())] == ["graphs_n16_48.npy"]


def test_a_user_without_a_home_has_no_cache_to_fetch_into(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InputError, match="pass its folder as root"):
        published(64, 52)


@pytest.mark.parametrize(
    ("body", "length", "sentence"),
    [
        (b"not an array", None, "is not the published list"),
        (b"half", 400, "stopped after 4 of 400 bytes"),
    ],
)
def test_a_wrong_or_incomplete_download_leaves_no_file(
    tmp_path, monkeypatch, body, length, sentence
):
    serve(monkeypatch, body, length)
    with pytest.raises(InputError, match=sentence):
        published(64, 52, tmp_path / "root")
    assert left_in(tmp_path) == []


def test_an_interrupted_connection_leaves_no_file(tmp_path, monkeypatch):
    class Cut(io.BytesIO):
        headers: ClassVar = {"Content-Length": "400"}

        def read(self, *size):
            raise IncompleteRead(b"half", 396)

    monkeypatch.setattr(remote, "urlopen", lambda url, timeout: Cut())
    with pytest.raises(InputError, match="could not be fetched"):
        published(64, 52)
    assert left_in(tmp_path) == []


def test_pickles_are_not_opened(tmp_path, monkeypatch):
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    serve(monkeypatch, file.getvalue())
    with pytest.raises(InputError, match="not the published list"):
        published(64, 52)
    assert left_in(tmp_path) == []


def test_without_network_the_error_says_where_to_put_the_file(tmp_path):
    with pytest.raises(InputError, match="MPNN_ARCH_DATA"):
        published(64, 449)
    with pytest.raises(InputError, match=r"graphs_n64_449\.csv is not in"):
        published(64, 449, tmp_path, download=False)
    with pytest.raises(InputError, match=r"cat_cortex\.txt is not in"):
        connectome("cat_cortex", tmp_path, download=False)
    assert left_in(tmp_path) == []


@needs_shared
def test_a_changed_list_is_refused(tmp_path):
    text = (SHARED / "published" / "graphs_n64_52.csv").read_text()
    (tmp_path / "graphs_n64_52.csv").write_text(text.replace(",16,", ",17,", 1))
    with pytest.raises(InputError, match="not the published list"):
        published(64, 52, tmp_path)


@needs_shared
def test_specs_of_lists(monkeypatch):
    monkeypatch.setenv("MPNN_ARCH_DATA", str(SHARED))
    whole = published(64, 52)
    assert parse("published:64/52") == whole
    assert parse("published:64/52/17") == [whole[17]]
    assert parse("published:64/52/50:") == whole[50:]
    assert parse_one("connectome:cat_cortex") == connectome("cat_cortex", SHARED)
    assert not parse_one("connectome:cat_cortex,undirected").is_directed


def test_specs_of_samples():
    whole = sample(64, 52)
    assert parse("sample:64/52/0:6") == whole[:6]
    assert parse_one("sample:64/52/51") == whole[51]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("sample:64/53", "no sample of 53 graphs of 64 nodes; there are 3942, 449, 52 of 64"),
        ("sample:64", "does not name a list"),
        ("sample:64/52/a", "does not name a list"),
        ("sample:64/52/1:2:3", "does not name a list"),
        ("sample:64/52/52", "numbered 0 to 51"),
        ("sample:64/52/-1", "numbered 0 to 51"),
        ("sample:64/52/9:9", "empty slice"),
        ("sample:", "does not name a graph"),
        ("published:32/10", "no published list"),
        ("connectome:mouse", "no connectome 'mouse'; choose one of cat_cortex"),
        ("connectome:cat_cortex,both", "unknown option 'both'"),
        ("file:", "does not name a graph"),
        ("file:absent.csv", "there is no file absent.csv"),
    ],
)
def test_bad_specs(spec, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(spec)
    with pytest.raises(InputError, match="names 2 graphs where one is needed"):
        parse_one("sample:64/52/0:2")


# -- connectomes ------------------------------------------------------------------------------


@needs_shared
def test_connectomes_are_directed_with_row_as_target():
    raw = (SHARED / "connectomes" / "cat_cortex.txt").read_text().split()
    graph = connectome("cat_cortex", SHARED)
    assert graph.num_nodes == 52
    assert graph.is_directed
    assert graph.has_self_loops
    for target, source in ((0, 1), (3, 0), (51, 50)):
        assert graph.adjacency[target, source] == (raw[target][source] == "1")
    assert connectome("macaque_visual_cortex", SHARED).num_nodes == 30
    assert connectome("macaque_whole_cortex", SHARED).num_nodes == 71
    with pytest.raises(InputError, match="unreachable pairs"):
        _ = connectome("macaque_whole_cortex", SHARED).average_path_length


@needs_shared
def test_the_closest_definitions_are_near_the_papers_table():
    rows = {row["connectome"]: row for row in connectome_measures(SHARED)}
    assert set(rows) == set(CONNECTOMES)
    for row in rows.values():
        assert row["C_neighbourhood"] == pytest.approx(row["C_paper"], abs=0.006)
    assert rows["cat_cortex"]["C_neighbourhood"] == pytest.approx(0.551, abs=5e-4)
    assert rows["macaque_visual_cortex"]["C_neighbourhood"] == pytest.approx(0.526, abs=5e-4)
    lengths = [round(row["L_directed"], 3) for row in rows.values()]
    assert lengths == [1.808, 1.722, 2.330]


@needs_shared
def test_a_connectome_is_fetched_verified_and_stored(monkeypatch, tmp_path):
    text = (SHARED / "connectomes" / "cat_cortex.txt").read_bytes()
    serve(monkeypatch, text.rstrip())  # line endings do not matter
    assert connectome("cat_cortex") == connectome("cat_cortex", SHARED)
    assert len(left_in(user_cache())) == 1
    serve(monkeypatch, text.replace(b"1", b"0", 1))
    with pytest.raises(InputError, match="checksum differs"):
        connectome("cat_cortex", tmp_path / "root")
    assert left_in(tmp_path / "root") == []


# -- files ------------------------------------------------------------------------------------


def test_every_format_of_a_matrix(tmp_path):
    graph = RelationalGraph(4, [[0, 1, 3], [1, 2, 0]], directed=True)
    matrix = graph.adjacency.astype(int)
    (tmp_path / "a.txt").write_text("\n".join("".join(map(str, row)) for row in matrix))
    np.savetxt(tmp_path / "b.csv", matrix, fmt="%d", delimiter=",")
    np.savetxt(tmp_path / "c.tsv", matrix, delimiter="\t")
    np.save(tmp_path / "d.npy", matrix)
    for name in ("a.txt", "b.csv", "c.tsv", "d.npy"):
        assert RelationalGraph.from_file(tmp_path / name) == graph
        assert parse_one(f"file:{tmp_path / name}") == graph
    undirected = RelationalGraph.from_file(tmp_path / "a.txt", directed=False)
    assert (undirected.adjacency == (graph.adjacency | graph.adjacency.T)).all()


def test_edge_lists_and_network_files(tmp_path):
    graph = generate("ws_flex", 16, 4, 0.3, 0)
    drawn = graph.to_networkx()
    nx.write_edgelist(drawn, tmp_path / "a.edgelist", data=False)
    nx.write_edgelist(drawn, tmp_path / "b.edges", data=False, delimiter=",")
    nx.write_graphml(drawn, tmp_path / "c.graphml")
    nx.write_gexf(drawn, tmp_path / "d.gexf")
    for name in ("a.edgelist", "b.edges", "c.graphml", "d.gexf"):
        assert RelationalGraph.from_file(tmp_path / name) == graph
    nx.write_graphml(nx.DiGraph([(0, 1), (1, 2)]), tmp_path / "e.graphml")
    assert RelationalGraph.from_file(tmp_path / "e.graphml").is_directed
    assert not RelationalGraph.from_file(tmp_path / "e.graphml", directed=False).is_directed
    (tmp_path / "f.data").write_text("0 1\n1 2\n")
    assert RelationalGraph.from_file(tmp_path / "f.data", "edges").num_edges == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "# from to\n0 1\n1 2\n2 3\n3 0\n"),
        ("a.csv", "0,1\n1,2\n2,3\n3,0\n"),
        ("a.tsv", "4\t5\n5\t6\n6\t7\n7\t4\n"),
    ],
)
def test_two_columns_that_can_be_no_matrix_are_edges(tmp_path, name, content):
    graph = parse_one("ring:4")
    (tmp_path / name).write_text(content)
    assert RelationalGraph.from_file(tmp_path / name) == graph
    with pytest.raises(InputError):
        RelationalGraph.from_file(tmp_path / name, "matrix")


@pytest.mark.parametrize(
    "content",
    [
        "0;1\r\n1;2\r\n2;3\r\n",
        "a;b\nb;c\nc;d\n",
        '"a";"b"\n"b";"c"\n"c";d\n',
        '"Smith, J","Doe; A"\n"Doe; A",c\nc,d\n',
        '"New York" Boston\nBoston  Rome\nRome Oslo\n',
        "New York\tBoston\nBoston\t\tRome\nRome\tOslo\n",
        "0 1 {'weight': 1.0, 'kind': 2}\n1 2 {}\n2 3 {'kind': 2, 'weight': 1.0}\n",
    ],
)
def test_edge_lists_of_spreadsheets_and_of_networkx(tmp_path, content):
    (tmp_path / "a.edges").write_text(content)
    path = RelationalGraph(4, [[0, 1, 2], [1, 2, 3]])
    assert RelationalGraph.from_file(tmp_path / "a.edges") == path


TWO_GRAPHS = "".join(
    [
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
        *2 * ['<graph edgedefault="undirected"><node id="a"/></graph>'],
        "</graphml>",
    ]
)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "1,0\n0,1\n1,1\n", "square"),
        ("a.csv", "Alice,Bob\nBob,Carl\n", "name a list of edges .edges"),
        ("a.csv", "1,0\n0\n", "between 1 and 2 entries"),
        ("a.csv", "0,2\n2,0\n", "holds 0 and 1"),
        ("a.csv", "0,1,0.5\n1,2,0.2\n2,0,3\n", "or name a list of edges with weights .edges"),
        ("a.tsv", "0\t1\t1\n1\t0\t1\n1\t1\t1\n0\t0\t1\n", "edges with weights .edges"),
        ("a.csv", "0,nan\n1,0\n", "holds 0 and 1"),
        ("a.csv", "a,b\n0,1\n", "not a number"),
        ("a.csv", "", "it is empty: save a matrix"),
        ("a.npy", "0,1\n1,0\n", "not a .npy file"),
        ("a.graphml", "<graph", "cannot be read as graphml"),
        ("a.graphml", TWO_GRAPHS, "contains 2 graphs; save each in a file of its own"),
        ("a.edgelist", "", "no nodes"),
        ("a.pdf", "0", "unknown format"),
    ],
)
def test_invalid_files_give_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=sentence):
        RelationalGraph.from_file(tmp_path / name)


def test_a_pickled_matrix_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[None]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"not a \.npy file of numbers"):
        RelationalGraph.from_file(tmp_path / "a.npy")


# -- null models ------------------------------------------------------------------------------


def test_rewiring_keeps_degrees_and_changes_the_rest():
    graph = generate("ws_flex", 40, 6, 0.05, 0)
    null = rewired(graph, seed=1)
    assert (null.adjacency.sum(0) == graph.adjacency.sum(0)).all()
    assert null.num_edges == graph.num_edges
    assert nx.is_connected(null.to_networkx())
    assert null.clustering_coefficient < graph.clustering_coefficient / 2
    assert rewired(graph, seed=1) == null
    assert rewired(graph, seed=2) != null
    assert rewired(graph, seed=1, swaps=0) == graph


@needs_shared
def test_rewiring_keeps_both_degrees_of_directed_graphs():
    graph = connectome("macaque_visual_cortex", SHARED)
    null = rewired(graph, seed=0, swaps=300)
    assert null.is_directed
    assert null != graph
    for axis in (0, 1):
        assert (null.adjacency.sum(axis) == graph.adjacency.sum(axis)).all()


@pytest.mark.parametrize(
    "edges",
    [
        # From sources to sinks, with no path of two edges.
        [(0, 2), (0, 3), (1, 3), (1, 4)],
        # Only turning the circle gives the other one.
        [(0, 1), (1, 2), (2, 0)],
        [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)],
    ],
)
def test_every_directed_graph_of_the_same_degrees_is_drawn(edges):
    nodes = 1 + max(map(max, edges))
    graph = RelationalGraph(nodes, np.array(edges).T, directed=True)
    pairs = np.array(list(permutations(range(nodes), 2)))
    loops = np.eye(nodes, dtype=bool)
    possible = set()
    for chosen in combinations(range(len(pairs)), len(edges)):
        matrix = loops.copy()
        matrix[tuple(pairs[list(chosen)].T)] = True
        same = all((matrix.sum(k) == graph.adjacency.sum(k)).all() for k in (0, 1))
        if same and nx.is_weakly_connected(nx.from_numpy_array(matrix, create_using=nx.DiGraph)):
            possible.add(matrix.tobytes())
    drawn = {np.asarray(rewired(graph, seed).adjacency).tobytes() for seed in range(200)}
    assert drawn == possible
    assert len(possible) > 1


def test_a_complete_graph_cannot_be_rewired():
    with pytest.raises(InputError, match="cannot be rewired"):
        rewired(generate("complete", 6), swaps=5)
    with pytest.raises(InputError, match="swaps is between 0 and 100000000"):
        rewired(generate("ring", 8), swaps=-1)
