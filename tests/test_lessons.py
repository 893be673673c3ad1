"""The lessons keep their form, and every solution runs by itself as it is written."""

import json
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mpnn_arch.analysis import simultaneous_sweet_spot, sweet_spot
from mpnn_arch.graphs import measure, parse_one, sample
from mpnn_arch.widget.toggled import toggled_graph

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
MOST_BYTES = 60_000  # of a thumbnail


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def exercises(path):
    """Of every exercise, what stands before its solution and the code in it."""
    text = "\n\n".join(cells(path, "markdown")).split("\n## Exercises\n")[1]
    _, *parts = re.split(r"^### \d\. .+$", text, flags=re.MULTILINE)
    folded = re.compile(r"<details>\n<summary>Solution</summary>\n\n(.*?)\n\n</details>", re.DOTALL)
    found = []
    for part in parts:
        (solution,) = folded.findall(part)
        (code,) = re.findall(r"^```python\n(.*?)^```$", solution, re.MULTILINE | re.DOTALL)
        found.append((part[: part.index("<details>")], code))
    return found


def test_there_are_eight_lessons_in_order():
    assert [path.name[:3] for path in LESSONS] == [f"0{number}_" for number in range(1, 9)]


def test_shortcuts_take_from_l_and_c_what_lesson_5_says():
    (lesson,) = NOTEBOOKS.glob("05_*.ipynb")
    code, text = "\n".join(cells(lesson, "code")), "\n".join(cells(lesson, "markdown"))
    ring = parse_one(re.search(r'parse_one\("(ring:[^"]+)"\)', code)[1])
    listed = re.search(r"for pair in \[None, (.+)\]:", code)[1]
    pairs = [tuple(map(int, pair)) for pair in re.findall(r"\((\d+), (\d+)\)", listed)]
    measured = [
        (graph.clustering_coefficient, graph.average_path_length)
        for graph in (ring, toggled_graph(ring, pairs[:1]), toggled_graph(ring, pairs))
    ]
    falls = [
        [1 - now / before for now, before in zip(one, measured[0], strict=True)]
        for one in measured[1:]
    ]
    (first_c, first_l), (c, length) = falls
    assert first_l > 2 * first_c
    assert f"{100 * length:.0f} % off L" in text
    assert f"{100 * c:.0f} % off C" in text
    assert length > 2 * c


def test_no_family_of_lesson_5_reaches_the_corner_that_it_calls_empty():
    (lesson,) = NOTEBOOKS.glob("05_*.ipynb")
    assert "a C below 0.1 and an L below 1.5" in "\n".join(cells(lesson, "markdown"))
    first, drawing = (
        next(code for code in cells(lesson, "code") if line in code)
        for line in ("quick = ", "families = {")
    )
    names = {}
    exec(first, names)
    names["quick"] = True
    exec(drawing, names)
    places = np.concatenate([line.get_xydata() for line in names["ax"].lines])
    assert not ((places[:, 0] < 0.1) & (places[:, 1] < 1.5)).any()
    assert (places[:, 1] > 6).any()  # as its title says
    assert "L above 6 are not shown" in names["ax"].get_title()
    names["plt"].close("all")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_form(path):
    title, *prose = cells(path, "markdown")
    code = "\n".join(cells(path, "code"))
    assert re.match(rf"# {path.name[1]}\. \S", title)
    assert "**Question.**" in title
    assert "?" in title.split("**Question.**")[1].split("\n\n")[0]
    assert "*You will*" in title
    assert "*Needs*" in title
    assert "*Time*" in title
    text = "\n".join(prose)
    assert len(re.findall(r"^> \*\*Your guess\.\*\*", text, re.MULTILINE)) >= 2
    assert re.search(r"touch", text, re.IGNORECASE)
    assert "RoundWidget(" in code
    assert re.search(r"\.draw\(|plt\.subplots|draw_", code)
    assert "## What to keep" in text
    for cell in cells(path, "code"):  # what is drawn over axes says what they are
        if re.search(r"\.(imshow|plot|barh|errorbar)\(", cell):
            assert "xlabel" in cell
        if "node_color=" in cell:  # colours alone say nothing to some
            assert "labels=" in cell
        assert not re.search(r"print\(\w+\.run\(", cell)  # the object would be printed
    assert "class " not in code  # of substance nothing is defined here
    assert not re.search(r"https?://|[\"'](/\w|\.\./)", code)  # neither a network nor a fixed path


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_three_exercises(path):
    found = exercises(path)
    assert len(found) == 3
    assert all(question.strip() for question, _ in found)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_solution_runs_and_checks_itself(path, number, monkeypatch, capsys):
    _, code = exercises(path)[number - 1]
    assert re.search(r"^ *(assert |torch\.testing\.assert_)", code, re.MULTILINE)
    monkeypatch.chdir(NOTEBOOKS)
    exec(compile(code, f"{path.name}, solution {number}", "exec"), {"__name__": "solution"})
    assert not re.search(r"\b[A-Z]\w*\(\w+=", capsys.readouterr().out)  # an object, printed raw


def test_shuffled_results_of_one_graph_a_bin_are_flat_too():
    # Without the published results the lesson has such a study. Graphs that change places with all
    # their errors differ as much as before.
    (cell,) = [code for code in cells(LESSONS[6], "code") if "generator.permutation" in code]
    described = measure(sample(64, 52)).assign(results="made up", num_nodes=64, epoch=1)
    described["graph"] = [f"graph {i}" for i in range(52)]
    described["density"] = described["rewiring_probability"] = described["graph_seed"] = 0
    noise = np.random.default_rng(0).normal(0, 0.1, (5, 52))
    table = pd.concat(
        [
            described.assign(
                train_seed=seed, error=described["average_path_length"] + 30 + noise[seed]
            )
            for seed in range(5)
        ],
        ignore_index=True,
    )
    names = {"np": np, "table": table, "sweet_spot": sweet_spot, "spot": sweet_spot(table)}
    names["simultaneous_sweet_spot"] = simultaneous_sweet_spot
    exec(cell, names)
    assert names["spot"].unit == "graph"
    assert simultaneous_sweet_spot(table).flat_p < 1e-9
    assert names["tested"].flat_p > 0.001


def test_the_first_lesson_shows_the_class_of_the_readme():
    core = re.search(
        r"```python\n(class MessageRound\(MessagePassing\):\n.*?)```",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert core is not None
    assert f"```python\n{core[1]}```" in "\n".join(cells(LESSONS[0], "markdown"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_carries_a_small_thumbnail(path):
    (link,) = re.findall(r"!\[[^\]]+\]\((\S+\.png)\)", cells(path, "markdown")[0])
    picture = (NOTEBOOKS / link).read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    assert 200 <= width <= 900
    assert 80 <= height <= 500
    assert len(picture) < MOST_BYTES


def test_the_teachers_page_and_the_readme_name_every_lesson():
    for page in (NOTEBOOKS / "teaching.md", ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        missing = [path.name for path in LESSONS if path.name not in text]
        assert not missing, f"{page.name} does not name {missing}"


@pytest.mark.parametrize("page", ["notebooks/teaching.md", "README.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    broken = [
        target
        for target in targets
        if not re.match(r"https?:|mailto:", target) and not ((ROOT / page).parent / target).exists()
    ]
    assert not broken
