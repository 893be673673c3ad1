"""Formulas as MathML, which browsers draw themselves: no script, no fonts from elsewhere."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def mathml(formula: str, as_block: bool = False) -> str:
    """A formula in TeX as MathML."""
    # Small sums inside a formula; docutils knows the command only at the start of a group.
    return tex2mathml(formula.replace(r"\textstyle", ""), as_block=as_block)


def inline(writer: Any, node: nodes.math) -> None:
    """A formula within a line."""
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def display(writer: Any, node: nodes.math_block) -> None:
    """A formula of its own."""
    writer.body.append(f"<div class='math'>{mathml(node.astext(), as_block=True)}</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True}
