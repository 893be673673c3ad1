"""Pages made from the code: the recipes, and the pages that no table of contents names yet."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import re
from pathlib import Path

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.recipes import RECIPES

FURTHER = "<!-- further pages -->"


class Recipes(SphinxDirective):
    """Every recipe: its docstring, and its values that differ from the defaults."""

    def run(self) -> list[Node]:
        """A section each."""
        lines: list[str] = []
        for name in RECIPES:
            kind = RECIPES.get(name)
            recipe = kind()
            # The docstrings are in reStructuredText, of which they use two marks.
            said = inspect.getdoc(kind) or ""
            said = re.sub(r"``([^`]+)``", r"`\1`", re.sub(r":\w+:`~?([^`]+)`", r"`\1`", said))
            lines += [f"## `{name}`", "", *said.splitlines(), "", "| value | |", "| --- | --- |"]
            values = {"model": recipe.model, "dataset": recipe.dataset}
            values |= {
                field.name: getattr(recipe, field.name)
                for field in dataclasses.fields(recipe)
                if field.name != "training"
            }
            usual = dataclasses.asdict(TrainingConfig())
            values |= {
                key: value
                for key, value in dataclasses.asdict(recipe.training).items()
                if value != usual[key]
            }
            lines += [f"| `{key}` | `{value}` |" for key, value in values.items()]
            lines += [""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def pages_that_exist(app: Sphinx, docname: str, source: list[str]) -> None:
    """In the home page's tables of contents: no pattern without a page, no page without a place."""
    if docname != "index":
        return
    pages = {
        path.relative_to(app.srcdir).with_suffix("").as_posix()
        for pattern in ("*.md", "*.ipynb")
        for path in Path(app.srcdir).glob(pattern)
    } - {"index"}
    named: set[str] = set()

    def existing(table: re.Match[str]) -> str:
        lines = []
        for line in table[0].splitlines():
            found = set(fnmatch.filter(pages, line)) if "*" in line else {line} & pages
            named.update(found)
            if found or "*" not in line:
                lines.append(line)
        return "\n".join(lines)

    text = re.sub(r"^```\{toctree\}$.*?^```$", existing, source[0], flags=re.M | re.S)
    left = sorted(pages - named)
    further = ["```{toctree}", ":caption: Further", "", *left, "```"] if left else []
    source[0] = text.replace(FURTHER, "\n".join(further))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("recipes", Recipes)
    app.connect("source-read", pages_that_exist)
    return {"parallel_read_safe": True}
