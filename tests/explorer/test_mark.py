"""The small picture in the page's title."""

from xml.etree import ElementTree

from mpnn_arch import graphs
from mpnn_arch.explorer.mark import mark


def test_a_circle_a_node_and_a_line_an_edge(graph):
    root = ElementTree.fromstring(mark(graph))
    links = {frozenset(pair) for pair in graph.edges.T.tolist() if len(set(pair)) == 2}
    assert len(root.findall(".//circle")) == graph.num_nodes
    assert root.find("path").get("d").count("M") == len(links)


def test_all_of_it_is_inside():
    root = ElementTree.fromstring(mark(graphs.ring(12, 4), size=40))
    for circle in root.iter("circle"):
        for key in ("cx", "cy"):
            assert float(circle.get("r")) <= float(circle.get(key)) <= 40 - float(circle.get("r"))
