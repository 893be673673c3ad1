"""The cost of every layer of a built model, derived from shapes without computing values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mpnn_arch.errors import InputError
from mpnn_arch.models.blocks import SqueezeExcitation
from mpnn_arch.models.on_meta import example_on_meta, has_own_graph, on_meta
from mpnn_arch.rounds import MessageRound
from mpnn_arch.rounds.flops import ProductCounter


@dataclass(frozen=True)
class LayerCost:
    """One layer and its cost for one input.

    Attributes:
        name: its path in the model.
        kind: its class.
        in_channels, out_channels: of a layer that multiplies; None otherwise.
        output_shape: without the batch; None if the layer was not called.
        parameters: number of parameters, exact.
        multiply_adds: exact.
        complete_multiply_adds: cost of the layer on the complete graph.
        is_round: whether it is a round of message passing.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> cost = models.complexity(models.build("mlp", graphs.ring(16, 4), in_features=64))
        >>> first = cost.layers[0]
        >>> first.name, first.kind, first.multiply_adds, first.is_round
        ('stem.layer', 'Linear', 32768, False)
    """

    name: str
    kind: str
    in_channels: int | None
    out_channels: int | None
    output_shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int
    complete_multiply_adds: int
    is_round: bool


@dataclass(frozen=True)
class Complexity:
    """The layers of a model with their costs, and the totals.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> cost = models.complexity(models.build("mlp", graphs.ring(16, 4), in_features=64))
        >>> cost.multiply_adds, cost.parameters, round(cost.relational_share, 2)
        (824932, 831954, 0.95)
    """

    layers: tuple[LayerCost, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one input through the model."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def relational_share(self) -> float:
        """Share of the multiply-adds spent in rounds."""
        in_rounds = sum(layer.multiply_adds for layer in self.layers if layer.is_round)
        return in_rounds / self.multiply_adds if self.multiply_adds else 0.0

    def by_stage(self) -> dict[str, Complexity]:
        """The layers by part of the model: ``stem``, ``stages.0``, ``stages.1``, ..., ``head``."""
        groups: dict[str, list[LayerCost]] = defaultdict(list)
        for layer in self.layers:
            parts = layer.name.split(".")
            numbered = parts[0] != "stem" and len(parts) > 2 and parts[1].isdigit()
            groups[".".join(parts[: 2 if numbered else 1])].append(layer)
        return {name: Complexity(tuple(layers)) for name, layers in groups.items()}

    def __str__(self) -> str:
        rows = [("layer", "kind", "channels", "output", "parameters", "multiply-adds")]
        for layer in self.layers:
            channels = f"{layer.in_channels} -> {layer.out_channels}" if layer.in_channels else ""
            shape = " x ".join(map(str, layer.output_shape or ()))
            costs = (f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
            rows.append((layer.name, layer.kind, channels, shape, *costs))
        rows.append(("total", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}"))
        width = [max(len(row[i]) for row in rows) for i in range(6)]
        return "\n".join(
            "  ".join(
                cell.rjust(width[i]) if i > 3 else cell.ljust(width[i])
                for i, cell in enumerate(row)
            ).rstrip()
            for row in rows
        )


def complexity(
    model: nn.Module,
    input_size: int | Sequence[int] | None = None,
    *,
    inputs: Tensor | Mapping[str, Tensor] | None = None,
) -> Complexity:
    """Parameters and multiply-adds of every layer of any torch module.

    Every product of matrices and every conv counts, also those that a module computes without a
    layer, such as functional attention: half of what ``FlopCounterMode`` counts, and products with
    a vector and those of ``nn.Bilinear``, which it passes over. Rounds count by their edges.
    Normalisation, activations, pooling, sums and biases do not count (except the biases of
    squeeze-excitation, as in the paper's published figures). A copy of the model runs once on the
    meta device, where tensors have shapes but no values; rounds only infer the shape of their
    output.

    Args:
        model: any module.
        input_size: shape of one input without the batch, such as (3, 224, 224); a number is the
            height and width of an image with the channels that the model was built for, else 3, or
            the features of a model whose first layer is linear; None: the size that the model was
            built for.
        inputs: instead of a size, an example of what the model takes: a tensor, such as a batch of
            token indices, or a dict of its arguments; the first dimension is the batch, and the
            cost is that of one input. For a graph neural network, ``x`` as (1, N, C) and
            ``edge_index``: its messages are counted on that graph, with every self-loop in it
            beside those that a layer adds.

    Returns:
        A :class:`Complexity`; its ``str`` is a table.

    Raises:
        InputError: no input size is given and the model has none, the model does not accept it, or
            the shapes of its weights are not known before its first input.

    Example:
        >>> from mpnn_arch import models
        >>> model = models.build("resnet34", device="meta")  # shapes without values
        >>> models.complexity(model).multiply_adds
        3663761408
    """
    args, kwargs, size = example_on_meta(model, input_size, inputs)
    copied = on_meta(model)
    counter = ProductCounter()
    tally = _Tally(copied, counter, size)
    try:
        with torch.no_grad(), counter:
            copied(*args, **kwargs)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        shape = tuple(args[0].shape[1:]) if args else {k: tuple(v.shape) for k, v in kwargs.items()}
        raise InputError(
            f"{type(model).__name__} cannot take an input of shape {shape}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return Complexity(tuple(tally.rows()))


class _Tally:
    """Records one row per layer of a copied model through forward hooks.

    A layer's own cost is what was counted during its call, less what was counted during the calls
    inside it.

    Args:
        model: the copy.
        counter: is active while it runs.
        batch: number of inputs.
    """

    def __init__(self, model: nn.Module, counter: ProductCounter, batch: int) -> None:
        self._rows: dict[str, LayerCost] = {}
        self._counter, self._batch = counter, batch
        self._calls: list[list[int]] = []  # of each open call: the count before, and that inside
        counted: set[int] = set()
        biased = {
            id(conv)
            for gate in model.modules()
            if isinstance(gate, SqueezeExcitation)
            for conv in gate.modules()
        }
        inside_round = {
            id(part)
            for layer in model.modules()
            if isinstance(layer, MessageRound)
            for part in layer.modules()
            if part is not layer
        }
        for name, module in model.named_modules():
            if id(module) in inside_round:
                continue
            is_round = isinstance(module, MessageRound)
            own = [p for p in module.parameters(recurse=is_round) if id(p) not in counted]
            counted.update(id(p) for p in own)
            # A module without parameters keeps its row only if it turns out to multiply.
            self._rows[name] = LayerCost(
                name=name or type(module).__name__,
                kind=type(module).__name__,
                in_channels=None,
                out_channels=None,
                output_shape=None,
                parameters=sum(p.numel() for p in own),
                multiply_adds=0,
                complete_multiply_adds=0,
                is_round=is_round,
            )
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._hook(name, count_bias=id(module) in biased))

    def rows(self) -> list[LayerCost]:
        """One row per layer, in the order of the model's modules."""
        return [row for row in self._rows.values() if row.parameters or row.multiply_adds]

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._calls.append([self._counter.get_total_flops(), 0])

    def _leave(self) -> int:
        """Multiply-adds of the innermost open call, without the calls inside it."""
        before, inside = self._calls.pop()
        total = self._counter.get_total_flops() - before
        if self._calls:
            self._calls[-1][1] += total
        return (total - inside) // 2

    def _hook(self, name: str, *, count_bias: bool) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            out = next(_tensors(output), None)
            # Before the call is left, as it runs the round's AGG, which is no cost of its parent.
            known = _round_cost(module, out) if has_own_graph(module) and out is not None else None
            own = self._leave()
            cost, complete = (one // self._batch for one in known or (own, own))
            channels = _channels(module)
            if count_bias and channels[1] is not None:
                cost, complete = cost + channels[1], complete + channels[1]
            row = self._rows[name]
            self._rows[name] = replace(
                row,
                in_channels=channels[0],
                out_channels=channels[1],
                output_shape=None if out is None else tuple(out.shape[1:]),
                multiply_adds=row.multiply_adds + cost,
                complete_multiply_adds=row.complete_multiply_adds + complete,
            )

        return hook


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of what a module returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, tuple | list | Mapping):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(part)


def _round_cost(module: MessageRound, out: Tensor) -> tuple[int, int]:
    """Multiply-adds of a call of a round, and those on the complete graph."""
    size = tuple(out.shape[-2:]) if module.message_function.spatial_dims else ()
    positions = out.numel() // (module.out_channels * math.prod(size))
    each = module.in_channels * module.out_channels * math.prod(size) * positions
    # Other messages have other costs; the dense layer is the reference for all of them.
    each *= math.prod(getattr(module, "kernel_size", ()))
    each //= int(getattr(module, "groups", 1))  # type: ignore[call-overload]
    return positions * module.multiply_adds(size), each


def _channels(module: nn.Module) -> tuple[int | None, int | None]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.MultiheadAttention):
        return module.embed_dim, module.embed_dim
    if isinstance(module, MessageRound | _ConvNd):
        return module.in_channels, module.out_channels
    return None, None
