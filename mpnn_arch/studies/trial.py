"""One network trained once: everything that its result depends on, and a hash of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    from mpnn_arch.training.config import TrainingConfig

_KIND = "mpnn_arch trial 1"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network trained once.

    Two trials that differ in any field have different hashes; two that are equal are one trial and
    are trained once. What the machine adds (device, threads, which backend ``"auto"`` selects)
    changes rounding only and stands in the ledger's row, not here.

    Attributes:
        model: its name, or the import path ``module:function`` of one of your own.
        graph: specification of the one relational graph, as ``ws_flex:64,8.5,0.1,0``.
        graph_hash: ``RelationalGraph.content_hash`` of it.
        dataset: its name, the absolute path of a folder of images, or an import path.
        data_hash: ``ImageDataset.content_hash`` of it.
        recipe: how it is trained; all its fields count.
        seed: draws the initial weights and the order of the images.
        message: message function, by name or import path; None: the model's own.
        aggr: aggregation, by name or import path.
        order: which nodes hold the larger shares, see :class:`~mpnn_arch.ChannelPartition`.
        init: how the weights are drawn; None: the model's own choice.
        backend: how the rounds are computed; None: selected by a timed trial.
        width_multiplier: scales every width, and with it the cost to meet.
        train_images, test_images: if given, only so many images are used.
        sources: for every import path the SHA-256 of the file that it lies in.

    Example:
        >>> from mpnn_arch.studies import Trial
        >>> from mpnn_arch.training import TrainingConfig
        >>> trial = Trial(
        ...     model="mlp",
        ...     graph="ring:16,4",
        ...     graph_hash="0" * 64,
        ...     dataset="digits",
        ...     data_hash="0" * 64,
        ...     recipe=TrainingConfig(),
        ...     seed=0,
        ... )
        >>> Trial.from_dict(trial.to_dict()) == trial
        True
    """

    model: str
    graph: str
    graph_hash: str
    dataset: str
    data_hash: str
    recipe: TrainingConfig
    seed: int
    message: str | None = None
    aggr: str = "sum"
    order: str = "published"
    init: str | None = None
    backend: str | None = None
    width_multiplier: float = 1.0
    train_images: int | None = None
    test_images: int | None = None
    sources: tuple[tuple[str, str], ...] = ()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all fields, in hexadecimal; the same on every machine."""
        text = canonical_json({"kind": _KIND, **self.to_dict()})
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values, the recipe with all of its own."""
        made = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        made["recipe"] = self.recipe.to_dict()
        made["sources"] = [list(pair) for pair in self.sources]
        return made

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """The trial that :meth:`to_dict` gave.

        Raises:
            InputError: a field that this version does not know, or a value out of its range.
        """
        from mpnn_arch.training.config import TrainingConfig, from_mapping

        if not isinstance(values, Mapping) or "recipe" not in values:
            raise InputError("a trial needs its recipe; restore the ledger it was read from")
        sources = tuple((path, digest) for path, digest in values.get("sources", ()))
        recipe = from_mapping(TrainingConfig, values["recipe"])
        return from_mapping(cls, {**values, "recipe": recipe, "sources": sources})


def canonical_json(value: Any) -> str:
    """One text for equal values: keys sorted, no spaces, 1.0 written as 1."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # a learning rate of 1 and one of 1.0 are equal
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
