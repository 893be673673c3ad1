import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnn_arch import InputError
from mpnn_arch.graphs import (
    GraphBatch,
    RelationalGraph,
    bitset,
    generate,
    list_measures,
    measure,
    measure_weighted,
)
from mpnn_arch.graphs.measures import MEASURES, small_world
from mpnn_arch.graphs.measures.betweenness import node_betweenness


def without_self_loops(graph):
    drawn = graph.to_networkx()
    drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
    return drawn


@st.composite
def connected_graphs(draw, least=3, most=80):
    """A random tree with random edges on top, so that every pair is joined."""
    num_nodes = draw(st.integers(least, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    adjacency = rng.random((num_nodes, num_nodes)) < draw(st.floats(0, 1))
    for node in range(1, num_nodes):
        adjacency[node, rng.integers(node)] = True
    return RelationalGraph.from_adjacency(adjacency)


# name -> the value by networkx for an undirected graph without self-loops
NETWORKX = {
    "clustering_coefficient": nx.average_clustering,
    "neighbourhood_clustering": nx.average_clustering,
    "average_path_length": nx.average_shortest_path_length,
    "diameter": nx.diameter,
    "global_efficiency": nx.global_efficiency,
    "local_efficiency": nx.local_efficiency,
    "degree_mean": lambda g: np.mean([d for _, d in g.degree]),
    "degree_std": lambda g: np.std([d for _, d in g.degree]),
    "degree_min": lambda g: min(d for _, d in g.degree),
    "degree_max": lambda g: max(d for _, d in g.degree),
    "density": lambda g: nx.density(g) * (len(g) - 1) / len(g),
    "algebraic_connectivity": lambda g: nx.laplacian_spectrum(g)[1],
    "spectral_gap": lambda g: float(np.diff(np.sort(nx.adjacency_spectrum(g).real)[-2:])[0]),
    "betweenness_mean": lambda g: np.mean(list(nx.betweenness_centrality(g).values())),
    "betweenness_max": lambda g: max(nx.betweenness_centrality(g).values()),
}


@settings(max_examples=25, deadline=None)
@given(connected_graphs(most=70))
def test_batched_measures_agree_with_networkx(graph):
    ours = measure(graph, list(NETWORKX)).iloc[0]
    drawn = without_self_loops(graph)
    for name, theirs in NETWORKX.items():
        assert ours[name] == pytest.approx(theirs(drawn), rel=1e-9, abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(connected_graphs(most=150))
def test_c_and_l_equal_networkx_to_the_last_bit(graph):
    drawn = without_self_loops(graph)
    assert graph.clustering_coefficient == nx.average_clustering(drawn)
    assert graph.average_path_length == nx.average_shortest_path_length(drawn)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 70), st.floats(0.05, 1), st.integers(0, 2**32 - 1))
def test_directed_graphs_equal_networkx_to_the_last_bit(num_nodes, share, seed):
    rng = np.random.default_rng(seed)
    adjacency = rng.random((num_nodes, num_nodes)) < share
    order = rng.permutation(num_nodes)
    adjacency[order, np.roll(order, 1)] = True  # one cycle through all: every pair is joined
    graph = RelationalGraph.from_adjacency(adjacency, directed=True)
    drawn = without_self_loops(graph)
    assert graph.clustering_coefficient == nx.average_clustering(drawn)
    assert graph.average_path_length == nx.average_shortest_path_length(drawn)
    np.testing.assert_allclose(
        node_betweenness(GraphBatch.of([graph]))[0],
        list(nx.betweenness_centrality(drawn).values()),
        atol=1e-12,
    )


@settings(max_examples=15, deadline=None)
@given(connected_graphs(least=6, most=40), st.integers(0, 2**32 - 1))
def test_measures_do_not_depend_on_node_numbers(graph, seed):
    # Left out: Louvain's search visits nodes in their order, and of many edges some are drawn.
    ordered = ("modularity", "modularity_by_depth", "ollivier_ricci_curvature")
    names = [name for name in list_measures() if name not in ordered]
    order = np.random.default_rng(seed).permutation(graph.num_nodes)
    turned = RelationalGraph.from_adjacency(graph.adjacency[np.ix_(order, order)])
    most = graph.num_nodes * (graph.num_nodes - 1) // 2
    if graph.num_edges < min(most, 3 * graph.num_nodes):  # too few for a connected random graph
        names = [name for name in names if not name.startswith("small_world")]
    both = measure([graph, turned], names)
    for name in names:
        np.testing.assert_allclose(both[name][0], both[name][1], atol=1e-9, err_msg=name)


def test_every_measure_gives_one_number_per_graph_and_ignores_self_loops():
    graphs = [generate("ws_flex", n, 6, 0.2, s) for n, s in ((20, 0), (64, 1), (20, 2), (130, 0))]
    bare = [RelationalGraph(g.num_nodes, g.edges, self_loops=False) for g in graphs]
    bare = [
        RelationalGraph(g.num_nodes, g.edges[:, g.edges[0] != g.edges[1]], self_loops=False)
        for g in bare
    ]
    together = measure(graphs, list_measures())
    assert together.shape == (4, len(list_measures()))
    assert np.isfinite(together.to_numpy()).all()
    assert together.equals(measure(bare, list_measures()))
    for i, graph in enumerate(graphs):
        np.testing.assert_allclose(measure(graph, list_measures()).iloc[0], together.iloc[i])


def test_known_values():
    names = ["degree_entropy", "assortativity", "modularity", "diameter", "small_world_omega"]
    star = measure(generate("star", 8), names[:4]).iloc[0]
    assert star["assortativity"] == pytest.approx(-1)
    assert star["degree_entropy"] == pytest.approx(
        -(1 / 8) * np.log2(1 / 8) - 7 / 8 * np.log2(7 / 8)
    )
    assert star["diameter"] == 2
    ring = measure(generate("ring", 64, 4), names).iloc[0]
    assert ring["degree_entropy"] == 0
    assert np.isnan(ring["assortativity"])
    assert ring["small_world_omega"] < -0.5
    random = generate("er", 64, 128)
    assert abs(measure(random, ["small_world_omega"]).iloc[0, 0] - 1) < 0.3
    cliques = RelationalGraph.from_adjacency(np.kron(np.eye(2), np.ones((5, 5))))
    assert measure(cliques, ["modularity"]).iloc[0, 0] == pytest.approx(0.5)
    small_world = generate("ws_flex", 64, 8, 0.1, 0)
    assert measure(small_world, ["small_world_sigma"]).iloc[0, 0] > 2
    expected = nx.degree_assortativity_coefficient(without_self_loops(small_world))
    assert measure(small_world, ["assortativity"]).iloc[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(("num_nodes", "num_edges"), [(8, 12), (64, 200), (64, 900), (90, 300)])
def test_small_worldness_compares_with_random_graphs(num_nodes, num_edges):
    by_er = GraphBatch.of([generate("er", num_nodes, num_edges, seed) for seed in range(60)])
    words = [small_world._random(num_nodes, num_edges, seed) for seed in range(60)]
    ours = GraphBatch(np.concatenate(words))
    assert (ours.degrees.sum(axis=1) == 2 * num_edges).all()
    assert bitset.is_connected(ours.words).all()
    assert (ours.words == bitset.transpose(ours.words)).all()
    for name in ("clustering_coefficient", "average_path_length", "degree_std"):
        theirs, found = MEASURES.get(name)(by_er), MEASURES.get(name)(ours)
        error = np.sqrt((theirs.var() + found.var()) / 60)
        assert abs(theirs.mean() - found.mean()) < 4 * error + 1e-12, name


def test_small_worldness_says_that_so_few_edges_seldom_connect_a_random_graph():
    with pytest.raises(InputError, match="er of 64 nodes and 64 edges"):
        measure(generate("ring", 64, 2), ["small_world_sigma"])


def test_places_name_each_pair_once():
    high, low = small_world._pairs(np.arange(5050))
    assert (low < high).all()
    assert len(set(zip(high.tolist(), low.tolist(), strict=True))) == 5050
    places = np.array([2**40, 2**50 + 12345])
    high, low = small_world._pairs(places)
    assert (high * (high - 1) // 2 + low == places).all()
    assert ((low >= 0) & (low < high)).all()


def test_unreachable_pairs_are_left_out_on_request():
    apart = RelationalGraph(5, [[0, 1, 3], [1, 2, 4]])
    for name in ("average_path_length", "diameter"):
        with pytest.raises(InputError, match="unreachable pairs of nodes, so no"):
            measure(apart, [name])
    found = measure(apart, ["average_path_length", "diameter"], reachable_only=True).iloc[0]
    assert found["average_path_length"] == (4 * 1 + 2 * 2 + 2 * 1) / 8
    assert found["diameter"] == 2
    assert measure(apart, ["global_efficiency"]).iloc[0, 0] == pytest.approx(
        nx.global_efficiency(without_self_loops(apart))
    )


def test_tensors_agree_with_words():
    graphs = [generate("ws_flex", 64, 6 + s, 0.3, s) for s in range(5)]
    by_words = measure(graphs)
    by_tensors = measure(graphs, device="cpu")
    np.testing.assert_allclose(by_tensors, by_words, atol=1e-14)
    apart = RelationalGraph(5, [[0, 1, 3], [1, 2, 4]])
    with pytest.raises(InputError, match="unreachable"):
        measure(apart, device="cpu")
    pd_left_out = measure(apart, device="cpu", reachable_only=True)
    assert pd_left_out.equals(measure(apart, reachable_only=True))
    for lone in (RelationalGraph(1, [[0], [0]]), RelationalGraph(2, [[0], [0]])):
        for device in (None, "cpu"):
            with pytest.raises(InputError, match="so no average path length"):
                measure(lone, device=device, reachable_only=True)


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("reachable_only", [False, True])
def test_tensors_refuse_what_words_refuse(nodes, reachable_only):
    # Without a pair that a path joins the mean would be 0 / 0.
    alone = RelationalGraph(nodes, np.zeros((2, 0), dtype=np.int64))
    said = []
    for device in (None, "cpu"):
        with pytest.raises(InputError) as caught:
            measure(alone, device=device, reachable_only=reachable_only)
        said.append(str(caught.value))
    assert said[0] == said[1]


@settings(max_examples=20, deadline=None)
@given(connected_graphs(most=30), st.integers(0, 2**32 - 1))
def test_weighted_measures_agree_with_networkx(graph, seed):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 3, graph.adjacency.shape) * graph.adjacency
    np.fill_diagonal(weights, 0)
    weights = (weights + weights.T) / 2
    drawn = nx.from_numpy_array(weights)
    for _, _, edge in drawn.edges(data=True):
        edge["length"] = 1 / edge["weight"]
    names = ["clustering_coefficient", "average_path_length", "strength_mean", "global_efficiency"]
    found = measure_weighted(weights, names)
    assert found["clustering_coefficient"][0] == pytest.approx(
        nx.average_clustering(drawn, weight="weight")
    )
    assert found["average_path_length"][0] == pytest.approx(
        nx.average_shortest_path_length(drawn, weight="length")
    )
    assert found["strength_mean"][0] == pytest.approx(weights.sum(1).mean())
    ones = measure_weighted(graph.adjacency, ["average_path_length", "global_efficiency"])
    assert ones["average_path_length"][0] == pytest.approx(graph.average_path_length)
    assert ones["global_efficiency"][0] == pytest.approx(
        nx.global_efficiency(without_self_loops(graph))
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 140), st.integers(0, 2**32 - 1))
def test_words_hold_the_adjacency(batch, num_nodes, seed):
    adjacency = np.random.default_rng(seed).random((batch, num_nodes, num_nodes)) < 0.3
    words = bitset.pack(adjacency)
    assert (bitset.unpack(words, num_nodes) == adjacency).all()
    assert (bitset.sizes(words) == adjacency.sum(-1)).all()
    assert (bitset.transpose(words) == bitset.pack(adjacency.swapaxes(1, 2))).all()
    both = adjacency | adjacency.swapaxes(1, 2)
    assert bitset.is_connected(bitset.pack(both)).tolist() == [
        nx.is_connected(nx.from_numpy_array(one)) for one in both
    ]


def test_blocks_bound_memory_and_change_nothing(monkeypatch):
    graphs = [generate("ws_flex", 100, 6, 0.2, s) for s in range(7)]
    names = ["clustering_coefficient", "average_path_length", "diameter"]
    whole = measure(graphs, names)
    monkeypatch.setattr(bitset, "_BLOCK", 350)
    assert measure(graphs, names).equals(whole)


def test_large_graphs_have_the_local_efficiency_of_small_ones_to_the_last_bit(monkeypatch):
    isolated = nx.disjoint_union(nx.gnp_random_graph(70, 0.1, seed=0), nx.empty_graph(3))
    graphs = [generate("ws_flex", 73, 8, 0.2, seed=0), RelationalGraph.from_networkx(isolated)]
    small = measure(graphs, ["local_efficiency"], reachable_only=True)
    of_all, asked = bitset.inverse_distance_sums, []
    monkeypatch.setattr(bitset, "LARGE", 1)
    monkeypatch.setattr(
        bitset, "inverse_distance_sums", lambda words: asked.append(words.shape) or of_all(words)
    )
    assert measure(graphs, ["local_efficiency"], reachable_only=True).equals(small)
    # Only the neighbours of a node are walked through, never all nodes.
    assert max(num_nodes for _, num_nodes, _ in asked) < 30


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: measure([]), "no graph to measure"),
        (lambda: measure(generate("star", 4), ["clustring"]), "there is no measure 'clustring'"),
        (lambda: measure_weighted(np.ones((3, 3)), ["depth"]), "no weighted measure"),
        (lambda: measure_weighted(-np.ones((3, 3)), ["strength_mean"]), "not negative"),
        (lambda: measure_weighted(np.ones((3, 2)), ["strength_mean"]), "shape"),
        (
            lambda: measure_weighted(np.triu(np.ones((3, 3))), ["clustering_coefficient"]),
            "symmetric",
        ),
        (lambda: measure_weighted(np.eye(3), ["average_path_length"]), "joined by no path"),
        (
            lambda: measure(
                RelationalGraph(3, [[0, 1, 2], [1, 2, 0]], directed=True), ["spectral_gap"]
            ),
            "directed",
        ),
        (lambda: measure(RelationalGraph(1, [[], []])), "1 node"),
        (lambda: measure(generate("tree", 9), ["small_world_omega"]), "omega needs 9"),
    ],
)
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_every_measure_is_registered_with_a_description():
    for name in list_measures():
        assert "(B,)" in (MEASURES.get(name).__doc__ or ""), name


@pytest.mark.parametrize("values", [3.0, np.zeros((2, 2)), np.zeros(1)])
def test_a_measure_of_ones_own_gives_a_number_for_each_graph(monkeypatch, values):
    monkeypatch.setattr(MEASURES, "_entries", dict(MEASURES._entries))
    MEASURES.register("own")(lambda batch: values)
    with pytest.raises(InputError, match=r"'own' returned values of shape .* 2 graphs"):
        measure([generate("ring", 8), generate("star", 8)], ["own"])
