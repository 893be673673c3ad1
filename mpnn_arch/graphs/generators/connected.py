"""Drawing until a graph is connected, a bounded number of times."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph

if TYPE_CHECKING:
    import networkx as nx

TRIES = 100


def connected(
    draw: Callable[[Random], nx.Graph | None],
    seed: int,
    what: str,
    most_draws: int | None = None,
    advice: str = "ask for more edges",
) -> RelationalGraph:
    """The first connected graph that ``draw`` draws from one random stream, in 100 tries.

    Args:
        draw: draws a graph from the stream; None if this try failed.
        seed: of the stream.
        what: the family and its parameters, for the error message.
        most_draws: random numbers after which a try has failed; None where it always ends.
        advice: what makes a graph more likely, for the error message.

    Raises:
        InputError: the seed is not an integer, or none of the tries is connected.
    """
    import networkx as nx

    seed = check_whole("seed", seed, 0)
    stream = Random(seed) if most_draws is None else BoundedStream(seed)
    for _ in range(TRIES):
        if isinstance(stream, BoundedStream):
            stream.draws_left = most_draws or 0
        try:
            drawn = draw(stream)
        except TooManyDraws:
            continue
        if drawn is not None and nx.is_connected(drawn):
            ordered = nx.Graph()
            ordered.add_nodes_from(range(len(drawn)))
            ordered.add_edges_from(drawn.edges())
            return RelationalGraph.from_networkx(ordered)
    raise never_connected(what, seed, advice)


def never_connected(what: str, seed: int, advice: str = "ask for more edges") -> InputError:
    """The error of a seed with which no try gave a connected graph.

    Args:
        what: the family and its parameters.
        seed: of the tries.
        advice: what makes a graph more likely.
    """
    return InputError(
        f"{what} gave no connected graph with seed {seed} in {TRIES} tries; "
        f"{advice}, or change the seed"
    )


class BoundedStream(Random):
    """``random.Random``, the same stream bit by bit, that gives up after a number of draws.

    Some algorithms of networkx draw until a condition holds, also where it never can.
    """

    draws_left: float = math.inf

    def random(self) -> float:
        """As ``random.Random.random``."""
        self._count()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """As ``random.Random.getrandbits``."""
        self._count()
        return super().getrandbits(k)

    def _count(self) -> None:
        self.draws_left -= 1
        if self.draws_left < 0:
            raise TooManyDraws


class TooManyDraws(Exception):
    """A :class:`BoundedStream` has given up."""
