"""The configuration of a training run: the recipe, and the models and data it applies to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The recipe: SGD with momentum and a learning rate that decays to 0 along a half cosine.

    The rate of step t of T is ``learning_rate * (1 + cos(pi * t / T)) / 2``.

    Attributes:
        epochs: passes over the training images, at least 1.
        batch_size: images per step, at least 2 (BatchNorm needs two).
        learning_rate: of the first step, above 0.
        momentum: in [0, 1).
        nesterov: whether to use Nesterov momentum; needs a momentum above 0.
        weight_decay: L2 penalty on every parameter, at least 0.

    Raises:
        InputError: a value out of its range.

    Source: the defaults are those of You et al., ICML 2020, section 4.1, for the 5-layer MLP
    (batch 128, initial rate 0.1 with a cosine), except the number of epochs, which was 200 there.
    """

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        _whole(self, "epochs", at_least=1)
        _whole(self, "batch_size", at_least=2)
        _number(self, "learning_rate")
        _number(self, "momentum")
        _number(self, "weight_decay")
        if not isinstance(self.nesterov, bool):
            raise InputError(f"nesterov is true or false, {self.nesterov!r} was given")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is above 0, {self.learning_rate} was given")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum lies in [0, 1), {self.momentum} was given")
        if self.weight_decay < 0:
            raise InputError(f"weight_decay is at least 0, {self.weight_decay} was given")
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov needs a momentum above 0; give one, or nesterov=False")

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """The learning rate of step ``step`` (from 0) of ``num_steps``."""
        return 0.5 * self.learning_rate * (1 + math.cos(math.pi * step / num_steps))


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A comparison: one model on several graphs, each trained with several seeds.

    Attributes:
        model: name of the model.
        dataset: name of the data set, absolute path of a folder of images, or
            ``module:function``; see :func:`mpnn_arch.training.load_dataset`.
        graphs: graph specifications, such as ``ws_flex:64,8.5,0.1,0``, without repeats.
        seeds: non-negative, without repeats; each seeds the initial weights and the image order.
        training: the recipe.
        train_images: number of training images to use; None: all.
        test_images: number of test images to use; None: all.
        init: weight initialisation, see ``models.build``; None: the model's default.
        backend: of the rounds; None: the fastest available.
        width_multiplier: scales every width, and with it the cost to match.

    Raises:
        InputError: a value out of its range.
    """

    model: str
    dataset: str
    graphs: tuple[str, ...]
    seeds: tuple[int, ...]
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    train_images: int | None = None
    test_images: int | None = None
    init: str | None = None
    backend: str | None = None
    width_multiplier: float = 1.0

    def __post_init__(self) -> None:
        for name in ("model", "dataset"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} is a name, {getattr(self, name)!r} was given")
        for name in ("graphs", "seeds"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)):
                raise InputError(f"{name} is a list, {values!r} was given")
            if not values:
                raise InputError(f"{name} is empty; give at least one")
            repeated = next((v for i, v in enumerate(values) if v in values[:i]), None)
            if repeated is not None:
                raise InputError(f"{name} holds {repeated!r} twice; give each once")
            object.__setattr__(self, name, tuple(values))
        for name in ("init", "backend"):
            if not isinstance(getattr(self, name), str | None):
                raise InputError(f"{name} is a name, {getattr(self, name)!r} was given")
        _number(self, "width_multiplier")
        for graph in self.graphs:
            if not isinstance(graph, str):
                raise InputError(f"a graph is given as text, {graph!r} was given")
        for seed in self.seeds:
            if not _is_whole(seed) or not 0 <= seed < 2**63:
                raise InputError(f"a seed is an integer of at least 0, {seed!r} was given")
        if not isinstance(self.training, TrainingConfig):
            raise InputError(f"training is a TrainingConfig, {self.training!r} was given")
        for name in ("train_images", "test_images"):
            if getattr(self, name) is not None:
                _whole(self, name, at_least=1)

    @classmethod
    def from_mapping(cls, values: object) -> RunConfig:
        """The configuration from the dictionary that ``dataclasses.asdict`` returns.

        Raises:
            InputError: an unknown or missing field, or a value out of its range.
        """
        if isinstance(values, Mapping) and "training" in values:
            training = from_mapping(TrainingConfig, values["training"])
            values = {**values, "training": training}
        return from_mapping(cls, values)


def from_mapping(kind: type[C], values: object) -> C:
    """A configuration dataclass from a mapping whose keys are its fields.

    Raises:
        InputError: not a mapping, an unknown or missing field, or a value out of its range.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    known = [field.name for field in fields]
    if not isinstance(values, Mapping):
        raise InputError(f"a {kind.__name__} is built from named values, not from {shown(values)}")
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(
            f"a {kind.__name__} has no field {unknown[0]!r}; it has {', '.join(known)}"
        )
    missing = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in values
    ]
    if missing:
        raise InputError(f"a {kind.__name__} needs the field {missing[0]!r}; give it")
    return kind(**values)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(config: Any, name: str, *, at_least: int) -> None:
    value = getattr(config, name)
    if not _is_whole(value) or value < at_least:
        raise InputError(f"{name} is an integer of at least {at_least}, {value!r} was given")


def _number(config: Any, name: str) -> None:
    value = getattr(config, name)
    if not (_is_whole(value) or isinstance(value, float)) or not math.isfinite(value):
        raise InputError(f"{name} is a finite number, {value!r} was given")
