"""Studies as they are read while they run: a last seed that some graphs lack."""

import numpy as np
import pandas as pd
import pytest

from mpnn_arch import InputError, analysis
from mpnn_arch.analysis.per_graph import complete_part, error_matrix, per_graph
from mpnn_arch.analysis.report import analyse
from mpnn_arch.analysis.tidy_results import tidy
from mpnn_arch.graphs import parse_one
from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.studies.ledger import METRICS
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("there", "graphs", "seeds"),
    [
        (["111", "111", "111"], "111", "111"),
        (["110", "110", "111", "110"], "1111", "110"),  # the third seed has begun
        (["111", "111", "111", "110"], "1110", "111"),  # nearly done
        (["011", "011", "111"], "111", "011"),  # seeds in any order
        (["100", "100", "100", "110"], "0001", "110"),  # two seeds where some graph has two
        (["10", "10"], "11", "10"),
        (["1", "0", "1"], "101", "1"),
    ],
)
def test_the_largest_complete_part(there, graphs, seeds):
    flags = np.array([[one == "1" for one in row] for row in there])
    found = complete_part(flags)
    for part, expected in zip(found, (graphs, seeds), strict=True):
        assert "".join("01"[int(one)] for one in part) == expected


def test_a_seed_that_has_begun_does_not_cost_the_graphs(made_up):
    table = made_up("bowl", count=52, seeds=3, baseline=None)
    names = table["graph"].unique()
    begun = table[(table["train_seed"] < 2) | table["graph"].isin(names[:5])]
    errors = error_matrix(begun)[1]
    assert errors.shape == (len(names), 2)
    expected = error_matrix(table[table["train_seed"] < 2])
    np.testing.assert_array_equal(errors, expected[1])
    assert per_graph(begun)["seeds"].sum() == len(begun)
    epochs = begun.assign(epoch=2)
    earlier = begun.assign(error=begun["error"] + 1)
    both = analysis.few_epochs(pd.concat([earlier, epochs], ignore_index=True))
    assert both["pearson"].iloc[0] == pytest.approx(1)


def test_the_note_says_what_is_complete(results_file):
    lines = results_file.lines
    kept = [lines[0], *lines[1:-1]]
    assert any("not every graph has every" in note for note in notes(results_file(kept, "a.csv")))
    assert not any("not every graph" in note for note in notes(results_file(lines, "b.csv")))


def notes(path):
    (one,) = analysis.read_many([path])
    return one.notes


def test_a_study_is_read_where_it_lies(tmp_path):
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=("rewired:0/ws_flex:8,4,0.2,0", "ws_flex:8,4,0.2,0", "complete:8"),
        seeds=(0, 1),
        training=TrainingConfig(epochs=1),
        train_images=64,
        test_images=64,
    )
    study = Study.create(tmp_path / "mine", config)
    study.run(workers=1)
    table = analysis.load_results(study.path)
    assert set(table["results"]) == {"mine"}
    assert set(table["graph"]) == {
        "rewired:0/ws_flex:8,4,0.2,0",
        "ws_flex:8,4.0,0.2,0",
        "complete:8",
    }
    exported = tidy(study.table(), "mine", study.path)[0].table
    assert table.equals(exported)


def test_a_study_without_an_epoch_says_why(tmp_path):
    """Of one whose trials all failed, that they did, and not that they are still to be run."""
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=("ring:8,2",),
        seeds=(0, 1, 2),
        training=TrainingConfig(epochs=1),
    )
    study = Study.create(tmp_path / "mine", config)
    with pytest.raises(InputError, match="no trained epoch yet; run it with mpnn-arch sweep"):
        analysis.load_results(study.path)
    spaced = study.path.rename(tmp_path / "my study")  # one word of the command that is suggested
    with pytest.raises(InputError, match=f"--out '{spaced}' --resume"):
        analysis.load_results(spaced)
    spaced.rename(study.path)
    with LedgerWriter(study.path / "ledger.sqlite") as ledger, ledger.transaction():
        (row,) = ledger.lease("w")
        ledger.fail(row["id"], row["lease"], "ValueError: 7 channels", final=True)
    words = r"1 of 3 trials failed \(ValueError: 7 channels\); fix that, then .* --retry-failed"
    with pytest.raises(InputError, match=words):
        analysis.load_results(study.path)
    with LedgerWriter(study.path / "ledger.sqlite") as ledger, ledger.transaction():
        (row,) = ledger.lease("w")
        metrics = {"epoch": 1, "seconds": 1.0, **dict.fromkeys(METRICS, 1.0)}
        ledger.record_epoch(row["id"], row["lease"], metrics, wall=1.0)
        ledger.finish(row["id"], row["lease"])
    (said, *_) = notes(study.path)
    assert said.startswith(
        "without a result: 2 trials (1 failed, 1 not done yet); see mpnn-arch status"
    )


def test_the_graph_of_a_file_that_is_gone_is_the_ledgers(tmp_path):
    file = tmp_path / "own.edges"
    file.write_text("0 1\n1 2\n2 3\n3 0\n")
    graph = parse_one(f"file:{file}")
    training = TrainingConfig(epochs=1)
    config = StudyConfig(
        model="mlp", dataset="digits", graphs=(f"file:{file}",), seeds=(0,), training=training
    )
    study = Study.create(tmp_path / "mine", config)
    with LedgerWriter(study.path / "ledger.sqlite") as ledger, ledger.transaction():
        (row,) = ledger.lease("w")
        metrics = {"epoch": 1, "seconds": 1.0, **dict.fromkeys(METRICS, 1.0)}
        ledger.record_epoch(row["id"], row["lease"], metrics, wall=1.0)
        ledger.finish(row["id"], row["lease"])
    file.unlink()
    (results,) = analysis.read_many([study.path])
    found = analyse(results, {}, repeats=1)
    assert found.relational == {f"file:{file}": graph}
    assert not any("cannot be drawn" in note for note in found.notes)


def test_what_is_missing_is_said_of_the_size_that_it_is_missing_of(results_file):
    lines = ["graph,seed,error"]
    lines += [f'"ring:{nodes},2",{seed},30.{seed}' for nodes in (8, 9) for seed in range(2)]
    lines += ["complete:8,0,31", "complete:8,1,32", '"ring:9,4",0,33']
    small, large = analysis.read_many([results_file(lines)])
    assert small.notes == ()
    assert [note.split()[:3] for note in large.notes] == [
        ["there", "is", "no"],
        ["not", "every", "graph"],
    ]


def test_a_seed_that_the_longest_graph_lacks_moves_no_bin(tmp_path):
    """Where the paper has no bins for a size, they end at the longest L of all graphs."""
    specs = [f"ws_flex:32,{d},{p},{s}" for d in (4, 8, 12) for p in (0.1, 0.5) for s in range(3)]
    lines = [
        f'"{spec}",{seed},{30 + number % 5 + 0.1 * seed * (number % 3)}'
        for number, spec in enumerate([*specs, "ring:32,2"])
        for seed in range(3)
        if (spec, seed) != ("ring:32,2", 2)
    ]
    path = tmp_path / "under_way.csv"
    path.write_text("\n".join(["graph,seed,error", *lines]))
    table = analysis.load_results(path)
    paired, plain = analysis.paired_sweet_spot(table), analysis.sweet_spot(table)
    assert paired.unit == plain.unit == "bin"
    bins = plain.candidates.set_index("name")
    for row in paired.candidates.itertuples():
        assert row.mean == pytest.approx(bins.loc[row.name, "mean"])
