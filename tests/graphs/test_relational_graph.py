import copy
import pickle
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

from mpnn_arch import InputError
from mpnn_arch.graphs import RelationalGraph, generate


def path(num_nodes, **options):
    return RelationalGraph(num_nodes, [range(num_nodes - 1), range(1, num_nodes)], **options)


def test_edges_are_sorted_by_target_with_both_directions_and_self_loops():
    graph = RelationalGraph(3, [[1, 0, 1], [2, 1, 2]])
    assert graph.edge_index.tolist() == [[0, 1, 0, 1, 2, 1, 2], [0, 0, 1, 1, 1, 2, 2]]
    assert graph.num_edges == 2
    assert graph.has_self_loops
    assert not graph.is_directed


def test_densities_count_self_loops_only_where_they_cost():
    graph = path(4)
    assert graph.average_degree == 1.5
    assert graph.density == 1.5 / 4
    assert graph.block_density == (6 + 4) / 16


def test_directed_graph_keeps_its_direction():
    graph = RelationalGraph(3, [[0, 1, 2], [1, 2, 0]], directed=True, self_loops=False)
    assert graph.is_directed
    assert graph.num_edges == 3
    assert graph.edge_index.tolist() == [[2, 0, 1], [0, 1, 2]]
    assert graph.to_networkx().is_directed()


def test_round_trips():
    graph = generate("ws_flex", 20, 5, 0.3, seed=1)
    assert RelationalGraph.from_networkx(graph.to_networkx()) == graph
    assert RelationalGraph.from_adjacency(graph.adjacency) == graph
    assert RelationalGraph.from_edge_index(graph.edge_index) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph
    assert copy.deepcopy(graph) is graph
    data = graph.to_data()
    assert data.num_nodes == 20
    assert data.edge_index.equal(graph.edge_index)


def test_a_graph_cannot_be_changed():
    graph = path(3)
    with pytest.raises(AttributeError, match="frozen"):
        graph.num_nodes = 4
    with pytest.raises(ValueError, match="read-only"):
        graph.edges[0, 0] = 2
    graph.edge_index[0, 0] = 2
    assert graph == path(3)


def test_content_hash_distinguishes_graphs_and_is_stable():
    assert path(5).content_hash == path(5).content_hash
    assert path(5).content_hash != path(5, self_loops=False).content_hash
    assert path(5).content_hash != path(6).content_hash
    assert path(3).content_hash == (
        "f7c25391ba8223360f916487f4d157823237749707f7ff43b9cfafd7953dadac"
    )
    assert len({path(4), path(4), path(5)}) == 2


def test_repr_shows_nodes_edges_and_density():
    assert "4 nodes, 3 edges, density=0.375" in repr(path(4))
    assert "(1 node, 0 edges, " in repr(RelationalGraph(1, [[0], [0]]))


def test_an_adjacency_may_be_sparse_or_in_bfloat16():
    graph = RelationalGraph(4, [[0, 1, 2, 3], [1, 2, 3, 1]], directed=True)
    dense = torch.from_numpy(graph.adjacency).float()
    scipy = [
        getattr(sparse, f"{kind}_array")(dense.numpy()) for kind in ("coo", "csr", "csc", "lil")
    ]
    torchs = [dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc(), dense.bfloat16()]
    for matrix in (*scipy, *torchs):
        assert RelationalGraph.from_adjacency(matrix, directed=True) == graph
    stored_zero = sparse.csr_array(([0.0, 1.0], ([0, 1], [1, 0])), shape=(2, 2))
    assert RelationalGraph.from_adjacency(stored_zero, directed=True).edges.shape[1] == 3
    for matrix, words in (
        (sparse.csr_array(np.full((2, 2), 0.5)), "holds 0.5; threshold"),
        (torch.ones(2, 3).to_sparse(), r"square, this one has shape \(2, 3\)"),
        (torch.ones(2, 2, 2).to_sparse(), "square"),
    ):
        with pytest.raises(InputError, match=words):
            RelationalGraph.from_adjacency(matrix)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RelationalGraph(0, []), "at least 1 node"),
        (lambda: RelationalGraph(3, [[0, 3], [1, 1]]), "names node 3"),
        (lambda: RelationalGraph(3, [[0, -1], [1, 1]]), "names node -1"),
        (lambda: RelationalGraph(3, [[0, 1, 2]]), r"shape \(2, E\)"),
        (lambda: RelationalGraph(3, [[0.5], [1.0]]), "holds integers"),
        (lambda: RelationalGraph(3, [[0], [1]], self_loops=False), "node 2 receives no message"),
        (lambda: RelationalGraph.from_adjacency(np.ones((2, 3))), "square"),
        (lambda: RelationalGraph.from_adjacency(np.full((2, 2), 0.5)), "holds 0 and 1"),
        (lambda: RelationalGraph.from_edge_index([[], []]), "num_nodes"),
    ],
)
def test_bad_input_is_one_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_measures_of_known_graphs():
    assert generate("complete", 6).clustering_coefficient == 1.0
    assert generate("complete", 6).average_path_length == 1.0
    assert path(4).clustering_coefficient == 0.0
    assert path(4).average_path_length == pytest.approx(10 / 6)  # 1+2+3+1+2+1 over 6 pairs


def test_measures_equal_networkx_on_a_directed_graph_with_self_loops():
    drawn = nx.gnp_random_graph(30, 0.2, seed=3, directed=True)
    graph = RelationalGraph.from_networkx(drawn)
    assert graph.has_self_loops
    assert graph.clustering_coefficient == nx.average_clustering(drawn)
    assert graph.average_path_length == nx.average_shortest_path_length(drawn)


def test_weights_of_edges_are_left_out_as_the_docstrings_say(tmp_path):
    drawn = nx.Graph()
    drawn.add_weighted_edges_from([(0, 1, 0.5), (1, 2, 0.0)])
    nx.write_weighted_edgelist(drawn, tmp_path / "brain.edges")
    nx.write_graphml(drawn, tmp_path / "brain.graphml")
    expected = path(3)
    assert RelationalGraph.from_networkx(drawn) == expected
    for name in ("brain.edges", "brain.graphml"):
        assert RelationalGraph.from_file(tmp_path / name) == expected


@pytest.mark.parametrize("directed", [False, True])
def test_unreachable_pairs_and_one_node_have_no_path_length(directed):
    apart = RelationalGraph(4, [[0, 2], [1, 3]], directed=directed)
    with pytest.raises(InputError, match="unreachable pairs"):
        _ = apart.average_path_length
    with pytest.raises(InputError, match="1 node"):
        _ = RelationalGraph(1, [[], []]).average_path_length


@pytest.mark.parametrize("layout", ["ring", "spring", "matrix"])
def test_draw_returns_the_axes_it_drew_on(layout):
    import matplotlib

    matplotlib.use("Agg", force=True)
    import matplotlib.pyplot as plt

    axes = path(5).draw(layout)
    assert axes.images or axes.collections
    _, given = plt.subplots()
    assert path(5).draw(layout, ax=given) is given
    plt.close("all")
    with pytest.raises(InputError, match="layout"):
        path(5).draw("spiral")


def test_graphs_import_without_torch_and_without_drawing():
    script = (
        "import sys, mpnn_arch.graphs as g; g.parse('ws_flex:16,4,0.1')[0].average_path_length; "
        "heavy = {'torch', 'torch_geometric', 'matplotlib', 'pandas', 'networkx'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
