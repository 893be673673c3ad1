"""The diagram of a model."""

import pytest

from mpnn_arch import InputError, models
from mpnn_arch.models.residuals import residual_spans


def test_diagram_has_one_column_per_stage_with_its_rounds(random_graph, tmp_path):
    model = models.build("resnet20", random_graph(16, 0.3), device="meta")
    figure = models.diagram(model)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text.split("\n")[0] for text in texts if "channels" in text] == ["6 rounds"] * 3
    path = tmp_path / "model.png"
    figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_diagram_draws_every_message(random_graph):
    graph = random_graph(12, 0.3)
    figure = models.diagram(models.mlp(graph, in_features=20, hidden_features=24))
    (messages,) = figure.axes[0].collections[:1]
    assert len(messages.get_segments()) == graph.edge_index.shape[1]


@pytest.mark.parametrize(
    ("name", "options", "lengths"),
    [
        ("resnet20", {}, [2] * 9),
        ("resnet50", {"image_size": 32}, [3] * 16),
        ("vit", {"image_size": 32}, [4, 2] * 12),
        ("mlp_mixer", {"image_size": 32}, [2] * 8),
        ("efficientnet_b0", {"image_size": 32}, None),
        ("cnn8", {"image_size": 32}, []),
        ("mlp", {}, []),
    ],
)
def test_residual_connections(name, options, lengths, random_graph):
    model = models.build(name, random_graph(13, 0.3), device="meta", **options)
    spans = residual_spans(model)
    if lengths is None:  # one in every block that keeps its shape, around expansion and projection
        lengths = [len(span) for span in spans]
        assert set(lengths) <= {1, 2}
        assert len(lengths) >= 9
        assert len({span[0].rsplit(".", 1)[0] for span in spans}) == len(spans)
    assert [len(span) for span in spans] == lengths
    for span in spans:  # all in one block
        assert len({".".join(part.split(".")[:2]) for part in span}) == 1
    texts = [text.get_text() for text in models.diagram(model).axes[0].texts]
    assert any("residual" in text for text in texts) == bool(lengths)


def test_dense_model_has_no_diagram():
    with pytest.raises(InputError, match="no rounds to draw"):
        models.diagram(models.build("cnn8", device="meta"))
