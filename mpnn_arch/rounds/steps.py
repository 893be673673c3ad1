"""The steps of a round and PyG's ``propagate``, which is generated from them, class by class."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from mpnn_arch.checks import kind_of
from mpnn_arch.errors import DtypeError, InputError
from mpnn_arch.kernels.dispatch.tracing import plain_shape
from mpnn_arch.rounds.wrapped import must_be_called

_STEPS = ("message", "aggregate", "update")
# PyG's `propagate` as it is written, also where somebody has made an object of `MessagePassing`
# itself, whose `propagate` is a generated one since.
_PLAIN = getattr(MessagePassing, "_orig_propagate", MessagePassing.propagate)


def make_propagate(cls: Any, generate: Callable[[], None]) -> None:
    """Have PyG generate ``propagate`` for ``cls`` itself.

    At the first object of a class PyG writes a module ``MODULE_CLASS_propagate``, looks it up in
    ``sys.modules`` from then on, and sets on the class ``propagate`` and ``_jinja_propagate``, the
    generated function, and ``_orig_propagate``, the one that it had, to which it returns where an
    explainer sets an edge mask. Two of these are wrong for the classes of this library and of its
    users, and are set right here:

    - the module is found by the name of the class alone: a class defined anew (a notebook's cell
      run again, a class in a function) would have the steps of the former;
    - what the class had may be its base's generated one, which knows no edge masks.

    Args:
        cls: of a ``MessagePassing`` module.
        generate: PyG's method, for an object of this class.
    """
    if "_jinja_propagate" in vars(cls):  # not its first object
        return generate()
    for name in ("propagate", "edge_updater"):
        sys.modules.pop(f"{cls.__module__}_{cls.__name__}_{name}", None)
    module = cls.propagate.__module__
    is_pygs = module == MessagePassing.__module__ or module.endswith("_propagate")
    if not is_pygs:  # of the user's own, which PyG calls as it is
        return generate()
    cls.propagate = MessagePassing.propagate  # not one that was generated for its base
    generate()
    cls._orig_propagate = _PLAIN


def class_of_steps(part: nn.Module) -> type:
    """The class that computes: of a round's steps, or of the ``forward`` of a part of it.

    Libraries derive others, with the same ones.
    """
    steps = {"forward", "aggregate_shares", "message_and_aggregate", *_STEPS}
    return next(kind for kind in type(part).__mro__ if vars(kind).keys() & steps)


@contextmanager
def readable_steps(cls: type) -> Iterator[None]:
    """Name the annotations that PyG cannot read when it inspects the steps of a class.

    Raises:
        InputError: ``X | None`` among them.
    """
    try:
        yield
    except AttributeError as error:
        if "UnionType" not in str(error):
            raise
        raise InputError(
            f"PyG reads the annotations of {cls.__name__}'s message, aggregate and update, and no "
            "X | None among them: write Optional[X], or none"
        ) from None


def check_steps(layer: Any) -> None:
    """Refuse a step that names an argument which its round does not hand to ``propagate``.

    An argument without a value is a ``NameError`` in the code that PyG generates.

    Args:
        layer: a ``MessagePassing`` module.

    Raises:
        InputError: a step that a subclass defines names another argument.
    """
    given = inspect.signature(layer.propagate).parameters
    if any(one.kind is one.VAR_KEYWORD for one in given.values()):
        return  # not generated: its calls name the argument
    for step in _STEPS:
        for name, argument in layer.inspector.get_param_dict(step, layer.special_args).items():
            source = name[:-2] if name.endswith(("_i", "_j")) else name
            if source in given or argument.default is not inspect.Parameter.empty:
                continue
            kind = type(layer).__name__
            handed = ", ".join(one for one in given if one not in ("edge_index", "size"))
            raise InputError(
                f"{kind}.{step} names {name}, and {kind}.forward hands {handed} to propagate; "
                f"leave it out, or hand {source} to propagate in a forward of your own"
            )


def check_node_features(layer: Any, features: Tensor) -> None:
    """Refuse what a ``forward`` of one's own handed to ``propagate``, if no node has a row of it.

    Args:
        layer: a round on a graph of its own.
        features: gathered along the edges by the rows of their nodes.

    Raises:
        InputError: another number of rows than nodes.
    """
    shape = plain_shape(features)
    if shape and shape[0] == layer.plan.num_nodes:
        return
    raise InputError(
        f"{type(layer).__name__} hands node features of shape {tuple(shape)} to "
        f"propagate; expected {layer.plan.num_nodes} rows, one for each node: for an input "
        "(B, C, ...) give split_shares(x, self.plan) of mpnn_arch.rounds.shares"
    )


def check_shares(layer: Any, shares: Tensor) -> None:
    """Refuse what a ``forward`` of one's own handed to ``propagate`` as x, if it is no shares.

    Args:
        layer: a round on a graph of its own.
        shares: x_j, as gathered along the edges.

    Raises:
        InputError: another number of dimensions or channels than nodes have.
    """
    plan, maps = layer.plan, "HW"[: layer.message_function.spatial_dims]
    shape = plain_shape(shares)
    if len(shape) == 3 + len(maps) and shape[2] == plan.largest_in:
        return
    expected = ", ".join(map(str, (plan.num_nodes, "B", plan.largest_in, *maps)))
    raise InputError(
        f"{type(layer).__name__} hands x of shape {(plan.num_nodes, *shape[1:])} to "
        f"propagate; expected ({expected}): for an input (B, C, ...) give "
        "split_shares(x, self.plan) of mpnn_arch.rounds.shares"
    )


def check_messages(layer: Any, messages: Any, shape: tuple[int | str, ...]) -> None:
    """Refuse what a ``message`` of one's own returned, if AGG cannot take it.

    Args:
        layer: the round.
        messages: what it returned.
        shape: as they are to be; a letter stands for any size.

    Raises:
        InputError: no tensor, or one of another shape.
    """
    sizes = plain_shape(messages) if isinstance(messages, Tensor) else None
    if sizes is not None and len(sizes) == len(shape):
        pairs = zip(sizes, shape, strict=True)
        if all(isinstance(wanted, str) or size == wanted for size, wanted in pairs):
            return
    found = kind_of(messages) if sizes is None else f"shape {tuple(sizes)}"
    raise InputError(
        f"{type(layer).__name__} has messages of {found}; expected "
        f"({', '.join(map(str, shape))}): edges, batch, channels of the largest share"
    )


def check_aggregates(layer: Any, aggregates: Tensor, residual: Tensor | None) -> None:
    """Refuse what a step of one's own handed to ``update``, if the round cannot add to it.

    Raises:
        InputError: no residual where the round adds one, another number of channels, or a bias of
            another dtype than these and the message function's weights.
    """
    kind = type(layer).__name__
    if residual is None and layer.residual:
        raise InputError(
            f"this {kind} has residual=True, and its forward hands none to propagate: call "
            "self.propagate(..., residual=...)"
        )
    shape = plain_shape(aggregates)
    if len(shape) < 2 or shape[1] != layer.out_channels:
        raise InputError(
            f"{kind} has aggregates of shape {tuple(shape)}; expected "
            f"{layer.out_channels} channels: check its message and aggregate"
        )
    bias = layer.bias
    if bias is None or bias.dtype == aggregates.dtype:
        return
    device = "cpu" if aggregates.is_meta else aggregates.device.type
    if torch.is_autocast_enabled(device) and bias.dtype != torch.float64:
        return
    dtypes = {weight.dtype for weight in layer.message_function.parameters()}
    if not dtypes or bias.dtype in dtypes:  # the messages are computed in another one
        return
    if must_be_called(layer.message_function) is None:  # else a library may cast its weights
        raise DtypeError.of_bias(bias.dtype, aggregates.dtype)
