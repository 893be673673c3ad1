"""What a study was asked for: the sets that its trials are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, Literal, get_args

from mpnn_arch.checks import check_choice, is_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.studies.import_paths import is_import_path
from mpnn_arch.training.config import (
    TrainingConfig,
    check_comparison,
    from_mapping,
    is_number,
    named_fields,
    python_number,
)

Weights = Literal["all", "best", "none"]

#: Fields that a study may be extended by; all others stay as they are.
EXTENDABLE = ("graphs", "seeds", "messages", "aggrs")


@named_fields
@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """One model on one data set: every graph with every message, aggregation and seed.

    Attributes:
        model: its name, or ``module:function`` of your own, called with the graph and the keywords
            ``num_classes``, ``in_channels``, ``image_size`` (``in_features`` where images are not
            square) and ``seed``, from which torch's global numbers start too.
        dataset: its name, a folder of images (kept as an absolute path) or ``module:function`` of
            your own; see :func:`mpnn_arch.training.load_dataset`.
        graphs: specifications; lists such as ``sample:64/52`` count as their graphs, and of a
            ``list:FILE`` they are kept, so that the file is not needed again.
        seeds: each seeds the initial weights and the order of the images.
        training: the recipe.
        messages: message functions; None is the model's own.
        aggrs: aggregations.
        order, init, backend, width_multiplier: as for ``models.build``.
        train_images, test_images: if given, only so many images are used.
        weights: which trained weights are kept: ``"all"``, ``"best"`` (those of the trial with
            the lowest test error) or ``"none"``.
        race: epochs after which the worse graphs are stopped, rising; empty: all are trained to
            their end. See :func:`mpnn_arch.studies.racing.advance`.
        keep: share of graphs that goes on at each of these rungs.
        recipe: name of the recipe that ``training`` was taken from before single values of it
            were set; None: the model's defaults. It says where the values come from, and changes
            nothing.

    Raises:
        InputError: a value out of its range.

    Example:
        >>> from mpnn_arch.studies import StudyConfig
        >>> graphs = ("sample:16/48", "complete:16")
        >>> config = StudyConfig(model="mlp", dataset="digits", graphs=graphs, seeds=(0, 1))
        >>> config.messages, config.training.epochs
        ((None,), 15)
    """

    model: str
    dataset: str
    graphs: tuple[str, ...]
    seeds: tuple[int, ...]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    messages: tuple[str | None, ...] = (None,)
    aggrs: tuple[str, ...] = ("sum",)
    order: str = "published"
    init: str | None = None
    backend: str | None = None
    width_multiplier: float = 1.0
    train_images: int | None = None
    test_images: int | None = None
    weights: Weights = "none"
    race: tuple[int, ...] = ()
    keep: float = 0.5
    recipe: str | None = None

    def __post_init__(self) -> None:
        from mpnn_arch.training.data import full_name

        check_comparison(self, EXTENDABLE)
        if any("list:" in spec for spec in self.graphs):
            from mpnn_arch.studies.graph_names import without_files

            object.__setattr__(self, "graphs", without_files(self.graphs))
        object.__setattr__(self, "dataset", full_name(self.dataset))
        check_choice("choice of weights", self.weights, get_args(Weights))
        self._check_race()

    def _check_race(self) -> None:
        race = self.race.tolist() if hasattr(self.race, "tolist") else self.race
        if not isinstance(race, list | tuple) or not all(map(is_whole, race)):
            raise InputError(f"race is a list of numbers of epochs, {shown(self.race)} was given")
        object.__setattr__(self, "race", tuple(map(int, race)))
        rungs = (0, *self.race, self.training.epochs)
        if self.race and not all(one < next for one, next in pairwise(rungs)):
            raise InputError(
                f"the rungs of a race rise from 1 epoch to fewer than the recipe's "
                f"{self.training.epochs}, {','.join(map(str, self.race))} was given"
            )
        unknown = [rung for rung in self.race if not self.training.is_evaluated(rung)]
        if unknown:
            raise InputError(
                f"a race at epoch {unknown[0]} needs its test error, and evaluate_every is "
                f"{self.training.evaluate_every}; race at multiples of it, or leave it out"
            )
        keep = python_number(self.keep)
        if not (is_number(keep) and 0 < keep < 1):
            raise InputError(f"keep is a share between 0 and 1, {shown(self.keep)} was given")
        object.__setattr__(self, "keep", keep)

    @property
    def import_paths(self) -> list[str]:
        """What is looked up by importing it."""
        names = [self.model, self.dataset, *self.messages, *self.aggrs]
        return sorted({name for name in names if name is not None and is_import_path(name)})

    def combinations(self) -> Iterator[tuple[int, str, str | None, str]]:
        """Seed, graph, message and aggregation of every trial.

        Seeds vary slowest, so that a machine whose speed changes affects all graphs alike, and a
        study that is stopped early has every graph.
        """
        yield from product(self.seeds, self.graphs, self.messages, self.aggrs)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values."""
        return {**dataclasses.asdict(self), "training": self.training.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StudyConfig:
        """The configuration that :meth:`to_dict` gave.

        Raises:
            InputError: a field unknown or missing, or a value out of its range.
        """
        if isinstance(values, dict) and "training" in values:
            values = {**values, "training": from_mapping(TrainingConfig, values["training"])}
        return from_mapping(cls, values)

    def merged(self, other: StudyConfig) -> StudyConfig:
        """This configuration and what ``other`` adds to it.

        Raises:
            InputError: ``other`` differs in a field that a study cannot be extended by.
        """
        self.check_same(other)
        added: dict[str, Any] = {
            name: tuple(dict.fromkeys(getattr(self, name) + getattr(other, name)))
            for name in EXTENDABLE
        }
        return dataclasses.replace(self, **added)

    def check_same(self, other: StudyConfig) -> None:
        """Compare all fields that a study cannot be extended by.

        Raises:
            InputError: one differs; the sentence names it.
        """
        for holder, mine, theirs in (
            ("", self, other),
            ("the recipe's ", self.training, other.training),
        ):
            for described in dataclasses.fields(mine):
                name = described.name
                old, new = getattr(mine, name), getattr(theirs, name)
                if name not in (*EXTENDABLE, "training", "recipe") and old != new:
                    raise InputError(
                        f"the study was made with {holder}{name} {_in_words(old)}, not "
                        f"{_in_words(new)}; leave that out to go on with it, or make another study "
                        "in another folder"
                    )

    def added_by(self, other: StudyConfig) -> str:
        """What ``other`` has and this does not, in words; empty if nothing."""
        added = []
        for name in EXTENDABLE:
            known = set(getattr(self, name))
            new = [value for value in getattr(other, name) if value not in known]
            if new:
                listed = " ".join(map(str, new[:3])) + (" ..." if len(new) > 3 else "")
                what = {"aggrs": "aggregations"}.get(name, name)
                added.append(f"{len(new)} more {what[:-1] if len(new) == 1 else what} ({listed})")
        return ", ".join(added)


def _in_words(value: Any) -> str:
    """A value as it is given to an option; ``none`` where it was not given."""
    if value is None or value == ():
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
