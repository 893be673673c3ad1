"""Whether trainings that were begun would go on here to the bits that they had without a stop."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import torch

from mpnn_arch.studies.recording import Recorder
from mpnn_arch.training.checkpoint import has_checkpoint
from mpnn_arch.training.environment import check_environment, environment


def check_begun(recorder: Recorder) -> None:
    """Compare the machine and versions that queued trials were begun with to the present ones.

    Of the trials with the same ones, a race may have thousands, the first is named.

    Args:
        recorder: of a study whose workers are on this machine.

    Raises:
        InputError: they would go on with other bits, see
            :func:`mpnn_arch.training.environment.check_environment`.
    """
    here = environment(torch.device(recorder.settings.device))
    here["cuda_graphs"] = recorder.settings.cuda_graphs
    compared = set()
    for row in recorder.ledger.query(
        "SELECT trial.*, population.hash AS together FROM trial LEFT JOIN population"
        " ON population.id = trial.population WHERE state = 'queued' AND epochs_done > 0"
    ):
        if row["machine"] not in compared and has_checkpoint(_checkpoint(recorder.folder, row)):
            compared.add(row["machine"])
            check_environment(
                f"trial {row['id']} of {recorder.folder}",
                json.loads(row["machine"] or "{}"),
                here,
                f"delete the files in {recorder.folder / 'checkpoints'} to train what was begun "
                "again",
            )


def _checkpoint(folder: Path, row: sqlite3.Row) -> Path:
    """Of the trial, or of the population that it is trained with."""
    return folder / "checkpoints" / f"{row['together'] or row['hash']}.safetensors"
