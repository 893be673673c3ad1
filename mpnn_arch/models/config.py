"""The configuration of a model, apart from its graphs and its matched widths."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mpnn_arch.checks import LARGEST_COUNT, as_list, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.assignment import GraphAssignment, Graphs, as_graphs
from mpnn_arch.models.meter import Meter, RoundMeter
from mpnn_arch.partition import Order

if TYPE_CHECKING:
    from torch import nn

    from mpnn_arch.models.layers import Layers

SMALL_IMAGE = 64
"""Below this many pixels a model uses its small-image stem, which does not shrink the image."""

WIDEST = 1_000_000
"""Channels of the widest stage: one dense layer of that width takes 4 terabytes."""

Search = Literal["first_stage", "scaled", "nearest"]
"""How widths are matched to a budget, see :func:`~mpnn_arch.models.budget.match_widths`."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ABC):
    """One architecture: how to build its layers, and how to count their cost.

    A subclass lists its stages' dense widths, reports its layers to a
    :class:`~mpnn_arch.models.meter.Meter` (``count``) and builds them (``make``). A test checks
    that the two agree.

    Args:
        num_classes: outputs of the dense head.
        in_channels: channels of an image, 3 for colour and 1 for grey.
        image_size: height and width of an image in pixels.
        width_multiplier: scales every width of the dense model, and with it the reference budget.

    Example:
        >>> from mpnn_arch import models
        >>> config = models.make_config("resnet34")
        >>> config.stage_widths, config.num_rounds
        ((64, 128, 256, 512), 32)
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    widths: ClassVar[tuple[int, ...]]
    default_graph: ClassVar[str] = "ws_flex:64,12,0.15,0"
    default_init: ClassVar[Literal["published", "kaiming"]] = "published"
    search: ClassVar[Search] = "first_stage"

    num_classes: int = 1000
    in_channels: int = 3
    image_size: int = 224
    width_multiplier: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # integers, all of them at least 1
            value = getattr(self, field.name)
            if field.type == "int" or (field.type == "int | None" and value is not None):
                _check_count(field.name, value)
        multiplier = self.width_multiplier
        is_number = isinstance(multiplier, int | float) and not isinstance(multiplier, bool)
        if not is_number or not 0 < multiplier <= LARGEST_COUNT:
            raise InputError(
                f"width_multiplier is above 0 and finite, not {shown(multiplier)}; 1 is the paper's"
            )
        for width in self.stage_widths:
            if width > WIDEST:
                raise InputError(
                    f"{self.name} has a stage of {width:,} channels, and {WIDEST:,} are the most; "
                    "choose a smaller width_multiplier"
                )

    # -- defined by the architecture --------------------------------------------------------

    @abstractmethod
    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """Report every layer of the model with these stage widths to ``meter``."""

    @abstractmethod
    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """Build the model with these stage widths; ``layers`` builds its layers."""

    # -- derived ----------------------------------------------------------------------------

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of each stage of the dense model: ``widths``, scaled."""
        return tuple(self.scaled(width) for width in self.widths)

    @property
    def is_small(self) -> bool:
        """Whether the small-image stem is used."""
        return self.image_size < SMALL_IMAGE

    @property
    def num_stages(self) -> int:
        """Number of stages, each of which can have its own graph."""
        return len(self.stage_widths)

    @property
    def num_rounds(self) -> int:
        """Number of rounds, each of which can have its own graph, without projection shortcuts."""
        return _num_rounds(self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return (self.in_channels, self.image_size, self.image_size)

    def scaled(self, width: int) -> int:
        """A width of the paper's model times the width multiplier, at least 1."""
        return max(1, round(width * self.width_multiplier))

    def assignment(self, graphs: Sequence[RelationalGraph]) -> GraphAssignment:
        """The assignment of ``graphs`` to the rounds.

        Raises:
            InputError: a number of graphs other than none, one, one per stage or one per round.
        """
        rounds = self.num_rounds if len(graphs) > 1 else 1
        return GraphAssignment(graphs, self.name, self.num_stages, rounds)

    def multiply_adds(
        self,
        widths: Sequence[int] | None = None,
        graphs: Graphs = (),
        *,
        order: Order = "published",
        round_meter: RoundMeter | None = None,
        check: bool = True,
    ) -> int:
        """Exact multiply-adds of one input through the model, computed from its widths.

        Args:
            widths: a width per stage; None: the dense ones.
            graphs: none for the dense model, one, one per stage or one per round; objects or
                specifications.
            order: partition order of the rounds.
            round_meter: cost of a round, if it is not a sum of linear messages.
            check: reject stages narrower than their graph.

        Raises:
            InputError: a stage narrower than its graph, an image too small for the strides, or a
                wrong number of widths or graphs.
        """
        graphs = as_graphs(graphs)
        widths = self.stage_widths if widths is None else self.checked_widths(widths)
        size = (self.image_size, self.image_size)
        meter = Meter(
            self.assignment(graphs), size, order=order, round_meter=round_meter, check=check
        )
        self.count(meter, widths)
        return meter.multiply_adds

    def checked_widths(self, widths: Sequence[int]) -> tuple[int, ...]:
        """``widths`` as a tuple.

        Raises:
            InputError: not one positive integer per stage.
        """
        given = as_list("widths", widths)
        checked = tuple(check_whole("a width", width, 0, LARGEST_COUNT) for width in given)
        if len(checked) != len(self.stage_widths) or min(checked) < 1:
            raise InputError(
                f"{self.name} has {len(self.stage_widths)} stage widths, each at least 1; "
                f"{shown(given)} was given"
            )
        return checked

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-able values; ``type(self)(**config.to_dict())`` is equal to it."""
        return dataclasses.asdict(self)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is an integer of at least 1, not {shown(value)}; change it")
    most = 10_000 if name == "num_rounds" else LARGEST_COUNT  # a round is built as a module
    if value > most:
        raise InputError(f"{name} is at most {most:,}, {shown(value)} was given; choose a smaller")


@lru_cache(maxsize=256)
def _num_rounds(config: ModelConfig) -> int:
    meter = Meter(
        GraphAssignment((), config.name, config.num_stages, 1),
        (config.image_size, config.image_size),
    )
    config.count(meter, config.stage_widths)
    return meter.graphs.rounds_made
