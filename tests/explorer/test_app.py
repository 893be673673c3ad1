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
    assert any("the paper&#x27;s family" in text for text in shown)


@pytest.mark.slow
def test_the_complete_graph_is_trained_alone(monkeypatch):
    from mpnn_arch.explorer import live_training
    from mpnn_arch.explorer.app import app

    asked = []

    class Asked:
        def __init__(self, graphs, **_):
            asked.append(graphs)

    monkeypatch.setattr(live_training, "LiveTraining", Asked)
    _, defined = app.run(defs={"chosen": "complete:16", "control": {"sliders": ""}})
    defined["start"]._on_change(None)
    assert asked == [["complete:16"]]


@pytest.mark.slow
def test_what_is_trained_is_what_is_on_screen(monkeypatch):
    from mpnn_arch.explorer import live_training
    from mpnn_arch.explorer.app import app

    asked = []

    class Asked:
        def __init__(self, graphs, **settings):
            asked.append({name: settings.get(name) for name in ("message", "aggr")})

        def discard(self):
            pass

    monkeypatch.setattr(live_training, "LiveTraining", Asked)
    _, defined = app.run(defs={"chosen": "ring:16,4", "control": {"sliders": ""}})
    defined["start"]._on_change(None)
    defined["widget"].aggr, defined["widget"].message = "max", "gated"
    defined["start"]._on_change(None)
    assert asked == [{"message": None, "aggr": None}, {"message": "gated", "aggr": "max"}]
    defined["widget"].toggle(3, 3)  # a file, by which a study names it, has all self-loops
    defined["start"]._on_change(None)
    assert len(asked) == 2
    assert "node 3 has none" in defined["get_untrained"]()


@pytest.mark.slow
def test_a_refusal_to_train_is_gone_when_the_graph_changes(monkeypatch):
    from mpnn_arch import InputError
    from mpnn_arch.explorer import live_training
    from mpnn_arch.explorer.app import app

    class Refusing:
        def __init__(self, graphs, **_):
            raise InputError("not this graph")

    monkeypatch.setattr(live_training, "LiveTraining", Refusing)
    _, defined = app.run(defs={"chosen": "ring:16,4", "control": {"sliders": ""}})
    assert defined["get_untrained"]() is None
    defined["start"]._on_change(None)
    assert defined["get_untrained"]() == "not this graph"
    defined["widget"].toggled = [[0, 8]]
    assert defined["get_untrained"]() is None
