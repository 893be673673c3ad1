"""The guide to extending runs as it is written, each recipe by itself."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

GUIDE = Path(__file__).parents[1] / "notebooks" / "extending.md"
RECIPES = [
    "A message",
    "An aggregation",
    "A family of graphs and a measure",
    "An architecture",
    "A backend",
    "A data set",
]


def sections():
    """Heading -> its code blocks, (language, code), in order; the preface under ""."""
    _, *parts = re.split(r"^## (.+)$", "## \n" + GUIDE.read_text(), flags=re.MULTILINE)
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return {
        heading.strip(): fence.findall(text)
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.fixture(autouse=True)
def own_registries(tmp_path, monkeypatch):
    """What a recipe registers, imports and writes is gone after it."""
    from mpnn_arch.graphs.generators import GENERATORS
    from mpnn_arch.graphs.measures import MEASURES
    from mpnn_arch.kernels import backends
    from mpnn_arch.models import MODELS
    from mpnn_arch.rounds import message_functions
    from mpnn_arch.rounds.aggregations import aggregations
    from mpnn_arch.training import DATASETS

    for registry in (GENERATORS, MEASURES, MODELS, DATASETS, message_functions, aggregations):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    for table in ("_BACKENDS", "_REASONS"):
        monkeypatch.setattr(backends, table, dict(getattr(backends, table)))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def test_every_code_block_belongs_to_one_of_the_recipes():
    found = sections()
    assert [heading for heading in found if heading] == RECIPES
    assert not found.get("")
    assert {language for blocks in found.values() for language, _ in blocks} == {"python", "sh"}
    assert GUIDE.read_text().count("```") == 2 * sum(map(len, found.values()))


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_runs_by_itself_and_checks_itself(heading, monkeypatch):
    blocks = sections()[heading]
    namespace = {"__name__": "recipe"}
    monkeypatch.setitem(sys.modules, "recipe", ModuleType("recipe"))  # dataclasses look it up
    for place, (language, code) in enumerate(blocks):
        if language == "sh":
            shell(code)
            continue
        named = re.match(r"# (\w+\.py)\n", code)  # a file, which later blocks import
        if named:
            Path(named[1]).write_text(code)
        exec(compile(code, f"{GUIDE.name}, {heading}, block {place + 1}", "exec"), namespace)
    assert re.search(r"^ *(assert |torch\.testing\.assert_)", blocks[-1][1], re.MULTILINE)


def shell(code):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        env=os.environ | {"PATH": path, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
