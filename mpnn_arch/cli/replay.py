"""``mpnn-arch replay``: one trial of a study trained again, to the same bits."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpnn_arch.cli.options import data_root_option, device_option, trust_option

if TYPE_CHECKING:
    from mpnn_arch.studies.replay import Replayed


@click.command(short_help="Train a trial again and compare it bit for bit.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("trial")
@device_option()
@data_root_option()
@trust_option()
def replay(*, folder: Path, trial: str, device: str, data_root: Path | None, trust: bool) -> None:
    """Train TRIAL of the study in FOLDER again and compare it with the ledger, bit for bit.

    TRIAL is a number, as in the column trial_number of the table of `mpnn-arch export`, or four
    digits or more of a hash, as in its column trial. Nothing is written. The exit code is 1 if an
    epoch differs.
    """
    from mpnn_arch.studies.replay import machine_differs
    from mpnn_arch.studies.replay import replay as again
    from mpnn_arch.studies.study import Study
    from mpnn_arch.training.devices import find_device

    study = Study.open(folder)
    where = str(find_device(device))

    def watch(epoch: Replayed) -> None:
        text = "; ".join(epoch.differs) or "the same bits"
        error = "not evaluated"
        if math.isfinite(epoch.test_error):
            error = f"test error {epoch.test_error:.2f} %"
        click.echo(f"epoch {epoch.epoch}: {error}, {text}")

    done = again(
        study,
        trial,
        device=where,
        data_root=None if data_root is None else str(data_root),
        trust=trust,
        watch=watch,
    )
    if any(epoch.differs for epoch in done):
        others = ", ".join(machine_differs(study, trial, where)) or "none known"
        click.echo(f"not the same; what is other here: {others}")
        sys.exit(1)
    whole = "the epoch is" if len(done) == 1 else f"all {len(done)} epochs are"
    click.echo(f"{whole} the same to the bit")
