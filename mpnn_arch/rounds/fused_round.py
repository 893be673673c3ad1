"""The fast twin of a round: the same numbers, parameters and state dict, in one product."""

# Annotations stay real objects here: PyG inspects the signatures of `message` and its siblings.
import copy
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.nn import MeanAggregation, SumAggregation

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError, ShapeError
from mpnn_arch.kernels.backends import check_name, get, names
from mpnn_arch.kernels.block_matmul import block_product
from mpnn_arch.kernels.dispatch.picker import Picker
from mpnn_arch.kernels.dispatch.tracing import PLAIN_TYPES, is_plain
from mpnn_arch.rounds.chunks import aggregate_in_chunks, chunks_of
from mpnn_arch.rounds.fused_update import batch_norm_update, is_relu
from mpnn_arch.rounds.given_message import check_given_weight
from mpnn_arch.rounds.hooks import FUSED_HOOKS, MESSAGE_HOOKS, registered_hook, watch_hooks
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.shares import another_layout, batched, is_residual
from mpnn_arch.rounds.wrapped import aggregation_must_be_called, must_be_called, unwrapped

# The steps of a round, which a subclass may override.
_OF_MESSAGES = ("message", "aggregate", "aggregate_shares")
_STEPS = ("propagate", *_OF_MESSAGES, "message_and_aggregate", "update")
# Attributes by which `_decide` decides how a round is computed.
_DECIDING = frozenset({"message_function", "aggr", "aggr_module", "fuse", "_explain", "_backend"})


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
    _aggr_class: type

    def __init__(self, *args: Any, backend: str = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        watch_hooks(self)
        self.backend = backend

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Starts from the first base's, because PyG later sets a `propagate` on every class.
        own = set(cls._own_steps)
        for kind in cls.__mro__[: cls.__mro__.index(FusedRound)]:
            if kind is cls or not issubclass(kind, FusedRound):
                own.update(name for name in _STEPS if name in vars(kind))
        cls._own_steps = frozenset(own)

    def __copy__(self) -> "FusedRound":
        copied = cast(FusedRound, super().__copy__())
        copied.picker = copy.copy(self.picker)  # its parts, and so its products, may be set apart
        return copied

    # -- the twin ---------------------------------------------------------------------------

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As :meth:`MessageRound.forward`, with a direct path to the product cached for a shape."""
        modules = self._modules
        function, aggr = modules["message_function"], modules["aggr_module"]
        if (
            not self._is_product
            or aggr._forward_hooks
            or aggr._forward_pre_hooks
            or must_be_called(function) is not None
            or not is_plain(x, x)
            or x.layout is not torch.strided
            or x.is_nested
            or torch.is_autocast_enabled(x.device.type)
            or not (residual is None or is_residual(residual))
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
            out = out / self.plan.channel_degree.to(out).view(-1, *[1] * (out.dim() - 2))
        return out

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        function = self.message_function
        return block_product(
            x, function.current_weight(), self.plan, function.geometry, self.picker, bias
        )

    @batched
    def _forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The first of these ways that fits.

        1. Messages, all of them in PyG's ``propagate``, where hooks, an explainer or steps of a
           subclass need them, and on the reference backend where they fit.
        2. Messages of some nodes, or samples, at a time, then ``update``.
        3. The product with the bias, then sigma; :meth:`forward` takes this way itself where x is a
           plain tensor of a shape that was met before.
        4. The product, divided by the degrees, then ``update``: a mean.
        5. One of these two within PyG's ``propagate``, for hooks and steps around the product.
        """
        if residual is None and self.residual:
            residual = x
        if self.passes_messages:
            chunks = chunks_of(self, x, self.max_message_elements)
            literal = self._backend == "reference" and len(chunks) == 1
            if literal or self._needs_every_message():  # 1
                return super().forward(x, residual)
            return self.update(aggregate_in_chunks(self, x, chunks), residual)  # 2
        if self._is_product:  # 3, rounded once, after the bias, as in `nn.Linear`
            return self._sigma(self._product(x, self.bias), residual)
        if not self._goes_through_propagate():  # 4
            return self.update(self.message_and_aggregate(self.edge_index, x), residual)
        # 5. PyG takes its fused path for an `EdgeIndex` sorted by column (the target).
        size = (self.plan.num_nodes, self.plan.num_nodes)
        edges = EdgeIndex(self._edges, sparse_size=size, sort_order="col")
        return self.propagate(edges, size=size, x=x, residual=residual)

    # -- how it is computed --------------------------------------------------------------------
    #
    # What the round's own attributes say is decided when one of them is set (`_decide`). What
    # others do to the message function comes unannounced: every call asks `must_be_called`.

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":  # a property: `nn.Module` would look for a parameter of that name
            check_given_weight(self, value)
            self.message_function.weight = value
            return
        # A fused product would go past it, and `save` lose it; PyG sets `propagate` itself.
        if name in _STEPS and name != "propagate":
            raise InputError(
                f"{name} is a method of {type(self).__name__}, and was set to {shown(value)}: "
                "override it in a subclass, or set layer.message_function, layer.aggr, layer.norm "
                "or layer.activation"
            )
        super().__setattr__(name, value)
        aggr = self._modules.get("aggr_module") if name in ("aggr", "aggr_module") else None
        if aggr is not None:  # here, as `torch.export` may run objects of classes that it derives
            self._aggr_class = type(unwrapped(aggr))
        if name in _DECIDING and "_backend" in self.__dict__:
            if name == "message_function":  # whose kernels may have another geometry
                self.picker.products = {}
            self._decide()

    def _decide(self) -> None:
        """Whether a call is the product and sigma, unless the message function must be called."""
        self._is_product = not (
            self._who_asks()
            or self.why_not_fused()
            or self._goes_through_propagate()
            or self._is_mean
        )

    @property
    def _is_mean(self) -> bool:
        return self._aggr_class is MeanAggregation

    def _goes_through_propagate(self) -> bool:
        """Whether hooks or overridden steps need PyG's ``propagate`` around the product."""
        return bool(self._own_steps or self._explain or registered_hook(self, FUSED_HOOKS))

    def _needs_every_message(self) -> bool:
        """Whether hooks, an explainer or overridden steps need PyG to pass all messages at once."""
        return bool(
            self._own_steps or self._explain or registered_hook(self, (*MESSAGE_HOOKS, "propagate"))
        )

    def why_not_fused(self) -> str | None:
        """Why the round is not one product with gathered weights; None if it is one."""
        function, own = self.message_function, self._own_steps
        if not function.fusable:
            return f"{type(function).__name__} is not a single product per edge"
        if own.intersection(_OF_MESSAGES) and "message_and_aggregate" not in own:
            return f"{type(self).__name__} overrides message or aggregate"
        if self._aggr_class not in (SumAggregation, MeanAggregation):
            return f"aggr={self.aggr!r} is not the sum or mean of its messages"
        return None

    @property
    def passes_messages(self) -> bool:
        """Whether messages are passed: requested, not one product, hooked or explained.

        Also where the message function was wrapped, hooked or given another ``forward``, as by
        libraries that fetch its weights for the call, or the aggregation is hooked: they see the
        call then.
        """
        return self._why_messages() is not None

    def _why_messages(self) -> str | None:
        """Why messages are passed; None if they are not."""
        return (
            self._who_asks()
            or must_be_called(self.message_function)
            or aggregation_must_be_called(self.aggr_module)
            or self.why_not_fused()
        )

    def _who_asks(self) -> str | None:
        """Why messages have to be computed even by a round that is one product."""
        if self._backend == "reference":
            return "requested"
        if not self.fuse:
            return "fuse is False"
        if hook := registered_hook(self, MESSAGE_HOOKS):
            return f"a {hook} is registered, and a fused round computes no messages"
        return "an explainer reads the messages" if self._explain else None

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
        if reason := self._why_messages():
            return f"reference: {reason}"
        return self.picker.explain(self.plan, self.message_function.geometry)

    # -- weights and repr ---------------------------------------------------------------------

    @property
    def weight(self) -> Tensor:
        """(num_weights, ...) the entries of every W_vu; see :mod:`mpnn_arch.kernels.plan`.

        It is the message function's parameter, and can be set. As a matrix, it is
        :meth:`dense_weight`.
        """
        return cast(Tensor, self.message_function.weight)

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
            InputError: the round is not one product with its weights.
        """
        if reason := self.why_not_fused():
            raise InputError(f"this round is not one product with its weights: {reason}")
        dense = self.message_function.dense_weight()
        if self._is_mean:
            dense = dense / self.plan.channel_degree.view(-1, *[1] * (dense.dim() - 1))
        return dense

    def extra_repr(self) -> str:
        """What ``repr`` shows before the submodules."""
        return f"{super().extra_repr()}, backend={self.backend!r}"
