"""What PyG's own hooks see while one sample goes through the rounds of a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mpnn_arch.checks import check_kind, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.rounds import FusedRound, MessageRound, RelationalConv2d
from mpnn_arch.rounds.shares import another_layout
from mpnn_arch.rounds.wrapped import uncompiled


@dataclass(frozen=True)
class Recording:
    """One sample's way through one round, on the CPU.

    Attributes:
        layer: the round that was recorded.
        x: (C_in, ...) what the nodes held, their shares side by side.
        messages: (E, largest_out, ...) the message along every edge, in the order of the edges.
        aggregate: (C_out, ...) AGG of every node, before the update.
        output: (C_out, ...) what the round returned.
        residual: (C_out, ...) what the update added; None for nothing.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.widget import record
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, activation="relu")
        >>> (recording,) = record(layer, torch.ones(1, 8)).values()
        >>> torch.testing.assert_close(recording.output, layer(torch.ones(1, 8))[0])
    """

    layer: MessageRound
    x: Tensor
    messages: Tensor
    aggregate: Tensor
    output: Tensor
    residual: Tensor | None


@dataclass
class _Call:
    """One sample of what the hooks of one round saw in its latest call."""

    x: Tensor | None = None
    residual: Tensor | None = None
    messages: Tensor | None = None
    aggregate: Tensor | None = None
    output: Tensor | None = None


def rounds_of(model: nn.Module) -> dict[str, MessageRound]:
    """The rounds of ``model`` that stand on a graph of their own, by name, in definition order."""
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, MessageRound) and part.graph is not None
    }


def check_rounds(model: nn.Module) -> dict[str, MessageRound]:
    """:func:`rounds_of`, of which there is one or more.

    Raises:
        InputError: no module, or one without rounds that stand on a graph of their own.
    """
    rounds = rounds_of(model) if isinstance(model, nn.Module) else {}
    if rounds:
        return rounds
    if isinstance(model, MessageRound):
        hint = "a RelationalLinear, or untie(layer, graph) of a GraphRound"
    else:
        hint = "a RelationalLinear or RelationalConv2d, or relationalize(model, graph)"
    raise InputError(
        f"{type(model).__name__} has no round on a graph of its own to show: give {hint}"
    )


def batch_size(model: nn.Module, x: Tensor) -> int:
    """Samples of ``x``; one where a round is given a vector or a stack of maps alone."""
    model = uncompiled(model)
    alone = isinstance(model, MessageRound) and x.dim() <= 1 + model.message_function.spatial_dims
    return 1 if alone or not x.dim() else int(x.shape[0])


def input_for(model: nn.Module, x: Tensor | None, seed: int) -> Tensor:
    """``x``, or for a round one sample of random numbers: (1, C_in), or smooth (1, C_in, H, W).

    Raises:
        InputError: x is no tensor, or there is none and the module is no round or has none.
    """
    if x is not None:
        if not isinstance(x, Tensor):
            raise InputError(f"x is a torch tensor, not a {type(x).__name__}: torch.as_tensor(x)")
        return x.detach()
    model = uncompiled(model)
    check_rounds(model)
    if not isinstance(model, MessageRound):
        raise InputError(
            f"the shape of what {type(model).__name__} takes is not known: give x, a batch as it "
            "takes it"
        )
    generator = torch.Generator().manual_seed(check_whole("seed", seed, 0, 2**63 - 1))
    geometry = model.message_function.geometry
    if geometry is None:
        return torch.randn(1, model.in_channels, generator=generator)
    reach = [d * (k - 1) + 1 for d, k in zip(geometry.dilation, geometry.kernel_size, strict=True)]
    coarse = torch.randn(1, model.in_channels, 4, 4, generator=generator)
    return F.interpolate(coarse, [max(12, r) for r in reach], mode="bilinear")


def record(model: nn.Module, x: Tensor, sample: int = 0) -> dict[str, Recording]:
    """Run ``model`` once, in evaluation mode, and keep one sample's messages in every round.

    Hooks are PyG's ``message`` and ``aggregate`` forward hooks; they are removed afterwards, and
    the model's mode is set back.

    Args:
        model: a round, or a module that holds rounds.
        x: a batch, as the model takes it.
        sample: which of the batch.

    Returns:
        The recording of every round that ran, by the round's name, in the order of their calls; of
        a round that ran twice, the latter call.

    Raises:
        InputError: a model without rounds or of which none ran, an input that it does not take, a
            sample outside the batch, or a model or input of complex numbers or on the meta device.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs, models
        >>> from mpnn_arch.widget import record
        >>> model = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=64)
        >>> [recording.messages.shape for recording in record(model, torch.zeros(1, 64)).values()]
        [torch.Size([80, 8]), torch.Size([80, 8]), torch.Size([80, 8])]
    """
    check_kind("model", model, nn.Module, "give a round, or a network of rounds")
    check_kind("x", x, Tensor, "give a batch, as the model takes it")
    if x.is_nested:
        raise another_layout(x)
    tensors = [x, *model.parameters(), *model.buffers()]
    if any(tensor.is_complex() for tensor in tensors):
        raise InputError(
            f"this {type(model).__name__} or its x holds complex numbers, which have no place on "
            "the scale of colours: give a round of real numbers"
        )
    if any(tensor.is_meta for tensor in tensors):
        raise InputError(
            f"this {type(model).__name__} or its x is on the meta device, where tensors have no "
            "numbers to show: load the weights, and give an x on another device"
        )
    sample = check_whole("sample", sample, 0)
    rounds = check_rounds(model)
    batch = batch_size(model, x)
    if not batch:
        raise InputError(f"x of shape {tuple(x.shape)} holds no sample: give one or more")
    if not 0 <= sample < batch:
        raise InputError(
            f"there is no sample {sample} in a batch of {batch}: choose 0 to {batch - 1}"
        )
    calls: dict[str, _Call] = {}
    # What torch has compiled calls no hook that was registered later: it runs as written.
    as_written = torch.compiler.set_stance("force_eager")
    with _evaluated(model), _hooked(rounds, calls, sample, batch), as_written, torch.no_grad():
        _run(model, x)
    if not calls:
        raise InputError(
            f"no round of this {type(model).__name__} ran: its forward calls none of its "
            f"{len(rounds)} for this x; give a model, and an x, with which one runs"
        )
    return {name: _recording(name, rounds[name], call) for name, call in calls.items()}


def partial_aggregates(recording: Recording) -> Tensor | None:
    """AGG as it grows: of every edge, its receiver's aggregate once that message has arrived.

    The round's own aggregation is run on each node's first message, its first two, and so on.

    Shapes:
        - **output:** (E, largest_out, ...); None where the round's ``aggregate`` is not AGG over
          the messages alone, or a part of them has no finite aggregate
    """
    layer, plan = recording.layer, recording.layer.plan
    parameter = next(layer.parameters(), recording.messages)
    messages = recording.messages.to(parameter).unsqueeze(1)  # (E, 1, largest_out, ...)
    position = torch.arange(plan.num_edges, device=plan.device) - plan.edge_ptr[plan.target]
    partial = torch.zeros_like(messages)
    with _evaluated(layer), torch.no_grad():
        for last in range(int(plan.edge_ptr.diff().max())):
            arrived, now = position <= last, position == last
            try:
                aggregate = layer.aggregate_shares(
                    messages[arrived], plan.target[arrived], plan.num_nodes
                )
            except InputError:
                return None
            partial[now] = aggregate[plan.target[now]]
    partial = partial.squeeze(1).float().cpu()
    final = torch.cat(
        [
            partial[end - 1, :size]
            for end, size in zip(plan.edge_ptr[1:].tolist(), plan.out_sizes.tolist(), strict=True)
        ]
    )
    return partial if torch.allclose(final, recording.aggregate, rtol=1e-3, atol=1e-5) else None


def dense_output(recording: Recording) -> Tensor:
    """The same round as one dense layer: ``F.linear`` or ``F.conv2d``, then the round's update.

    Shapes:
        - **output:** (C_out, ...)

    Raises:
        InputError: the round is not one product with its weights, or normalises by the numbers of
            the whole batch.
    """
    layer = recording.layer
    if not isinstance(layer, FusedRound):
        raise InputError(f"{type(layer).__name__} gives no dense weight; use its FusedRound twin")
    for part in layer.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise InputError(
                f"this round's {type(part).__name__} has no running statistics, it takes those of "
                "the batch, of which one sample is here"
            )
    with _evaluated(layer), torch.no_grad():
        weight = layer.dense_weight()
        x = recording.x.unsqueeze(0).to(weight)
        geometry: ConvGeometry | None = layer.message_function.geometry
        if geometry is None:
            product = F.linear(x, weight)
        else:
            if isinstance(layer, RelationalConv2d):
                x = layer.with_margins(x)
            product = F.conv2d(
                x, weight, None, geometry.stride, geometry.padding, geometry.dilation
            )
        residual = recording.residual
        out = layer.update(product, None if residual is None else residual[None].to(weight))
    return out.squeeze(0).float().cpu()


def _run(model: nn.Module, x: Tensor) -> None:
    parameter = next(model.parameters(), None)
    if parameter is not None:
        x = x.to(parameter.device, parameter.dtype) if x.is_floating_point() else x
    try:
        model(x)
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise InputError(
            f"{type(model).__name__} does not take x of shape {tuple(x.shape)}: {error}"
        ) from error


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part has the mode that it had."""
    training = {part: part.training for part in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


@contextmanager
def _hooked(
    rounds: dict[str, MessageRound], calls: dict[str, _Call], sample: int, batch: int
) -> Iterator[None]:
    handles: list[Any] = []

    def of(values: Any, layer: MessageRound) -> Tensor | None:
        """The sample's (C, H, W) of (..., C, H, W), or (C,) of (..., C), as it is now.

        A module that works in place, as ``nn.ReLU(inplace=True)``, may write to ``values`` later.
        """
        if not isinstance(values, Tensor):
            return None
        space = layer.message_function.spatial_dims
        flat = values.reshape(-1, *values.shape[values.dim() - 1 - space :])
        return _copied(flat[_row(len(flat), sample, batch)])

    def watch(name: str, layer: MessageRound) -> None:
        def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.pop(name, None)  # a round that runs twice is shown where it ran last
            x, residual = (*args, *kwargs.values(), None)[:2]
            if residual is None and layer.residual:
                residual = x
            calls[name] = _Call(of(x, layer), of(residual, layer))

        # A round whose `forward` is called by its name enters without a hook.
        def messages(_: Any, inputs: Any, out: Tensor) -> None:
            row = _row(out.shape[1], sample, batch)
            calls.setdefault(name, _Call()).messages = _copied(out[:, row])

        def aggregate(_: Any, inputs: Any, out: Tensor) -> None:
            calls.setdefault(name, _Call()).aggregate = of(out, layer)

        def leave(_: Any, args: Any, out: Tensor) -> None:
            calls[name].output = of(out, layer)

        handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(layer.register_message_forward_hook(messages))
        handles.append(layer.register_aggregate_forward_hook(aggregate))
        handles.append(layer.register_forward_hook(leave))

    try:
        with warnings.catch_warnings():
            # A fused round says that it passes messages while it is hooked: so it should here.
            warnings.filterwarnings("ignore", message=".*hook (sees|needs) messages")
            for name, layer in rounds.items():
                watch(name, layer)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _row(rows: int, sample: int, batch: int) -> int:
    """The first row of a sample, of which there are several where a sample is many tokens."""
    return sample * (rows // batch) if rows >= batch else 0


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True)


def _recording(name: str, layer: MessageRound, call: _Call) -> Recording:
    named = f"the {type(layer).__name__} {name!r}" if name else f"this {type(layer).__name__}"
    if call.messages is None or call.aggregate is None:
        raise InputError(
            f"{named} passed no messages to show: its forward has to call propagate, or "
            "super().forward"
        )
    if call.x is None or call.output is None:
        raise InputError(
            f"{named} is not seen from outside: it has to be called as layer(x), not by "
            "layer.forward(x), and to return a tensor"
        )
    return Recording(
        layer=layer,
        x=call.x,
        messages=call.messages,
        aggregate=call.aggregate,
        output=call.output,
        residual=call.residual,
    )
