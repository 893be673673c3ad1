"""Networks of one architecture, trained in as many populations as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mpnn_arch.checks import check_callable, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import DivergedError, EpochMetrics
from mpnn_arch.training.population import Population
from mpnn_arch.training.population_size import choose_population_size
from mpnn_arch.training.trainer import Trainer
from mpnn_arch.training.union import check_members


@dataclass(frozen=True, kw_only=True)
class MemberResult:
    """One network's training.

    Attributes:
        metrics: of its epochs, in order.
        diverged: why it was frozen, in a sentence; None: it was trained to its end.
        population: how many networks were trained side by side, itself counted.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> from mpnn_arch.training import TrainingConfig, load_dataset, train_population
        >>> data = load_dataset("digits").subset(256, 100)
        >>> member = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=64)
        >>> (result,) = train_population([member], data, TrainingConfig(epochs=1), size=1)
        >>> result.population, result.diverged
        (1, None)
    """

    metrics: tuple[EpochMetrics, ...]
    diverged: str | None
    population: int


def train_population(
    members: Sequence[nn.Module],
    dataset: ImageDataset | ImageFolder,
    config: TrainingConfig,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    size: int | Literal["auto"] = "auto",
    watch: Callable[[int, EpochMetrics], object] = lambda member, metrics: None,
) -> list[MemberResult]:
    """Train networks of one architecture, ``size`` at a time; each as if it were trained alone.

    On one thread of a shared AMD EPYC, on the paper's 52 graphs, eight together took their steps
    1.5 times faster than alone at a dense width of 128 (1.4 to 1.7), 1.2 times at 256 (1.0 to
    1.3), and 0.84 times at 512 (0.79 to 0.90), where their activations no longer stay in the cache
    from layer to layer and ``"auto"`` trains one after the other. No GPU was measured.

    Args:
        members: networks as ``models.build`` makes them; they are trained in place. More than one
            at a time: MLPs of linear messages and sums.
        dataset: of all.
        config: the recipe of all.
        seed: of the order of the images, the same for all: that of a single training with it.
        device: where to train.
        size: how many side by side; 1: one after the other, by ``Trainer``, to the same bits;
            ``"auto"``: the quickest that fits the memory, by a short timed trial, see
            :func:`~mpnn_arch.training.population_size.choose_population_size`.
        watch: called with the number of a member and its metrics after every epoch.

    Returns:
        A result for each member, in order.

    Raises:
        InputError: a size below 1, or as for ``Trainer`` and
            :class:`~mpnn_arch.training.population.Population`.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> from mpnn_arch.training import TrainingConfig, load_dataset, train_population
        >>> data = load_dataset("digits").subset(256, 100)
        >>> members = [
        ...     models.build("mlp", graph, in_features=64, hidden_features=64)
        ...     for graph in (graphs.ring(16, 4), graphs.grid(16))
        ... ]
        >>> results = train_population(members, data, TrainingConfig(epochs=2), seed=0, size=2)
        >>> [len(result.metrics) for result in results]
        [2, 2]
    """
    members = check_members(members)
    seed = check_whole("seed", seed, 0, 2**63 - 1)
    check_callable("watch", watch, "give one of a member's number and its metrics")
    if isinstance(size, str) and size == "auto":
        size = choose_population_size(members, dataset, config, device=device).size
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError(
            f"a population has at least 1 member, {shown(size)} was given; or use 'auto'"
        )
    results: list[MemberResult] = []
    for start in range(0, len(members), size):
        group = members[start : start + size]
        histories: list[list[EpochMetrics]] = [[] for _ in group]

        def note(
            place: int, metrics: EpochMetrics, start: int = start, histories: list = histories
        ) -> None:
            histories[place].append(metrics)
            watch(start + place, metrics)

        generator = torch.Generator().manual_seed(seed)
        if len(group) == 1:
            trainer = Trainer(group[0], dataset, config, generator=generator, device=device)
            diverged = _train_alone(trainer, note)
        else:
            population = Population(group, dataset, config, generator=generator, device=device)
            diverged = _train_together(population, note)
        results += [
            MemberResult(
                metrics=tuple(metrics), diverged=diverged.get(place), population=len(group)
            )
            for place, metrics in enumerate(histories)
        ]
    return results


def _train_alone(trainer: Trainer, note: Callable[[int, EpochMetrics], None]) -> dict[int, str]:
    while not trainer.finished:
        try:
            note(0, trainer.train_epoch())
        except DivergedError as error:
            return {0: str(error)}
    return {}


def _train_together(
    population: Population, note: Callable[[int, EpochMetrics], None]
) -> dict[int, str]:
    try:
        while not population.finished:
            for place, metrics in population.train_epoch().items():
                note(place, metrics)
    finally:
        population.release()
    return population.diverged
