"""Options of several commands, each spelled and explained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mpnn_arch.checks import parse_whole, shown
from mpnn_arch.cli import completion
from mpnn_arch.cli.numbers import MOST_SEEDS, check_count
from mpnn_arch.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

GRAPH_FLAGS = ("--graphs", "--graph", "-g")
"""``--graph`` is an alias, for commands that are given one graph."""


def together(*options: Decorator[Any]) -> Decorator[Any]:
    """One decorator for several options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def graphs_option(default: str, **more: Any) -> Decorator[Any]:
    """``--graphs``, which may be repeated; a spec may name several graphs, as sample:64/52 does."""
    help_ = "Relational graphs, such as ws_flex:64,12,0.15,0 or sample:64/52; may be repeated."
    return click.option(
        *GRAPH_FLAGS,
        "graphs",
        multiple=True,
        metavar="SPEC",
        shell_complete=completion.graphs,
        help=f"{help_}  [default: {default}]",
        **more,
    )


def seeds_option(default: str) -> Decorator[Any]:
    """``--seeds``, read by :func:`read_seeds`."""
    return click.option(
        "--seeds", help=f"How many (5: seeds 0 to 4), or which (0,5,7).  [default: {default}]"
    )


def device_option() -> Decorator[Any]:
    """``--device``, read by :func:`mpnn_arch.training.devices.find_device`."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        shell_complete=completion.devices,
        help="auto, cpu or cuda.",
    )


def threads_option(default: str) -> Decorator[Any]:
    """``--threads``."""
    return click.option(
        "--threads", type=int, help=f"Threads of torch in each process.  [default: {default}]"
    )


def data_root_option() -> Decorator[Any]:
    """``--data-root``."""
    return click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        help="Folder of downloaded data.  [default: $MPNN_ARCH_DATA, else ~/.cache/mpnn_arch]",
    )


def trust_option() -> Decorator[Any]:
    """``--trust``."""
    return click.option(
        "--trust", is_flag=True, help="Import the code that another user's study names."
    )


def runner_options() -> Decorator[Any]:
    """Where the workers are, read by :func:`mpnn_arch.cli.runner_options.make_runner`."""
    return together(
        click.option(
            "--runner",
            default="local",
            show_default=True,
            help="Where workers run: local, ray or submitit (Slurm).",
        ),
        click.option(
            "--ray-address",
            help="Address of a Ray cluster, such as auto.  [default: $RAY_ADDRESS, else a new one "
            "on this machine]",
        ),
        click.option(
            "--cluster",
            default="auto",
            show_default=True,
            help="Cluster of submitit: auto, slurm or local.",
        ),
        click.option(
            "--job",
            multiple=True,
            metavar="NAME=VALUE",
            help="A parameter of submitit, such as slurm_partition=gpu; may be repeated.",
        ),
        click.option(
            "--parallel",
            default="ddp",
            show_default=True,
            help="Under torchrun: ddp, or fsdp2 for networks that do not fit on one device.",
        ),
    )


def progress_options() -> Decorator[Any]:
    """What is reported meanwhile, read by :func:`mpnn_arch.cli.progress.open_listeners`."""
    return together(
        click.option("--quiet", is_flag=True, help="Print only the final table."),
        click.option(
            "--log-json",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Append a line of JSON to this file after every epoch and every trial.",
        ),
        click.option(
            "--tensorboard",
            type=click.Path(path_type=Path, file_okay=False),
            help="Write every epoch into this folder for TensorBoard.",
        ),
    )


def trial_options(graphs: str, messages: str, aggrs: str) -> Decorator[Any]:
    """What is trained: the options of ``train``, ``compare`` and ``sweep``.

    Args:
        graphs, messages, aggrs: what the command takes where the option is left out, in words.
    """
    return together(
        click.option(
            "--model",
            shell_complete=completion.models,
            help="A model of `mpnn-arch models`, or your own function as module:function or "
            "module:Class.method.  [default: mlp]",
        ),
        click.option(
            "--dataset",
            shell_complete=completion.datasets,
            help="mnist5k, mnist1d, digits, cifar10 or imagenet; a folder of images, train/CLASS/ "
            "and test/CLASS/; or your own function as module:function.  [default: mnist5k]",
        ),
        click.option(
            "--recipe",
            shell_complete=completion.recipes,
            help="Model, data and training by name, such as mlp_cifar10.  [default: by model]",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            shell_complete=completion.settings,
            help="Override a value of the recipe, such as label_smoothing=0.1; may be repeated.",
        ),
        graphs_option(graphs),
        click.option(
            "--message",
            "messages",
            shell_complete=completion.messages,
            help=f"Message functions, separated by commas.  [default: {messages}]",
        ),
        click.option(
            "--aggr",
            "aggrs",
            shell_complete=completion.aggregations,
            help=f"Aggregations, separated by commas; mean+max combines two.  [default: {aggrs}]",
        ),
        seeds_option("by recipe, mostly 3"),
        click.option(
            "--epochs", type=int, help="Passes over the training images.  [default: by recipe]"
        ),
        click.option("--batch-size", type=int, help="Images per step.  [default: by recipe]"),
        click.option(
            "--learning-rate", type=float, help="Initial learning rate.  [default: by recipe]"
        ),
        click.option("--weight-decay", type=float, help="[default: by recipe]"),
        click.option(
            "--init",
            shell_complete=completion.inits,
            help="Initialisation: published or kaiming.  [default: by recipe]",
        ),
        click.option(
            "--backend",
            shell_complete=completion.backends,
            help="Backend of the rounds, such as reference.  [default: the fastest]",
        ),
        click.option(
            "--width-multiplier", type=float, help="Scales the dense model.  [default: 1]"
        ),
        click.option("--train-images", type=int, help="Number of training images.  [default: all]"),
        click.option("--test-images", type=int, help="Number of test images.  [default: all]"),
    )


def study_options(
    *, folder: str, workers: str, weights: str, population: str = "off"
) -> Decorator[Any]:
    """How a study is run, and where it is kept: of ``train``, ``compare`` and ``sweep``.

    Args:
        folder: the default of ``--out``.
        workers, weights, population: what the command takes where the option is left out, in words.
    """
    return together(
        click.option(
            "--weights",
            shell_complete=completion.weights,
            help=f"Trained weights to keep: all, best or none.  [default: {weights}]",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help="Folder of the study; an existing one is continued if the settings are the "
            f"same.  [default: {folder}]",
        ),
        click.option("--resume", is_flag=True, help="Continue the existing study in --out."),
        click.option(
            "--extend",
            is_flag=True,
            help="Add graphs, seeds, messages or aggregations to the study in --out.",
        ),
        click.option(
            "--retry-failed", is_flag=True, help="Give failed trials three more attempts."
        ),
        click.option(
            "--timeout",
            type=float,
            help="Seconds without a finished epoch after which a trial is stopped and retried, at "
            "most three attempts; needs workers.  [default: none]",
        ),
        trust_option(),
        click.option(
            "--workers",
            callback=lambda context, option, value: read_number(value),
            help="Worker processes; 0: train in this process; auto: select their number, and "
            f"threads, by a short trial.  [default: {workers}]",
        ),
        click.option(
            "--population",
            callback=lambda context, option, value: read_number(value),
            help="MLPs that a worker trains side by side: a number, auto (by a timed trial) or "
            f"off.  [default: {population}]",
        ),
        threads_option("cores / workers"),
        runner_options(),
        device_option(),
        click.option(
            "--cuda-graphs",
            is_flag=True,
            help="On a GPU, capture the training step as one CUDA graph and replay it.",
        ),
        data_root_option(),
        progress_options(),
    )


def race_options() -> Decorator[Any]:
    """``--race`` and ``--keep``: whether graphs are stopped before their last epoch."""
    return together(
        click.option(
            "--race",
            help="Epochs after which the worse graphs are stopped, such as 3,9.  [default: train "
            "all graphs to the end]",
        ),
        click.option(
            "--keep", type=float, help="Fraction of graphs that continues.  [default: 0.5]"
        ),
    )


def read_rungs(text: str) -> tuple[int, ...]:
    """Numbers of epochs between commas.

    Raises:
        InputError: something else.
    """
    numbers = [read_number(part) for part in text.split(",")]
    if not all(isinstance(number, int) for number in numbers):
        raise InputError(f"--race takes numbers of epochs as 3,9, {text[:100]!r} was given")
    return tuple(numbers)


def read_number(text: str | None) -> Any:
    """A number, or the word that stands in its place."""
    is_number = text is not None and text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if text is not None and is_number else text


def read_seeds(text: str) -> tuple[int, ...]:
    """``"3"`` gives seeds 0, 1, 2; ``"0,5"`` and ``"5,"`` give the listed ones.

    Raises:
        InputError: something else, or too many.
    """
    try:
        numbers = [parse_whole(part) for part in text.split(",") if part.strip()]
    except InputError:
        numbers = []
    if "," not in text and numbers:
        check_count("seeds", max(numbers[0], 1), MOST_SEEDS)
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] < 1):
        raise InputError(
            f"--seeds {shown(text)} is neither a number of seeds, such as 3, nor a list of seeds "
            "of up to 18 digits, such as 0,1,2"
        )
    return tuple(numbers) if "," in text else tuple(range(numbers[0]))
