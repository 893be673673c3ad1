"""The landscape of results behind the page's plane."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from mpnn_arch import graphs
from mpnn_arch.explorer.drawing import plane
from mpnn_arch.explorer.measured import InBackground, Landscape, read_landscapes

HEADER = "graph,num_nodes,density,rewiring_probability,graph_seed,train_seed,top1_error"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Results of 16 graphs of 64 nodes, three seeds each, beside a table of something else."""
    monkeypatch.setenv("MPNN_ARCH_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    lines = [HEADER]
    for i, one in enumerate(graphs.sample_parameters(64, 52)[:16]):
        start = f"ws_flex,64,{one.average_degree / 64},{one.rewiring_probability},{one.seed}"
        lines += [f"{start},{seed},{30 + i + seed}" for seed in (1, 2, 3)]
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "sweep.csv").write_text("\n".join(lines))
    (folder / "other.csv").write_text("a,b\n1,2\n")
    return folder


def test_our_own_results_are_read_where_none_are_published(own):
    found = read_landscapes(own)
    assert list(found) == [64]
    assert found[64].name == "sweep"
    errors = [error for *_, error in found[64].bins]
    assert min(errors) >= 31
    first = graphs.sample(64, 52)[0]
    here = found[64].error_at(first.clustering_coefficient, first.average_path_length)
    assert here in errors
    assert found[64].error_at(-1.0, 9.0) is None


def test_of_several_networks_in_one_file_the_first_is_shown(own):
    header, *lines = (own / "sweep.csv").read_text().split("\n")
    later = [f"{line.rpartition(',')[0]},{60 + i / 2},max" for i, line in enumerate(lines)]
    lines = [header + ",aggr", *(f"{line},sum" for line in lines), *later]
    (own / "sweep.csv").write_text("\n".join(lines))
    found = read_landscapes(own)[64]
    assert found.name == "sweep_max"
    assert min(error for *_, error in found.bins) >= 60


def test_without_results_there_is_no_landscape(own, tmp_path):
    assert read_landscapes(tmp_path / "nowhere") == {}


def test_the_plane_shows_bins_and_the_error_of_the_graphs_own():
    graph = graphs.parse_one("ws_flex:64,8,0.1,0")
    c, length = graph.clustering_coefficient, graph.average_path_length
    measured = Landscape("made_up", ((c, length, 33.25), (0.9, 1.2, 40.0)), (0.07, 0.23))
    drawn = plane(graph, measured)
    ET.fromstring(drawn)
    assert drawn.count("<rect") == 2
    assert "33.25 % error here" in drawn
    colours = re.findall(r'<rect[^>]*fill="#(\w+)"', drawn)
    assert int(colours[0][:2], 16) < int(colours[1][:2], 16)  # the lower error is darker
    assert "no graph was trained here" in plane(graphs.parse_one("complete:64"), measured)


def test_reading_is_waited_for_no_longer_than_asked(own, monkeypatch):
    monkeypatch.setattr("mpnn_arch.explorer.measured.OWN", own)
    results = InBackground()
    assert results.get(64) is None  # not begun
    results.start()
    results.start()
    results._thread.join(120)
    assert results.get(64).name == "sweep"
    assert results.get(16) is None


def test_what_is_painted_first_needs_no_torch():
    names = "choice, drawing, measured"
    code = f"import sys; from mpnn_arch.explorer import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
