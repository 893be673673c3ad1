"""Which layers become rounds, and why the others do not."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import is_parametrized

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.relationalize.kinds import Kind
from mpnn_arch.models.relationalize.skip import skipped_layers

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Parameters by which a module may use a child without calling it.
_WEIGHTS = r"weight|bias|in_proj_weight|in_proj_bias|out_proj\.weight"


def outcomes(
    module: nn.Module,
    layers: Mapping[str, tuple[nn.Module, Kind | None]],
    graphs: Mapping[str, RelationalGraph | None],
    skip: Sequence[str],
) -> dict[str, tuple[str, str]]:
    """The outcome for every layer, and the reason; ``("round", "")`` for one that can be a round.

    Args:
        module: has the layers.
        layers: those with weights, by name, and their kind.
        graphs: of the dense ones by name; None for those that stay dense.
        skip: see :func:`~mpnn_arch.models.relationalize.skip.skipped_layers`.

    Raises:
        InputError: a name in ``skip`` that the module does not have.
    """
    dense = [name for name, (_, kind) in layers.items() if kind is not None]
    skipped, shared = skipped_layers(module, dense, skip), _shared_weights(module)
    found = {}
    for name, (layer, kind) in layers.items():
        if kind is None:
            found[name] = "not dense", _why_no_kind(layer)
        elif name in skipped:
            found[name] = "skipped", f"skip has {skipped[name]!r}"
        else:
            found[name] = _of_dense(module, name, layer, kind, graphs[name], shared)
    return found


def _shared_weights(module: nn.Module) -> set[int]:
    """Ids of the parameters that several layers of ``module`` use."""
    uses = Counter(
        id(parameter) for part in module.modules() for parameter in part.parameters(recurse=False)
    )
    return {key for key, count in uses.items() if count > 1}


def _of_dense(
    module: nn.Module,
    name: str,
    layer: nn.Module,
    kind: Kind,
    graph: RelationalGraph | None,
    shared: set[int],
) -> tuple[str, str]:
    """The outcome for a layer of this kind that ``skip`` does not name."""
    groups: Any = getattr(layer, "groups", 1)
    if groups > 1 and groups == kind.widths(layer)[0]:
        return "grouped", "depth-wise: it leaves no exchange among channels to restrict"
    if graph is None:
        return "no graph", "no graph was given for it"
    narrowest = kind.narrowest(layer)
    if narrowest < graph.num_nodes:
        where = f" in each of its {groups} groups" if groups > 1 else ""
        return "too narrow", f"{narrowest} channels{where} for {graph.num_nodes} nodes"
    reason = _more_than_dense(layer, kind, shared) or _used_by(module, name, layer)
    return ("left dense", reason) if reason else ("round", "")


def _why_no_kind(layer: nn.Module) -> str:
    """Why a layer with weights has no relational form."""
    own = list(layer.parameters(recurse=False))
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return "a table of vectors, which no channels enter"
    if isinstance(layer, _NORMS) or type(layer).__name__.endswith("Norm"):
        return "a normalisation scales each channel by itself"
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
        return "its matrices are inside a recurrent kernel"
    if isinstance(layer, _TRANSPOSED):
        return "rounds have no transposed convolution"
    if isinstance(layer, nn.Conv3d):
        return "rounds have no convolution over volumes"
    if isinstance(layer, nn.Bilinear):
        return "it multiplies two inputs"
    if any(parameter.dim() == 3 and len(parameter) > 1 for parameter in own):
        return "a stack of matrices, one an expert, in a layout of its own"
    if all(parameter.dim() <= 1 for parameter in own):
        return "its weights are vectors"
    return "its own forward uses its weights"


def _more_than_dense(layer: Any, kind: Kind, shared: set[int]) -> str:
    if any(is_parametrized(part) for part in layer.modules()):
        return "its weight is parametrised; remove the parametrisation first"
    if name := kind.added(layer):
        own = type(layer)
        return f"{own.__module__}.{own.__qualname__} adds {name!r} to {kind.label}"
    if any(
        isinstance(getattr(part, "weight", None), Tensor) and "weight" not in part._parameters
        for part in layer.modules()
    ):
        return "its weight is computed before each call, as by weight_norm; remove that first"
    if any(part._forward_hooks or part._forward_pre_hooks for part in layer.modules()):
        return "it has hooks, which a round would lose; register them afterwards"
    if any(id(parameter) in shared for parameter in layer.parameters()):
        return "its weight is shared with another layer"
    return ""


def _used_by(module: nn.Module, name: str, layer: nn.Module) -> str:
    """The part of ``module`` around the layer that a round would not do for: why."""
    for i in range(len(name)):
        if i and name[i] != ".":
            continue
        above = module.get_submodule(name[:i])
        path = name[i:].lstrip(".")
        if _reads_weight(cast(Any, type(above)), path) and not _bypassed(above):
            return f"{type(above).__name__} reads its weight directly"
        if _asks_for_class(cast(Any, type(above)), path, cast(Any, type(layer))):
            return f"{type(above).__name__} asks for its class, and a round has another"
    return ""


def _bypassed(above: nn.Module) -> bool:
    """Whether ``above`` reads weights only in a fused path that a round in it turns off."""
    return type(above).forward is nn.TransformerEncoderLayer.forward


@lru_cache(maxsize=4096)
def _reads_weight(kind: Any, path: str) -> bool:
    """Whether a method other than its initialisation uses ``self.<path>.weight``."""
    own = rf"{_access(path)}\.(?:{_WEIGHTS})\b"
    # Its dtype and device are those of the round's weight too.
    harmless = rf"isinstance\({own},[^()]*\)|{own}\.(?:dtype|device)\b"
    return any(re.search(own, re.sub(harmless, "", source)) for source in _method_sources(kind))


@lru_cache(maxsize=4096)
def _asks_for_class(kind: Any, path: str, layer: Any) -> bool:
    """Whether a method other than its initialisation depends on the class of ``self.<path>``."""
    own = rf"{_access(path)}\s*"
    names = "|".join(base.__name__ for base in layer.__mro__ if base not in (nn.Module, object))
    asks = rf"\bisinstance\(\s*{own},\s*\(?[^()]*\b(?:{names})\b|\btype\(\s*{own}\)"
    return any(re.search(asks, source) for source in _method_sources(kind))


def _access(path: str) -> str:
    """A pattern for ``self.<path>``, of which numbers and keys may be in brackets.

    ``getattr(self, name)`` may be any part, unless the name is written there.
    """
    first, *parts = path.split(".")
    name = rf"(?:[\"']{re.escape(first)}[\"']|f[\"'][^\"']*[\"']|[A-Za-z_][^()\"',]*)"
    by_name = rf"\bgetattr\(\s*self\s*,\s*{name}\s*(?:,[^()]*)?\)"
    start = rf"(?:\bself(?:\.{re.escape(first)}|\[{first}\])|{by_name})"
    return start + "".join(
        rf"(?:\.{re.escape(part)}|\[[\"']?{re.escape(part)}[\"']?\])" for part in parts
    )


@lru_cache(maxsize=1024)
def _method_sources(kind: Any) -> tuple[str, ...]:
    sources = []
    for base in kind.__mro__:
        if base in (nn.Module, object):
            continue
        for name, method in vars(base).items():
            if name == "__init__" or "init" in name or "reset" in name or not callable(method):
                continue
            try:
                sources.append(inspect.getsource(method))
            except (OSError, TypeError):  # defined at run time: no source
                continue
    return tuple(sources)
