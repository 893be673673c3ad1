"""Several networks as one: their relational graphs side by side are one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import SumAggregation

from mpnn_arch.checks import as_list, check_kind
from mpnn_arch.errors import InputError
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.block_matmul import block_product
from mpnn_arch.kernels.dispatch.picker import Picker
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.models.architectures.mlp import MLP
from mpnn_arch.models.dense import Dense
from mpnn_arch.rounds import LinearMessage, RelationalLinear
from mpnn_arch.rounds.wrapped import unwrapped


def check_members(members: Iterable[Any]) -> list[nn.Module]:
    """The networks of a population as a list.

    Raises:
        InputError: no list of modules.
    """
    listed = as_list("members", members)
    for member in listed:
        check_kind("a member", member, nn.Module, "build it with mpnn_arch.models.build")
    return listed


class MLPUnion(nn.Module):
    """P MLPs as one network, whose relational graph is the disjoint union of theirs.

    A round of the union is one product along the edges of all members; none leads from one member
    to another, so neither numbers nor gradients do, NaN and infinity included. The stems share
    their input and are one dense product. The heads are a round as well, of one node per member.

    A parameter of the union is the members' own, one after the other, and theirs become views of
    it: what trains the union trains them.

    Args:
        members: MLPs of one architecture, on one device; widths and graphs may differ.
        precision: of the products, see :class:`~mpnn_arch.training.config.TrainingConfig`.

    Shapes:
        - **x:** (B, in_features), or images of as many numbers, the same for all members
        - **output:** (B, P, num_classes)

    Raises:
        InputError: another model, MLPs that are not of one architecture, or weights that are
            computed, as pruned and parametrised ones are.
    """

    def __init__(self, members: Sequence[nn.Module], precision: str = "float32") -> None:
        super().__init__()
        mlps = _checked(members)
        self.num_members = len(mlps)
        self.num_classes = mlps[0].head.out_features
        self.slices: dict[str, list[slice]] = {}
        stems = [cast(Dense, mlp.stem) for mlp in mlps]
        rounds = [[_Layer.of(layer) for layer in mlp.rounds] for mlp in mlps]

        self.stem = self._join("stem", [_linear(stem).weight for stem in stems])
        norms = [self._join_norm("norms.0", [stem.norm for stem in stems])]
        self.rounds, self.plans = nn.ParameterList(), list[RoundPlan]()
        for place, layers in enumerate(zip(*rounds, strict=True)):
            self.rounds.append(self._join(f"rounds.{place}", [layer.weight for layer in layers]))
            self.plans.append(_union_plan(layers))
            norms.append(self._join_norm(f"norms.{place + 1}", [layer.norm for layer in layers]))
        self.norms = nn.ModuleList(norms)
        heads = [mlp.head for mlp in mlps]
        self.head = self._join("head", [head.weight for head in heads])
        self.bias = self._join("bias", [head.bias for head in heads])
        self.plans.append(_union_plan([_Layer.of(head) for head in heads]))
        device = self.stem.device
        dtype = torch.bfloat16 if precision == "bfloat16" else self.stem.dtype
        self.plans = [plan.to(device) for plan in self.plans]
        self.pickers = [Picker(union_backend(device, dtype)) for _ in self.plans]

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of every member."""
        x = x.flatten(1)
        x = F.linear(x, self.stem.view(-1, x.shape[1]))
        x = self.norms[0](x).relu_()
        for weight, norm, plan, picker in zip(
            self.rounds, self.norms[1:], self.plans, self.pickers, strict=False
        ):
            x = norm(block_product(x, weight, plan, None, picker)).relu_()
        x = block_product(x, self.head, self.plans[-1], None, self.pickers[-1], self.bias)
        return x.unflatten(1, (self.num_members, self.num_classes))

    def _join(self, name: str, tensors: Sequence[Any]) -> nn.Parameter:
        """The tensors one after the other, as a vector: the layout of the union's plan."""
        joined = torch.cat([tensor.detach().flatten() for tensor in tensors])
        self.slices[name] = _share(joined, tensors)
        return nn.Parameter(joined)

    def _join_norm(self, name: str, members: Sequence[Any]) -> nn.BatchNorm1d:
        first = members[0]
        norm = nn.BatchNorm1d(
            sum(member.num_features for member in members),
            eps=first.eps,
            momentum=first.momentum,
            device=first.weight.device,
            dtype=first.weight.dtype,
        )
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors = [getattr(member, part) for member in members]
            joined = torch.cat([tensor.detach() for tensor in tensors])
            getattr(norm, part).data = joined
            slices = _share(joined, tensors)
            if part in ("weight", "bias"):
                self.slices[f"{name}.{part}"] = slices
        with torch.no_grad():
            cast(Tensor, norm.num_batches_tracked).copy_(first.num_batches_tracked)
        for member in members:
            member.num_batches_tracked = norm.num_batches_tracked
        return norm


def part_from(members: Sequence[nn.Module]) -> None:
    """Give every parameter and buffer of ``members`` memory of its own again."""
    for member in members:
        for module in member.modules():
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.clone()
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, buffer.clone())


def union_backend(device: torch.device, dtype: torch.dtype) -> str:
    """The backend of a union: kernels of the device if they can run, else ``gather``.

    A dense matrix of the union would hold P times the members' own numbers, almost all zero, and
    zero times NaN would carry one member's NaN to the others.
    """
    able = [name for name in backends.candidates(device.type, dtype) if name != backends.PLAIN]
    return min(able, key=lambda name: backends.get(name).device_type() is None)


@dataclass(frozen=True)
class _Layer:
    """A layer as a round: its edges, the shares of its nodes, its weights, its norm.

    A dense layer has a single node. So has a round on the complete graph, whose weights lie as a
    dense layer's do.
    """

    edge_index: Tensor
    in_sizes: list[int]
    out_sizes: list[int]
    weight: Tensor
    norm: nn.Module | None

    @classmethod
    def of(cls, layer: nn.Module) -> _Layer:
        loop = torch.zeros(2, 1, dtype=torch.int64, device="cpu")
        if isinstance(layer, RelationalLinear):
            plan = layer.plan.to("cpu")
            weight = layer.weight
            if plan.is_complete:
                return cls(loop, [plan.in_channels], [plan.out_channels], weight, layer.norm)
            edges = torch.stack([plan.source, plan.target])
            sizes = plan.in_sizes.tolist(), plan.out_sizes.tolist()
            return cls(edges, *sizes, weight, layer.norm)
        linear = _linear(layer)
        norm = layer.norm if isinstance(layer, Dense) else None
        return cls(loop, [linear.in_features], [linear.out_features], linear.weight, norm)


def _linear(layer: nn.Module) -> nn.Linear:
    return cast(nn.Linear, layer.layer if isinstance(layer, Dense) else layer)


def _union_plan(layers: Sequence[_Layer]) -> RoundPlan:
    """PyG's batching, applied to architectures: node numbers move up, no edge is added."""
    graphs = [Data(edge_index=each.edge_index, num_nodes=len(each.in_sizes)) for each in layers]
    return make_plan(
        Batch.from_data_list(graphs).edge_index,
        [size for each in layers for size in each.in_sizes],
        [size for each in layers for size in each.out_sizes],
    )


def _share(joined: Tensor, tensors: Sequence[Tensor]) -> list[slice]:
    """Make ``tensors`` views of ``joined``; gives the slice of it that each takes."""
    lengths = [tensor.numel() for tensor in tensors]
    slices = [
        slice(end - length, end) for length, end in zip(lengths, accumulate(lengths), strict=True)
    ]
    for tensor, part in zip(tensors, slices, strict=True):
        tensor.data = joined[part].view(tensor.shape)
    return slices


def why_not_joined(member: nn.Module) -> str:
    """Why a network cannot be a member of a union, in a sentence; empty if it can."""
    if not isinstance(member, MLP):
        return (
            f"a population consists of mlp models, not of {type(member).__name__}; train "
            "this one by itself"
        )
    for layer in cast(Any, (member.stem, *member.rounds)):
        is_round = isinstance(layer, RelationalLinear)
        if is_round and not (
            type(layer.message_function) is LinearMessage
            and type(unwrapped(layer.aggr_module)) is SumAggregation
        ):
            return (
                f"a population's rounds are sums of linear messages, not {layer.aggr_module} of "
                f"{type(layer.message_function).__name__}; train this one by itself"
            )
        # As of a network that was changed after it was built.
        ends = layer.norm, layer.activation if is_round else layer.act
        if [type(part) for part in ends] != [nn.BatchNorm1d, nn.ReLU]:
            return (
                "a population's layers end with BatchNorm1d and ReLU, not with "
                f"{' and '.join(map(str, ends))}; train this one by itself"
            )
    if not all(isinstance(tensor, nn.Parameter) for tensor in _trained(member)):
        # They would be joined and trained, and computed anew from others at the next call.
        return (
            "a population trains weights that are parameters, and some of this network are "
            "computed, pruned or parametrised; train this one by itself"
        )
    return ""


def _trained(member: MLP) -> list[Any]:
    """Weights and biases of linear layers, rounds and norms."""
    kinds = (nn.Linear, nn.BatchNorm1d, RelationalLinear)
    layers = [module for module in member.modules() if isinstance(module, kinds)]
    found = [getattr(layer, name) for layer in layers for name in ("weight", "bias")]
    return [tensor for tensor in found if tensor is not None]


def _checked(members: Sequence[nn.Module]) -> list[MLP]:
    if not members:
        raise InputError("a population has at least one network, none was given")
    if len(set(map(id, members))) < len(members):
        raise InputError("a network is in the population twice; build one for each training")
    for member in members:
        if reason := why_not_joined(member):
            raise InputError(reason)
    mlps = cast(list[MLP], list(members))
    for what, read in _SHARED.items():
        values = {read(mlp) for mlp in mlps}
        if len(values) > 1:
            raise InputError(
                f"the networks of a population have {what} "
                f"{' and '.join(sorted(map(str, values)))}; train those that differ apart"
            )
    return mlps


# What the members of a population have in common.
_SHARED: dict[str, Callable[[MLP], object]] = {
    "input features": lambda mlp: _linear(mlp.stem).in_features,
    "rounds": lambda mlp: len(mlp.rounds),
    "classes": lambda mlp: mlp.head.out_features,
    "numbers of type": lambda mlp: mlp.head.weight.dtype,
    "their weights on": lambda mlp: mlp.head.weight.device,
    "BatchNorm settings": lambda mlp: tuple(
        (m.eps, m.momentum) for m in mlp.modules() if isinstance(m, nn.BatchNorm1d)
    ),
    "trained steps": lambda mlp: tuple(
        int(cast(Tensor, m.num_batches_tracked))
        for m in mlp.modules()
        if isinstance(m, nn.BatchNorm1d)
    ),
}
