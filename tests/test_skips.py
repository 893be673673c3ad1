"""A test that is skipped or expected to fail says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# What skips, and the position of the reason among its arguments; `importorskip` says it itself.
REASONS = {"skip": 0, "skipif": None, "xfail": None}


def silent(tree: ast.AST) -> Iterator[int]:
    """The lines of calls and marks that give no reason."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_skip(node.func):
            place = REASONS[node.func.attr]
            given = [k.value for k in node.keywords if k.arg in ("reason", "msg")]
            if place is not None:
                given += node.args[place : place + 1]
            if not given or any(isinstance(v, ast.Constant) and not v.value for v in given):
                yield node.lineno
        elif _is_skip(node) and id(node) not in called:  # `@pytest.mark.skip`, without a call
            yield node.lineno


def _is_skip(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in REASONS
        and ast.unparse(node.value) in ("pytest", "pytest.mark")
    )


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda p: p.name)
def test_every_skip_says_why(path):
    assert list(silent(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "pytest.skip()",
        "pytest.skip('')",
        "@pytest.mark.skip\ndef f(): ...",
        "@pytest.mark.skipif(True)\ndef f(): ...",
        "@pytest.mark.xfail(strict=True)\ndef f(): ...",
    ],
)
def test_a_silent_skip_is_found(code):
    assert list(silent(ast.parse(code))) == [1]
