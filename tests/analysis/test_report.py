"""The report: findings for programs, a page that works without a network, figures and tables."""

import json
import math
import re
import sys
import xml.etree.ElementTree
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from mpnn_arch import InputError, cli
from mpnn_arch.analysis import load_results, per_graph, sweet_spot, write_report
from mpnn_arch.analysis.effect_size import effect
from mpnn_arch.analysis.per_graph import baseline
from mpnn_arch.analysis.report import Analysis, _files_of
from mpnn_arch.analysis.report.analyses import _Attempts, _effects
from mpnn_arch.analysis.report.readings import _best_graph, _better_than_dense, _smooth
from mpnn_arch.analysis.results import file_name, file_names

sys.path.insert(0, str(Path(__file__).parent))
from browser import Browser, find_browser

pytestmark = pytest.mark.slow  # the report on two files: some 15 s


def test_findings_of_made_up_results(small_report):
    made = json.loads((small_report / "findings.json").read_text())
    for name, seeds in (("many", 3), ("few", 3)):
        one = made[name]
        assert one["train_seeds"] == seeds
        assert set(one["baseline"]) >= {"mean", "std"}
        assert "deviation of a graph's runs, with N" in (small_report / "report.html").read_text()
        assert one["best"] == one["top"][0]
        assert len(one["top"]) == 10
        for axis, place in (("clustering_coefficient", 0.4), ("average_path_length", 2.4)):
            low, high = one["sweet_spot"][axis]
            assert low < place < high
        assert one["tests"]["simultaneous"]["exists"]
        assert one["tests"]["density_null"]["gain"] > 0.2
    (pair,) = made["correlations"]["architectures"]
    assert {pair["first"], pair["second"]} == {"many", "few"}
    assert pair["pearson"] > 0.8
    few = made["correlations"]["few_graphs"]
    assert {row["results"] for row in few} == {"many"}
    # The 52 graphs of the other file are a part of the 449.
    assert next(row for row in few if row["graphs"] == 52)["chosen"] == "listed"
    epochs = [row["epoch"] for row in made["correlations"]["few_epochs"]]
    assert epochs == list(range(1, 8))
    assert {"claim", "verdict", "evidence"} <= set(made["readings"][0])


def test_the_sweet_spot_and_the_baseline_are_compared_in_deviations_of_runs(
    small_report, small_results
):
    table = load_results(small_results[0])
    spot = sweet_spot(table)
    dense = table["graph"] == "complete:64"
    runs = [table[spot.contains(table) & ~dense]["error"], table[dense]["error"]]
    squares = sum((group.var() * (len(group) - 1)) for group in runs)
    free = sum(map(len, runs)) - 2
    expected = (runs[1].mean() - runs[0].mean()) / math.sqrt(squares / free)
    made = json.loads((small_report / "findings.json").read_text())["many"]["tests"]["effects"]
    # Not those outside, which the errors that are compared put there.
    assert set(made) == {
        "best graph against baseline",
        "graphs in the sweet spot against baseline",
    }
    found = made["graphs in the sweet spot against baseline"]
    assert found["hedges_g"] == pytest.approx(expected * (1 - 3 / (4 * free - 1)), rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((4, 5), "it is one bin (C 0.433, L 2.050), which is no range of C and L"),
        ((4, 6), "all its bins are one row (C 0.433 to 0.433, L 2.050 to 2.283)"),
    ],
)
def test_a_sweet_spot_without_extent_is_said_where_it_would_be_compared(made_up, rows, said):
    def error(c, length, density):
        row = (length - 1) // (3.5 / 15)
        inside = (c > 6 / 15) & (c <= 7 / 15) & (row >= rows[0]) & (row < rows[1])
        return 33 - 2.0 * inside

    table = made_up(error)
    notes: list[str] = []
    analysis = Analysis("mine", table, notes, per_graph(table), baseline(table))
    analysis.spot = sweet_spot(table)
    found = _effects(analysis, _Attempts(notes))
    assert set(found) == {"best graph against baseline"}
    (note,) = notes
    assert note.startswith(f"graphs in the sweet spot: not compared, as {said}")


@pytest.mark.parametrize("gap", [1.5, -1.5])
def test_a_difference_is_less_or_more_and_has_no_sign(gap):
    better = effect([30.0, 31.0, 32.0], [value + gap for value in (30.0, 31.0, 32.0)])
    analysis = SimpleNamespace(
        name="ours",
        effects={"graphs in the sweet spot against baseline": better},
        simultaneous=SimpleNamespace(exists=True),
    )
    said = _better_than_dense(analysis).evidence
    low, high = (f"{end:.2f}" for end in sorted(gap / 1.5 * end for end in better.interval))
    assert f"1.50 points {'less' if gap > 0 else 'more'} on average ({low} to {high})" in said


def test_every_figure_and_table_is_a_file(small_report):
    pngs = sorted(path.stem for path in (small_report / "figures").glob("*.png"))
    svgs = sorted(path.stem for path in (small_report / "figures").glob("*.svg"))
    assert pngs == svgs
    for part in ("landscape_coarse", "landscape_fine", "slice_L", "slice_C", "few_epochs"):
        assert f"few_{part}" in pngs
    assert "agreement_many_few" in pngs
    for path in (small_report / "figures").iterdir():
        if path.suffix == ".svg":
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes()[:4] == b"\x89PNG"
    graphs = pd.read_csv(small_report / "tables" / "many_graphs.csv")
    assert len(graphs) == 450
    assert graphs["mean"].is_monotonic_increasing
    for name in ("many_bins_coarse", "many_calibration", "few_racing", "readings", "architectures"):
        assert len(pd.read_csv(small_report / "tables" / f"{name}.csv"))


def test_every_table_and_figure_has_a_file_of_its_own():
    files = _files_of({"x": {"few_graphs": None, "top": None}, "x_few": {"graphs": None}})
    assert files["x", "few_graphs"] == "x_few_graphs.csv"
    assert files["x", "top"] == "x_top.csv"
    assert files["x_few", "graphs"] == "x_few_graphs_2.csv"
    agreements = ["agreement_a_b_c", "agreement_a_B_c", "agreement_a_b_c_2"]
    assert file_names(agreements) == ["agreement_a_b_c", "agreement_a_B_c_3", "agreement_a_b_c_2"]


def test_the_page_needs_nothing_beside_it(small_report):
    text = (small_report / "report.html").read_text()
    head = text[: text.index('id="data"')]
    assert "src=" not in head
    assert "<link rel=" in head
    assert 'href="http' not in head
    assert "{{" not in head


def test_the_page_in_a_browser(small_report):
    executable = find_browser()
    if executable is None:
        pytest.skip("there is no Chromium here")
    with Browser(executable) as browser:
        browser.open(small_report / "report.html", "document.body?.dataset.ready === 'true'")
        first = "document.getElementById('landscape-0')"
        browser.evaluate(f"{first}.scrollIntoView({{block: 'center'}})")
        # The bin around C = 0.433, L = 2.283, where the pixels are.
        x, y = browser.evaluate(
            f"""(() => {{
                const box = {first}.querySelector('.nsewdrag').getBoundingClientRect();
                const {{ xaxis, yaxis }} = {first}._fullLayout;
                return [box.left + xaxis.d2p(0.433), box.top + yaxis.d2p(2.283)];
            }})()"""
        )
        browser.click(x, y)
        browser.wait("document.querySelector('#bin tr.graph')")
        graphs = pd.read_csv(small_report / "tables" / "many_bins_coarse.csv")
        row = graphs[(graphs["c_bin"] == 6) & (graphs["l_bin"] == 5)].iloc[0]
        title = browser.evaluate("document.querySelector('#bin h4').textContent")
        assert title == f"many: {row['graphs']:.0f} graphs, mean error {row['mean']:.2f} %"
        # The same place is outlined in the other landscape, and a graph is drawn.
        shapes = "document.getElementById('landscape-1').layout.shapes.length"
        assert browser.evaluate(shapes) == 1
        assert browser.evaluate("document.querySelectorAll('#drawing circle').length") == 64
        edges = "document.querySelector('#drawing path').getAttribute('d').split('M').length - 1"
        first_name = browser.evaluate("document.querySelector('#bin tr.graph button').title")
        from mpnn_arch.graphs import parse_one

        assert browser.evaluate(edges) == parse_one(first_name).num_edges
        browser.evaluate("document.querySelectorAll('#bin tr.graph button')[1].click()")
        assert (
            browser.evaluate(
                "[...document.querySelectorAll('#bin tr')].findIndex("
                "row => row.classList.contains('drawn'))"
            )
            == 2
        )
        # The same without a pointer: the bin of lowest error.
        menu = "document.getElementById('bins')"
        best = graphs.sort_values("mean").iloc[0]
        browser.evaluate(f"{menu}.selectedIndex = 1; {menu}.dispatchEvent(new Event('change'))")
        said = browser.evaluate(f"{menu}.selectedOptions[0].textContent")
        title = browser.evaluate("document.querySelector('#bin h3').textContent")
        assert said.partition(":")[0] == title.removeprefix("Bin around ")
        assert browser.evaluate(f"{menu}.options.length") > len(graphs)
        assert float(said.split()[-2]) <= best["mean"] + 0.01
        # Fine bins, and every chart further down.
        browser.evaluate("document.getElementById('fine').click()")
        browser.wait(f"{first}.data[0].x.length === 135")
        count = browser.evaluate("document.querySelectorAll('[data-chart]').length")
        assert count > 15
        for place in range(count):
            chart = f"document.querySelectorAll('[data-chart]')[{place}]"
            browser.evaluate(f"{chart}.scrollIntoView()")
            browser.wait(f"{chart}.querySelector('.main-svg')")
        assert browser.errors == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_the_dark_and_on_a_phone(small_report, browser, serious_faults, width):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto((small_report / "report.html").as_uri())
    page.wait_for_selector("body[data-ready=true]")
    page.select_option("#bins", index=1)
    page.wait_for_selector("#drawing circle")
    page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
    chart = page.locator("[data-chart='0/1']")
    chart.scroll_into_view_if_needed()
    chart.locator(".main-svg").first.wait_for()

    def light(selector, of):
        found = page.locator(selector).first.evaluate(f"one => getComputedStyle(one).{of}")
        return sum(map(int, re.findall(r"\d+", found)[:3])) / 3

    title, ground = "#landscape-0 .gtitle", "#landscape-0 .main-svg"
    assert light("body", "backgroundColor") < 60
    assert light(ground, "backgroundColor") < 60
    assert light(title, "fill") > 200
    outlines = "document.getElementById('landscape-0').layout.shapes.length"
    assert page.evaluate(outlines) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for each in page.locator(".js-plotly-plot").all():
        inner, outer = each.bounding_box(), each.locator("xpath=..").bounding_box()
        assert inner["x"] + inner["width"] <= outer["x"] + outer["width"]
        for text in each.locator(".gtitle").all():
            box = text.bounding_box()
            assert box["x"] + box["width"] <= inner["x"] + inner["width"]
    assert serious_faults(page) == []
    # The reader's system turns light in the evening, or at noon.
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        f"getComputedStyle(document.querySelector('{ground}')).backgroundColor"
        " === 'rgb(255, 255, 255)'"
    )
    assert light(title, "fill") < 60
    assert page.evaluate(outlines) == 1
    assert serious_faults(page) == []
    context.close()


def test_a_best_graph_that_is_expected_to_err_more_is_not_as_good_as_its_mean_says():
    def reading(held_out, expected, rank=2.0):
        splits = pd.DataFrame(
            {"chosen_on": [4], "bias": [held_out], "held_out": [34.8], "rank": [rank]}
        )
        bias = SimpleNamespace(splits=splits, graphs=53, best=34.8, expected=expected)
        return _best_graph(SimpleNamespace(name="ours", bias=bias, baseline={"mean": 35.8}))

    assert reading(-0.001, 34.81).verdict == "survives"
    assert "is 0.00 points above" in reading(-0.001, 34.81).evidence
    assert "is 0.20 points below" in reading(-0.2, 34.81).evidence
    assert reading(-0.001, 35.57).verdict == "in part"
    assert reading(0.7, 34.81).verdict == "in part"
    assert reading(0.7, 34.81).evidence.endswith("it ranks 2 there")
    assert reading(0.7, 34.81, 2.5).evidence.endswith("it ranks 2.5 there")


@pytest.mark.parametrize(("r2", "exceeds"), [(0.85, True), (0.8, False)])
def test_more_than_chance_leaves_to_explain_is_not_said_to_be_at_most(r2, exceeds):
    """Runs of a graph that are no independent draws, as those of the published EfficientNet."""
    rows = [("density", 0.5, 0.3, 0.6, 0.0), ("quadratic", r2, 0.7, 0.9, 0.1)]
    rows += [("quadratic and density", 0.8, 0.7, 0.9, 0.1), ("ceiling", 0.7, 0.5, 0.83, math.nan)]
    table = pd.DataFrame(rows, columns=["function", "r2", "r2_low", "r2_high", "gain_low"])
    told = _smooth(SimpleNamespace(name="one", surfaces=table, slices={}))
    assert "of at most 0.70 (0.50 to 0.83)" in told.evidence
    assert ("if a graph's runs were independent" in told.evidence) == exceeds


def test_a_name_cannot_break_the_page(small_results, tmp_path):
    path = tmp_path / "a<b>&'{{data}}_landscape_.csv"
    lines = small_results[1].read_text().splitlines()
    path.write_text("\n".join(lines[:1] + lines[1:40]) + "\n")
    write_report([path], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "a<b>" not in text
    assert "a&lt;b&gt;&amp;&#x27;{{data}}" in text
    assert file_name(path.stem) == "a_b_data__landscape_"
    assert (tmp_path / "out" / "figures" / "a_b_data__landscape__landscape_coarse.png").is_file()
    assert 'data-chart="0/0"' in text  # a chart beside the landscapes
    named = re.findall(r"\((tables/[^)]*\.csv)\)", text)
    assert named
    assert all((tmp_path / "out" / name).is_file() for name in named)


def test_poor_results_are_analysed_as_far_as_they_go(tmp_path, results_file):
    graphs = [line for line in results_file.lines if not line.startswith("complete")]
    one_seed = [line for line in graphs if line.split(",")[-2] != "2"]
    path = results_file(one_seed, "poor.csv")
    said = write_report([path], tmp_path / "out")
    made = json.loads((tmp_path / "out" / "findings.json").read_text())["poor"]
    assert made["baseline"] is None
    assert made["sweet_spot"] is None
    assert not math.isnan(made["best"]["mean"])
    notes = " ".join(made["notes"])
    for part in ("no baseline", "one training seed", "the sweet spot: left out", "selection bias"):
        assert part in notes
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no baseline" in page
    assert all(one.verdict for one in said)


def test_the_command(small_results, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["report", str(small_results[1]), "--out", str(tmp_path / "out")])
    assert "few epochs rank the graphs" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()
    for wrong in ([str(tmp_path / "none.csv")], [str(tmp_path)]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["report", *wrong, "--out", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        write_report(small_results[1:], tmp_path / "file" / "out")


def test_what_is_left_out_of_results_is_said_at_the_terminal(tmp_path, capsys):
    results = tmp_path / "own.csv"
    rows = [f'"{name}",{seed},0.4{seed}' for name in ("ring:8,4", "rung:8,4") for seed in (0, 1)]
    results.write_text("\n".join(["graph,seed,error", *rows]) + "\n")
    with pytest.raises(SystemExit):
        cli.main(["report", str(results), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert "note: own: 1 of 2 graphs left out: 'rung:8,4' cannot be made from its row" in said
    assert "note: own: there is no baseline" in said
    assert "read as percent; multiply fractions by 100" in said
    with pytest.raises(InputError, match="noted is a function, not 3"):
        write_report([results], tmp_path / "out", noted=3)


def test_published_findings(published, tmp_path):
    write_report([published], tmp_path / "report")
    made = json.loads((tmp_path / "report" / "findings.json").read_text())
    mlp, resnet = made["mlp_cifar10_epoch200"], made["resnet34_imagenet_epoch100"]
    assert mlp["baseline"]["mean"] == pytest.approx(33.34, abs=0.005)
    assert mlp["baseline"]["std"] == pytest.approx(0.36, abs=0.005)
    top = [(round(one["mean"], 2), round(one["std"], 2)) for one in mlp["top"]]
    assert (32.05, 0.14) in top
    assert mlp["sweet_spot"]["clustering_coefficient"] == pytest.approx([0.10, 0.50])
    assert mlp["sweet_spot"]["average_path_length"] == pytest.approx([1.817, 2.75], abs=5e-4)
    assert resnet["best"]["mean"] == pytest.approx(24.57, abs=0.005)
    assert resnet["sweet_spot"]["clustering_coefficient"] == pytest.approx([0.098, 0.636], abs=5e-4)
    twin = made["resnet34_imagenet_top1_error_by_epoch"]
    assert twin["same_runs_as"] == "resnet34_imagenet_epoch100"
    assert twin["best"] == resnet["best"]
    correlations = made["correlations"]
    (pair,) = correlations["architectures"]
    assert (pair["points"], round(pair["pearson"], 3)) == (53, 0.658)
    few = next(row for row in correlations["few_graphs"] if row.get("graphs") == 52)
    assert few["pearson"] == pytest.approx(0.90, abs=0.005)
    third = next(row for row in correlations["few_epochs"] if row["epoch"] == 3)
    assert third["pearson"] == pytest.approx(0.93, abs=0.005)


def test_results_that_allow_no_test_of_a_claim_are_said_to(tmp_path, capsys):
    results = tmp_path / "own.csv"
    results.write_text('graph,seed,error\n"ring:8,4",0,40\n"ring:8,4",1,41\n')
    with pytest.raises(SystemExit) as end:
        cli.main(["report", str(results), "--out", str(tmp_path / "out")])
    assert not end.value.code
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "these results allow no test of a claim; the page says what it left out"
    assert said[1].startswith("report: ")
