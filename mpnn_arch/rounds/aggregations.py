"""AGG: PyTorch Geometric's aggregations, over messages with batch and spatial dimensions.

Most of them work channel by channel and take the messages as they are. The others (a gate that
reads a whole message, a list of aggregations, a custom one) get what PyG documents, a sorted
two-dimensional table of messages, in which every sample and every pixel is a separate graph.
"""

import copy
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeGuard, cast

import torch
import torch_geometric.typing
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch_geometric.index import index2ptr
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.resolver import aggregation_resolver

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.tracing import is_transformed
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.registry import Registry
from mpnn_arch.rounds.generator import check_generator

Aggr: TypeAlias = str | pyg.Aggregation | type[pyg.Aggregation] | Sequence[str | pyg.Aggregation]

# From the plan and `aggr_kwargs` to the aggregation.
aggregations: Registry[Callable[[RoundPlan, dict[str, Any]], pyg.Aggregation]] = Registry(
    "aggregation"
)

# Aggregations that torch-scatter, where installed, computes over sorted segments: given `ptr`, PyG
# calls its `segment_csr` and `gather_csr`.
SEGMENTED = (
    pyg.MaxAggregation,
    pyg.MinAggregation,
    pyg.MeanAggregation,
    pyg.SoftmaxAggregation,
)


def _register(name: str, kind: type[pyg.Aggregation], **defaults: Any) -> None:
    aggregations.register(name)(lambda plan, kwargs: kind(**defaults | kwargs))


for _name, _kind in {
    "sum": pyg.SumAggregation,
    "add": pyg.SumAggregation,
    "mean": pyg.MeanAggregation,
    "max": pyg.MaxAggregation,
    "min": pyg.MinAggregation,
    "mul": pyg.MulAggregation,
    "var": pyg.VarAggregation,
    "std": pyg.StdAggregation,
    "softmax": pyg.SoftmaxAggregation,
    "median": pyg.MedianAggregation,
}.items():
    _register(_name, _kind)
_register("quantile", pyg.QuantileAggregation, q=0.5)


@aggregations.register("power-mean")
def power_mean(plan: RoundPlan, kwargs: dict[str, Any]) -> pyg.Aggregation:
    """(mean of m^p)^(1/p) over messages clamped to be positive; p = 2 unless ``p`` is given."""
    if kwargs.get("p", 2.0) == 0:
        raise InputError("aggr='power-mean' with p=0 divides by zero; use another p")
    if kwargs.get("clamp_min", 0) is None and kwargs.get("clamp_max", 0) is None:
        raise InputError("aggr='power-mean' needs a clamp: give clamp_min, clamp_max or both")
    return pyg.PowerMeanAggregation(**{"p": 2.0} | kwargs)


@aggregations.register("attentional")
def attentional(plan: RoundPlan, kwargs: dict[str, Any]) -> pyg.Aggregation:
    """A gate weights the messages: ``gate_nn``, or a linear map of a message to one number."""
    kwargs = {"gate_nn": nn.Linear(plan.largest_out, 1)} | kwargs
    return pyg.AttentionalAggregation(**kwargs)


@aggregations.register("degree-scaled")
def degree_scaled(plan: RoundPlan, kwargs: dict[str, Any]) -> pyg.Aggregation:
    """As in PNA: several aggregations, each scaled by the node's degree in the graph."""
    defaults = {
        "aggr": ["mean", "min", "max", "std"],
        "scaler": ["identity", "amplification", "attenuation"],
        "deg": torch.bincount(plan.edge_ptr.diff().cpu()),
    }
    return pyg.DegreeScalerAggregation(**defaults | kwargs)


@aggregations.register("multi")
def multi(plan: RoundPlan, kwargs: dict[str, Any]) -> pyg.Aggregation:
    """Several aggregations, ``aggrs``, concatenated or combined by ``mode``."""
    kwargs = {"aggrs": ["mean", "max", "std"]} | kwargs
    each = kwargs.pop("aggrs_kwargs", None) or [{}] * len(kwargs["aggrs"])
    each_aggr = [
        _make(aggr, plan, given) for aggr, given in zip(kwargs.pop("aggrs"), each, strict=True)
    ]
    if kwargs.get("mode") in ("proj", "attn"):
        widths = {"in_channels": plan.largest_out, "out_channels": plan.largest_out}
        kwargs["mode_kwargs"] = widths | kwargs.get("mode_kwargs", {})
    return pyg.MultiAggregation(each_aggr, **kwargs)


def make_aggregation(
    aggr: Aggr,
    plan: RoundPlan,
    aggr_kwargs: dict[str, Any] | None = None,
    generator: torch.Generator | None = None,
) -> pyg.Aggregation:
    """The aggregation that ``aggr`` names, of that class, a copy of that instance, or a list.

    Args:
        aggr: a registered name, or that of any aggregation in PyG; an ``Aggregation`` class or
            instance; several of them as a list, or as names joined by ``+``.
        plan: index tensors of the round.
        aggr_kwargs: arguments of the aggregation, for a name or a class; its ``in_channels``,
            ``out_channels`` and ``channels`` are those of the largest share unless given. Modules
            among them are copied for every round.
        generator: of the round, which it does not advance. The round redraws parameters by
            ``reset_parameters``, which a class of one's own need not have.

    Raises:
        InputError: an unknown name, or arguments that the aggregation rejects.
    """
    with torch.random.fork_rng(devices=[]):
        if generator is not None:
            check_generator(generator)
            ahead = torch.Generator()
            ahead.set_state(generator.get_state())
            seed = torch.randint(2**62, (), generator=ahead, device="cpu")
            # Another seed than the one that the round is about to draw.
            torch.default_generator.manual_seed(int(seed) + 1)
        return _make(aggr, plan, aggr_kwargs)


def _make(
    aggr: Aggr, plan: RoundPlan, aggr_kwargs: dict[str, Any] | None = None
) -> pyg.Aggregation:
    kwargs = copy.deepcopy(aggr_kwargs or {})
    if isinstance(aggr, pyg.Aggregation):
        _check_initialised(aggr)
        if kwargs:
            raise InputError(
                f"aggr_kwargs {sorted(kwargs)} do not apply to an instance, {shown(aggr)}; give "
                "its name or its class, or no aggr_kwargs"
            )
        return copy.deepcopy(aggr)
    if not isinstance(aggr, str | list | tuple) and not _is_aggregation_class(aggr):
        raise InputError(
            f"an aggregation is a name such as 'sum', an Aggregation of torch_geometric.nn or a "
            f"list of them, not {shown(aggr)}; make a subclass of Aggregation of it, with "
            f"{SIGNATURE}"
        )
    if isinstance(aggr, str) and "+" in aggr:
        aggr = [part.strip() for part in aggr.split("+")]
    try:
        if _is_aggregation_class(aggr):
            return _check_initialised(_with_widths(aggr, plan, kwargs))
        if isinstance(aggr, str):
            return _by_name(aggr)(plan, kwargs)
        return multi(plan, {"aggrs": [*cast(Sequence[Any], aggr)]} | kwargs)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        lacking = ", ".join(f"{name!r}: ..." for name in _missing(error))
        advice = f"; give them as aggr_kwargs={{{lacking}}}" if lacking else ""
        raise InputError(
            f"the aggregation {aggr!r} rejected its arguments: {error}{advice}"
        ) from error
    except AttributeError as error:
        if "before Module.__init__" not in str(error):
            raise
        raise InputError(_WITHOUT_SUPER.format(aggregation_name(aggr))) from None


SIGNATURE = "forward(self, x, index=None, ptr=None, dim_size=None, dim=-2)"


def _is_aggregation_class(aggr: object) -> TypeGuard[type[pyg.Aggregation]]:
    return isinstance(aggr, type) and issubclass(aggr, pyg.Aggregation)


# Arguments of PyG's aggregations that are the channels of a message, those of the largest share.
WIDTHS = ("in_channels", "out_channels", "channels")


def _with_widths(
    make: Callable[..., Any], plan: RoundPlan, kwargs: dict[str, Any]
) -> pyg.Aggregation:
    """``make(**kwargs)``, where it asks for them with the widths that fit the round."""
    try:
        return cast(pyg.Aggregation, make(**kwargs))
    except TypeError as error:
        widths = {name: plan.largest_out for name in _missing(error) if name in WIDTHS}
        if not widths:
            raise
        return cast(pyg.Aggregation, make(**widths, **kwargs))


def _missing(error: Exception) -> list[str]:
    """The arguments that a call lacked."""
    return re.findall(r"'(\w+)'", str(error)) if "required positional" in str(error) else []


_WITHOUT_SUPER = "{0}.__init__ does not call Aggregation's first: begin it with super().__init__()"


def _check_initialised(aggr: pyg.Aggregation) -> pyg.Aggregation:
    """``aggr``, if it is a module already.

    Raises:
        InputError: a subclass's constructor does not call its parent's.
    """
    if "_parameters" not in vars(aggr):
        raise InputError(_WITHOUT_SUPER.format(type(aggr).__name__))
    return aggr


def registered_name(name: str) -> str:
    """``name``, which PyG spells in several ways, as the registry spells it."""
    return name.strip().lower().replace("_", "-").replace("powermean", "power-mean")


def _by_name(name: str) -> Callable[[RoundPlan, dict[str, Any]], pyg.Aggregation]:
    known = registered_name(name)
    if known in aggregations:
        return aggregations.get(known)

    def resolve(plan: RoundPlan, kwargs: dict[str, Any]) -> pyg.Aggregation:
        try:
            found = _with_widths(partial(aggregation_resolver, name), plan, kwargs)
        except ValueError as error:
            if "Could not resolve" in str(error):
                aggregations.get(name)  # raises, listing the choices
            raise
        if type(found) is pyg.Aggregation:  # by no name, as after the + of "mean+"
            aggregations.get(name)
        return found

    return resolve


def is_channelwise(aggr: pyg.Aggregation) -> bool:
    """Whether every channel of the result depends on that channel of the messages only."""
    if isinstance(aggr, (pyg.SoftmaxAggregation, pyg.PowerMeanAggregation)):
        return bool(aggr.channels == 1)
    if isinstance(aggr, pyg.QuantileAggregation):
        return bool(aggr.q.numel() == 1)
    return type(aggr) in {
        pyg.SumAggregation,
        pyg.MeanAggregation,
        pyg.MaxAggregation,
        pyg.MinAggregation,
        pyg.MulAggregation,
        pyg.VarAggregation,
        pyg.StdAggregation,
    }


def aggregate_messages(
    aggr: pyg.Aggregation,
    messages: Tensor,
    index: Tensor,
    num_nodes: int,
    real: Tensor | None = None,
    segmented: bool | None = None,
) -> Tensor:
    """Aggregate the messages that every node receives.

    Args:
        aggr: the aggregation.
        messages: one per edge.
        index: (E,) the receiver of each, ascending.
        num_nodes: N.
        real: (E, C) which channels of each message belong to the receiver; None for all. The
            others affect neither the result of a real channel nor any gradient.
        segmented: whether max, min, mean and softmax run over sorted segments; None where
            torch-scatter is installed and faster. The results are the same; where several
            messages tie for a maximum, the gradient goes to one of them, otherwise it is
            divided among all of them.

    Shapes:
        - **messages:** (E, B, C, ...)
        - **output:** (N, B, k * C, ...), k = 1 unless the aggregation widens its input

    Raises:
        InputError: a product or power of the messages, or its gradient, is not finite; a product
            is differentiated in forward mode; or complex messages have no such aggregate.
    """
    if forward_ad._current_level >= 0 and has_part(aggr, pyg.MulAggregation):
        raise InputError(
            "torch gives 0 for the forward-mode derivative of a product of messages: with "
            "aggr='mul' use reverse mode, such as torch.func.jacrev or vjp"
        )
    channelwise = is_channelwise(aggr)
    if real is not None and not isinstance(aggr, pyg.SumAggregation):
        # 1 is finite under every power and product; aggregations of whole messages get zeros.
        keep = real.view(real.shape[0], 1, real.shape[1], *[1] * (messages.dim() - 3))
        messages = torch.where(keep, messages, 1.0 if channelwise else 0.0)
    fragile = has_part(aggr, pyg.MulAggregation, pyg.PowerMeanAggregation)
    if fragile and messages.requires_grad:
        messages.register_hook(lambda gradient: _refuse_not_finite(gradient, aggr, "gradient"))
    try:
        if not channelwise:
            out = _by_sample(aggr, messages, index, num_nodes)
        else:
            out = _by_channel(aggr, messages, index, num_nodes, segmented)
    except NotImplementedError as error:
        if not any(t.is_complex() for t in (messages, *aggr.parameters(), *aggr.buffers())):
            raise
        raise InputError(
            f"{shown(aggr)} of complex messages is not defined in torch or PyG "
            f"({str(error).splitlines()[0]}): use aggr='sum', or real numbers"
        ) from error
    if torch.compiler.is_compiling():  # PyG's quantiles count nodes by the numbers in the index
        torch._check(out.shape[0] == num_nodes)
    if fragile:
        _refuse_not_finite(out, aggr, "result", messages)
    return out


def _by_channel(
    aggr: pyg.Aggregation, messages: Tensor, index: Tensor, num_nodes: int, segmented: bool | None
) -> Tensor:
    """Every sample and pixel as further channels, of which each is aggregated by itself."""
    if segmented is None:
        # On the CPU, mean and softmax are faster with torch's own operations; see
        # experiments/benchmarks/aggregations.py.
        faster = messages.is_cuda or isinstance(aggr, (pyg.MaxAggregation, pyg.MinAggregation))
        segmented = torch_geometric.typing.WITH_TORCH_SCATTER and faster
    if segmented and isinstance(aggr, SEGMENTED):
        return cast(Tensor, aggr(messages.contiguous(), ptr=index2ptr(index, num_nodes), dim=0))
    return cast(Tensor, aggr(messages, index, dim_size=num_nodes, dim=0))


def restore_quantiles(aggr: pyg.Aggregation) -> None:
    """Set the ranks of quantiles anew where they hold something else, as after ``to_empty``."""
    for part in aggr.modules():
        if not isinstance(part, pyg.QuantileAggregation):
            continue
        if part.q.is_meta or type(part.q) is not Tensor:
            continue
        ranks = part._q if isinstance(part._q, (list, tuple)) else [part._q]
        expected = torch.tensor(ranks, device="cpu").view(-1, 1).to(part.q.dtype)
        if not torch.equal(part.q.cpu(), expected):
            part.q = expected.to(part.q.device)


def _by_sample(aggr: pyg.Aggregation, messages: Tensor, index: Tensor, num_nodes: int) -> Tensor:
    """Every sample and pixel as a separate graph: PyG's (messages, channels) table."""
    num_edges, _, channels, *space = messages.shape
    table = messages.flatten(3) if space else messages.unsqueeze(3)  # (E, B, C, S)
    batch, pixels = table.shape[1], table.shape[3]
    table = table.permute(1, 3, 0, 2).reshape(-1, channels)  # (B * S * E, C)
    sample = torch.arange(batch * pixels, device=index.device).repeat_interleave(num_edges)
    out = aggr(
        table,
        index.repeat(batch * pixels) + num_nodes * sample,
        dim_size=num_nodes * batch * pixels,
        dim=-2,
    )
    out = out.view(batch, pixels, num_nodes, out.shape[-1]).permute(2, 0, 3, 1)
    return out.unflatten(3, space) if space else out.squeeze(3)


def has_part(aggr: pyg.Aggregation, *kinds: type[pyg.Aggregation]) -> bool:
    """Whether it, or one inside it, is of one of these classes."""
    return any(isinstance(module, kinds) for module in aggr.modules())


def _refuse_not_finite(
    values: Tensor | None, aggr: pyg.Aggregation, what: str, messages: Tensor | None = None
) -> None:
    if torch.compiler.is_compiling() or values is None:  # no gradient flows back
        return
    if is_transformed(values) or torch.isfinite(values).all():  # `vmap` reads no value
        return
    if messages is not None and not torch.isfinite(messages).all():
        return  # the messages were not finite already
    raise InputError(
        f"the {what} of {shown(aggr)} is not finite, as products and powers of messages at zero, "
        "below it or far above it can be: give aggr_kwargs={'clamp_min': 1e-4} to a power mean, "
        "keep the messages small, or use aggr='mean'"
    )


def check_degrees_known(aggr: Aggr, aggr_kwargs: dict[str, Any] | None = None) -> None:
    """Refuse degree scaling without degrees, in a round whose graph comes with the input.

    Raises:
        InputError: naming the argument to give.
    """
    if "degree-scaled" in str(aggr) and "deg" not in (aggr_kwargs or {}):
        raise InputError(
            "aggr='degree-scaled' needs the degrees of the data, and the graph of this round "
            "comes with the input: give aggr_kwargs={'deg': histogram of the degrees}"
        )


def aggregation_name(aggr: Aggr) -> str | list[str]:
    """The requested aggregation, as ``repr`` and messages show it."""
    if isinstance(aggr, list | tuple):
        return [str(one) for one in aggr]
    return aggr.__name__ if isinstance(aggr, type) else str(aggr)
