"""Imports run one way: no circle among the modules, no arrow against the README's packages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

import mpnn_arch

ROOT = Path(mpnn_arch.__file__).parent
README = Path(__file__).parents[1] / "README.md"
NAME = ROOT.name


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """The package's own modules that a file imports, inside functions too.

    Names behind ``if TYPE_CHECKING`` are annotations: nothing is imported for them.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        else:
            yield from imported(node, known)


def arrows(root: Path = ROOT) -> nx.DiGraph:
    """A graph with an edge from every module to each module that it imports."""
    found = modules(root)
    graph = nx.DiGraph()
    graph.add_nodes_from(found)
    for name, path in found.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        graph.add_edges_from((name, other) for other in imported(tree, set(found)))
    return graph


def order() -> list[str]:
    """The packages in the README's order: each imports only those above it."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^\| `{NAME}\.(\w+)` \|", text, re.M)


def test_no_circle_among_the_modules():
    circles = [sorted(c) for c in nx.strongly_connected_components(arrows()) if len(c) > 1]
    assert not circles
    assert not list(nx.selfloop_edges(arrows()))


def test_packages_import_only_those_above_them():
    above = order()
    assert len(above) > 5
    base = [m.split(".")[1] for m in modules() if m.count(".") == 1]
    # One file each, which imports at most the others.
    free = {"errors", "checks", "registry", "pyg", "__main__"}
    assert set(base) == set(above) | free, "the README's list of packages is not complete"
    wrong = [
        f"{source} imports {target}"
        for source, target in arrows().edges
        if source.count(".") and target.count(".")
        for mine, other in [(source.split(".")[1], target.split(".")[1])]
        if mine in above and other in above and above.index(other) > above.index(mine)
    ]
    assert not wrong


def test_the_equation_imports_no_backend():
    reached = nx.descendants(arrows(), f"{NAME}.rounds.message_round")
    kernels = {name.split(".", 2)[2] for name in reached if name.startswith(f"{NAME}.kernels.")}
    assert "plan" in kernels
    assert not kernels & {"backends", "block_matmul", "ops", "masked", "gather", "cpu", "triton"}


@pytest.mark.parametrize("line", ["from pkg import b", "def f():\n    import pkg.b"])
def test_a_circle_is_found(tmp_path, line):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text(line)
    (package / "b.py").write_text("from pkg.a import something")
    assert nx.number_strongly_connected_components(arrows(package)) == 2
