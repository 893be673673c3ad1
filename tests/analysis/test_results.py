"""Reading results: what is accepted, and what is refused with a sentence."""

import errno
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mpnn_arch import InputError, analysis
from mpnn_arch.analysis.graph_rows import rebuild
from mpnn_arch.analysis.results import read_many, read_results
from mpnn_arch.analysis.results_table import COLUMNS, final
from mpnn_arch.analysis.tidy_results import tidy
from mpnn_arch.graphs import parse_one
from mpnn_arch.studies import Study


def test_the_tidy_table(results_file):
    table = analysis.load_results(results_file())
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 26
    assert set(table["epoch"]) == {3}  # of the file's name
    assert table["graph"].iloc[0] == "complete:64"
    row = table.iloc[-1]
    graph = parse_one(row["graph"])
    assert graph.clustering_coefficient == row["clustering_coefficient"]
    assert graph.average_path_length == row["average_path_length"]


def test_epochs_in_a_column_or_side_by_side(results_file):
    lines = results_file.lines
    long = [f"{lines[0]},epoch", *[f"{line},{t}" for line in lines[1:] for t in (1, 2)]]
    header = lines[0].replace("top1_error", "epoch1,epoch2")
    wide = [header, *[f"{line},{line.split(',')[-1]}" for line in lines[1:]]]
    order = ["graph", "train_seed", "epoch"]
    tables = [
        analysis.load_results(results_file(text, name)).sort_values(order)
        for text, name in ((long, "long.csv"), (wide, "wide.csv"))
    ]
    a, b = (table.drop(columns="results").reset_index(drop=True) for table in tables)
    pd.testing.assert_frame_equal(a, b)
    assert set(final(tables[0])["epoch"]) == {2}


def test_other_graphs_by_name_and_by_measures(results_file):
    path = results_file(
        [
            "graph,train_seed,test_error,clustering_coefficient,average_path_length,num_nodes",
            '"ring:64,4",1,30.0,,,',
            "complete:64,1,31.0,,,",
            '"ring:64,63",2,31.0,,,',
            "my_brain,1,32.0,0.5,2.0,64",
        ],
        "named.csv",
    )
    table = analysis.load_results(path).set_index("graph")
    ring = parse_one("ring:64,4")
    assert table.loc["ring:64,4", "density"] == ring.density
    assert table.loc["ring:64,4", "average_path_length"] == ring.average_path_length
    assert len(table.loc[["complete:64"]]) == 2
    assert table.loc["my_brain", "average_path_length"] == 2.0


def test_a_complete_graph_of_another_name_is_the_baseline_where_c_and_l_are_given(results_file):
    header = "graph,train_seed,error,clustering_coefficient,average_path_length,num_nodes"
    rows = [header, '"ring:16,4",0,30.0,0.5,2.4,16', '"ring:16,15",0,31.0,1.0,1.0,16']
    table = analysis.load_results(results_file(rows, "own.csv"))
    assert table["graph"].tolist() == ["ring:16,4", "complete:16"]
    # One by that name is the baseline, and the other a graph beside it.
    rows.append("complete:16,0,32.0,1.0,1.0,16")
    table = analysis.load_results(results_file(rows, "both.csv"))
    assert table["graph"].tolist() == ["ring:16,4", "ring:16,15", "complete:16"]


def test_a_folder_of_studies_names_them(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text("{}")
    named = f"name a study in it: {tmp_path / 'a'} {tmp_path / 'b'}"
    with pytest.raises(InputError, match=f"no results in the folder .*; {re.escape(named)}"):
        read_many([tmp_path])
    with pytest.raises(InputError, match=f"is not a study .*; {re.escape(named)}"):
        Study.open(tmp_path)


def test_files_of_spreadsheets(results_file, tmp_path):
    table = pd.read_csv(results_file())
    expected = analysis.load_results(results_file())
    table.to_csv(tmp_path / "marked_epoch3.csv", index=False, encoding="utf-8-sig")
    table.to_csv(tmp_path / "packed_epoch3.csv.gz", index=False)
    for name in ("marked_epoch3.csv", "packed_epoch3.csv.gz"):
        found = analysis.load_results(tmp_path / name)
        pd.testing.assert_frame_equal(found[expected.columns[1:]], expected[expected.columns[1:]])
    folder = tmp_path / "folder"
    folder.mkdir()
    table.to_csv(folder / "marked.csv", index=False, encoding="utf-8-sig")
    assert [one.name for one in read_many([folder])] == ["marked"]
    table.to_csv(tmp_path / "german.csv", index=False, sep=";", decimal=",")
    with pytest.raises(InputError, match="semicolons between its columns; save it with commas"):
        analysis.load_results(tmp_path / "german.csv")


def test_numbers_are_read_in_full(results_file):
    path = results_file()
    table = pd.read_csv(path)
    exact = [0.1 + 1e-16 * k * k for k in range(len(table))]
    table.assign(top1_error=exact).to_csv(path, index=False)
    assert analysis.load_results(path)["error"].tolist() == exact


def test_results_of_one_name_or_one_file_name_are_kept_apart(results_file, tmp_path):
    """The report's files and findings are called after them."""
    table = pd.read_csv(results_file())
    names = ["a/one.csv", "b/one.csv", "one_2.csv", "my one.csv", "My_one.csv", "readings.csv"]
    for shift, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table.assign(top1_error=table["top1_error"] + shift).to_csv(tmp_path / name, index=False)
    read = read_many([tmp_path / name for name in names])
    found = [one.name for one in read]
    assert found == ["one", "one_3", "one_2", "my one", "My_one_2", "readings_2"]
    assert [one.table["results"].unique().tolist() for one in read] == [[one.name] for one in read]


def test_a_file_that_may_not_be_read_is_named(results_file, monkeypatch):
    path = results_file()

    def refuse(*arguments, **more):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(path), "open", refuse)  # root may read all
    for asked in (path, path.parent):
        with pytest.raises(InputError, match=rf"cannot read .*{path.name} .*: change the perm"):
            read_many([asked])


@pytest.mark.parametrize("column", ["first_stage_width", "learning_rate"])
def test_studies_of_other_widths_or_recipes_in_one_file_are_not_averaged(results_file, column):
    header = f"graph,train_seed,epoch,error,{column}"
    shared = ['"ring:64,4",0,1,40.0,8', '"ring:64,4",0,2,30.0,4', "complete:64,0,2,31.0,2"]
    analysis.load_results(results_file([header, *shared, '"ring:64,4",1,2,30.0,4']))
    # A run that ends earlier is left out, whatever it was.
    analysis.load_results(results_file([header, *shared, '"ring:64,4",1,1,30.0,9']))
    words = f"several networks of one graph, with a {column} of 4 and of 5"
    with pytest.raises(InputError, match=words):
        analysis.load_results(results_file([header, *shared, '"ring:64,4",1,2,30.0,5']))


def test_several_networks_in_one_table_are_not_averaged(results_file):
    """As load_results gives of a study of several messages, and published of two architectures."""
    one = analysis.load_results(results_file())
    both = pd.concat([one, one.assign(results="other", error=one["error"] + 1)])
    for function in (analysis.per_graph, analysis.sweet_spot, analysis.few_epochs):
        with pytest.raises(InputError, match=r"holds 2 results .* one by one, as table"):
            function(both)
        with pytest.raises(InputError, match=r"several errors for .*; keep one"):
            function(both.drop(columns="results"))
    part = both[both["results"] == "other"]
    assert analysis.per_graph(part)["mean"].min() == analysis.per_graph(one)["mean"].min() + 1


def test_parquet_of_short_types_of_categories_and_with_an_index(results_file, tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.read_csv(results_file())
    expected = analysis.load_results(results_file())
    short = {"graph": "category", "density": "float32", "top1_error": "float32"}
    for number, raw in enumerate(
        (
            table.astype({**short, "train_seed": "int8"}),
            table.astype({"graph": "category"}).convert_dtypes(),
            table.convert_dtypes(dtype_backend="pyarrow"),
            table.set_index(["graph", "train_seed"]),
        )
    ):
        path = tmp_path / f"{number}_epoch3.parquet"
        raw.to_parquet(path)
        found = analysis.load_results(path)
        assert found["graph"].tolist() == expected["graph"].tolist()
        assert found["train_seed"].tolist() == expected["train_seed"].tolist()
        np.testing.assert_allclose(found["error"], expected["error"], rtol=1e-6)
        assert len(analysis.sweet_spot(found).kept) == len(analysis.sweet_spot(expected).kept)


def test_a_directed_graph_of_half_of_the_arcs_is_no_baseline(tmp_path):
    steps = (np.arange(9) - np.arange(9)[:, None]) % 9
    path = tmp_path / "tournament.csv"
    np.savetxt(path, (steps >= 1) & (steps <= 4), fmt="%d", delimiter=",")  # 36 arcs
    names = [f"file:{path}", "complete:9"]
    pd.DataFrame({"graph": names, "train_seed": 0, "error": [31.0, 32.0]}).to_csv(
        tmp_path / "own.csv", index=False
    )
    table = analysis.load_results(tmp_path / "own.csv")
    assert list(table["graph"]) == names


def test_the_number_of_nodes_comes_from_the_name_or_the_row_is_left_out(results_file):
    path = results_file(
        [
            "graph,train_seed,error,clustering_coefficient,average_path_length",
            '"ring:64,4",0,30.0,0.5,8.4',
            '"rewired:0/ws_flex:64,8,0.1,0",0,31.0,0.1,2.2',
            "complete:64,0,32.0,1.0,1.0",
            "my_brain,0,33.0,0.5,2.0",
        ],
        "sizeless.csv",
    )
    (results,) = read_results(path)
    assert list(results.table["num_nodes"]) == [64] * 3
    assert results.table["average_path_length"].tolist() == [8.4, 2.2, 1.0]  # as they were given
    assert "my_brain" not in set(results.table["graph"])
    assert any("'my_brain' cannot be made" in note for note in results.notes)
    assert any("columns with num_nodes, C and L" in note for note in results.notes)


def test_a_folder_of_a_run(tmp_path):
    run = tmp_path / "my_run"
    run.mkdir()
    rows = ["graph,seed,epoch,test_error", "complete:16,0,1,9.0", "complete:16,0,2,8.0"]
    rows += ['"ring:16,4",0,1,7.0', '"ring:16,4",0,2,6.5']
    (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    (results,) = read_results(run)
    assert results.name == "my_run"
    assert list(final(results.table)["error"]) == [8.0, 6.5]
    assert any("one training seed" in note for note in results.notes)


def test_the_same_runs_by_epoch_are_read_once(published):
    read = read_many([published])
    assert [one.name for one in read] == ["mlp_cifar10_epoch200", "resnet34_imagenet_epoch100"]
    assert read[1].table["epoch"].nunique() == 100
    assert read[1].twins == ("resnet34_imagenet_top1_error_by_epoch",)
    assert any("the same runs" in note for note in read[1].notes)


def test_runs_that_were_stopped_are_left_out(results_file):
    lines = [f"{line},{t}" for line in results_file.lines[1:] for t in (1, 2)]
    path = results_file([f"{results_file.lines[0]},epoch", *lines[:-1]], "stopped.csv")
    (results,) = read_results(path)
    assert "1 of 26 runs left out: they end before epoch 2" in results.notes
    assert len(final(results.table)) == 25


def with_end(line, end):
    """``line`` with another training seed and error."""
    return ",".join([*line.split(",")[:-2], end])


def of_graph(lines, name):
    """``lines`` with another graph."""
    return [",".join([name, *line.split(",")[1:]]) for line in lines]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t[:1], "holds no row"),
        (lambda t: [t[0].replace("top1_error", "loss"), *t[1:]], "no column top1_error"),
        (lambda t: [t[0].replace("train_seed", "x"), *t[1:]], "no column train_seed or seed"),
        (lambda t: [t[0].replace("graph_seed", "x"), *t[1:]], "no column graph_seed"),
        (lambda t: [*t, with_end(t[5], "2,much")], "line 28: error is 'much'"),
        (lambda t: [*t, with_end(t[-1], "2.5,32")], "not a whole number"),
        (lambda t: [*t, with_end(t[-1], f"{2**64},32")], "not a whole number of 64 bits"),
        (lambda t: [*t, with_end(t[-1], f"{2**63},32")], "not a whole number of 64 bits"),
        (lambda t: [*t, "complete,0,1,0,1,1,32"], "num_nodes is 0, which is not between 1 and"),
        (lambda t: [*t, with_end(t[-1], "9,932")], "between 0 and 100"),
        (lambda t: [*t, t[-1].replace("ws_flex", "")], "not the name of a graph"),
        (lambda t: [*t, t[-1] + "1"], "several errors for ws_flex"),
        (lambda t: [*t, "a,b,c,d,e,f,g,h,i"], "no CSV file"),
        (lambda t: [t[0], *of_graph(t[1:], "ring:64,4")], "quotes"),
        (lambda t: [t[0], *of_graph(t[1:], "-1")], "no graph that is known"),
        (lambda t: [t[0], *of_graph(t[1:], "True")], "no graph that is known"),
        (lambda t: [t[0], *(with_end(row, "True,30") for row in t[1:])], "train_seed is True"),
    ],
)
def test_bad_files(results_file, change, sentence):
    path = results_file(change(results_file.lines))
    with pytest.raises(InputError, match=sentence):
        analysis.load_results(path)


def test_what_is_left_out_is_said(results_file):
    lines = [line for line in results_file.lines if not line.startswith("complete")]
    lines += ["ws_flex,64,0.125,0.0,1,1,nan", "ws_flex,64,0.125,0.0,1,2,inf"]
    lines += ["mystery,64,0.5,0.5,1,1,30.0", "ws_flex,64,0.001,0.5,1,1,30.0", lines[-5]]
    lines += ["ws_flex,1000000000,0.5,0.5,1,1,30.0"]  # 2.5e17 edges
    lines += ["ws_flex,16,0.5,0.5,-1,1,30.0"]
    (results,) = read_results(results_file(lines))
    said = " ".join(results.notes)
    for part in (
        "2 of 31 rows left out", "'mystery' cannot be made", "'ws_flex:1000000000,500000000.0,0",
        "'ws_flex:16,8.0,0.5,-1'", "no baseline", "repeat",
    ):  # fmt: skip
        assert part in said
    assert len(results.table) == 24
    assert np.isfinite(results.table["error"]).all()


def test_a_folder_of_parquet_files_is_read_as_one_of_csv_files(results_file, tmp_path):
    table = pd.read_csv(results_file(results_file.lines))
    folder = tmp_path / "kept"
    folder.mkdir()
    table.to_parquet(folder / "mine.parquet")
    table[["num_nodes"]].to_parquet(folder / "other.parquet")
    (folder / "broken.parquet").write_bytes(b"no")
    (results,) = read_many([folder])
    assert (results.name, len(results.table)) == ("mine", len(table))
    (folder / "mine.parquet").rename(folder / "export.parquet")
    (results,) = read_many([folder])
    assert results.name == "kept"


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        analysis.load_results(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"none of export\.csv, export\.parquet, metrics\.csv"):
        analysis.load_results(tmp_path)
    with pytest.raises(InputError, match=f"{os.devnull} is a device or a pipe"):
        analysis.load_results(os.devnull)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="no results in the folder"):
        read_many([tmp_path])
    with pytest.raises(InputError, match="no published results"):
        analysis.published(tmp_path)


def test_sizes_are_analysed_apart(results_file):
    lines = [*results_file.lines, "complete,16,1.0,0.0,1,1,40.0", "complete,16,1.0,0.0,1,2,41.0"]
    path = results_file(lines)
    assert [one.name for one in read_many([path])] == ["small_epoch3_n16", "small_epoch3_n64"]
    with pytest.raises(InputError, match="one size"):
        analysis.landscape(analysis.load_results(path))


def test_an_export_of_a_study(results_file):
    """The published columns, and those of a study, whose kinds of networks are kept apart."""
    header = "graph,num_nodes,density,rewiring_probability,graph_seed,train_seed,top1_error,epoch,"
    header += "clustering_coefficient,average_path_length,model,dataset,message,aggr,graph_spec"
    graph = parse_one("ring:64,4")
    rows = []
    for place, (model, aggr) in enumerate((("mlp", "sum"), ("mlp", "max"), ("resnet20", "sum"))):
        for seed in (0, 1):
            end = f",,,{model},digits,linear,{aggr}"
            rows.append(f"complete,64,1.0,0.0,1,{seed},9.{place},2{end},complete:64")
            rows.append(f'ring,64,0.0625,,,{seed},8.{seed},2{end},"ring:64,4"')
            rows.append(f'ws_flex,64,0.1875,0.15,0,{seed},7.5,2{end},"ws_flex:64,12,0.15,0"')
    path = results_file([header, *rows], "study.csv")
    read = read_many([path])
    assert [one.name for one in read] == ["study_mlp_sum", "study_mlp_max", "study_resnet20_sum"]
    assert [len(one.table) for one in read] == [6, 6, 6]
    table = analysis.load_results(path)
    assert table["results"].nunique() == 3
    ring = table[table["graph"] == "ring:64,4"].iloc[0]
    assert ring["average_path_length"] == graph.average_path_length
    assert "ws_flex:64,12.0,0.15,0" in set(table["graph"])


def test_the_models_own_message_is_a_kind(results_file):
    """As of a study that was extended by ``--message gated``."""
    header = "graph,num_nodes,density,rewiring_probability,graph_seed,train_seed,top1_error,message"
    rows = [
        f"complete,16,1.0,0.0,1,{seed},{error},{message}"
        for message, error in (("", 9.0), ("gated", 8.0))
        for seed in (0, 1)
    ]
    read = read_many([results_file([header, *rows], "study.csv")])
    assert [one.name for one in read] == ["study_none", "study_gated"]
    assert [set(one.table["error"]) for one in read] == [{9.0}, {8.0}]


def test_a_kind_without_a_result_leaves_the_others(results_file):
    """As where every training with one message diverged."""
    header = "graph,train_seed,test_error,message"
    rows = ["complete:16,0,9.0,linear", "complete:16,0,nan,gated", "mine,0,8.0,attention"]
    (read,) = read_many([results_file([header, *rows], "study.csv")])
    assert read.name == "study_linear"
    for kind, why in (("gated", "no row with a finite error"), ("attention", "'mine' cannot be")):
        assert any(note.startswith(f"{kind} is left out: ") and why in note for note in read.notes)
    with pytest.raises(InputError, match="no row with a finite error"):
        read_many([results_file([header, rows[1]], "study.csv")])
    with pytest.raises(InputError, match="line 4: error is 'much'"):
        read_many([results_file([header, *rows[:2], "complete:16,0,much,gated"], "study.csv")])


def test_networks_with_the_same_errors_are_not_the_same_runs(results_file):
    header = "graph,train_seed,test_error,message,aggr"
    rows = [f"complete:16,0,9.0,{kind}" for kind in ("linear,max", "gated,max", "gated_max,sum")]
    path = results_file([header, *rows, "complete:16,0,9.0,gated,max_sum"], "study.csv")
    names = ["study_linear_max", "study_gated_max", "study_gated_max_sum", "study_gated_max_sum_2"]
    assert [one.name for one in read_many([path])] == names
    export = path.with_name("export.csv")
    export.write_text(path.read_text())  # the same runs again
    read = read_many([path, export])
    assert [len(one.twins) for one in read] == [1, 1, 1, 1]


def test_a_folder_whose_name_is_no_utf8_has_a_name_that_a_table_holds(results_file):
    path = results_file(results_file.lines)
    (one,) = tidy(pd.read_csv(path), "caf\udce9", path)  # café in Latin 1
    assert set(one.table["results"]) == {one.name} == {"caf\\xe9"}


def test_a_library_that_is_missing_is_named():
    code = "import sys; sys.modules['statsmodels'] = None; import mpnn_arch.analysis"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the analysis needs statsmodels" in done.stderr
    assert 'pip install "mpnn-arch[analysis]"' in done.stderr


def test_a_graph_file_that_was_edited_is_not_the_graph_that_was_trained(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("0 1\n1 2\n2 0\n2 3\n")
    graph = parse_one(f"file:{path}")
    rows = pd.DataFrame(
        {
            "graph": [f"file:{path}", "ring:8,2"],
            "clustering_coefficient": [graph.clustering_coefficient, 0.0],
            "average_path_length": [graph.average_path_length, np.nan],
        }
    )
    assert list(rebuild(rows)[0]) == [f"file:{path}", "ring:8,2"]
    path.write_text("0 1\n1 2\n2 0\n2 3\n3 0\n")
    graphs, unknown = rebuild(rows)
    assert (list(graphs), unknown) == (["ring:8,2"], [f"file:{path}"])
