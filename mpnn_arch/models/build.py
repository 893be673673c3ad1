"""Building a model by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch_geometric.nn import Aggregation

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.backends import check_name
from mpnn_arch.kernels.memory import device_or_default
from mpnn_arch.models.assignment import Graphs, as_graphs
from mpnn_arch.models.budget import match_widths
from mpnn_arch.models.init import Init, initialise
from mpnn_arch.models.layers import Layers, Message, round_meter
from mpnn_arch.models.named_parts import is_named
from mpnn_arch.models.registry import make_config
from mpnn_arch.partition import Order
from mpnn_arch.rounds import message_functions
from mpnn_arch.rounds.generator import check_generator


def build(
    name: str,
    graph: Graphs = None,
    *,
    widths: Sequence[int] | None = None,
    reference: int | None = None,
    seed: int | torch.Generator = 0,
    init: Init | None = None,
    order: Order = "published",
    backend: str | None = None,
    message: Message = None,
    aggr: str | Aggregation = "sum",
    message_kwargs: dict[str, Any] | None = None,
    aggr_kwargs: dict[str, Any] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **model_kwargs: Any,
) -> nn.Module:
    """The model called ``name`` on a graph, matched to the cost of the dense model.

    Args:
        name: see :func:`list_models`.
        graph: one relational graph, one per stage, or one per round; None: the dense model.
        widths: channels of each stage; None: those that meet ``reference`` (dense: the paper's).
        reference: multiply-adds to meet; None: those of the dense model.
        seed: of the initial weights: a number, or a CPU ``torch.Generator``. Torch's global random
            state is not changed, and the same seed gives the same bits on every device.
        init: ``"published"`` or ``"kaiming"``, see :func:`~mpnn_arch.models.init.initialise`;
            None: the model's default.
        order: which nodes hold the larger shares, see :class:`~mpnn_arch.ChannelPartition`.
        backend: of the rounds; None: the fastest available, for dense linear layers too.
        message: message function of the rounds; None: linear, or conv on maps.
        aggr: aggregation of the rounds.
        message_kwargs: passed to the message function.
        aggr_kwargs: passed to the aggregation.
        device, dtype: of the parameters; device ``"meta"`` gives shapes only.
        model_kwargs: ``num_classes``, ``in_channels``, ``image_size``, ``width_multiplier`` and
            settings of the particular model: ``in_features``, ``shortcut``, ...

    Returns:
        An ``nn.Module`` with ``widths`` (a tuple), ``graphs`` (a list), ``model_config`` (the
        settings), and ``config``: a JSON-able dictionary, the name under ``"model"`` and the
        arguments with which ``build(name, graphs, **arguments)`` rebuilds it.

    Raises:
        InputError: an unknown name or setting, a stage narrower than its graph, a budget no width
            meets, or an image too small for the strides.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> graph = graphs.ws_flex(64, average_degree=12, rewiring_probability=0.15)
        >>> model = models.build("mlp", graph, in_features=784)
        >>> model.widths  # wider than the dense model's 512, at its cost
        (1263,)
    """
    device = device_or_default(device)
    settings = make_config(name, **model_kwargs)
    _check_names(order, init, backend, message)
    graphs = as_graphs(graph)
    if widths is not None:
        widths = settings.checked_widths(widths)
    elif graphs:
        cost = round_meter(message, aggr, message_kwargs, aggr_kwargs, order)
        widths = match_widths(settings, graphs, reference, order=order, round_meter=cost)
    elif reference is not None:
        raise InputError(
            "a reference is met by a model on a graph; give a graph, or scale the dense model "
            "with width_multiplier"
        )
    else:
        widths = settings.stage_widths
    # Called for its checks: narrow stages, small images, the number of graphs.
    settings.multiply_adds(widths, graphs, order=order)

    generator, number = _generator(seed)
    # Rounds draw parameters on construction, from a separate stream, so that the dense model and
    # the model on the complete graph get the same weights below.
    construction_generator = torch.Generator().manual_seed(
        int(torch.randint(2**62, (), generator=generator, device="cpu").item())
    )
    # Layers are built on the CPU (or the meta device), so that every device gets the same bits.
    build_device = "meta" if torch.device(device).type == "meta" else "cpu"
    layers = Layers(
        settings.assignment(graphs),
        order=order,
        backend=backend,
        message=message,
        aggr=aggr,
        message_kwargs=message_kwargs,
        aggr_kwargs=aggr_kwargs,
        generator=construction_generator,
        device=build_device,
        dtype=dtype,
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model: Any = settings.make(layers, widths)  # dense layers draw from the global state
    init = settings.default_init if init is None else init
    initialise(model, init, generator)
    model.model_config = settings
    model.widths = widths
    model.graphs = list(graphs)
    model.config = {
        "model": name,
        **settings.to_dict(),
        "widths": list(widths),
        "seed": number,
        "init": init,
        "order": order,
        "backend": backend,
        "message": _name_of(message),
        "aggr": _name_of(aggr),
        "message_kwargs": message_kwargs,
        "aggr_kwargs": aggr_kwargs,
    }
    # What the configuration has the name of a class for, which does not give it back.
    given = {"message": message, "aggr": aggr}
    model.config_objects = {k: value for k, value in given.items() if not is_named(value)}
    # Those on the meta device stay: a library that loads their values put them there.
    moved: nn.Module = model._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(device))
    return moved


def _check_names(order: Any, init: Any, backend: Any, message: Any) -> None:
    """Refuse what is neither a name nor, where that is allowed, None or a class."""
    for option, value in (("order", order), ("init", init), ("backend", backend)):
        if not isinstance(value, str) and (value is not None or option == "order"):
            raise InputError(f"{option} is a name, not {shown(value)}; give text")
    if not isinstance(message, str | type | None):
        raise InputError(
            f"message is a name or a class of message functions, not {shown(message)}; see "
            "rounds.message_functions"
        )
    if order not in ("first", "published"):
        raise InputError(f"order is 'first' or 'published', not {shown(order)}; choose one")
    if backend is not None:
        check_name(backend, "auto", "reference")


def _generator(seed: int | torch.Generator) -> tuple[torch.Generator, int | None]:
    if isinstance(seed, torch.Generator):
        check_generator(seed)
        return seed, None
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"a seed is an integer from 0 to 2^63 - 1, not {shown(seed)}")
    return torch.Generator().manual_seed(seed), seed


def _name_of(value: Any) -> Any:
    """A JSON-able name of a message function or aggregation, for the configuration."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return [_name_of(item) for item in value]
    for name in message_functions:
        if message_functions.get(name) is value:
            return name
    return getattr(value, "__name__", type(value).__name__)


def mlp(
    graph: Graphs = None,
    in_features: int = 3072,
    hidden_features: int = 512,
    num_rounds: int = 3,
    num_classes: int = 10,
    widths: Sequence[int] | None = None,
    seed: int | torch.Generator = 0,
    **kwargs: Any,
) -> nn.Module:
    """The paper's MLP: dense stem, BatchNorm, ReLU; rounds with BatchNorm and ReLU; dense head.

    Args:
        graph: of the rounds; None: every layer is dense.
        in_features: of the flattened input.
        hidden_features: width of the stem, and of the rounds on the complete graph.
        num_rounds: rounds between stem and head.
        num_classes: outputs.
        widths: (w,) of the rounds; None: the smallest at which the model costs at least what it
            does on the complete graph.
        seed: of the initial weights.
        kwargs: as for :func:`build`.

    Shapes:
        - **x:** (B, in_features), or images with in_features values, which are flattened
        - **output:** (B, num_classes)

    Raises:
        InputError: as for :func:`build`.

    Source: You, Leskovec, He, Xie, ICML 2020, section 4.1.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> model = models.mlp(graphs.ring(16, 4), in_features=64, hidden_features=128)
        >>> model.widths
        (247,)
    """
    return build(
        "mlp",
        graph,
        in_features=in_features,
        hidden_features=hidden_features,
        num_rounds=num_rounds,
        num_classes=num_classes,
        widths=widths,
        seed=seed,
        **kwargs,
    )
