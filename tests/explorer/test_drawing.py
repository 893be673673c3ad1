"""The page's figures."""

import re
import xml.etree.ElementTree as ET

import pytest

from mpnn_arch import graphs
from mpnn_arch.explorer.drawing import curves, plane
from mpnn_arch.studies.metrics import MetricsRow


@pytest.mark.parametrize("spec", ["ws_flex:64,8,0.1,0", "ring:16,4", "complete:5", "star:40"])
def test_a_graph_is_a_point_of_the_plane(spec):
    graph = graphs.parse_one(spec)
    drawn = plane(graph)
    ET.fromstring(drawn)
    assert f"C = {graph.clustering_coefficient:.3f}, L = {graph.average_path_length:.3f}" in drawn
    (x, y) = re.search(r'cx="([\d.]+)" cy="([\d.]+)" r="7"', drawn).groups()
    assert 52 <= float(x) <= 408
    assert 14 <= float(y) <= 278


def test_a_graph_that_is_not_connected_is_no_point():
    drawn = plane(graphs.RelationalGraph(4, [[0, 2], [1, 3]]))
    assert "not connected" in drawn
    assert 'r="7"' not in drawn


def test_curves_are_means_with_bars_of_one_deviation():
    def row(graph, seed, epoch, error):
        return MetricsRow(
            graph=graph,
            seed=seed,
            epoch=epoch,
            learning_rate=0.1,
            train_loss=1.0,
            train_error=1.0,
            test_loss=1.0,
            test_error=error,
            seconds=1.0,
        )

    rows = [row("a", 0, 1, 4.0), row("a", 1, 1, 6.0), row("b", 0, 1, 3.0), row("a", 0, 2, 2.0)]
    drawn = curves(rows, ["a", "b"], 3)
    ET.fromstring(drawn)
    # One seed has no deviation; of the last epoch there is one, though the first has two.
    assert ">a: 2.00 % (1 seed)<" in drawn
    assert ">b: 3.00 % (1 seed)<" in drawn
    named = 'aria-label="Test error against epochs; a: 2.00 % (1 seed); b: 3.00 % (1 seed)"'
    assert named in drawn
    assert ">a: 3.00 ± 1.41 % (2 seeds)<" in curves([*rows, row("a", 1, 2, 4.0)], ["a", "b"], 3)
    heights = [float(y) for y in re.findall(r'<path d="M[\d.]+ ([\d.]+)V', drawn)]
    feet = [float(y) for y in re.findall(r'<path d="M[\d.]+ [\d.]+V([\d.]+)" stroke="#', drawn)]
    first = 2 * 2**0.5 / (5 + 2**0.5) * 264  # two deviations of 4 and 6, on an axis to 5 + sqrt(2)
    assert heights[0] - feet[0] == pytest.approx(first, abs=0.2)
    ET.fromstring(curves([], ["a", "b"], 3))
    assert ">edited.csv: not yet" in curves([], ["file:/tmp/some/edited.csv", "b"], 3)
    long = "rewired_to_clustering:0/ws_flex:num_nodes=64,average_degree=12,seed=0"
    drawn = curves([row(long, 0, 1, 4.0)], [long, "b"], 3)
    said = re.search(r">(rewired[^<]*)<", drawn)[1]
    assert said.endswith("\u2026: 4.00 % (1 seed)")
    assert len(said) == 52
    assert f"{long}: 4.00 % (1 seed)" in drawn  # where it is read aloud
