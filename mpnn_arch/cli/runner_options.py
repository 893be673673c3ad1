"""From the options that say where the workers of a study are to a runner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpnn_arch.checks import check_choice, shown
from mpnn_arch.cli.numbers import read_assignments
from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    from mpnn_arch.studies.runners import Runner

NAMES = ("runner", "ray_address", "cluster", "job", "parallel")
"""Of the options, as keywords of a command."""


def make_runner(options: dict[str, Any]) -> Runner:
    """The runner that the options ask for; they are taken out of ``options``.

    Raises:
        InputError: an unknown name, or an option that belongs to another runner.
    """
    from mpnn_arch.studies.runners import Runner
    from mpnn_arch.training.distributed import PARALLEL
    from mpnn_arch.training.processes import Processes

    given = {name: options.pop(name) for name in NAMES}
    check_choice("--parallel", given["parallel"], PARALLEL)
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
