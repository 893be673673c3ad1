"""The diagram of a model."""

import pytest

from mpnn_arch import InputError, models


def test_diagram_has_one_column_per_stage_with_its_rounds(random_graph, tmp_path):
    model = models.build("resnet20", random_graph(16, 0.3), device="meta")
    figure = models.diagram(model)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text.split("\n")[0] for text in texts if "rounds" in text] == ["6 rounds"] * 3
    path = tmp_path / "model.png"
    figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_diagram_draws_every_message(random_graph):
    graph = random_graph(12, 0.3)
    figure = models.diagram(models.mlp(graph, in_features=20, hidden_features=24))
    (messages,) = figure.axes[0].collections[:1]
    assert len(messages.get_segments()) == graph.edge_index.shape[1]


def test_dense_model_has_no_diagram():
    with pytest.raises(InputError, match="no rounds to draw"):
        models.diagram(models.build("cnn8", device="meta"))
