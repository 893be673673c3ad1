"""``mpnn-arch bench`` on small graphs: every candidate is timed, the receipt is complete."""

import csv

import pytest

from mpnn_arch import InputError
from mpnn_arch.diagnostics.receipt import equal_cost_width
from mpnn_arch.graphs import generate
from mpnn_arch.kernels.backends import candidates


def test_the_receipt_names_every_backend(run, tmp_path):
    import torch

    out = tmp_path / "bench"
    args = ["--graphs", "ring:8,2", "--graphs", "complete:8", "--width", "24", "--batch", "4"]
    code, stdout, _ = run("bench", *args, "--repeats", "3", "--out", str(out))
    assert code == 0
    assert "threads: " in stdout
    assert "torch: " in stdout
    assert "…" not in stdout  # no number is cut off
    assert "auto/dense" in stdout
    with (out / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["graph"] for row in rows] == ["ring:8,2", "complete:8"]
    ring, complete = rows
    assert float(ring["block_density"]) == 3 / 8
    assert int(ring["multiply_adds"]) <= 24 * 24
    assert ring["picked"] in candidates("cpu", torch.float32)
    assert complete["picked"] == "dense"
    for row in rows:
        for backend in (*candidates("cpu", torch.float32), "auto", "dense", "complete"):
            assert float(row[f"{backend}_ms"]) > 0
        rivals = [
            float(row[name]) for name in row if name.startswith("dense_") and name != "dense_ms"
        ]
        assert float(row["dense_ms"]) == min(rivals)
        assert row["peak_share"] == "" or float(row["peak_share"]) > 0
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--batch", "0"], "--batch-size is at least 1, 0 was given"),
        (["--dtype", "int8"], "no dtype 'int8'"),
        (["--graphs", "ring:64,2", "--width", "10"], "give a larger --width"),
        (["--graphs", "pretzel:3"], "pretzel"),
    ],
)
def test_bad_input_is_one_sentence(run, args, words):
    code, _, err = run("bench", *args)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def test_equal_cost_width_is_the_largest_that_fits():
    graph = generate("ring", 8, 2)
    width = equal_cost_width(graph, 24 * 24)
    assert equal_cost_width(generate("complete", 8), 24 * 24) == 24
    assert width > 24
    with pytest.raises(InputError, match="costs 64 multiply-adds with one channel per node"):
        equal_cost_width(generate("complete", 8), 63)
