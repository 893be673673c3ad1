"""Trainings that were begun with other versions are not continued, whoever trains them."""

import json

import pytest
import torch

from mpnn_arch import InputError
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training.config import TrainingConfig

from .conftest import ABOUT, made_up_metrics


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("population", [False, True])
def test_another_torch_is_refused_where_it_would_change_bits(tmp_path, workers, population):
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=("ring:8,2", "complete:8"),
        seeds=(0,),
        training=TrainingConfig(epochs=2),
        width_multiplier=0.125,
    )
    study = Study.create(tmp_path / "study", config)
    machine = {"device": "cpu", "torch": "1.0"}
    with LedgerWriter(study.path / "ledger.sqlite") as ledger, ledger.transaction():
        if population:
            ledger.put_together([1, 2], "together")
        row = ledger.lease("w")[0]
        ledger.started(row["id"], row["lease"], {**ABOUT, "machine": machine})
        ledger.record_epoch(row["id"], row["lease"], made_up_metrics(1), wall=1)
        ledger.release(row["id"], row["lease"], "stopped")
    name = "together" if population else row["hash"]
    (study.path / "checkpoints" / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"trial 1 .* install torch 1\.0, or delete the files in"):
        study.run(workers=workers, device="cpu")
    machine["torch"] = torch.__version__
    with LedgerWriter(study.path / "ledger.sqlite") as ledger, ledger.transaction():
        ledger.connection.execute("UPDATE trial SET machine = ?", (json.dumps(machine),))
    assert study.run(workers=workers, device="cpu", population="off").done == 2
