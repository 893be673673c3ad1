"""Message functions and aggregations of a study, compared at equal multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpnn_arch.io.figures import COLOURS, new_figure, plain, save_figure
from mpnn_arch.studies.results import Result, read_results
from mpnn_arch.studies.step_times import StepTime, step_times
from mpnn_arch.studies.study import Study

MOST_DRAWN = 12
"""Graphs in the figure of a comparison; ``compare.csv`` has all."""


@dataclass(frozen=True, kw_only=True)
class SwapResult:
    """One message function with one aggregation on one graph.

    Attributes:
        result: of its trials.
        time: of a step, relative to the fused linear-sum round on the same graph.
    """

    result: Result
    time: StepTime

    def to_dict(self) -> dict[str, Any]:
        """One row of ``compare.csv``."""
        result, time = self.result, self.time
        return {
            "message": result.message,
            "aggr": result.aggr,
            "widths": "-".join(map(str, result.widths)),
            "parameters": result.parameters,
            "multiply_adds": result.multiply_adds,
            "test_error_mean": result.mean,
            "test_error_deviation": result.deviation,
            "seeds": len(result.test_errors),
            "step_ratio": time.ratio,
            "step_ratio_spread": time.spread,
            "backend": time.backend,
            "graph": result.graph,
            "published_test_error": result.published_test_error,
        }


def compare_swaps(
    study: Study,
    *,
    device: str = "cpu",
    threads: int | None = None,
    data_root: str | Path | None = None,
    trust: bool = False,
    watch: Callable[[str], None] = lambda what: None,
) -> list[SwapResult]:
    """The results of a study that was run, each with the time of a step; see :func:`step_times`.

    Args:
        study: its trials are done; those that failed are left out.
        device, threads, data_root, trust, watch: as for :func:`step_times`.

    Raises:
        InputError: the data set is gone, or a file cannot be written.

    Example:
        >>> from mpnn_arch.studies import Study, StudyConfig
        >>> from mpnn_arch.studies.comparison import compare_swaps
        >>> from mpnn_arch.training import TrainingConfig
        >>> config = StudyConfig(
        ...     model="mlp",
        ...     dataset="digits",
        ...     graphs=("ring:16,4",),
        ...     seeds=(0,),
        ...     aggrs=("sum", "max"),
        ...     train_images=256,
        ...     training=TrainingConfig(epochs=1),
        ... )
        >>> study = Study.create("swaps", config)
        >>> _ = study.run(workers=0)
        >>> sorted(swap.result.aggr for swap in compare_swaps(study))
        ['max', 'sum']
    """
    with study.ledger() as ledger:
        results = read_results(ledger)
    if not results:
        return []
    times = {
        (time.graph, time.message, time.aggr): time
        for time in step_times(
            study,
            device=device,
            threads=threads,
            data_root=data_root,
            trust=trust,
            watch=watch,
        )
    }
    return [
        SwapResult(result=result, time=times[result.graph, result.message, result.aggr])
        for result in results
    ]


def plot_swaps(path: Path, title: str, swaps: Sequence[SwapResult]) -> None:
    """Write test errors with their deviations over the seeds as PNG, one colour per message.

    Of more than :data:`MOST_DRAWN` graphs the first are drawn: matplotlib has a largest height.

    Raises:
        InputError: matplotlib is not installed.
    """
    graphs = list(dict.fromkeys(swap.result.graph for swap in swaps))[:MOST_DRAWN]
    messages = list(dict.fromkeys(swap.result.message for swap in swaps))
    aggrs = list(dict.fromkeys(swap.result.aggr for swap in swaps))
    figure = new_figure(1.6 + 1.3 * len(aggrs), 4.2 * len(graphs))
    for row, graph in enumerate(graphs):
        axes = figure.add_subplot(len(graphs), 1, row + 1)
        spread = 0.6 / len(messages)
        for place, message in enumerate(messages):
            own = [
                swap.result
                for swap in swaps
                if (swap.result.graph, swap.result.message) == (graph, message)
            ]
            at = [aggrs.index(r.aggr) + (place - (len(messages) - 1) / 2) * spread for r in own]
            axes.errorbar(
                at,
                [r.mean for r in own],
                yerr=[r.deviation or 0.0 for r in own],
                fmt="o",
                capsize=3,
                color=COLOURS[place % len(COLOURS)],
                label=plain(message or "the model's own"),
            )
        axes.set_xticks(range(len(aggrs)), [plain(aggr) for aggr in aggrs])
        axes.set_xlim(-0.6, len(aggrs) - 0.4)
        axes.set_xlabel("aggregation")
        axes.set_ylabel("test error (%)")
        name = plain(f"{title}, {graph}" if row == 0 else graph)
        axes.set_title(name, loc="left", fontweight="bold")
        axes.grid(True, axis="y", color="0.9", lw=0.8)
        axes.legend(frameon=False, title="message; bar: standard deviation over seeds")
    save_figure(figure, path)
