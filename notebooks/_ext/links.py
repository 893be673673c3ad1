"""References to names of the package, and links to files of the repository."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from docutils.nodes import Element
from public import homes, modules
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[2]


def names_inside() -> dict[str, Any]:
    """Every name of every module of the package -> its object; annotations may use any of them."""
    found: dict[str, Any] = {}
    for module, _ in modules():
        for name, value in vars(importlib.import_module(module)).items():
            found.setdefault(name, value)
    return found


def imported(dotted: str) -> Any:
    """The object at a dotted path.

    Raises:
        LookupError: there is none.
    """
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for name in parts[end:]:
            value = getattr(value, name, LookupError)
        if value is not LookupError:
            return value
    raise LookupError(dotted)


class Resolver:
    """Finds where a name is described; a name that exists but is not public is left unlinked."""

    def __init__(self) -> None:
        self.homes: dict[int, str] = {}
        self.inside: dict[str, Any] = {}

    def resolve(
        self, app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: Element
    ) -> Element | None:
        """The event ``missing-reference``."""
        if node.get("refdomain") != "py":
            return None
        self.homes = self.homes or {id(value): name for name, value in homes().items()}
        self.inside = self.inside or names_inside()
        target = node["reftarget"].lstrip(".")
        try:
            value = imported(target)
        except LookupError:
            first, *rest = target.split(".")
            value = self.inside.get(first, LookupError)
            for name in rest:
                value = getattr(value, name, LookupError)
            if value is LookupError:
                # `describe` in the docstring of a class: its own method.
                return contnode if self.is_member(node, target) else None
        home = self.homes.get(id(value))
        if home is None or home == target:
            return contnode
        domain = env.get_domain("py")
        return (
            domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, contnode)
            or contnode
        )

    def is_member(self, node: pending_xref, target: str) -> bool:
        """Whether the class in whose docstring the reference stands has such an attribute."""
        module, cls = node.get("py:module"), node.get("py:class")
        if not (module and cls):
            return False
        try:
            return hasattr(imported(f"{module}.{cls}"), target)
        except LookupError:
            return False


def name_files(app: Sphinx, docname: str, source: list[str]) -> None:
    """A link to a file of the repository outside the pages is shown as its path."""

    def as_path(link: re.Match[str]) -> str:
        path = (Path(app.srcdir) / docname).parent / link[2].split("#")[0]
        if not path.exists():
            return link[0]  # and so reported as broken
        return f"{link[1]} (`{path.resolve().relative_to(ROOT)}`)"

    source[0] = re.sub(r"(?<!!)\[([^\]\n]+)\]\((\.\./[^)\n]+)\)", as_path, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", Resolver().resolve)
    app.connect("source-read", name_files)
    return {"parallel_read_safe": True}
