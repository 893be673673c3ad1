"""mpnn-arch compare and mpnn-arch gnn: a table, its files, and errors without a traceback."""

import csv

import pytest

from mpnn_arch.cli import main


def test_compare_prints_and_saves_a_table_and_a_plot(tmp_path, capsys):
    arguments = "compare --dataset digits --graph ring:8,2 --epochs 1 --train-images 200"
    swaps = ["--aggr", "sum,mean+max", "--message", "linear,low_rank", "--seeds", "2"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments.split(), *swaps, "--out", str(tmp_path / "c")])
    assert not stopped.value.code
    assert "mean+max" in capsys.readouterr().out
    with open(tmp_path / "c" / "compare.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["message"], r["aggr"]) for r in rows] == [
        ("linear", "sum"),
        ("linear", "mean+max"),
        ("low_rank", "sum"),
        ("low_rank", "mean+max"),
    ]
    costs = [int(r["multiply_adds"]) for r in rows]
    assert max(costs) < 1.2 * min(costs)
    assert {r["backend"] for r in rows} == {"fused", "messages"}
    assert (tmp_path / "c" / "compare.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "--aggr", "sum,sum"], "repeats a name"),
        (["compare", "--dataset", "digits", "--message", "linera"], "did you mean 'linear'"),
        (["compare", "--dataset", "digits", "--aggr", "sofmax"], "there is no aggregation"),
        (["compare", "--seeds", "0"], "--seeds is at least 1, 0 was given"),
        (["gnn", "--model", "gnc"], "there is no GNN layer 'gnc'"),
    ],
)
def test_bad_names_get_one_sentence(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
