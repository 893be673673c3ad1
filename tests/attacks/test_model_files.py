"""Forged model files: each is refused with an InputError, before memory for it is taken.

A forger can compute the checksum too, so most of these files have the right one.
"""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import mpnn_arch
from mpnn_arch import InputError, RelationalGraph, graphs, models
from mpnn_arch.io.tensor_file import read_tensors, write_tensors

KIND = "mpnn_arch model 1"
GRAPH = graphs.ws_flex(8, 4, 0.5, seed=1)
Tensors, Metadata = dict[str, Tensor], dict[str, str]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, saved."""
    model = models.mlp(GRAPH, in_features=12, hidden_features=16, num_classes=3, backend="masked")
    path = tmp_path_factory.mktemp("honest") / "model.safetensors"
    mpnn_arch.save(model, path)
    return path


def content(path: Path) -> tuple[Tensors, Metadata]:
    tensors, metadata = read_tensors(path, kind=KIND)
    del metadata["kind"]
    return tensors, metadata


# -- bytes that are no file of tensors ------------------------------------------------------------


def with_header(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


def header(name: str = "a", **changes: Any) -> dict[str, Any]:
    return {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "seven bytes": lambda whole: whole[:7],
    "a length and nothing else": lambda whole: whole[:8],
    "half a header": lambda whole: whole[:200],
    "half the tensors": lambda whole: whole[: -len(whole) // 3],
    "one byte more": lambda whole: whole + b"\0",
    "a header of 2^63 bytes": lambda whole: struct.pack("<Q", 2**63) + whole[8:],
    "a header of 90 MB that is not there": lambda w: struct.pack("<Q", 90_000_000) + w[8:],
    "zeros": lambda whole: bytes(len(whole)),
    "a zip file": lambda whole: b"PK\x03\x04" + whole,
    "a pickle": lambda whole: b"\x80\x04\x95" + whole,
    "text": lambda whole: b"weights = 1\n" * 40,
    "a header that is a list": lambda whole: with_header(b"[1, 2]"),
    "a header that is a number": lambda whole: with_header(b"3       "),
    "a header that is not JSON": lambda whole: with_header(b"{'a': 1}"),
    "a header that is not UTF-8": lambda whole: with_header(b'{"\xff": 1}'),
    "a header nested 100,000 deep": lambda whole: with_header(b'{"a":' + b"[" * 100_000),
    "no metadata": lambda whole: with_header(as_json(header()), bytes(8)),
    "metadata that are a list": lambda w: with_header(as_json({"__metadata__": [1]})),
    "metadata that are numbers": lambda w: with_header(as_json({"__metadata__": {"kind": 1}})),
    "offsets past the end": lambda w: with_header(
        as_json(header(shape=[2**20], data_offsets=[0, 2**22])), bytes(8)
    ),
    "offsets that overlap": lambda w: with_header(as_json(header() | header("b")), bytes(8)),
    "offsets that go backwards": lambda w: with_header(
        as_json(header(data_offsets=[8, 0])), bytes(8)
    ),
    "a negative offset": lambda w: with_header(as_json(header(data_offsets=[-8, 0])), bytes(8)),
    "a negative size": lambda w: with_header(as_json(header(shape=[-2])), bytes(8)),
    "a size of 2^64": lambda w: with_header(as_json(header(shape=[2**64])), bytes(8)),
    "sizes whose product overflows": lambda w: with_header(
        as_json(header(shape=[2**40, 2**40], data_offsets=[0, 0]))
    ),
    "a shape that is text": lambda w: with_header(as_json(header(shape="2")), bytes(8)),
    "an unknown dtype": lambda w: with_header(as_json(header(dtype="PICKLE")), bytes(8)),
    "a tensor given twice": lambda w: with_header(
        TWICE + b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)
    ),
    "a tensor given twice, one place": lambda w: with_header(
        TWICE + b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "another kind of file": lambda w: with_header(as_json({"__metadata__": {"kind": "x" * 5000}})),
}


@pytest.mark.parametrize("forged", BYTES)
def test_bytes_that_are_no_model(honest: Path, tmp_path: Path, forged: str) -> None:
    path = tmp_path / "forged.safetensors"
    path.write_bytes(BYTES[forged](honest.read_bytes()))
    with pytest.raises(InputError) as error:
        mpnn_arch.load(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 700


def test_a_changed_byte_is_noticed(honest: Path, tmp_path: Path) -> None:
    whole = bytearray(honest.read_bytes())
    whole[-5] ^= 8
    (tmp_path / "m").write_bytes(whole)
    with pytest.raises(InputError, match="was changed after it was saved"):
        mpnn_arch.load(tmp_path / "m")


# -- metadata and tensors with the right checksum -------------------------------------------------


def config(**changes: Any) -> Callable[[Tensors, Metadata], None]:
    def forge(tensors: Tensors, metadata: Metadata) -> None:
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | changes)

    return forge


def nodes(value: Any, **more: Any) -> Callable[[Tensors, Metadata], None]:
    def forge(tensors: Tensors, metadata: Metadata) -> None:
        (entry,) = json.loads(metadata["graphs"])
        metadata["graphs"] = json.dumps([entry | {"num_nodes": value} | more])

    return forge


def text(**entries: str) -> Callable[[Tensors, Metadata], None]:
    return lambda tensors, metadata: metadata.update(entries)


def without(name: str) -> Callable[[Tensors, Metadata], None]:
    return lambda tensors, metadata: metadata.pop(name, None) or tensors.pop(name)  # type: ignore[return-value]


def tensor(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors, Metadata], None]:
    def forge(tensors: Tensors, metadata: Metadata) -> None:
        tensors[name] = change(tensors.get(name, torch.zeros(1)))

    return forge


def without_setting(name: str) -> Callable[[Tensors, Metadata], None]:
    def forge(tensors: Tensors, metadata: Metadata) -> None:
        kept = json.loads(metadata["config"])
        del kept[name]
        metadata["config"] = json.dumps(kept)

    return forge


def a_ring_of_a_million(tensors: Tensors, metadata: Metadata) -> None:
    around = torch.arange(10**6)
    tensors["graph/0"] = torch.stack([around, (around + 1) % 10**6])
    nodes(10**6)(tensors, metadata)


def graph(other: RelationalGraph) -> Callable[[Tensors, Metadata], None]:
    def forge(tensors: Tensors, metadata: Metadata) -> None:
        tensors["graph/0"] = other.edge_index
        nodes(8, content_hash=other.content_hash)(tensors, metadata)

    return forge


# The honest graph with its nodes numbered from another one.
SHIFTED = RelationalGraph(8, (GRAPH.edges + 1) % 8)
HEAD, ROUND = "model/head.weight", "model/rounds.0.message_function.weight"
FORGED: dict[str, tuple[Callable[[Tensors, Metadata], None], str]] = {
    "no config": (without("config"), "no config"),
    "no graphs": (without("graphs"), "no graphs"),
    "an unknown entry": (text(script="rm"), "unknown entry 'script'"),
    "a config that is not JSON": (text(config="{"), "config cannot be read"),
    "an empty config": (text(config=""), "config cannot be read"),
    "a config that is a list": (text(config="[]"), "of another type"),
    "a config nested 100,000 deep": (text(config="[" * 100_000), "nested too deeply"),
    "graphs nested 500 deep": (text(graphs="[" * 500 + "]" * 500), "of another type"),
    "NaN in the config": (config(width_multiplier=float("nan")), "NaN"),
    "infinity in the config": (config(width_multiplier=float("inf")), "Infinity"),
    "an integer of 5,000 digits": (text(config='{"model": ' + "9" * 5000 + "}"), "digits"),
    "a setting given twice": (text(config='{"model": "mlp", "model": "mlp"}'), "twice"),
    "no model": (without_setting("model"), "names no model"),
    "an unknown model": (config(model="../mlp"), "there is no model"),
    "a model that is a list": (config(model=["mlp"]), "names no model"),
    "another model": (config(model="resnet20"), "unknown setting"),
    "an unknown setting": (config(shell="true"), "unknown setting 'shell'"),
    "a device": (config(device="cuda"), "unknown setting 'device'"),
    "a second graph argument": (config(graph=None), "unknown setting 'graph'"),
    "no widths": (without_setting("widths"), "no widths"),
    "widths that are a number": (config(widths=32), "widths is 32"),
    "two widths for one stage": (config(widths=[20, 20]), "1 stage widths"),
    "a width of 0": (config(widths=[0]), "at least 1"),
    "a negative width": (config(widths=[-20]), "-20"),
    "a width of text": (config(widths=["20"]), "of another type"),
    "a width of a fraction": (config(widths=[20.5]), "of another type"),
    "a width that is true": (config(widths=[True]), "of another type"),
    "a width of 10^12": (config(widths=[10**12]), "in the file"),
    "a width one larger": (config(widths=[33]), "and the model's is"),
    "a width below the nodes": (config(widths=[4]), "fewer than the 8 nodes"),
    "10^9 classes": (config(num_classes=10**9), "in the file"),
    "10^9 rounds": (config(num_rounds=10**9), "in the file"),
    "a round more": (config(num_rounds=4), "lacks weights"),
    "a round less": (config(num_rounds=2), "weights of another model"),
    "an image of 10^9 pixels": (config(image_size=10**9), "image_size"),
    "a multiplier of 10^300": (config(width_multiplier=1e300), "in the file"),
    "a negative multiplier": (config(width_multiplier=-1.0), "width_multiplier is above 0"),
    "a negative seed": (config(seed=-1), "seed"),
    "a seed of 2^70": (config(seed=2**70), "seed"),
    "an unknown init": (config(init="random"), "init"),
    "another partition": (config(order="first"), "and the model's is"),
    "an order that needs sizes": (config(order="given"), "given"),
    "an unknown order": (config(order="shuffled"), "order"),
    "an unknown backend": (config(backend="os.system"), "backend"),
    "an unknown message": (config(message="os.system"), "os.system"),
    "another message": (config(message="gated", backend=None), "weights of another model"),
    "an unknown aggregation": (config(aggr="exec"), "exec"),
    "arguments that the message lacks": (config(message_kwargs={"shell": 1}), "shell"),
    "arguments that the aggregation lacks": (config(aggr_kwargs={"shell": 1}), "shell"),
    "an aggregation of 10^5 x 10^5 weights": (
        config(aggr="lstm", aggr_kwargs={"in_channels": 10**5, "out_channels": 10**5}),
        "in the file",
    ),
    "an aggregation of 600 x 600 weights": (
        config(aggr="lstm", aggr_kwargs={"in_channels": 600, "out_channels": 600}),
        "too small",
    ),
    "a graph of 0 nodes": (nodes(0), "needs at least 1 node"),
    "a graph of -1 nodes": (nodes(-1), "needs at least 1 node"),
    "a graph of 10^6 nodes": (nodes(10**6), "an edge into each"),
    "a graph of 10^4000 nodes": (nodes(10**4000), "an edge into each"),
    "nodes that are text": (nodes("8"), "not a number of nodes"),
    "nodes that are a fraction": (nodes(8.0), "not a number of nodes"),
    "a ring of 10^6 nodes": (a_ring_of_a_million, "takes 48,000,000,000,000 bytes"),
    "a node more": (nodes(9), "receives no message"),
    "a node less": (nodes(7), "names node 7"),
    "a wrong hash": (nodes(8, content_hash="0" * 64), "another than was saved"),
    "a hash that is a number": (nodes(8, content_hash=0), "not a number of nodes"),
    "an entry too many": (nodes(8, directed=True), "num_nodes and content_hash"),
    "graphs that are numbers": (text(graphs="[1]"), "of another type"),
    "two graphs": (text(graphs='[{"num_nodes": 8}, {}]'), "describes 2 graphs"),
    "no edges": (without("graph/0"), "holds the edges of 0"),
    "other edges, the same hash": (
        tensor("graph/0", lambda e: torch.cat([e, torch.tensor([[0], [5]])], 1)),
        "another than was saved",
    ),
    "a graph of fewer edges, its own hash": (graph(graphs.ring(8, 2)), "and the model's is"),
    "a graph numbered from another node": (graph(SHIFTED), "and the model's is"),
    "the graph of a round differs": (
        tensor("model/rounds.0.graph_hash", lambda digest: digest + 1),
        "belong to a graph",
    ),
    "edges that are fractions": (tensor("graph/0", Tensor.float), "int64"),
    "edges in one row": (tensor("graph/0", Tensor.flatten), "int64"),
    "a negative edge": (tensor("graph/0", lambda e: e - 1), "names node -1"),
    "an edge to node 2^62": (tensor("graph/0", lambda e: e + 2**62), "names node"),
    "a tensor of no model": (tensor("payload", lambda e: e), "'payload'"),
    "a weight too many": (tensor("model/payload", lambda e: e), "weights of another model"),
    "a weight missing": (without(HEAD), "lacks weights: head.weight"),
    "a weight of another shape": (tensor(HEAD, lambda w: w.T.contiguous()), "head.weight is"),
    "a weight of integers": (tensor(HEAD, Tensor.int), "head.weight is torch.int32"),
    "a weight of complex numbers": (tensor(HEAD, lambda w: w.to(torch.complex64)), "complex64"),
    "a round's weight cut short": (tensor(ROUND, lambda w: w[:-1]), "message_function.weight is"),
    "no choices": (without("backend_choices"), "no backend_choices"),
    "choices that are a list": (text(backend_choices="[]"), "of another type"),
    "choices that are not JSON": (text(backend_choices="nan"), "cannot be read"),
    "a choice of no round": (text(backend_choices='{"stem": {}}'), "not a round"),
    "a choice that is a number": (text(backend_choices='{"rounds.0": {"x": 1}}'), "another type"),
    "an unknown choice": (
        text(backend_choices='{"rounds.0": {"float32 cpu 8": "os.system"}}'),
        "os.system",
    ),
    "a choice for no shape": (
        text(backend_choices='{"rounds.0": {"__class__ cpu 8": "masked"}}'),
        "__class__",
    ),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_file_with_its_own_checksum(honest: Path, tmp_path: Path, forged: str) -> None:
    forge, words = FORGED[forged]
    tensors, metadata = content(honest)
    forge(tensors, metadata)
    path = tmp_path / "forged.safetensors"
    write_tensors(path, tensors, metadata, kind=KIND)
    with pytest.raises(InputError) as error:
        mpnn_arch.load(path)
    message = str(error.value)
    assert words in message
    assert str(path) in message
    assert len(message) < 900


def test_the_honest_file_passes_the_same_checks(honest: Path, tmp_path: Path) -> None:
    tensors, metadata = content(honest)
    write_tensors(tmp_path / "copy", tensors, metadata, kind=KIND)
    copy = mpnn_arch.load(tmp_path / "copy").state_dict()
    for name, value in mpnn_arch.load(honest).state_dict().items():
        assert torch.equal(value, copy[name])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_reported(
    honest: Path, tmp_path: Path, number: float
) -> None:
    tensors, metadata = content(honest)
    tensors[HEAD][0, :2] = number
    write_tensors(tmp_path / "m", tensors, metadata, kind=KIND)
    with pytest.warns(UserWarning, match=r"holds 2 numbers that are not finite.* head\.weight"):
        model = mpnn_arch.load(tmp_path / "m")
    assert not torch.isfinite(model.state_dict()["head.weight"]).all()


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    files = []
    for number in range(3):
        model = models.mlp(GRAPH, in_features=12, hidden_features=16, backend="masked")
        if number == 2:  # run, which the "masked" backend does not record
            model.eval()(torch.zeros(2, 12))
        mpnn_arch.save(model, tmp_path / "m")
        files.append(hashlib.sha256((tmp_path / "m").read_bytes()).hexdigest())
    assert len(set(files)) == 1


def test_only_the_choices_differ_between_models_with_other_histories(tmp_path: Path) -> None:
    found = []
    for choices in ({}, {"float32 cpu 8": "masked", "float32 cpu 16": "gather"}):
        model = models.mlp(GRAPH, in_features=12, hidden_features=16)
        model.rounds[0].backend_choices = choices
        mpnn_arch.save(model, tmp_path / "m")
        with safe_open(tmp_path / "m", framework="pt") as file:
            found.append(file.metadata())
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {
        "backend_choices",
        "sha256",
    }
    # The order in which shapes were met does not show.
    model.rounds[0].backend_choices = dict(reversed(choices.items()))
    before = (tmp_path / "m").read_bytes()
    mpnn_arch.save(model, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before
