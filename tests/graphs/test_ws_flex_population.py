import numpy as np
import pytest
from scipy import stats

from mpnn_arch import InputError
from mpnn_arch.graphs import GraphBatch, bitset, ws_flex_population
from mpnn_arch.graphs.generators import ws_flex_population as population_of
from mpnn_arch.graphs.generators.ws_flex import ws_flex_words
from mpnn_arch.graphs.measures import average_path_length, clustering_coefficient


@pytest.mark.parametrize(
    ("num_nodes", "degree", "p"),
    [(64, 8.0, 0.1), (64, 8.5, 0.9), (64, 40.3, 0.4), (64, 48.0, 1.0), (16, 4.2, 0.3)],
)
def test_c_and_l_are_distributed_as_those_of_the_published_stream(num_nodes, degree, p):
    count = 500
    exact = ws_flex_words(num_nodes, [degree] * count, [p] * count, range(count))
    many = ws_flex_population(num_nodes, np.full(count, degree), p, seed=5)
    for measure in (clustering_coefficient, average_path_length):
        a, b = measure(GraphBatch(exact)), measure(GraphBatch(many))
        # Ten such tests, each with a false-alarm probability of 0.001, and fixed seeds. A shift of
        # a third of a standard deviation is detected.
        assert stats.ks_2samp(a, b).pvalue > 1e-3, measure.__name__


def test_the_two_sample_test_detects_a_slightly_different_parameter():
    exact = ws_flex_words(64, [8.5] * 500, [0.1] * 500, range(500))
    other = ws_flex_population(64, np.full(500, 8.5), 0.115, seed=5)
    a, b = (clustering_coefficient(GraphBatch(words)) for words in (exact, other))
    assert stats.ks_2samp(a, b).pvalue < 1e-3


def test_every_graph_is_connected_and_has_its_edges():
    degree = np.linspace(2, 69, 300)
    words = ws_flex_population(70, degree, np.linspace(0, 1, 300) ** 2, seed=1)
    adjacency = bitset.unpack(words, 70)
    assert (adjacency == adjacency.swapaxes(1, 2)).all()
    assert not adjacency.diagonal(axis1=1, axis2=2).any()
    assert (adjacency.sum((1, 2)) // 2 == [round(70 * d / 2) for d in degree]).all()
    assert bitset.is_connected(words).all()
    assert (ws_flex_population(70, degree, np.linspace(0, 1, 300) ** 2, seed=1) == words).all()
    assert (ws_flex_population(70, degree, np.linspace(0, 1, 300) ** 2, seed=2) != words).any()


def test_without_rewiring_it_is_the_same_ring():
    degree = np.linspace(2, 63, 50)
    ours = ws_flex_population(64, degree, 0.0)
    assert (ours == ws_flex_words(64, degree, [0.0] * 50, [0] * 50)).all()


def test_chunks_keep_every_graph(monkeypatch):
    import importlib

    module = importlib.import_module("mpnn_arch.graphs.generators.ws_flex_population")
    monkeypatch.setattr(module, "_ENTRIES", 3 * 20**2)
    words = population_of(20, np.linspace(4, 10, 10), 0.2)
    assert (bitset.sizes(words).sum(1) // 2 == np.rint(10 * np.linspace(4, 10, 10))).all()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((64, 1.9, 0.1), "average_degree lies between 2 and 63"),
        ((64, [4, 64], 0.1), "average_degree lies between"),
        ((64, 4, [0.1, 1.2]), "rewiring_probability lies between"),
        ((64, 4, [0.1, float("nan")]), "not a number"),
        ((64, [4, 5], [0.1, 0.2, 0.3]), "of equal length"),
        ((64, [], 0.1), r"shape \(B,\)"),
        ((64, 4, 0.1, -1), "seed is at least 0"),
    ],
)
def test_bad_input_is_one_sentence(args, sentence):
    with pytest.raises(InputError, match=sentence):
        ws_flex_population(*args)
