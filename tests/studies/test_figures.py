"""Figures of studies: names of graphs as they are, and no figure that is too large to be drawn."""

import pytest

from mpnn_arch import graphs
from mpnn_arch.analysis.report.charts import Bars, Chart
from mpnn_arch.analysis.report.draw_matplotlib import save_chart
from mpnn_arch.studies.comparison import MOST_DRAWN, SwapResult, plot_swaps
from mpnn_arch.studies.curves import plot_curves
from mpnn_arch.studies.metrics import MetricsRow
from mpnn_arch.studies.results import Result
from mpnn_arch.studies.step_times import StepTime

# Between two $ matplotlib reads a formula, and raises where it is none.
NAME = r"file:a$\x$b_{.csv"


def swap(graph, aggr="sum"):
    result = Result(
        graph=graph,
        message="linear",
        aggr=aggr,
        clustering_coefficient=0.5,
        average_path_length=2.0,
        widths=(8,),
        parameters=10,
        multiply_adds=10,
        test_errors=(3.0, 4.0),
        seconds_per_epoch=0.1,
        published_test_error=None,
    )
    return SwapResult(
        result=result,
        time=StepTime(
            graph=graph, message="linear", aggr=aggr, ratio=1.0, spread=0.0, backend="fused"
        ),
    )


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_curves_of_a_graph_whose_name_is_no_formula(tmp_path):
    row = MetricsRow(
        epoch=1,
        learning_rate=0.1,
        train_loss=1.0,
        train_error=5.0,
        test_loss=1.0,
        test_error=5.0,
        seconds=1.0,
        graph=NAME,
        seed=0,
    )
    plot_curves(tmp_path / "c.png", NAME, [(NAME, graphs.ring(8), NAME)], [row])
    assert is_png(tmp_path / "c.png")


def test_swaps_on_a_graph_whose_name_is_no_formula(tmp_path):
    plot_swaps(tmp_path / "s.png", NAME, [swap(NAME)])
    assert is_png(tmp_path / "s.png")


def test_a_chart_of_the_report_with_such_names(tmp_path):
    bars = Bars(label=NAME, names=[NAME], values=[1.0])
    chart = Chart("bars", NAME, "error", "", [bars], "how to read it")
    assert is_png(save_chart(chart, tmp_path)[0])


@pytest.mark.parametrize("count", [MOST_DRAWN, 130])
def test_swaps_on_many_graphs_are_drawn_for_the_first(tmp_path, count):
    from PIL import Image

    plot_swaps(tmp_path / "s.png", "swaps", [swap(f"ring:{8 + n}") for n in range(count)])
    with Image.open(tmp_path / "s.png") as image:
        assert image.height < 2**16  # what matplotlib draws
        sizes = {image.size}
    plot_swaps(tmp_path / "t.png", "swaps", [swap(f"ring:{8 + n}") for n in range(MOST_DRAWN)])
    with Image.open(tmp_path / "t.png") as image:
        assert {image.size} == sizes
