"""The cells of the page, run without a browser."""

import pytest

pytest.importorskip("marimo", reason="marimo is not installed")
pytest.importorskip("anywidget", reason="anywidget is not installed")


@pytest.mark.slow
def test_the_cells_make_a_graph_its_figure_and_its_widget():
    from mpnn_arch.explorer.app import app

    outputs, defined = app.run()
    assert defined["refused"] is None
    assert defined["graph"].num_nodes == 16
    assert defined["widget"].layer.graph == defined["graph"]
    shown = [getattr(output, "text", "") for output in outputs]
    assert any("this graph: C" in text for text in shown)
