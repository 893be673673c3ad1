"""Comparing message functions and aggregations, trained at equal multiply-adds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch import models
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.io.figures import COLOURS, new_figure, save_figure
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.inputs import input_settings
from mpnn_arch.training.sources import source_of
from mpnn_arch.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class SwapResult:
    """The result of one message function with one aggregation.

    Attributes:
        message, aggr: their names.
        widths: channels of each stage, matched to the dense model's multiply-adds.
        parameters: weights, biases and norms.
        multiply_adds: of one image.
        test_errors: percent after the last epoch, one per seed; NaN where the training diverged.
        step_ratio: time of a training step relative to the fused linear-sum round at its own
            matched widths, median of interleaved steps.
        backend: how the rounds are computed: ``"fused"`` or ``"messages"``.
    """

    message: str
    aggr: str
    widths: tuple[int, ...]
    parameters: int
    multiply_adds: int
    test_errors: tuple[float, ...]
    step_ratio: float
    backend: str

    @property
    def mean(self) -> float:
        """Mean test error over the seeds, percent."""
        return statistics.mean(self.test_errors)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None for a single seed."""
        if len(self.test_errors) < 2 or not all(map(math.isfinite, self.test_errors)):
            return None
        return statistics.stdev(self.test_errors)

    def to_dict(self) -> dict[str, Any]:
        """One row of the table."""
        return {
            "message": self.message,
            "aggr": self.aggr,
            "widths": "-".join(map(str, self.widths)),
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "test_error_mean": self.mean,
            "test_error_deviation": "" if self.deviation is None else self.deviation,
            "seeds": len(self.test_errors),
            "step_ratio": self.step_ratio,
            "backend": self.backend,
        }


def compare_swaps(
    model: str,
    graph: GivenGraph,
    data: ImageDataset | ImageFolder,
    *,
    messages: Sequence[str],
    aggrs: Sequence[str],
    seeds: Sequence[int],
    training: TrainingConfig,
    device: torch.device | str = "cpu",
    watch: Callable[[str], None] = lambda what: None,
) -> list[SwapResult]:
    """Train ``model`` with every message and every aggregation.

    Args:
        model: see ``models.list_models()``.
        graph: of all rounds, or its specification.
        data: images.
        messages: names of message functions.
        aggrs: names of aggregations; ``"mean+max"`` combines two.
        seeds: of the initial weights and the order of the images.
        training: the recipe, the same for all.
        device: where to train.
        watch: called with a line of text after every epoch.

    Raises:
        InputError: an unknown name, or a pair that cannot be combined; raised before any
            training.

    Example:
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.training import TrainingConfig, load_dataset
        >>> from mpnn_arch.training.comparison import compare_swaps
        >>> results = compare_swaps(
        ...     "mlp",
        ...     graphs.ring(16, 4),
        ...     load_dataset("digits").subset(256, 100),
        ...     messages=["linear"],
        ...     aggrs=["sum", "max"],
        ...     seeds=[0],
        ...     training=TrainingConfig(epochs=1),
        ... )
        >>> [(result.message, result.aggr) for result in results]
        [('linear', 'sum'), ('linear', 'max')]
    """
    fields = input_settings(model, data)

    def build(message: str, aggr: str, **more: Any) -> Any:
        return models.build(model, graph, message=message, aggr=aggr, **fields, **more)

    pairs = [(message, aggr) for message in messages for aggr in aggrs]
    for pair in pairs:
        build(*pair, device="meta")
    errors: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    # Seeds in the outer loop, so that drift in the machine's speed affects all pairs equally.
    for seed in seeds:
        for pair in pairs:
            trainer = Trainer(
                build(*pair, seed=seed),
                data,
                training,
                generator=torch.Generator().manual_seed(seed),
                device=device,
            )
            error = math.nan
            while not trainer.finished:
                try:
                    error = trainer.train_epoch().test_error
                except InputError:  # the loss is not finite; the other pairs continue
                    error = math.nan
                    watch(f"{' '.join(pair)} seed {seed}: diverged")
                    break
                watch(f"{' '.join(pair)} seed {seed}: test error {error:.2f} %")
            errors[pair].append(error)

    source = source_of(data.to(device), training)
    first = torch.arange(min(training.batch_size, source.num_train))
    images, labels = next(source.train_batches(training, first, torch.Generator()))
    fused = build("linear", "sum").to(device)
    results = []
    for message, aggr in pairs:
        network = build(message, aggr).to(device)
        ratio = _step_ratio(network, fused, images, labels)
        rounds = [m for m in network.modules() if hasattr(m, "why_not_fused")]
        results.append(
            SwapResult(
                message=message,
                aggr=aggr,
                widths=tuple(network.widths),
                parameters=sum(p.numel() for p in network.parameters()),
                multiply_adds=models.complexity(network).multiply_adds,
                test_errors=tuple(errors[message, aggr]),
                step_ratio=ratio,
                backend="messages" if any(r.why_not_fused() for r in rounds) else "fused",
            )
        )
    return results


def _step_ratio(model: nn.Module, other: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Median ratio of interleaved step times of ``model`` and ``other``, after two warm-ups."""

    def step(network: nn.Module) -> float:
        _wait(images)
        start = time.perf_counter()
        F.cross_entropy(network(images), labels).backward()
        _wait(images)
        return time.perf_counter() - start

    for network in (model, other):
        network.train()
    timed = [(step(model), step(other)) for _ in range(7)][2:]
    return statistics.median(mine / theirs for mine, theirs in timed)


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def plot_swaps(path: Path, title: str, results: Sequence[SwapResult]) -> None:
    """Write test errors with their deviations over the seeds as PNG, one colour per message.

    Raises:
        InputError: matplotlib is not installed.
    """
    messages = list(dict.fromkeys(r.message for r in results))
    aggrs = list(dict.fromkeys(r.aggr for r in results))
    figure = new_figure(1.6 + 1.3 * len(aggrs), 4.2)
    axes = figure.add_subplot()
    spread = 0.6 / len(messages)
    for place, message in enumerate(messages):
        own = [r for r in results if r.message == message]
        at = [aggrs.index(r.aggr) + (place - (len(messages) - 1) / 2) * spread for r in own]
        axes.errorbar(
            at,
            [r.mean for r in own],
            [r.deviation or 0.0 for r in own],
            fmt="o",
            capsize=3,
            color=COLOURS[place % len(COLOURS)],
            label=message,
        )
    axes.set_xticks(range(len(aggrs)), aggrs)
    axes.set_xlim(-0.6, len(aggrs) - 0.4)
    axes.set_xlabel("aggregation")
    axes.set_ylabel("test error (%)")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid(True, axis="y", color="0.9", lw=0.8)
    axes.legend(frameon=False, title="message; bar: standard deviation over seeds")
    save_figure(figure, path)
