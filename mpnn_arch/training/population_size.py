"""How many networks to train side by side: what fits the memory, and what a timed trial says."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mpnn_arch.kernels.dispatch.turns import time_turns
from mpnn_arch.training.config import TrainingConfig, check_training
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.devices import free_memory
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import EVALUATION_BATCH, EpochLoop
from mpnn_arch.training.population import Population
from mpnn_arch.training.trainer import Trainer
from mpnn_arch.training.union import check_members, why_not_joined

_TURNS, _SECONDS_ENOUGH = 9, 3.0
# A population is taken where it saves this share of a member's time: a trial is noisy.
_WORTH_IT = 0.05
_SHARE_OF_MEMORY = 0.5  # of what is free
_LARGEST = {"cpu": 8, "cuda": 64}  # that are tried


@dataclass(frozen=True, kw_only=True)
class PopulationSize:
    """The answer of a trial.

    Attributes:
        size: networks to train side by side.
        seconds: size to the time of one step of one member, lower quartile; 1 is the time alone.
        fit: how many fit the memory.
    """

    size: int
    seconds: Mapping[int, float]
    fit: int


def choose_population_size(
    members: Sequence[nn.Module],
    dataset: ImageDataset | ImageFolder,
    config: TrainingConfig,
    *,
    device: torch.device | str = "cpu",
) -> PopulationSize:
    """The size at which a step takes the least time a member; 1 where none saves 5 %.

    Sizes 2, 4, 8, ... are timed, turn by turn, on copies of the first members, against the same
    members one after the other.

    Args:
        members: networks to train; if one cannot be in a population the size is 1.
        dataset, config, device: as for :class:`~mpnn_arch.training.population.Population`.

    Raises:
        InputError: members that are no networks, or no recipe.
    """
    members = check_members(members)
    check_training(config)
    device = torch.device(device)
    fits = _number_that_fits(members, config, device)
    most = min(len(members), _LARGEST[device.type])
    sizes = [1]
    # The trial holds a copy of the members for every size.
    while (len(sizes) + 1) * 2 * sizes[-1] <= fits and 2 * sizes[-1] <= most:
        sizes.append(2 * sizes[-1])
    if len(sizes) == 1 or any(map(why_not_joined, members)):
        return PopulationSize(size=1, seconds={}, fit=fits)
    seconds = time_sizes(members, dataset, config, sizes, device=device)
    best = min(seconds, key=lambda size: seconds[size])
    worth = seconds[best] <= (1 - _WORTH_IT) * seconds[1]
    return PopulationSize(size=best if worth else 1, seconds=seconds, fit=fits)


def time_sizes(
    members: Sequence[nn.Module],
    dataset: ImageDataset | ImageFolder,
    config: TrainingConfig,
    sizes: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    turns: int = _TURNS,
    seconds: float | None = _SECONDS_ENOUGH,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Seconds of a training step a member, lower quartile of some turns, by the population's size.

    Args:
        members: at least as many as the largest size; copies are trained.
        dataset, config, device: as for :class:`~mpnn_arch.training.population.Population`.
        sizes: of the populations; 1 stands for ``Trainer``. Each is timed on the same members, in
            as many populations as it takes.
        turns: how often each is timed.
        seconds: stop after this long, once there are three turns.
        clock: what is read before and after.
    """
    count = max(sizes)
    batch: list[torch.Tensor] = []

    def loops(size: int) -> list[EpochLoop]:
        trainers: list[EpochLoop] = []
        for start in range(0, count, size):
            group = copy.deepcopy(list(members[start : min(start + size, count)]))
            given = {"generator": torch.Generator().manual_seed(0), "device": device}
            if len(group) == 1:
                trainers.append(Trainer(group[0], dataset, config, **given))  # type: ignore[arg-type]
            else:
                trainers.append(Population(group, dataset, config, **given))  # type: ignore[arg-type]
            trainers[-1].model.train()
        return trainers

    def run(size: int) -> Callable[[], None]:
        trained = loops(size)
        if not batch:
            source = trained[0].source
            order = torch.arange(min(config.batch_size, source.num_train))
            batch.extend(next(source.train_batches(config, order, torch.Generator())))

        def steps() -> None:
            for loop in trained:
                loop._step(*batch)

        return steps

    on_gpu = torch.device(device).type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else (lambda: None)
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        runs = {str(size): run(size) for size in sizes}
        taken = time_turns(runs, turns, seconds=seconds, wait=wait, clock=clock)
    return {int(size): sorted(times)[len(times) // 4] / count for size, times in taken.items()}


def _number_that_fits(
    members: Sequence[nn.Module], config: TrainingConfig, device: torch.device
) -> int:
    """Members whose weights, gradients, momentum and activations fit half of the free memory."""
    free = free_memory(device)
    if free is None or not members:
        return 2**31  # as many as one likes
    largest = max(_bytes(member, config.batch_size) for member in members)
    return max(1, int(_SHARE_OF_MEMORY * free / largest))


def _bytes(member: nn.Module, batch_size: int) -> int:
    """An upper estimate of a member's memory in training."""
    weights = sum(p.numel() * p.element_size() for p in member.parameters())
    size = next(member.parameters()).element_size()
    channels = sum(
        module.num_features for module in member.modules() if isinstance(module, nn.BatchNorm1d)
    )
    # Before and after each norm, and the gradients of both.
    return 4 * weights + 4 * channels * max(batch_size, EVALUATION_BATCH) * size
