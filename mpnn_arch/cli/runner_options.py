"""The options that say where the workers of a study are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mpnn_arch.checks import shown
from mpnn_arch.cli.numbers import read_assignments
from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    from mpnn_arch.studies.runners import Runner

Command = TypeVar("Command", bound=Callable[..., Any])

NAMES = ("runner", "ray_address", "cluster", "job", "parallel")
"""Of the options, as keywords of a command."""

_OPTIONS = (
    click.option(
        "--runner",
        default="local",
        show_default=True,
        help="local, ray or submitit (Slurm): where the workers are.",
    ),
    click.option("--ray-address", help="Of a Ray cluster, as auto.  [default: one of its own]"),
    click.option(
        "--cluster", default="auto", show_default=True, help="Of submitit: auto, slurm or local."
    ),
    click.option(
        "--job",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of submitit, as slurm_partition=gpu; may be repeated.",
    ),
    click.option(
        "--parallel",
        default="ddp",
        show_default=True,
        help="Under torchrun: ddp, or fsdp2 for networks that do not fit on one device.",
    ),
)


def runner_options(command: Command) -> Command:
    """Add the options to a command, whose keywords :func:`make_runner` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_runner(options: dict[str, Any]) -> Runner:
    """The runner that the options ask for; they are taken out of ``options``.

    Raises:
        InputError: an unknown name, or an option that belongs to another runner.
    """
    from mpnn_arch.studies.runners import Runner
    from mpnn_arch.training.distributed import PARALLEL
    from mpnn_arch.training.processes import Processes

    given = {name: options.pop(name) for name in NAMES}
    if given["parallel"] not in PARALLEL:
        raise InputError(f"--parallel is {' or '.join(PARALLEL)}, {given['parallel']!r} was given")
    if given["parallel"] != "ddp" and Processes.current is None:
        raise InputError(
            f"--parallel {given['parallel']} is for several processes, and there is one; leave it "
            "out, or start them with torchrun"
        )
    job = read_assignments("job", given["job"], "slurm_partition=gpu")
    for name in job:
        if not name.isidentifier():
            raise InputError(
                f"--job {shown(name)} is no name of a parameter; it has letters, digits and _, as "
                "slurm_partition"
            )
    return Runner(
        name=given["runner"],
        ray_address=given["ray_address"],
        cluster=given["cluster"],
        job=job,
        parallel=given["parallel"],
    )
