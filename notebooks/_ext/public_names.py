"""The directive ``public-names``: every public name of a package, with its docstring.

A name that several packages export is described once and linked from the others.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from docutils.nodes import Node, section
from docutils.parsers.rst import Parser
from docutils.utils import new_document
from public import exported, homes, modules
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from mpnn_arch.registry import Registry


def described(value: Any) -> str:
    """The directive of autodoc for an object."""
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isroutine(value) else "py:data"


def comment(name: str, value: Any) -> list[str]:
    """What the ``#:`` comment above a variable's definition says, and the names in a registry."""
    lines: list[str] = []
    for module, _ in modules():
        found = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name))
        if found and getattr(importlib.import_module(module), name) is value:
            lines = found
            break
    if isinstance(value, Registry):
        lines = [*lines, "", f"Names: {', '.join(f'``{entry}``' for entry in value)}."]
    return lines


class PublicNames(SphinxDirective):
    """All public names of the module that is the argument."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Nodes of autodoc's directives."""
        (module,) = self.arguments
        home = {id(value): name for name, value in homes().items()}
        lines: list[str] = []
        links = []
        for name, value in exported(module):
            place = home[id(value)]
            if place != f"{module}.{name}":
                links.append(f":py:obj:`{name} <{place}>`")
                continue
            directive = described(value)
            lines += ["", f".. {directive}:: {module}.{name}"]
            if directive == "autoclass":
                lines += ["   :members:", "   :show-inheritance:"]
            if directive == "py:data":
                lines += ["", *(f"   {line}" for line in comment(name, value))]
        if links:
            lines = [f"Described elsewhere: {', '.join(links)}.", "", *lines]
        return self.parsed(lines)

    def parsed(self, lines: list[str]) -> list[Node]:
        """Nodes of lines of reStructuredText, in a page of Markdown."""
        settings = self.state.document.settings
        document = new_document(self.env.doc2path(self.env.docname), settings)
        document.reporter = self.state.document.reporter
        Parser().parse("\n".join(lines), document)
        return section("", *document.children).children


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
