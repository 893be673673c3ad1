"""Whatever is passed: an ``InputError`` of one line, or torch's own error for a dtype."""

import numpy as np
import pytest
import torch
from torch import nn

from mpnn_arch import (
    ChannelPartition,
    InputError,
    RelationalGraph,
    RelationalLinear,
    graphs,
    models,
)
from mpnn_arch.graphs import Bins, GraphBatch
from mpnn_arch.graphs.spec import parse_one
from mpnn_arch.models import complexity, relationalize
from mpnn_arch.studies import StudyConfig
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import load_dataset
from mpnn_arch.training.devices import find_device

RING = graphs.ring(8, 2)
THREE = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
META = {"device": "meta"}


class Unhelpful:
    """Has every conversion, and each fails."""

    def __index__(self):
        raise RuntimeError("no index")

    def __float__(self):
        raise RuntimeError("no float")

    def __repr__(self):
        return "Unhelpful()"


VALUES = {
    "none": None,
    "true": True,
    "float": 2.7,
    "digit": "3",
    "text": "x",
    "bytes": b"3",
    "list": [1],
    "tuple": (1, 2, 3),
    "dict": {"a": 1},
    "object": object(),
    "nan": float("nan"),
    "inf": float("inf"),
    "negative": -1,
    "huge": 10**30,
    "5000 digits": 10**5000,
    "complex": 1j,
    "numpy float": np.float32(2.5),
    "array": np.array([1.5, 2]),
    "tensor": torch.tensor([1.5, 2.0]),
    "scalar tensor": torch.tensor(2.5),
    "numpy bool": np.bool_(True),
    "tensor bool": torch.tensor(True),
    "function": len,
    "class": int,
    "unhelpful": Unhelpful(),
}

# What takes a value, and the values among those above that it may accept.
FRACTIONS = {"float", "numpy float", "scalar tensor"}
FLAGS = {"true", "numpy bool", "tensor bool"}
CALLS = {
    "RelationalGraph num_nodes": (lambda v: RelationalGraph(v, [[0], [1]]), set()),
    "RelationalGraph edge_index": (lambda v: RelationalGraph(4, v), set()),
    "RelationalGraph directed": (lambda v: RelationalGraph(4, [[0], [1]], directed=v), FLAGS),
    "RelationalGraph self_loops": (lambda v: RelationalGraph(2, [[0], [1]], self_loops=v), FLAGS),
    "from_edge_index": (RelationalGraph.from_edge_index, set()),
    "from_edge_index num_nodes": (
        lambda v: RelationalGraph.from_edge_index([[0], [1]], v),
        {"none"},
    ),
    "from_adjacency": (RelationalGraph.from_adjacency, set()),
    "from_networkx": (RelationalGraph.from_networkx, set()),
    "from_file": (RelationalGraph.from_file, set()),
    "from_file format": (lambda v: RelationalGraph.from_file("absent", v), set()),
    "draw": (RING.draw, set()),
    "draw seed": (lambda v: RING.draw("spring", seed=v), set()),
    "parse": (graphs.parse, set()),
    "parse_one": (parse_one, set()),
    "generate": (lambda v: graphs.generate(v, 8), set()),
    "generate num_nodes": (lambda v: graphs.generate("ring", v), set()),
    "ring degree": (lambda v: graphs.ring(8, v), set()),
    "ws_flex num_nodes": (lambda v: graphs.ws_flex(v, 4, 0.1), set()),
    "ws_flex average_degree": (lambda v: graphs.ws_flex(8, v, 0.1), FRACTIONS),
    "ws_flex rewiring_probability": (lambda v: graphs.ws_flex(8, 4, v), set()),
    "ws_flex seed": (lambda v: graphs.ws_flex(8, 4, 0.1, v), {"huge", "5000 digits"}),
    "ws_flex_population": (lambda v: graphs.ws_flex_population(8, v, 0.1), FRACTIONS),
    "ws_flex_population num_nodes": (lambda v: graphs.ws_flex_population(v, 4, 0.1), set()),
    "grid": (lambda v: graphs.grid(8, v), {"none"}),
    "grid periodic": (lambda v: graphs.grid(8, 4, v), set()),
    "er": (lambda v: graphs.er(8, v), set()),
    "ba": (lambda v: graphs.ba(8, v), set()),
    "ws": (lambda v: graphs.ws(8, v, 0.1), set()),
    "tree": (lambda v: graphs.tree(8, v), set()),
    "star": (graphs.star, set()),
    "complete": (graphs.complete, set()),
    "hypercube": (graphs.hypercube, set()),
    "harary": (lambda v: graphs.harary(8, v), set()),
    "regular": (lambda v: graphs.regular(8, v), set()),
    "lfr": (lambda v: graphs.lfr(20, 4, v), set()),
    "modular": (lambda v: graphs.modular(8, v), set()),
    "core_periphery": (lambda v: graphs.core_periphery(8, v), set()),
    "published": (lambda v: graphs.published(v, 52, download=False), set()),
    "sample": (lambda v: graphs.sample(64, v), set()),
    "connectome": (lambda v: graphs.connectome(v, download=False), set()),
    "rewired": (graphs.rewired, set()),
    "rewired swaps": (lambda v: graphs.rewired(RING, 0, v), {"none"}),
    "measure": (graphs.measure, set()),
    "measure names": (lambda v: graphs.measure(RING, v), set()),
    "measure name": (lambda v: graphs.measure(RING, [v]), set()),
    "measure_weighted": (lambda v: graphs.measure_weighted(v, ["strength_mean"]), set()),
    "measure_weighted names": (lambda v: graphs.measure_weighted(np.ones((3, 3)), v), set()),
    "GraphBatch": (GraphBatch, set()),
    "GraphBatch.of": (GraphBatch.of, set()),
    "Bins": (lambda v: Bins(v, (1, 2)), {"huge", "5000 digits"}),
    "Bins path_length": (lambda v: Bins(3, v), {"array"}),
    "paper_grid": (graphs.paper_grid, set()),
    "ChannelPartition": (lambda v: ChannelPartition(v, 4), set()),
    "ChannelPartition num_nodes": (lambda v: ChannelPartition(8, v), set()),
    "ChannelPartition order": (lambda v: ChannelPartition(8, 4, v), set()),
    "from_sizes": (ChannelPartition.from_sizes, {"list", "tuple"}),
    "from_sizes size": (lambda v: ChannelPartition.from_sizes([v]), set()),
    "RelationalLinear in_features": (lambda v: RelationalLinear(RING, v, 16), set()),
    "RelationalLinear out_features": (lambda v: RelationalLinear(RING, 16, v), set()),
    "RelationalLinear order": (lambda v: RelationalLinear(RING, 16, 16, order=v), set()),
    "build": (lambda v: models.build(v, **META), set()),
    "build graph": (lambda v: models.build("mlp", v, **META), {"none"}),
    "build widths": (lambda v: models.build("mlp", RING, widths=v, **META), {"none"}),
    "build reference": (lambda v: models.build("mlp", RING, reference=v, **META), {"none"}),
    "build seed": (lambda v: models.build("mlp", seed=v, **META), set()),
    "build init": (lambda v: models.build("mlp", init=v, **META), {"none"}),
    "build order": (lambda v: models.build("mlp", order=v, **META), set()),
    "build backend": (lambda v: models.build("mlp", RING, backend=v, **META), {"none"}),
    "build message": (lambda v: models.build("mlp", RING, message=v, **META), {"none"}),
    "build num_classes": (lambda v: models.build("mlp", num_classes=v, **META), set()),
    "build hidden_features": (lambda v: models.build("mlp", hidden_features=v, **META), set()),
    "build num_rounds": (lambda v: models.build("mlp", num_rounds=v, **META), set()),
    "build in_features": (lambda v: models.build("mlp", in_features=v, **META), {"none"}),
    "build image_size": (lambda v: models.build("cnn8", image_size=v, **META), set()),
    "build patch_size": (lambda v: models.build("vit", patch_size=v, **META), {"none"}),
    "build width_multiplier": (
        lambda v: models.build("mlp", width_multiplier=v, **META),
        {"float"},
    ),
    "build shortcut": (lambda v: models.build("resnet20", shortcut=v, **META), set()),
    "match_budget": (lambda v: models.match_budget("mlp", v), set()),
    "match_budget name": (lambda v: models.match_budget(v, RING), set()),
    "relationalize": (lambda v: relationalize(v, RING), set()),
    "relationalize graph": (lambda v: relationalize(THREE, v), set()),
    "relationalize skip": (lambda v: relationalize(THREE, RING, v), set()),
    "relationalize input_size": (lambda v: relationalize(THREE, RING, input_size=v), {"none"}),
    "complexity": (lambda v: complexity(THREE, v), set()),
    "load_dataset": (load_dataset, set()),
    "find_device": (find_device, set()),
    "TrainingConfig": (lambda v: TrainingConfig(epochs=v), {"huge", "5000 digits"}),
    "StudyConfig": (StudyConfig.from_dict, set()),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_value_is_an_input_error_of_one_line(call):
    function, accepted = CALLS[call]
    for name, value in VALUES.items():
        if name in accepted:
            function(value)
            continue
        with pytest.raises(InputError) as refusal:
            function(value)
        message = str(refusal.value)
        assert "\n" not in message, name
        assert 20 < len(message) < 600, name


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: ChannelPartition(7.9, 4), "the number of channels is an integer"),
        (lambda: RelationalGraph(2.7, [[0], [1]]), "num_nodes is an integer"),
        (lambda: RelationalGraph(True, [[0], [0]]), "num_nodes is an integer"),
        (lambda: RelationalGraph.from_adjacency(np.eye(2) * 1j), "complex128; convert it"),
        (lambda: RelationalGraph.from_adjacency(np.eye(2, dtype=complex)), "complex128"),
        (lambda: RelationalGraph.from_adjacency([[0, np.nan], [1, 0]]), "this one holds nan"),
        (lambda: RelationalGraph.from_adjacency([["0", "1"], ["1", "0"]]), "convert it"),
        (lambda: RelationalGraph.from_adjacency([[None, 1], [1, None]]), "convert it"),
        (lambda: RelationalGraph.from_adjacency([[0, 1], [1]]), "rows of equal length"),
        (lambda: RelationalGraph.from_adjacency(torch.eye(2, device="meta")), "array of numbers"),
        (lambda: RelationalGraph(2, np.array([[0], [2**63]], dtype=np.uint64)), "number the nodes"),
        (lambda: RelationalGraph(2, [[True], [False]]), "holds bool"),
        (lambda: RelationalGraph.from_edge_index([[-1], [-2]]), "names node -2"),
        (lambda: RelationalGraph.from_edge_index([[0], [2**40]]), "num_nodes is between"),
        (lambda: RelationalGraph(2, [[0, 1, 1]]), "transpose a list of pairs"),
        (lambda: graphs.measure(RING, "density"), "names is a list"),
        (lambda: graphs.measure([]), "give at least one"),
        (lambda: graphs.parse("ring:8\n"[:-1] + "_0"), "is not a number"),
        (lambda: models.build("mlp", init=""), "no init ''"),
        (lambda: models.build("mlp", RING, backend=""), "no backend ''"),
        (lambda: models.build("mlp", backend="nope"), "no backend 'nope'"),
        (lambda: models.build("mlp", image_sze=3), "no setting 'image_sze'"),
        (lambda: models.build("mlp", num_rounds=10**6), "num_rounds is at most 10,000"),
        (lambda: models.match_budget("mlp", RING, 10**16), "reference is between"),
        (lambda: find_device("cpu:7"), "no device 'cpu:7'"),
        (lambda: Bins(3, (2, 1)), "give low < high"),
    ],
)
def test_the_message_names_what_is_wrong(make, fragment):
    with pytest.raises(InputError, match=f".*{fragment}"):
        make()


def test_integers_of_other_libraries_are_integers():
    sizes = [np.int64(8), np.uint8(8), torch.tensor(8)]
    assert {ChannelPartition(size, 4).sizes for size in sizes} == {(2, 2, 2, 2)}
    assert {RelationalGraph(size, [[0], [1]]).num_nodes for size in sizes} == {8}
    assert graphs.ring(8.0) == graphs.ring(8)  # as in a table, whose numbers are all floats


@pytest.mark.parametrize("backend", ["masked", "gather", "reference"])
def test_a_mismatch_of_dtype_or_device_is_torchs_own_error(backend):
    layer = RelationalLinear(RING, 16, 16, backend=backend)
    dense = nn.Linear(16, 16)
    for x in (torch.zeros(2, 16, dtype=torch.float64), torch.zeros(2, 16, dtype=torch.int64)):
        with pytest.raises(RuntimeError) as theirs:
            dense(x)
        with pytest.raises(RuntimeError) as ours:
            layer(x)
        assert type(ours.value) is type(theirs.value)
        assert not isinstance(ours.value, InputError)
