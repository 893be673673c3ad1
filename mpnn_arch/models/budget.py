"""Widths that meet a reference budget on a given graph."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

from mpnn_arch.checks import check_kind, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.models.assignment import Graphs, as_graphs
from mpnn_arch.models.config import ModelConfig
from mpnn_arch.models.layers import round_meter
from mpnn_arch.models.meter import RoundMeter
from mpnn_arch.models.registry import make_config
from mpnn_arch.partition import Order

Widths = tuple[int, ...]
CostOf = Callable[[Widths], int]


def match_widths(
    config: ModelConfig,
    graph: Graphs,
    reference: int | None = None,
    *,
    order: Order = "published",
    round_meter: RoundMeter | None = None,
) -> Widths:
    """The stage widths at which ``config`` on ``graph`` costs what the dense model does.

    The procedure of the published runs, as a pure function. The stages keep their ratio to the
    first, and the first gets the smallest width whose cost is at least the reference. Then, for
    stages 2, 3, ... in turn, that stage's width is lowered one at a time, at most (its ratio to
    the first, rounded) times, while the cost stays at least the reference. EfficientNet's ratios
    are not integers, so its first step is a different search: see :func:`_scaled_first`.

    The cost is at least the reference, and above it by less than one channel of one stage costs:
    0.01 % to 0.6 % for the published models. ResNet-20 is so narrow that its steps are larger, so
    that its later stages are then searched for the nearest cost: see :func:`_nearest`. Where the
    cost of a message rises in steps, as its own inner width is a part of a share, no width may be
    near: a warning says by how much the cost is above.

    Args:
        config: the architecture.
        graph: one, one per stage or one per round.
        reference: multiply-adds to meet; None: those of the dense model.
        order: which nodes hold the larger shares; the published widths depend on it.
        round_meter: cost of a round, if it is not a sum of linear messages.

    Returns:
        One width per stage.

    Raises:
        InputError: a stage would be narrower than its graph, or no width meets the reference.

    Source: You, Leskovec, He, Xie, ICML 2020, section 3.2, and the published runs.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> models.match_widths(models.make_config("mlp", in_features=784), graphs.ring(64, 8))
        (1539,)
    """
    check_kind("config", config, ModelConfig, "make it with mpnn_arch.models.make_config")
    graphs = as_graphs(graph)
    if not graphs:
        raise InputError("match_budget needs a graph; without one the model is dense already")
    wanted = config.multiply_adds() if reference is None else check_reference(reference)

    def cost(widths: Widths) -> int:
        return config.multiply_adds(
            widths, graphs, order=order, round_meter=round_meter, check=False
        )

    def check(widths: Widths) -> None:
        config.multiply_adds(widths, graphs, order=order)  # raises if one is too narrow

    if config.search == "scaled":
        widths = _scaled_first(config.stage_widths, cost, wanted)
    else:
        widths = _smallest_first(config, cost, wanted, check)
    widths = _lower_later(widths, cost, wanted)
    if config.search == "nearest":
        widths = _nearest(widths, cost, wanted)
    check(widths)
    if round_meter is not None:
        _warn_of_steps(config, widths, cost, wanted)
    return widths


def _warn_of_steps(config: ModelConfig, widths: Widths, cost: CostOf, wanted: int) -> None:
    """Say by how much a budget is exceeded where that is more than one channel costs.

    The rank of ``low_rank`` is a quarter of a share by default, so that with the channel which
    makes a share 8 wide every product costs twice as much: between the two is no width.
    """

    def of_first(more: int) -> int:
        return cost((widths[0] + more, *widths[1:]))

    found = of_first(0)
    try:
        channel = min(of_first(1) - found, of_first(-1) - of_first(-2))
    except InputError:  # fewer channels than nodes
        channel = of_first(1) - found
    if found - wanted > max(channel, 0.01 * wanted):
        warnings.warn(
            f"{config.name} of widths {widths} costs {found / wanted - 1:.1%} more than the "
            f"{wanted:,} multiply-adds to meet, as the cost of its messages rises in steps of the "
            "shares; fix their inner width, as message_kwargs={'rank': 2} for low_rank or "
            "{'hidden_channels': 4} for edge_mlp, or choose another reference",
            stacklevel=4,
        )


def check_reference(reference: int) -> int:
    """``reference`` as a number of multiply-adds that some width can meet.

    Raises:
        InputError: not an integer from 1 to 10^15.
    """
    return check_whole("reference", reference, 1, 10**15)


def _smallest_first(
    config: ModelConfig, cost: CostOf, wanted: int, check: Callable[[Widths], None]
) -> Widths:
    """The stages in their dense ratio, the first as narrow as the reference allows."""
    dense = config.stage_widths

    def stages(first: int) -> Widths:
        return tuple(round(first * width / dense[0]) for width in dense)

    def is_wide_enough(first: int) -> bool:
        try:
            check(stages(first))
        except InputError:
            return False
        return True

    high = dense[0]
    while not is_wide_enough(high):
        high *= 2
        if high > 1024 * dense[0]:  # the stem, not a stage, is too narrow
            check(stages(high))
    low = _first_true(1, high, is_wide_enough)
    while cost(stages(high)) < wanted:
        high *= 2
    first = _first_true(low, high, lambda first: cost(stages(first)) >= wanted)
    # The cost is not monotone at one point: at the stem's width the first stage's shortcut needs no
    # projection, so the search may have missed narrower widths.
    if low <= dense[0] - 1 < first and cost(stages(dense[0] - 1)) >= wanted:
        first = _first_true(low, dense[0] - 1, lambda first: cost(stages(first)) >= wanted)
    if first == low:
        least, step = cost(stages(low)), cost(stages(low + 1)) - cost(stages(low))
        if least - wanted > step:
            raise InputError(
                f"no width of {config.name} meets {wanted:,} multiply-adds on this graph: at "
                f"{low} channels in stage 1, the fewest for its nodes, it costs {least:,}; "
                "use a graph of fewer nodes or edges, or a larger reference"
            )
    return stages(first)


def _scaled_first(dense: Widths, cost: CostOf, wanted: int) -> Widths:
    """The published search for stage ratios that are not integers; its result depends on its path.

    Nine times: scale the first width by sqrt(reference / cost), rounded to 2 decimals, and the
    others in their current (rounded) ratio to it. Then move the first by one at a time until the
    cost crosses the reference, and step back once if it ended below.
    """

    def scaled(widths: Widths, first: int) -> Widths:
        # The ratio first, as published: first * (w / w0) and (first * w) / w0 can round apart.
        return tuple(round(first * (width / widths[0])) for width in widths)

    if cost(dense) == wanted:
        return dense
    widths = dense
    for _ in range(9):
        scale = round(math.sqrt(wanted / cost(widths)), 2)
        widths = scaled(widths, max(1, round(widths[0] * scale)))
    step = 1 if cost(widths) < wanted else -1
    while True:
        if widths[0] + step < 1:
            raise InputError(
                f"no width meets {wanted:,} multiply-adds on this graph: at one channel in stage "
                f"1 the model costs {cost(widths):,}; use a larger reference"
            )
        widths = scaled(widths, widths[0] + step)
        now = cost(widths)
        if now == wanted or (step > 0 and now >= wanted):
            return widths
        if step < 0 and now < wanted:
            return scaled(widths, widths[0] + 1)


def _lower_later(widths: Widths, cost: CostOf, wanted: int) -> Widths:
    """Stages 2, 3, ... lowered in turn while the cost stays at least the reference."""
    ratios = [round(width / widths[0]) for width in widths]
    lowered = list(widths)
    for stage in range(1, len(widths)):
        for _ in range(ratios[stage]):
            lowered[stage] -= 1
            if cost(tuple(lowered)) < wanted:
                lowered[stage] += 1
                break
    return tuple(lowered)


def _nearest(widths: Widths, cost: CostOf, wanted: int) -> Widths:
    """The least cost that meets the reference, near ``widths``, whose first stage is kept.

    The stages between are tried up to twice their ratio to the first narrower or wider, and the
    last gets the smallest width that meets the reference.
    """
    if len(widths) < 3 or cost(widths) == wanted:
        return widths
    reach = [2 * round(width / widths[0]) for width in widths]
    best, lowest = widths, cost(widths)
    for between in product(
        *(range(max(1, w - r), w + r + 1) for w, r in list(zip(widths, reach, strict=True))[1:-1])
    ):

        def stages(last: int, between: Widths = between) -> Widths:
            return (widths[0], *between, last)

        low, high = max(1, widths[-1] - 2 * reach[-1]), widths[-1] + 2 * reach[-1]
        if cost(stages(high)) < wanted:
            continue
        found = stages(_first_true(low, high, lambda last: cost(stages(last)) >= wanted))
        if wanted <= cost(found) < lowest:
            best, lowest = found, cost(found)
    return best


def _first_true(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest integer in [low, high] at which a monotone condition holds (it does at high)."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def match_budget(
    name: str,
    graph: Graphs,
    reference: int | None = None,
    *,
    order: Order = "published",
    message: Any = None,
    aggr: Any = "sum",
    message_kwargs: dict[str, Any] | None = None,
    aggr_kwargs: dict[str, Any] | None = None,
    **model_kwargs: Any,
) -> Widths:
    """Stage widths at which the model called ``name`` meets a budget on ``graph``.

    A call takes milliseconds: the cost of summed linear messages is a formula of the widths. For
    other messages and aggregations the rounds are built, without weights, to read their cost.

    Args:
        name: a model, see ``models.list_models()``.
        graph: one, one per stage or one per round.
        reference: multiply-adds; None: those of the dense model with the same ``model_kwargs``.
        order: which nodes hold the larger shares; the published widths depend on it.
        message, aggr, message_kwargs, aggr_kwargs: for the rounds, as for ``models.build``.
        model_kwargs: as for ``models.build``: ``num_classes``, ``in_channels``, ``in_features``,
            ``image_size``, ``width_multiplier``, ...

    Returns:
        One width per stage.

    Raises:
        InputError: an unknown model, a stage narrower than its graph, or a budget that no width
            can meet.

    Source: see :func:`match_widths`.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> models.match_budget("resnet34", graphs.parse_one("ws_flex:64,12,0.15,0"))
        (144, 286, 572, 1144)
    """
    return match_widths(
        make_config(name, **model_kwargs),
        graph,
        reference,
        order=order,
        round_meter=round_meter(message, aggr, message_kwargs, aggr_kwargs, order),
    )
