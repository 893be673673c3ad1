"""Graphs of a million nodes, hostile files, and generators that could draw for ever."""

import io
import tracemalloc

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpnn_arch import InputError, RelationalGraph, graphs
from mpnn_arch.cli import main
from mpnn_arch.graphs import bitset, c_and_l
from mpnn_arch.graphs.generators.connected import BoundedStream, TooManyDraws
from mpnn_arch.graphs.generators.ws_flex import large_ws_flex

DEGREE_MEASURES = [
    "degree_mean",
    "degree_std",
    "degree_min",
    "degree_max",
    "degree_entropy",
    "density",
    "entropy_rate",
    "forman_curvature",
]

# -- edges as sorted integers are the edges of the matrix ---------------------------------------


@given(st.data(), st.booleans(), st.booleans())
def test_edges_are_those_of_the_matrix(data, directed, self_loops):
    num_nodes = data.draw(st.integers(1, 9))
    node = st.integers(0, num_nodes - 1)
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=30))
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    matrix = np.zeros((num_nodes, num_nodes), dtype=bool)
    matrix[edges[1], edges[0]] = True
    if not directed:
        matrix |= matrix.T
    if self_loops:
        np.fill_diagonal(matrix, True)
    if not matrix.any(axis=1).all():
        with pytest.raises(InputError, match="receives no message"):
            RelationalGraph(num_nodes, edges, directed=directed, self_loops=self_loops)
        return
    graph = RelationalGraph(num_nodes, edges, directed=directed, self_loops=self_loops)
    target, source = np.nonzero(matrix)
    assert graph.edges.tolist() == [source.tolist(), target.tolist()]
    assert graph.is_directed == bool((matrix != matrix.T).any())
    assert graph.has_self_loops == bool(matrix.diagonal().all())
    again = RelationalGraph(num_nodes, graph.edges, directed=True, self_loops=False)
    assert (again.is_directed, again.has_self_loops) == (graph.is_directed, graph.has_self_loops)
    assert again.content_hash == graph.content_hash


@pytest.mark.parametrize("num_nodes", [3, 5, 16, 64, 130])
@pytest.mark.parametrize("p", [0, 0.1, 0.5, 1])
def test_the_large_ws_flex_is_the_published_one(num_nodes, p):
    for degree in (2, 2.4, 3, num_nodes / 2, num_nodes - 1.5, num_nodes - 1):
        if not 2 <= degree <= num_nodes - 1:
            continue
        for seed in range(3):
            found = []
            for make in (graphs.ws_flex, large_ws_flex):
                try:
                    found.append(make(num_nodes, degree, p, seed))
                except InputError as error:
                    found.append(str(error))
            assert found[0] == found[1]


@pytest.mark.parametrize("directed", [False, True])
def test_measures_along_the_edges_are_exact(directed):
    drawn = nx.gnm_random_graph(600, 1500, seed=1, directed=directed)
    nx.add_cycle(drawn, range(600))  # every node reaches every other
    graph = RelationalGraph.from_networkx(drawn)
    drawn.remove_edges_from(nx.selfloop_edges(drawn))
    assert graph.clustering_coefficient == nx.average_clustering(drawn)
    assert graph.average_path_length == nx.average_shortest_path_length(drawn)
    words = bitset.without_loops(bitset.of_edges(600, [graph.edges, graph.edges]))
    assert (words == bitset.without_loops(bitset.pack(graph.adjacency))).all()
    assert (
        c_and_l.clustering_coefficient(words, directed).tolist()
        == [graph.clustering_coefficient] * 2
    )
    lengths = bitset.distances(words[:1], bitset.transpose(words[:1]))
    assert lengths.max() == nx.diameter(drawn)


# -- a million nodes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large():
    """A ring lattice of a million nodes and two million edges."""
    return graphs.ring(10**6, 4)


def test_a_million_nodes_are_made_hashed_and_shown(large):
    assert (large.num_nodes, large.num_edges) == (10**6, 2 * 10**6)
    assert repr(large).startswith("RelationalGraph(1000000 nodes, 2000000 edges")
    assert (large.average_degree, large.has_self_loops, large.is_directed) == (4, True, False)
    assert large == RelationalGraph(10**6, large.edges, directed=True, self_loops=False)


def test_a_million_nodes_are_measured_where_a_measure_allows_it(large):
    row = graphs.measure(large, DEGREE_MEASURES).iloc[0]
    assert row.to_list() == pytest.approx([4, 0, 4, 4, 0, 4e-6, 2, -4])


@pytest.mark.parametrize("name", sorted(set(graphs.list_measures()) - set(DEGREE_MEASURES)))
def test_other_measures_of_a_million_nodes_name_their_bytes(large, name):
    with pytest.raises(InputError, match=r"[0-9],000,000 bytes \(.*measure degree_mean"):
        graphs.measure(large, [name])


@pytest.mark.parametrize("name", ["adjacency", "clustering_coefficient", "average_path_length"])
def test_properties_of_a_million_nodes_name_their_bytes(large, name):
    with pytest.raises(InputError, match="000,000 bytes"):
        getattr(large, name)


def test_a_large_graph_is_drawn_as_its_degrees(large):
    from matplotlib.figure import Figure

    axes = large.draw("spring", ax=Figure().add_subplot(), node_size=3)
    (points,) = axes.get_lines()
    assert points.get_xydata().tolist() == [[4, 10**6]]
    axes = graphs.star(9).draw("degrees", ax=Figure().add_subplot())
    assert axes.get_lines()[0].get_xydata().tolist() == [[1, 8], [8, 1]]


def test_a_large_graph_is_written_and_read_as_edges(tmp_path, capsys):
    path = tmp_path / "large.edges"
    with pytest.raises(SystemExit) as stop:
        main(["graphs", "make", "ring:100000,6", "--out", str(path)])
    assert stop.value.code == 0
    assert RelationalGraph.from_file(path) == graphs.ring(100000, 6)
    with pytest.raises(SystemExit):
        main(["graphs", "draw", f"file:{path}", "--out", str(tmp_path / "x.png")])
    assert "distribution of degrees" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.edges", "x.png"]


def test_memory_is_proportional_to_the_edges():
    tracemalloc.start()
    graphs.ws_flex(20_000, 8, 0.1, 0)  # its matrix would take 400 MB, its rows of bits 50
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6


# -- generators that could draw for ever --------------------------------------------------------


def test_a_bounded_stream_is_pythons_until_it_gives_up():
    from random import Random

    bounded, plain = BoundedStream(5), Random(5)
    bounded.draws_left = 10_000
    items = list(range(37))
    for _ in range(50):
        assert bounded.choice(items) == plain.choice(items)
        assert bounded.random() == plain.random()
        assert bounded.sample(items, 9) == plain.sample(items, 9)
        ours, theirs = list(items), list(items)
        bounded.shuffle(ours)
        plain.shuffle(theirs)
        assert ours == theirs
    bounded.draws_left = 3
    with pytest.raises(TooManyDraws):
        bounded.shuffle(items)


@pytest.mark.parametrize("num_nodes", [5, 10, 14])
def test_lfr_ends(num_nodes):
    found = set()
    for seed in range(4):
        try:
            found.add(graphs.lfr(num_nodes, 3, seed=seed).num_nodes)
        except InputError as error:
            found.add(str(error).partition("with seed")[0])
    assert found <= {
        num_nodes,
        f"lfr of {num_nodes} nodes, degree 3 and mixing 0.2 gave no connected graph ",
    }


def test_an_er_graph_that_may_be_connected_is_still_drawn():
    # 14 isolated nodes are expected, so that most tries fail; none is refused beforehand.
    with pytest.raises(InputError, match="gave no connected graph with seed 0 in 100 tries"):
        graphs.er(100, 99)
    assert graphs.er(30, 60).num_edges == 60


# -- files --------------------------------------------------------------------------------------


def npy(array=None, header=None):
    if header is not None:
        text = header.encode().ljust(117) + b"\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz():
    stream = io.BytesIO()
    np.savez(stream, a=np.eye(2))
    return stream.getvalue()


def header(shape, kind="|b1"):
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><graphml>&i;</graphml>"
)

FILES = {
    "empty.csv": (b"", "it is empty: save"),
    "blank.csv": (b"\n\n \n", "it is empty: save"),
    "header.csv": (b"a,b\n0,1\n", "line 1 contains a value that is not a number"),
    "ragged.csv": (b"0,1\n1\n", "between 1 and 2 entries"),
    "wide.csv": (b"0,1,1\n1,0,1\n", "2 rows of 3 entries"),
    "tall.csv": (b"0,1\n1,0\n1,1\n", "more than 2 rows of 2"),
    "weights.csv": (b"0,0.5\n0.5,0\n", "this one holds 0.5"),
    "nan.csv": (b"0,nan\n1,0\n", "this one holds nan"),
    "inf.csv": (b"0,inf\n1,0\n", "this one holds inf"),
    "negative.csv": (b"0,-1\n-1,0\n", "this one holds -1"),
    "complex.csv": (b"0,1j\n1j,0\n", "not a number"),
    "hex.csv": (b"0,0x1\n1,0\n", "not a number"),
    "underscore.csv": (b"0,0_1\n1,0\n", "not a number"),
    "arabic.csv": ("0,\u0661\n1,0\n".encode(), "not a number"),
    "latin.csv": (b"0,\xe9\n1,0\n", "not text in UTF-8"),
    "utf16.csv": ("0,1\n1,0\n".encode("utf-16"), "not text in UTF-8"),
    "binary.csv": (bytes(range(256)), "not text in UTF-8"),
    "nul.csv": (b"0,1\0\n1,0\n", "not a number"),
    "two.txt": (b"012\n100\n000\n", "this one holds 2"),
    "empty.npy": (b"", "not a .npy file"),
    "text.npy": (b"0,1\n1,0\n", "not a .npy file"),
    "cut.npy": (npy(np.eye(8))[:-9], "not a .npy file"),
    "archive.npy": (npz(), ".npz archive"),
    "objects.npy": (npy(np.array([[None]])), "not a .npy file"),
    "complex.npy": (npy(np.eye(2) * 1j), "complex128, not numbers"),
    "words.npy": (npy(np.array([["0", "1"], ["1", "0"]])), "not numbers"),
    "dates.npy": (npy(np.zeros((2, 2), "M8[s]")), "not numbers"),
    "records.npy": (npy(np.zeros((2, 2), "i4,f4")), "not numbers"),
    "cube.npy": (npy(np.zeros((2, 2, 2))), "is square"),
    "scalar.npy": (npy(np.array(1)), "is square"),
    "line.npy": (npy(np.ones(4)), "is square"),
    "none.npy": (npy(np.zeros((0, 0))), "no"),
    "nan.npy": (npy(np.array([[0, np.nan], [1, 0]])), "this one holds nan"),
    "silent.npy": (npy(header=header((10**6, 10**6))), "not a .npy file"),
    "endless.npy": (npy(header=header((10**30, 10**30))), "not a .npy file"),
    "negative.npy": (npy(header=header((-2, -2))), "not a .npy file"),
    "code.npy": (npy(header="{'descr': __import__('os')}"), "not a .npy file"),
    "huge header.npy": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 99, "not a .npy file"),
    "empty.edges": (b"", "no nodes"),
    "comment.edges": (b"# nothing\n", "no nodes"),
    "column.edges": (b"1\n2\n3\n", "line 1 has 1 column ('1'); an edge list has two"),
    "later.edges": (b"1 2\n3\n", "line 2 has 1 column"),
    "comma.edges": (b"1,\n2,3\n", "line 1 has 2 columns"),
    "header.edges": (b"source,target\n0,1\n1,2\n", "its first line is a header"),
    "latin.edges": (b"caf\xe9 x\n", "not text in UTF-8"),
    "empty.graphml": (b"", "cannot be read as graphml"),
    "html.graphml": (b"<html></html>", "graphml"),
    "cut.graphml": (b"<graphml><graph><node id='1'>", "cannot be read as graphml"),
    "bomb.graphml": (BOMB.encode(), "cannot be read as graphml"),
    "none.graphml": (
        b'<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph/></graphml>',
        "graphml",
    ),
    "empty.gexf": (b"", "cannot be read as gexf"),
    "old.gexf": (b"<gexf version='9'/>", "cannot be read as gexf"),
    "data.bin": (b"01", "unknown format"),
    "noname": (b"01", "unknown format"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, name):
    content, fragment = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        RelationalGraph.from_file(path)
    assert fragment in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", "\ufeff0,1,0\n1,0,1\n0,1,0\n".encode()),
        ("windows.csv", b"0,1,0\r\n1,0,1\r\n0,1,0"),
        ("spaces.csv", b" 0, 1, 0\n1 , 0, 1\n0 1 0\n"),
        ("floats.csv", b"0.0,1.0,0\n1e0,0,1\n-0,1,0.\n"),
        ("tabs.tsv", b"0\t1\t0\n1\t0\t1\n\n0\t1\t0\n"),
        ("digits.txt", b"010\n101\n010\n"),
        ("bools.npy", npy(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool))),
        ("fortran.npy", npy(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], ">f4", order="F"))),
        ("bom.edges", "\ufeff0 1\n1 2\n".encode()),
        ("commas.edges", b"0, 1\n1 ,2\n"),
        ("comments.edges", b"# a path\n0 1 # first\n\n1 2\n2 1\n"),
        ("weights.edges", b"0 1 0.5\n1 2 0.25\n"),
        ("gaps.edges", b"30 20\n10 20\n"),
        ("names.edges", b"a b\nb c\n"),
        ("loops.edges", b"0 0\n0 1\n1 2\n"),
    ],
)
def test_a_file_with_an_odd_spelling_is_read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert RelationalGraph.from_file(path) == RelationalGraph(3, [[0, 1], [1, 2]])


def test_a_matrix_of_text_is_read_as_a_stream(tmp_path):
    path = tmp_path / "sparse.csv"
    zeros = bytearray(b"0," * 2999 + b"0\n")
    with path.open("wb") as file:
        for i in range(3000):
            row = bytearray(zeros)
            row[2 * ((i + 1) % 3000)] = row[2 * ((i - 1) % 3000)] = ord("1")
            file.write(row)
    tracemalloc.start()
    graph = RelationalGraph.from_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert graph == graphs.ring(3000, 2)
    assert peak < path.stat().st_size / 3  # 18 MB


def test_a_line_without_an_end_is_refused(tmp_path):
    path = tmp_path / "line.csv"
    path.write_bytes(b"0," * 2**24 + b"0")
    with pytest.raises(InputError, match="line 1 is longer than"):
        RelationalGraph.from_file(path)
