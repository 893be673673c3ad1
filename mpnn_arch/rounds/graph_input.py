"""The graph that comes with the input of a round: PyG's ways to give it, read into one form."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch_geometric.typing as pyg_typing
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.utils import is_torch_sparse_tensor, to_edge_index

from mpnn_arch.checks import is_whole, shown
from mpnn_arch.errors import InputError


class GraphInput(NamedTuple):
    """Nodes and edges of one call.

    Attributes:
        source: (N, B, C) features of the senders.
        target: (M, B, C') features of the receivers, the same tensor unless the graph is bipartite;
            None where they have none.
        edge_index: (2, E) in the caller's order, followed by the self-loops that a layer adds.
        value: (E,) weights or (E, F) features of the edges, or None.
        size: (N, M).
        leading: dimensions of the caller's features before (N, C).
        dropped: (E,) messages that reach no node, in a compiled call; None for none.
        origin: (E,) number of each edge among the caller's, those added having the number past the
            last; None where the edges are the caller's.
    """

    source: Tensor
    target: Tensor | None
    edge_index: Tensor
    value: Tensor | None
    size: tuple[int, int]
    leading: tuple[int, ...]
    dropped: Tensor | None = None
    origin: Tensor | None = None


def read_graph(layer: Any, x: Any, edges: Any, value: Any = None, size: Any = None) -> GraphInput:
    """The input of a :class:`~mpnn_arch.rounds.graph_round.GraphRound`.

    Args:
        layer: the round.
        x: (..., N, C), or (senders, receivers), of which the receivers may be None.
        edges: (2, E) tensor, ``EdgeIndex``, or the transposed adjacency as a sparse tensor.
        value: weights or features of the edges.
        size: (N, M), needed where the receivers are None.

    Raises:
        InputError: anything that does not fit.
    """
    if edges is None:
        of = "data." if hasattr(x, "edge_index") else ""
        raise InputError(
            f"the graph of this round comes with the input: call round({of}x, {of}edge_index)"
        )
    bipartite = isinstance(x, (tuple, list))
    source, target = features_of(x)
    _check_features(source, layer.source_channels)
    if target is not None and bipartite:
        _check_features(target, layer.target_channels)
    elif target is not None and layer.source_channels != layer.target_channels:
        raise InputError(
            f"this round takes a pair of {layer.source_channels} and {layer.target_channels} "
            "channels: call round((x_source, x_target), edge_index)"
        )
    edge_index, stored, stored_size = _read_edges(edges)
    if layer.flow != "source_to_target" and (bipartite or _is_sparse(edges)):
        raise InputError(
            "flow='target_to_source' with a pair of features or a sparse tensor would swap their "
            "sides; use flow='source_to_target' with the edges flipped"
        )
    num_nodes = _sizes(source, target, stored_size, size)
    if stored is not None:
        value = _stored_value(layer, stored, value)
    _check_edges(edge_index, value, num_nodes)
    if layer.explain:
        _check_mask(layer, edge_index)
    return GraphInput(
        source=as_nodes(source),
        target=None if target is None else as_nodes(target),
        edge_index=edge_index.long(),
        value=value,
        size=num_nodes,
        leading=tuple(source.shape[:-2]),
    )


def features_of(x: Any) -> tuple[Tensor, Tensor | None]:
    """Features of senders and receivers, sparse ones as dense; the same of both unless a pair.

    Raises:
        InputError: anything but a tensor of two dimensions or more, or a pair of them.
    """
    is_pair = isinstance(x, (tuple, list))
    pair = tuple(x) if is_pair else (x,)
    if len(pair) != 1 + is_pair or not all(
        isinstance(one, Tensor) or (one is None and number == 1) for number, one in enumerate(pair)
    ):
        kinds = [type(one).__name__ for one in pair]
        given = kinds[0] if not is_pair else shown(kinds).replace("'", "")
        raise InputError(
            "x is a tensor (..., N, C), or a pair (x_source, x_target), whose second may be None; "
            f"{given} was given: call round(x, edge_index), for a Data round(data.x, "
            "data.edge_index)"
        )
    for one in pair:
        if one is not None and one.dim() < 2:
            raise InputError(
                f"x is of shape {tuple(one.shape)}, a round takes (..., N, C): a row per node, "
                "x.unsqueeze(-1) for one number per node"
            )
    dense = [one if one is None or one.layout == torch.strided else one.to_dense() for one in pair]
    return dense[0], dense[-1]


def as_nodes(x: Tensor) -> Tensor:
    """(..., N, C) -> (N, B, C)."""
    *leading, num_nodes, channels = x.shape
    return x.reshape(math.prod(leading), num_nodes, channels).transpose(0, 1)


def as_rows(nodes: Tensor) -> Tensor:
    """(N, B, C) -> (B * N, C), sample by sample."""
    return nodes.transpose(0, 1).flatten(0, 1)


def _is_sparse(edges: Any) -> bool:
    return isinstance(edges, pyg_typing.SparseTensor) or is_torch_sparse_tensor(edges)


def _read_edges(edges: Any) -> tuple[Tensor, Tensor | None, Any]:
    """The edges as (2, E), the values that a sparse tensor stores, and its (N, M)."""
    if isinstance(edges, EdgeIndex):
        return edges.as_tensor(), None, tuple(edges.sparse_size())
    if isinstance(edges, pyg_typing.SparseTensor):
        row, column, value = edges.coo()
        return torch.stack([column, row]), value, (edges.size(1), edges.size(0))
    if is_torch_sparse_tensor(edges):
        index, value = to_edge_index(edges)  # of the transposed adjacency: row 0 has the targets
        return index.flip(0), value, (edges.shape[1], edges.shape[0])
    if not isinstance(edges, Tensor):
        raise InputError(
            f"an edge_index is a (2, E) tensor of integers, not {shown(edges)}; use "
            f"{_tensor_of(edges)}"
        )
    return edges, None, None


def _tensor_of(edges: Any) -> str:
    """How to make an edge index of a graph that another library, or this one, has made."""
    library = type(edges).__module__.partition(".")[0]
    if library == "networkx":
        return "torch_geometric.utils.from_networkx(graph).edge_index"
    if hasattr(edges, "edge_index"):
        return "its edge_index"
    return "torch.as_tensor" if library == "numpy" else "torch.tensor([sources, targets])"


def _stored_value(layer: Any, stored: Tensor, value: Tensor | None) -> Tensor | None:
    """The values of a sparse tensor, where the round has a use for them."""
    if stored.dim() == 1 and not layer.takes_weights:
        if not torch.compiler.is_compiling() and bool((stored != 1).any()):
            raise InputError(
                f"{type(layer).__name__} has no edge weights, and this sparse tensor stores values "
                "other than 1: give edge_index without values, or use Graph or GCN"
            )
        return value
    if stored.dim() > 1 and not layer.takes_features:
        raise InputError(
            f"{type(layer).__name__} takes no edge features from a sparse tensor; this one stores "
            f"values of shape {tuple(stored.shape)}: use GINE, or give edge_index and edge_attr"
        )
    if value is not None:
        raise InputError(
            "the sparse tensor stores values of its own, so that a second argument for the edges "
            "is ambiguous: give edge_index of shape (2, E) with it"
        )
    return stored


def _sizes(source: Tensor, target: Tensor | None, *given: Any) -> tuple[int, int]:
    """(N, M): the rows of the features, and what ``given`` pairs say, None being unknown."""
    nodes = [source.shape[-2], None if target is None else target.shape[-2]]
    for sizes in given:
        if sizes is not None and not (
            isinstance(sizes, (tuple, list))
            and len(sizes) == 2
            and all(one is None or (is_whole(one) and one >= 0) for one in sizes)
        ):
            raise InputError(
                f"size is a pair (N, M), of senders and receivers, in whole numbers; not "
                f"{shown(sizes)}"
            )
    for side, expected in (pair for sizes in given for pair in enumerate(sizes or ())):
        if nodes[side] is None:
            nodes[side] = expected
        if expected is not None and nodes[side] != expected:
            raise InputError(
                f"the graph has {expected} {('sources', 'targets')[side]}, x has {nodes[side]} "
                "rows for them: give every node a row of x"
            )
    if nodes[1] is None:
        raise InputError(
            "the receivers have no features, so their number is unknown: give size=(N, M)"
        )
    return nodes[0], nodes[1]  # type: ignore[return-value]


def _check_features(x: Tensor, channels: int) -> None:
    if x.dim() < 2 or x.shape[-1] != channels:
        raise InputError(f"this round takes (..., N, {channels}), not {tuple(x.shape)}")


def weight_of_edges(layer: Any, value: Tensor | None) -> Tensor | None:
    """(E,) one number per edge; a column (E, 1) is taken too, as by PyG's layers.

    Raises:
        InputError: several numbers per edge.
    """
    if value is not None and value.numel() != value.shape[0]:
        raise InputError(
            f"{type(layer).__name__} takes edge weights of shape (E,), one number per edge, not "
            f"{tuple(value.shape)}: use GINE or GAT for features of edges"
        )
    return value if value is None else value.reshape(-1)


def _other_layout(edges: Tensor) -> str:
    if edges.dim() != 2:
        return ""
    if edges.shape[1] == 2 and not edges.is_floating_point():
        return ": give edge_index.T"
    return ": of an adjacency matrix give adjacency.nonzero().T" if edges.shape[0] > 2 else ""


def _check_edges(edge_index: Tensor, value: Any, num_nodes: tuple[int, int]) -> None:
    integer = not (edge_index.is_floating_point() or edge_index.is_complex())
    integer = integer and edge_index.dtype != torch.bool
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or not integer:
        raise InputError(
            f"an edge_index is (2, E) integers, this one is {tuple(edge_index.shape)} of "
            f"{edge_index.dtype}; row 0 contains sources, row 1 targets{_other_layout(edge_index)}"
        )
    if value is not None and not (isinstance(value, Tensor) and value.dim()):
        raise InputError(
            f"weights or features of the edges are a tensor (E,) or (E, F), not {shown(value)}; "
            "give one entry per column of edge_index"
        )
    if value is not None and value.shape[0] != edge_index.shape[1]:
        raise InputError(
            f"the graph has {edge_index.shape[1]} edges, {value.shape[0]} values are given for "
            "them: give one per column of edge_index"
        )
    if torch.compiler.is_compiling() or edge_index.is_meta:
        return  # compiled code checks the bounds itself, and meta tensors hold no numbers
    for row, limit in zip(edge_index, num_nodes, strict=True):
        if row.numel() and not 0 <= int(row.min()) <= int(row.max()) < limit:
            worst = row.min() if row.min() < 0 else row.max()
            raise InputError(
                f"the edge_index names node {int(worst)}, x has nodes 0 to {limit - 1}: give "
                "every node a row of x"
            )


def _check_mask(layer: Any, edge_index: Tensor) -> None:
    mask = layer._edge_mask
    if mask is None:
        raise InputError("explain=True needs an edge mask: set one with PyG's set_masks")
    if mask.shape[0] != edge_index.shape[1]:
        raise InputError(
            f"the edge mask has {mask.shape[0]} entries, the graph {edge_index.shape[1]} edges: "
            "give one entry per edge, in the order of edge_index"
        )
