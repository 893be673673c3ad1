"""The metrics of every epoch, as ``train`` writes them."""

import csv

from mpnn_arch.studies.metrics import MetricsRow, read_metrics, write_metrics

from .conftest import made_up_metrics


def test_metrics_csv_holds_the_bits_of_the_ledger(new_ledger, tmp_path):
    with new_ledger.transaction():
        (row,) = new_ledger.lease("worker")
        for epoch, error in ((1, 100 / 7), (2, 1e-17), (3, float("nan"))):
            metrics = made_up_metrics(epoch, error)
            new_ledger.record_epoch(row["id"], row["lease"], metrics, wall=1.0)
    write_metrics(new_ledger, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        read = [float(row["test_error"]) for row in csv.DictReader(file)]
    assert read[:2] == [100 / 7, 1e-17]
    assert read[2] != read[2]
    assert isinstance(next(read_metrics(new_ledger)), MetricsRow)
