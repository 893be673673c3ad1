"""The configuration of a training run: the recipe, and the models and data it applies to."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mpnn_arch.checks import check_choice, check_kind, meant, shown
from mpnn_arch.errors import InputError

C = TypeVar("C")


def named_fields(kind: type[C]) -> type[C]:
    """Let a dataclass refuse an unknown keyword as :func:`from_mapping` does, with its fields."""
    made = kind.__init__

    @functools.wraps(made)
    def __init__(self: C, *args: Any, **values: Any) -> None:
        _check_known(kind, values)
        made(self, *args, **values)

    kind.__init__ = __init__  # type: ignore[method-assign, assignment]
    return kind


#: How the learning rate falls to 0.
SCHEDULES = ("cosine", "cosine_by_epoch")

#: How ``torch.optim.SGD`` computes its step: a loop over the parameters, a few operations over
#: lists of all of them (``foreach``), or one kernel (``fused``). Milliseconds of a step with
#: Nesterov and weight decay, one thread of a shared AMD EPYC, processor time, torch 2.14, median of
#: 60 turns (``experiments/benchmarks/optimizers.py``):
#:
#: ========================= ======= ==== ======= =====
#: model                     tensors loop foreach fused
#: ========================= ======= ==== ======= =====
#: mlp, 0.8 million numbers       14 0.60    0.55  0.21
#: mlp, 2.4 million               14  8.0     2.7   1.0
#: cnn1d, 0.2 million             14 0.20    0.17  0.06
#: resnet20, 0.3 million          68 0.66    0.48  0.14
#: ========================= ======= ==== ======= =====
#:
#: ``foreach`` gave the bits of ``loop``, ``fused`` others (3e-9 away after five steps of the MLP).
#: So the default stays ``loop``, which repeats earlier results to the bit; newer recipes take
#: ``fused``.
OPTIMIZER_STEPS = ("loop", "foreach", "fused")

#: What the products are computed in.
PRECISIONS = ("float32", "bfloat16")

_LARGEST = 3.4028234663852886e38  # of float32
_OPTIONAL = ("clip_gradient_norm", "smallest_area")
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("is above 0", lambda value: value > 0),
    "momentum": ("lies in [0, 1)", lambda value: 0 <= value < 1),
    "weight_decay": ("is at least 0", lambda value: value >= 0),
    "label_smoothing": ("lies in [0, 1)", lambda value: 0 <= value < 1),
    "clip_gradient_norm": ("is above 0", lambda value: value > 0),
    "smallest_area": ("lies in (0, 1]", lambda value: 0 < value <= 1),
    "lighting": ("is at least 0", lambda value: value >= 0),
}


@named_fields
@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained: SGD with momentum, its schedule, and what is done to the images.

    The rate of step t of T is ``learning_rate * (1 + cos(pi * t / T)) / 2``; by epoch, t and T
    count epochs, and the rate is constant within one.

    Attributes:
        epochs: passes over the training images, at least 1.
        batch_size: images per step, at least 2 (BatchNorm needs two).
        learning_rate: of the first step, above 0.
        momentum: in [0, 1).
        nesterov: whether to use Nesterov momentum; needs a momentum above 0.
        weight_decay: L2 penalty on every parameter, at least 0.
        schedule: ``"cosine"`` by step or ``"cosine_by_epoch"``.
        optimizer: how the step of SGD is computed, see :data:`OPTIMIZER_STEPS`.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        clip_gradient_norm: largest Euclidean norm of all gradients together, above 0; None: any.
        drop_last: whether the last, smaller batch of an epoch is left out.
        flip: whether each training image is mirrored left to right with probability 1/2.
        crop_padding: pixels of zeros around a training image, of which a window of its own size
            is cut at random; 0: none. For sets in memory.
        smallest_area: least share of an image's area that its random resized crop covers, in
            (0, 1]; None: resize and centre crop. For folders of images.
        lighting: standard deviation of the PCA lighting noise, at least 0. For folders of images.
        precision: ``"float32"``: all in the parameters' own type; ``"bfloat16"``: products under
            autocast in bfloat16, parameters, BatchNorm and loss in their own.
        channels_last: whether maps lie in memory pixel by pixel, not channel by channel.
        compile: whether the network is compiled by ``torch.compile``.
        evaluate_every: epochs from one evaluation on the test images to the next, at least 1. The
            last epoch is always evaluated; the test loss and error of the others are NaN.
        batch_norm_images: training images on which BatchNorm's statistics are estimated anew
            before each evaluation; 0: those that training has averaged are used.

    Raises:
        InputError: a value out of its range.

    Source: the defaults are those of You et al., ICML 2020, section 4.1, for the 5-layer MLP
    (batch 128, initial rate 0.1 with a cosine), except the number of epochs, which was 200 there.

    Example:
        >>> from mpnn_arch.training import TrainingConfig
        >>> TrainingConfig(epochs=2, learning_rate=0.05).batch_size
        128
    """

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    optimizer: str = "loop"
    label_smoothing: float = 0.0
    clip_gradient_norm: float | None = None
    drop_last: bool = False
    flip: bool = False
    crop_padding: int = 0
    smallest_area: float | None = None
    lighting: float = 0.0
    batch_norm_images: int = 0
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("evaluate_every", 1)):
            _whole(self, name, at_least=least)
        for name in ("crop_padding", "batch_norm_images"):
            _whole(self, name, at_least=0)
        for name, (where, holds) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            _number(self, name)
            if not holds(value):
                raise InputError(f"{name} {where}, {value} was given; choose a value there")
        for name in ("nesterov", "drop_last", "flip", "channels_last", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is true or false, {shown(getattr(self, name))} was given")
        for name, choices in (
            ("schedule", SCHEDULES),
            ("optimizer", OPTIMIZER_STEPS),
            ("precision", PRECISIONS),
        ):
            check_choice(name, getattr(self, name), choices)
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov needs a momentum above 0; give one, or nesterov=False")
        if self.batch_norm_images == 1:
            raise InputError(
                "batch_norm_images is 0 or at least 2, 1 was given; BatchNorm needs two"
            )

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """The learning rate of step ``step`` (from 0) of ``num_steps``."""
        return 0.5 * self.learning_rate * (1 + math.cos(math.pi * step / num_steps))

    def scheduled_rate(self, step: int, steps_per_epoch: int) -> float:
        """The rate of step ``step``, counted from 0 over all epochs, by the schedule."""
        if self.schedule == "cosine_by_epoch":
            return self.learning_rate_at(step // steps_per_epoch, self.epochs)
        return self.learning_rate_at(step, self.epochs * steps_per_epoch)

    def is_evaluated(self, epoch: int) -> bool:
        """Whether the network is evaluated after this epoch, counted from 1."""
        return epoch % self.evaluate_every == 0 or epoch == self.epochs

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-able values, ``evaluate_every`` only where it is not 1.

        So the trials of ``experiments/results`` keep the hash that stands there.
        """
        values = dataclasses.asdict(self)
        if self.evaluate_every == 1:
            del values["evaluate_every"]
        return values


def check_training(config: Any) -> None:
    """Refuse what is no :class:`TrainingConfig`.

    Raises:
        InputError: it is none.
    """
    check_kind("config", config, TrainingConfig, "make one, as TrainingConfig(epochs=1)")


def check_comparison(config: Any, lists: tuple[str, ...]) -> None:
    """Check a ``StudyConfig``, but for what concerns races and kept weights.

    Args:
        config: its lists become tuples.
        lists: names of the fields that hold several values, each once.

    Raises:
        InputError: a value of a wrong type or out of its range.
    """
    if isinstance(config.dataset, os.PathLike):  # a folder of images
        object.__setattr__(config, "dataset", os.fspath(config.dataset))
    for name in ("model", "dataset"):
        _check_name(name, getattr(config, name))
    for name in lists:
        values = getattr(config, name)
        if hasattr(values, "tolist"):  # an array, a column of a table
            values = values.tolist()
        if not isinstance(values, list | tuple | range):
            raise InputError(f"{name} is a list, {shown(values)} was given; put it in brackets")
        if not values:
            raise InputError(f"{name} is empty; give at least one")
        values = tuple(map(python_number, values))
        repeated = _first_repeated(values)
        if repeated is not None:
            raise InputError(f"{name} holds {shown(repeated[0])} twice; give each once")
        object.__setattr__(config, name, values)
    for graph in config.graphs:
        if not isinstance(graph, str):
            raise InputError(
                f"a graph is given as text, as 'ring:16,4', {shown(graph)} was given; write one of "
                "your own by numpy.savetxt('mine.csv', graph.adjacency, '%d', ','), and give "
                "'file:mine.csv'"
            )
    for seed in config.seeds:
        if not _is_whole(seed) or not 0 <= seed < 2**63:
            raise InputError(f"a seed is an integer from 0 to 2^63 - 1, {shown(seed)} was given")
    for name in lists:
        for value in getattr(config, name):
            if name not in ("graphs", "seeds") and value is not None:
                _check_name(f"an entry of {name}", value)
    for name in ("init", "backend", "recipe"):
        if getattr(config, name) is not None:
            _check_name(name, getattr(config, name))
    _number(config, "width_multiplier")
    for name in ("train_images", "test_images"):
        if getattr(config, name) is not None:
            _whole(config, name, at_least=1)
    if not isinstance(config.training, TrainingConfig):
        raise InputError(
            f"training is a TrainingConfig, {shown(config.training)} was given; give "
            "TrainingConfig(epochs=3), or the .training of a recipe"
        )


def _first_repeated(values: Sequence[Any]) -> tuple[Any] | None:
    """The first value that was there before, in a tuple, as it may be None."""
    seen: set[Any] = set()
    for value in values:
        try:
            if value in seen:
                return (value,)
            seen.add(value)
        except TypeError:  # neither a name nor a number, which is refused for that
            pass
    return None


def _check_name(what: str, value: Any) -> None:
    """Refuse an object in the place of its name: a study is written down, and goes on elsewhere.

    Raises:
        InputError: it is not text.
    """
    if isinstance(value, str):
        return
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if not callable(value):
        fix = "give its name as text"
    elif module in (None, "__main__") or not name.isidentifier():
        fix = (
            "put what makes it into a file of its own, and give its path, as 'my_file:my_function'"
        )
    else:
        fix = f"give '{module}:{name}'"
    raise InputError(f"{what} is a name, {shown(value)} was given; {fix}")


def from_mapping(kind: type[C], values: object) -> C:
    """A configuration dataclass from a mapping whose keys are its fields.

    Raises:
        InputError: not a mapping, an unknown or missing field, or a value out of its range.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"a {kind.__name__} is built from named values, not from {shown(values)}")
    _check_known(kind, values)
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in values
    ]
    if missing:
        raise InputError(f"a {kind.__name__} needs the field {missing[0]!r}; give it")
    return kind(**values)


def _check_known(kind: type, names: Iterable[str]) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(
            f"a {kind.__name__} has no field {unknown[0]!r}{meant(unknown[0], known)}; it has "
            f"{', '.join(known)}"
        )


def python_number(value: Any) -> Any:
    """Python's own number for one of numpy's or torch's, which JSON does not hold."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether this is a number of Python's, and no bool."""
    return _is_whole(value) or isinstance(value, float)


def _whole(config: Any, name: str, *, at_least: int) -> None:
    value = python_number(getattr(config, name))
    if not _is_whole(value) or value < at_least:
        raise InputError(f"{name} is an integer of at least {at_least}, {shown(value)} was given")
    object.__setattr__(config, name, value)


def _number(config: Any, name: str) -> None:
    value = python_number(getattr(config, name))
    if not is_number(value) or not abs(value) <= _LARGEST:
        raise InputError(
            f"{name} is a finite number of at most {_LARGEST:.2g}, which float32 can hold, "
            f"{shown(value)} was given"
        )
    object.__setattr__(config, name, value)
