"""The fast twin of a round: the same numbers, parameters and state dict, in one product."""

# Annotations stay real objects here: PyG inspects the signatures of `message` and its siblings.
import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.nn import MeanAggregation, SumAggregation

from mpnn_arch.errors import InputError, ShapeError
from mpnn_arch.kernels.backends import check_name, get, names
from mpnn_arch.kernels.block_matmul import block_product
from mpnn_arch.kernels.dispatch.picker import Picker
from mpnn_arch.kernels.dispatch.tracing import PLAIN_TYPES, in_functorch, is_plain
from mpnn_arch.rounds.aggregations import aggregate_messages, is_channelwise
from mpnn_arch.rounds.fused_update import batch_norm_update, is_relu
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.shares import (
    another_layout,
    batched,
    merge_shares,
    own_channels,
    split_shares,
)
from mpnn_arch.rounds.wrapped import must_be_called, unwrapped

# The steps of a round, which a subclass may override.
_STEPS = ("propagate", "message", "aggregate", "message_and_aggregate", "update")
# PyG's hooks on messages and aggregates, which a fused product does not compute; and those on
# `propagate` and the fused step, which it supports.
_MESSAGE_HOOKS = ("message", "aggregate")
_FUSED_HOOKS = ("propagate", "message_and_aggregate")
HOOKED_STEPS = _MESSAGE_HOOKS + _FUSED_HOOKS


def _hook_kinds(steps: tuple[str, ...]) -> list[str]:
    return [f"{step}_forward_{kind}" for step in steps for kind in ("pre_hook", "hook")]


# Attributes that decide how a round is computed.
_DECIDING = frozenset({"message_function", "aggr_module", "fuse", "_explain", "_backend"})


class FusedRound(MessageRound):
    r"""A :class:`MessageRound` computed as one product with the gathered weights, where possible

    .. math::
        x' = \sigma(W x + b), \qquad W_{vu} = 0 \text{ where the graph has no edge } u \to v.

    It is possible for sums and means of linear messages. Other rounds pass messages explicitly, for
    some target nodes or samples at a time to limit memory; so does any round while a hook on its
    messages or aggregates is registered.

    Args:
        graph, in_channels, out_channels, ...: as for :class:`MessageRound`.
        backend: ``"auto"`` selects the fastest for a shape by a short timed trial;
            ``"reference"`` passes messages along every edge; ``"masked"`` multiplies with the dense
            matrix that has zeros where the graph has no edge; ``"gather"`` fetches the channels
            that each node receives and multiplies node by node; ``"cpu"`` and ``"triton"`` are
            kernels that do both at once; ``"onednn"`` is ``"masked"`` by another library. The state
            dict is the same for all.

    Shapes: as for :class:`MessageRound`

    Raises:
        InputError: as for :class:`MessageRound`, or a backend that cannot compute this message
            and aggregation.

    Example:
        >>> import torch
        >>> from mpnn_arch import FusedRound, MessageRound, graphs
        >>> fused = FusedRound(graphs.ring(4, 2), 8, 12)
        >>> plain = MessageRound(graphs.ring(4, 2), 8, 12)
        >>> plain.load_state_dict(fused.state_dict())
        <All keys matched successfully>
        >>> x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        >>> torch.testing.assert_close(fused(x), plain(x))
    """

    SUPPORTS_FUSED_EDGE_INDEX = True
    # Largest number of elements in the messages of one call; beyond it, messages are computed for
    # some target nodes, or samples, at a time, and recomputed in the backward pass, where no part
    # needs all of them at once, as a batch norm in training does.
    max_message_elements: ClassVar[int] = 2**26

    picker: Picker
    _own_steps: ClassVar[frozenset[str]] = frozenset()
    _is_product = False

    def __init__(self, *args: Any, backend: str = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in _hook_kinds(HOOKED_STEPS):
            setattr(self, f"_{kind}s", _Hooks(self, kind))
        self.backend = backend

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Starts from the first base's, because PyG later sets a `propagate` on every class.
        own = set(cls._own_steps)
        for kind in cls.__mro__[: cls.__mro__.index(FusedRound)]:
            if kind is cls or not issubclass(kind, FusedRound):
                own.update(name for name in _STEPS if name in vars(kind))
        cls._own_steps = frozenset(own)

    # -- the twin ---------------------------------------------------------------------------

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As :meth:`MessageRound.forward`, with a direct path to the product cached for a shape."""
        modules = self._modules
        function = modules["message_function"]
        if (
            not self._is_product
            or must_be_called(function) is not None
            or not is_plain(x, x)
            or x.layout is not torch.strided
            or x.is_nested
            or torch.is_autocast_enabled(x.device.type)
        ):
            return self._forward(x, residual)
        product = self.picker.products.get((x.shape, x.dtype, x.device))
        if product is None:  # the weight is read there, once: some are computed at a read
            return self._forward(x, residual)
        weight = function._parameters.get("weight") if function._weight_is_flat else None
        if weight is None:  # shared by the edges, computed, parametrised or pruned
            weight = function.current_weight()
        # Without a call, unless a parametrisation has made it a property.
        parameters = self._parameters
        bias = parameters["bias"] if "bias" in parameters else self.bias  # noqa: SIM401
        if not (
            type(weight) in PLAIN_TYPES
            and weight.dtype == x.dtype
            and weight.device == x.device
            and (bias is None or (type(bias) in PLAIN_TYPES and bias.dtype == x.dtype))
            and weight.shape == product.weight_shape
        ):
            return self._forward(x, residual)
        residual = x if residual is None and self.residual else residual
        if modules.get("norm") is not None:
            return self._sigma(product(x, weight, bias), residual)
        activation = self.activation
        if (
            activation is not None
            and product.applies_relu
            and residual is None
            and modules.get("squeeze") is None
            and is_relu(activation)
        ):
            return product(x, weight, bias, True)
        return super()._sigma(product(x, weight, bias), residual)

    def _sigma(self, inputs: Tensor, residual: Tensor | None) -> Tensor:
        """Norm, residual and activation, as one operation where kernels of our own may run."""
        norm = self._modules.get("norm")
        if norm is not None and self._backend in ("auto", "cpu") and self.squeeze is None:
            updated = batch_norm_update(norm, self.activation, inputs, residual)
            if updated is not None:
                return updated
        return super()._sigma(inputs, residual)

    def _of_another_layout(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """The round of a sparse or nested tensor, as by ``nn.Linear``."""
        if (
            self.passes_messages
            or self._goes_through_propagate()
            or self.message_function.spatial_dims
        ):
            raise another_layout(x)
        if x.dim() < 2 or x.size(-1) != self.in_channels:
            said = "a nested tensor" if x.is_nested else tuple(x.shape)
            raise ShapeError(f"this round takes (..., {self.in_channels}), not {said}")
        out = F.linear(x, self.dense_weight(), self.bias)
        return self._sigma(out, x if residual is None and self.residual else residual)

    def message_and_aggregate(self, edge_index: EdgeIndex, x: Tensor) -> Tensor:
        """``message`` and ``aggregate`` in one product: (B, C_in, ...) -> (B, C_out, ...)."""
        out = self._product(x, None)
        if self._is_mean:
            out = out / self.plan.channel_degree.to(out.dtype).view(-1, *[1] * (out.dim() - 2))
        return out

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        function = self.message_function
        return block_product(
            x, function.current_weight(), self.plan, function.geometry, self.picker, bias
        )

    @batched
    def _forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is None and self.residual:
            residual = x
        if self.passes_messages:
            literal = self._backend == "reference" and len(self._chunks(x)) == 1
            if literal or self._needs_every_message():
                return super().forward(x, residual)
            return self.update(self._in_chunks(x), residual)
        if self._is_product:  # rounded once, after the bias, as in `nn.Linear`
            return self._sigma(self._product(x, self.bias), residual)
        if not self._goes_through_propagate():
            return self.update(self.message_and_aggregate(self.edge_index, x), residual)
        # PyG takes its fused path for an `EdgeIndex` sorted by column (the target).
        size = (self.plan.num_nodes, self.plan.num_nodes)
        edges = EdgeIndex(self._edges, sparse_size=size, sort_order="col")
        return self.propagate(edges, size=size, x=x, residual=residual)

    # -- how it is computed, decided when an attribute changes --------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":  # a property: `nn.Module` would look for a parameter of that name
            self._check_weight(value)
            self.message_function.weight = value
            return
        super().__setattr__(name, value)
        if name in _DECIDING and "_backend" in self.__dict__:
            self._decide()

    def _decide(self) -> None:
        """Decide whether a call is a product and an update, unless the message must be called."""
        self._is_product = not (
            self._asks_for_messages() or self._goes_through_propagate() or self._is_mean
        )

    @property
    def _is_mean(self) -> bool:
        return type(unwrapped(self.aggr_module)) is MeanAggregation

    def _goes_through_propagate(self) -> bool:
        """Whether hooks or overridden steps need PyG's ``propagate`` around the product."""
        return bool(self._own_steps or self._explain or not self.fuse or self._hook(_FUSED_HOOKS))

    def _needs_every_message(self) -> bool:
        """Whether hooks, an explainer or overridden steps need PyG to pass all messages at once."""
        return bool(self._own_steps or self._explain or self._hook((*_MESSAGE_HOOKS, "propagate")))

    def why_not_fused(self) -> str | None:
        """Why the round is not one product with gathered weights; None if it is one."""
        function, own = self.message_function, self._own_steps
        if not function.fusable:
            return f"{type(function).__name__} is not a single product per edge"
        if ("message" in own or "aggregate" in own) and "message_and_aggregate" not in own:
            return f"{type(self).__name__} overrides message or aggregate"
        if type(unwrapped(self.aggr_module)) not in (SumAggregation, MeanAggregation):
            return f"aggr={self.aggr!r} is not the sum or mean of its messages"
        return None

    @property
    def passes_messages(self) -> bool:
        """Whether messages are passed: requested, not one product, hooked or explained.

        Also where the message function was wrapped, hooked or given another ``forward``, as by
        libraries that fetch its weights for the call: they see the call then.
        """
        return self._asks_for_messages() or must_be_called(self.message_function) is not None

    def _asks_for_messages(self) -> bool:
        """:attr:`passes_messages`, but for what others have done to the message function."""
        return (
            self._backend == "reference"
            or bool(self._explain)
            or self._hook(_MESSAGE_HOOKS) is not None
            or self.why_not_fused() is not None
        )

    @property
    def backend(self) -> str:
        """How the round is computed; set it to another backend at any time.

        ``"auto"`` times the available ones on the first batch of a shape and caches the fastest,
        see :meth:`explain_backend`. A round that is not one product passes messages.
        """
        return self._backend

    @backend.setter
    def backend(self, backend: str) -> None:
        check_name(backend, "auto", "reference")
        reason = self.why_not_fused()
        if reason and backend not in ("auto", "reference"):
            raise InputError(
                f"backend {backend!r} cannot compute this round, {reason}; use backend='reference'"
            )
        self.picker = Picker("auto" if backend == "reference" else backend)
        self._backend = backend
        self.prepare()

    def prepare(self) -> None:
        """Build the index tensors of the backend, so that they are not built under tracing."""
        if "_backend" not in self.__dict__:
            return  # in the constructor, which sets the backend last
        if self.passes_messages:
            self.message_function.prepare()
            _ = self.plan.edge_bounds
        elif self._backend in names():
            get(self._backend).prepare(self.plan)
        if self._is_mean:
            _ = self.plan.channel_degree
        if not self.message_function.plan_layout and not self.passes_messages:
            _ = self.plan.block_index  # used to repeat a shared weight along the edges

    @property
    def backend_choices(self) -> dict[str, str]:
        """What ``"auto"`` has selected so far, shape to backend; JSON-serialisable.

        Assigning stored choices makes the same shapes run on the same backends, bit-identically.
        """
        return self.picker.choices

    @backend_choices.setter
    def backend_choices(self, choices: Mapping[str, str]) -> None:
        self.picker.choices = choices  # type: ignore[assignment]

    def explain_backend(self) -> str:
        """The backend of this round and why, with the candidates' times where they were timed."""
        if self._backend == "reference":
            return "reference: requested"
        hook = self._hook(_MESSAGE_HOOKS)
        if hook:
            return f"reference: a {hook} is registered, and a fused round computes no messages"
        if self._explain:
            return "reference: an explainer reads the messages"
        if called := must_be_called(self.message_function):
            return f"reference: {called}"
        reason = self.why_not_fused()
        if reason:
            return f"reference: {reason}"
        return self.picker.explain(self.plan, self.message_function.geometry)

    # -- some targets or samples at a time ----------------------------------------------------

    def _chunks(self, x: Tensor) -> list[tuple[int, int]]:
        """Ranges of target nodes, or of samples, whose messages fit ``max_message_elements``.

        An aggregation of whole messages may depend on what other nodes receive: an LSTM runs over
        as many messages as the node with the most has. Samples are graphs of their own to it. A
        batch norm in training reads all messages.
        """
        plan, function = self.plan, self.message_function
        if torch.compiler.is_exporting():  # for every size of the batch
            return [(0, plan.num_nodes)]
        per_edge = x.shape[0] * max(plan.largest_in, plan.largest_out) * math.prod(x.shape[2:])
        if per_edge * plan.num_edges <= self.max_message_elements:
            return [(0, plan.num_nodes)]
        apart = function.shared or "edges" in function.arguments
        by_sample = not is_channelwise(self.aggr_module)
        if (
            not apart
            or (by_sample and x.shape[0] == 1)
            or _has_batch_statistics(function, self.aggr_module)
        ):
            return [(0, plan.num_nodes)]
        if by_sample:
            most = max(1, self.max_message_elements * x.shape[0] // (per_edge * plan.num_edges))
            return [(first, first + most) for first in range(0, x.shape[0], most)]
        chunks, ptr, start = [], plan.edge_bounds, 0
        for end in range(1, plan.num_nodes + 1):
            full = (ptr[end] - ptr[start]) * per_edge > self.max_message_elements
            if full and end - 1 > start:
                chunks.append((start, end - 1))
                start = end - 1
        return [*chunks, (start, plan.num_nodes)]

    def _in_chunks(self, x: Tensor) -> Tensor:
        """:meth:`message` and :meth:`aggregate` over some target nodes, or samples, at a time."""
        shares, plan, function = split_shares(x, self.plan), self.plan, self.message_function
        chunks = self._chunks(x)
        by_sample = len(chunks) > 1 and not is_channelwise(self.aggr_module)

        def run(shares: Tensor, start: int, end: int) -> Tensor:
            if by_sample:
                shares, start, end = shares[:, start:end], 0, plan.num_nodes
            edges = slice(plan.edge_bounds[start], plan.edge_bounds[end])
            source, target = self._edges[:, edges]
            x_i = shares.index_select(0, target) if "x_i" in function.arguments else None
            messages = function(shares.index_select(0, source), x_i, target, edges)
            own = own_channels(target, plan)
            return aggregate_messages(self.aggr_module, messages, target - start, end - start, own)

        # In the backward pass, whose hooks `torch.func` refuses.
        replay = len(chunks) > 1 and torch.is_grad_enabled() and not in_functorch()
        parts = [
            checkpoint(run, shares, *chunk, use_reentrant=False) if replay else run(shares, *chunk)
            for chunk in chunks
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=int(by_sample))
        return merge_shares(out if self.projection is None else self.projection(out), plan)

    def _hook(self, steps: tuple[str, ...]) -> str | None:
        """The kind of a hook that is registered on one of these steps."""
        # `len`, as the compiler of torch 2.9 takes every `_Hooks` for true.
        for kind in _hook_kinds(steps):
            if len(self.__dict__[f"_{kind}s"]) > 0:
                return kind
        return None

    # -- weights and repr ---------------------------------------------------------------------

    @property
    def weight(self) -> Tensor:
        """(num_weights, ...) the entries of every W_vu; see :mod:`mpnn_arch.kernels.plan`.

        It is the message function's parameter, and can be set. As a matrix, it is
        :meth:`dense_weight`.
        """
        return cast(Tensor, self.message_function.weight)

    def _check_weight(self, value: Any) -> None:
        function = self.message_function
        if not isinstance(value, Tensor):
            return
        if "weight" in function._parameters and not isinstance(value, torch.nn.Parameter):
            raise InputError(
                "the weight of a round is a parameter of its message function, and a tensor was "
                "given: set an nn.Parameter; in torch.func.functional_call its name is "
                "'message_function.weight'"
            )
        if not function.plan_layout:
            return
        kernel = () if function.geometry is None else function.geometry.kernel_size
        expected = (self.plan.num_weights, *kernel)
        if tuple(value.shape) != expected:
            raise ShapeError(
                f"the weight of this round has shape {expected}, an entry for every pair of "
                f"channels on an edge, not {tuple(value.shape)}; functions that set a matrix, as "
                "torch.nn.utils.fusion's, take mpnn_arch.to_dense(layer)"
            )

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """As ``nn.Module``'s; ``prune`` would keep the weight twice, and lose its place.

        Raises:
            InputError: what ``torch.nn.utils.prune`` registers for the weight.
        """
        if name == "weight_orig":
            raise InputError(
                "the weight of a round is its message function's parameter: prune "
                "layer.message_function instead of the layer"
            )
        super().register_parameter(name, param)

    def __getattr__(self, name: str) -> Any:
        parameter = self.__dict__.get("_parameters", {}).get(name)
        if parameter is not None:  # the usual case, without a second call
            return parameter
        if name == "weight" and "message_function" in self.__dict__.get("_modules", {}):
            kind = type(self.message_function).__name__
            parameters = ", ".join(n for n, _ in self.message_function.named_parameters())
            raise AttributeError(
                f"a round of {kind} has no weight: its message_function has "
                f"{parameters or 'no parameters'}"
            )
        return super().__getattr__(name)

    def dense_weight(self) -> Tensor:
        """The (C_out, C_in, ...) matrix of the round, zero where the graph has no edge.

        Raises:
            InputError: the round is not a product with one matrix.
        """
        if reason := self.why_not_fused():
            raise InputError(f"this round is not a product with one matrix of weights: {reason}")
        dense = self.message_function.dense_weight()
        if self._is_mean:
            dense = dense / self.plan.channel_degree.view(-1, *[1] * (dense.dim() - 1))
        return dense

    def extra_repr(self) -> str:
        """What ``repr`` shows before the submodules."""
        return f"{super().extra_repr()}, backend={self.backend!r}"


def _has_batch_statistics(*parts: torch.nn.Module) -> bool:
    """Whether a batch norm inside normalises by what it is given, and not by what it has seen."""
    norms = [norm for part in parts for norm in part.modules() if isinstance(norm, _BatchNorm)]
    return any(norm.training or norm.running_mean is None for norm in norms)


class _Hooks(OrderedDict[int, Callable[..., Any]]):
    """PyG's hooks of one kind; the round decides again when one is added or removed."""

    def __init__(self, layer: FusedRound, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = layer, kind

    def __reduce__(self) -> Any:
        return _Hooks, (self.layer, self.kind), tuple(self.items())

    def __setstate__(self, items: tuple[tuple[int, Callable[..., Any]], ...]) -> None:
        for key, hook in items:  # a copied or unpickled layer has its decision, and no parts yet
            super().__setitem__(key, hook)

    def __setitem__(self, key: int, hook: Callable[..., Any]) -> None:
        was_fused = not self.layer.passes_messages
        super().__setitem__(key, hook)
        self.layer._decide()
        if was_fused and self.layer.passes_messages:
            self.layer.prepare()
            warnings.warn(
                f"the {self.kind} needs messages, which a fused round does not compute: the round "
                f"runs on the reference backend instead of {self.layer.backend!r} until the hook "
                "is removed",
                stacklevel=3,  # the line that registers the hook
            )

    def __delitem__(self, key: int) -> None:
        super().__delitem__(key)
        self.layer._decide()
