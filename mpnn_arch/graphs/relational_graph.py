"""The relational graph, along whose edges the messages of a layer flow."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import LARGEST_COUNT, check_bytes, check_flag, check_path, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import bitset, c_and_l
from mpnn_arch.graphs.arrays import (
    as_array,
    as_edges,
    check_ends,
    edges_of,
    edges_of_networkx,
    edges_of_sparse,
    is_sparse,
    is_symmetric,
    sorted_edges,
)

# Torch is imported where a tensor is returned, not here: a sweep's worker processes generate
# millions of graphs without it.
if TYPE_CHECKING:
    import networkx as nx
    import torch
    from matplotlib.axes import Axes
    from torch_geometric.data import Data

# Bytes of one node or edge in networkx's dictionaries, about.
_NETWORKX_BYTES = 250


class RelationalGraph:
    """A graph G = (V, E) whose nodes hold shares of a layer's channels; immutable.

    Node v of a round receives a message from every u with an edge u -> v. The paper's graphs are
    undirected (both directions of every edge are present) and every node keeps a self-loop.
    Directed graphs are allowed.

    Args:
        num_nodes: N, at least 1.
        edge_index: (2, E) integers, row 0 source, row 1 target, as in PyG: a tensor, an array or
            a nested list, in any order; repeated edges count once.
        directed: if False, the reverse of every edge is added.
        self_loops: if True, every node gets a self-loop; if False, only those given are kept.

    Raises:
        InputError: an edge index out of range or of the wrong shape, or a node without incoming
            edges.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 2.1.

    Example:
        >>> from mpnn_arch import RelationalGraph
        >>> graph = RelationalGraph(4, [[0, 0, 1], [1, 2, 3]])
        >>> graph.edge_index  # both directions and self-loops, sorted by target
        tensor([[0, 1, 2, 0, 1, 3, 0, 2, 1, 3],
                [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]])
        >>> graph.average_degree, graph.clustering_coefficient
        (1.5, 0.0)
    """

    __slots__ = ("__dict__", "_edges", "_num_nodes")

    _edges: npt.NDArray[np.int64]
    _num_nodes: int

    def __init__(
        self,
        num_nodes: int,
        edge_index: torch.Tensor | npt.ArrayLike,
        *,
        directed: bool = False,
        self_loops: bool = True,
    ) -> None:
        num_nodes = check_whole("num_nodes", num_nodes, -LARGEST_COUNT, LARGEST_COUNT)
        if num_nodes < 1:
            raise InputError(f"a relational graph has at least 1 node, {num_nodes} were asked for")
        directed = check_flag("directed", directed)
        self_loops = check_flag("self_loops", self_loops)
        given = as_edges(edge_index)
        check_ends(num_nodes, given)
        edges = sorted_edges(num_nodes, given, reverse=not directed, self_loops=self_loops)
        if not self_loops:
            silent = np.flatnonzero(np.bincount(edges[1], minlength=num_nodes) == 0)
            if silent.size:
                raise InputError(
                    f"node {silent[0]} receives no message (no edge ends there and it has no "
                    "self-loop): connect it, or pass self_loops=True"
                )
        edges.flags.writeable = False
        object.__setattr__(self, "_num_nodes", num_nodes)
        object.__setattr__(self, "_edges", edges)
        if not directed:
            self.__dict__["is_directed"] = False
        if self_loops:
            self.__dict__["has_self_loops"] = True

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name}: a RelationalGraph is frozen, make a new one")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self._num_nodes, self._edges))

    def __deepcopy__(self, memo: dict[int, Any]) -> RelationalGraph:
        return self

    # -- constructors -----------------------------------------------------------------------

    @classmethod
    def from_edge_index(
        cls,
        edge_index: torch.Tensor | npt.ArrayLike,
        num_nodes: int | None = None,
        *,
        directed: bool = False,
        self_loops: bool = True,
    ) -> RelationalGraph:
        """From (2, E) source and target nodes; ``num_nodes`` defaults to the largest plus one.

        Raises:
            InputError: as for the class.
        """
        edges = as_edges(edge_index)
        if num_nodes is None:
            if not edges.size:
                raise InputError("an edge index without edges does not imply num_nodes; give it")
            num_nodes = max(1, int(edges.max()) + 1)
        return cls(num_nodes, edges, directed=directed, self_loops=self_loops)

    @classmethod
    def from_adjacency(
        cls,
        adjacency: torch.Tensor | npt.ArrayLike,
        *,
        directed: bool = False,
        self_loops: bool = True,
    ) -> RelationalGraph:
        """From an (N, N) matrix of 0 and 1, row = target, column = source, dense or sparse.

        Raises:
            InputError: not square, or an entry other than 0 and 1.
        """
        if is_sparse(adjacency):
            num_nodes, edges = edges_of_sparse(adjacency)
        else:
            matrix = as_array(adjacency)
            num_nodes, edges = len(matrix) if matrix.ndim else 0, edges_of(matrix)
        return cls(num_nodes, edges, directed=directed, self_loops=self_loops)

    @classmethod
    def from_networkx(cls, graph: nx.Graph, *, self_loops: bool = True) -> RelationalGraph:
        """From a networkx ``Graph`` or ``DiGraph``; nodes are numbered in its own order.

        Attributes of edges, weights among them, are left out: an edge of weight 0 is an edge.

        Raises:
            InputError: something else, or a graph without nodes.
        """
        if not (hasattr(graph, "is_directed") and hasattr(graph, "nodes")):
            raise InputError(
                f"a networkx graph is needed, not {shown(graph)}; use from_adjacency or "
                "from_edge_index for arrays"
            )
        edges, directed = edges_of_networkx(graph), graph.is_directed()
        return cls(len(graph), edges, directed=directed, self_loops=self_loops)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        format: Literal["matrix", "edges", "graphml", "gexf"] | None = None,
        *,
        directed: bool | None = None,
        self_loops: bool = True,
    ) -> RelationalGraph:
        """From a file: a matrix of 0 and 1, an edge list, GraphML or GEXF.

        Args:
            path: ``.txt``, ``.csv``, ``.tsv`` and ``.npy`` (without pickles) hold a matrix, row =
                target, column = source, one row per line; ``.edges`` and ``.edgelist`` two nodes
                per line, between them a comma, semicolon, tab or blank; ``.graphml`` and ``.gexf``
                those formats. Text of two columns that can be no matrix of 0 and 1 is an edge list
                under any of these names. Further columns and attributes of edges, weights among
                them, are left out: an edge of weight 0 is an edge.
            format: the format, if the suffix does not imply it.
            directed: False adds every edge's reverse; None keeps the directions of the file (edge
                lists are undirected).
            self_loops: whether every node gets a self-loop.

        Raises:
            InputError: no such file, an unknown format, or content that is not a graph.
        """
        from mpnn_arch.graphs.files import read

        path = check_path(path)
        num_nodes, edges, is_directed = read(path, format, directed)
        try:
            return cls(num_nodes, edges, directed=is_directed, self_loops=self_loops)
        except InputError as error:
            raise InputError(f"{path.name}: {error}") from None

    # -- conversions ------------------------------------------------------------------------

    @property
    def num_nodes(self) -> int:
        """N."""
        return self._num_nodes

    @property
    def edge_index(self) -> torch.Tensor:
        """(2, E) int64, row 0 source, row 1 target, sorted by target and then by source.

        A new tensor on every access, so that writing into it does not change the graph.
        """
        import torch

        return torch.from_numpy(self._edges.copy())

    @property
    def edges(self) -> npt.NDArray[np.int64]:
        """``edge_index`` as a read-only numpy array."""
        return self._edges

    @property
    def adjacency(self) -> npt.NDArray[np.bool_]:
        """(N, N), row = target, column = source, self-loops included.

        Raises:
            InputError: N^2 bytes are more than there is memory for.
        """
        check_bytes(
            f"the adjacency matrix of {self.num_nodes:,} nodes",
            self.num_nodes**2,
            "use edge_index, which is as long as the graph has edges",
        )
        matrix = np.zeros((self.num_nodes, self.num_nodes), dtype=bool)
        matrix[self._edges[1], self._edges[0]] = True
        return matrix

    def to_networkx(self) -> nx.Graph:
        """A networkx ``Graph`` (``DiGraph`` if directed) with its self-loops.

        Raises:
            InputError: more edges than there is memory for.
        """
        import networkx as nx

        check_bytes(
            f"a networkx graph of {self.num_nodes:,} nodes and {self.num_edges:,} edges",
            _NETWORKX_BYTES * (self.num_nodes + self._edges.shape[1]),
            "use edge_index",
        )
        made = nx.DiGraph() if self.is_directed else nx.Graph()
        made.add_nodes_from(range(self.num_nodes))
        made.add_edges_from(self._edges.T.tolist())
        return made

    def to_data(self) -> Data:
        """A PyG ``Data`` with ``edge_index`` and ``num_nodes``."""
        from torch_geometric.data import Data

        return Data(edge_index=self.edge_index, num_nodes=self.num_nodes)

    # -- properties -------------------------------------------------------------------------

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the nodes and edges, in hexadecimal; the same on every machine."""
        digest = hashlib.sha256(f"relational graph of {self.num_nodes} nodes:".encode())
        digest.update(np.ascontiguousarray(self._edges, dtype="<i8").data)
        return digest.hexdigest()

    @cached_property
    def is_directed(self) -> bool:
        """Whether some edge lacks its reverse."""
        return not is_symmetric(self.num_nodes, self._edges)

    @cached_property
    def has_self_loops(self) -> bool:
        """Whether every node has its self-loop."""
        return int((self._edges[0] == self._edges[1]).sum()) == self.num_nodes

    @cached_property
    def num_edges(self) -> int:
        """Undirected edges (arcs, if directed), self-loops left out."""
        arcs = int((self._edges[0] != self._edges[1]).sum())
        return arcs if self.is_directed else arcs // 2

    @property
    def degrees(self) -> npt.NDArray[np.int64]:
        """(N,) in-degree of each node, self-loops left out."""
        source, target = self._edges
        return np.bincount(target[source != target], minlength=self.num_nodes)

    @property
    def average_degree(self) -> float:
        """Mean in-degree of the nodes, self-loops left out."""
        return float((self._edges[0] != self._edges[1]).sum() / self.num_nodes)

    @property
    def density(self) -> float:
        """Average degree over N, self-loops left out.

        The paper's files have that which WS-flex was asked for, see ``measures.degree.density``.
        """
        return self.average_degree / self.num_nodes

    @property
    def block_density(self) -> float:
        """Fraction of ones in the N x N adjacency, self-loops included.

        This is the cost of a round relative to the dense layer of the same width.
        """
        return self._edges.shape[1] / self.num_nodes**2

    @cached_property
    def clustering_coefficient(self) -> float:
        """C, the mean over nodes of the share of a node's neighbours that are linked.

        Self-loops are ignored; equal to ``networkx.average_clustering`` to the last bit, also for
        directed graphs.
        """
        return float(c_and_l.clustering_coefficient(self._words(), self.is_directed)[0])

    @cached_property
    def average_path_length(self) -> float:
        """L, the mean length of the shortest paths over all ordered pairs of nodes.

        Equal to ``networkx.average_shortest_path_length`` to the last bit, also for directed
        graphs. ``graphs.measure(..., reachable_only=True)`` leaves unreachable pairs out.

        Raises:
            InputError: a graph of one node, or one with unreachable pairs.
        """
        return float(c_and_l.average_path_length(self._words(), self.is_directed)[0])

    def _words(self) -> bitset.Words:
        """(1, N, W) packed adjacency rows without self-loops."""
        return bitset.without_loops(bitset.of_edges(self.num_nodes, [self._edges]))

    def draw(
        self,
        layout: Literal["ring", "spring", "matrix", "degrees"] = "ring",
        ax: Axes | None = None,
        *,
        seed: int = 0,
        **style: Any,
    ) -> Axes:
        """Draw the graph with matplotlib and return the axes.

        Above 2,000 nodes, where circles and lines are one grey disc, every layout gives the
        distribution of the degrees instead.

        Args:
            layout: nodes on a ``"ring"``, spread by a ``"spring"`` model, the adjacency
                ``"matrix"`` (row = target, column = source), or the distribution of the
                ``"degrees"`` alone.
            ax: where to draw; a new figure if None.
            seed: of the spring layout.
            style: passed to ``networkx.draw_networkx``, ``Axes.imshow`` or ``Axes.plot``; not used
                where the degrees are drawn instead.

        Raises:
            InputError: no such layout.
        """
        from mpnn_arch.graphs.drawing import draw

        return draw(self, layout, ax, seed=seed, **style)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RelationalGraph)
            and self.num_nodes == other.num_nodes
            and np.array_equal(self._edges, other._edges)
        )

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def __repr__(self) -> str:
        kind = "directed, " if self.is_directed else ""
        nodes, edges = self.num_nodes, self.num_edges
        return (
            f"RelationalGraph({kind}{nodes} node{'s' * (nodes != 1)}, "
            f"{edges} edge{'s' * (edges != 1)}, "
            f"density={self.density:.3f}, hash={self.content_hash[:8]})"
        )


def _rebuild(num_nodes: int, edges: npt.NDArray[np.int64]) -> RelationalGraph:
    return RelationalGraph(num_nodes, edges, directed=True, self_loops=False)
