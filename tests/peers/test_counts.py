"""How many of the cases of torch's and PyG's layers hold; the rest are listed with reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_pyg_gat
import test_pyg_gcn
import test_pyg_gin
import test_pyg_graph
import test_pyg_sage
import test_torch_conv2d
import test_torch_linear

ROOT = Path(__file__).parents[2]
TABLES = (test_torch_linear.TABLE, test_torch_conv2d.TABLE)
PYG = (test_pyg_gat, test_pyg_gcn, test_pyg_gin, test_pyg_graph, test_pyg_sage)
NOT_APPLICABLE = [part.not_applicable for part in TABLES] + [part.NOT_APPLICABLE for part in PYG]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_cases_of_linear_and_conv2d() -> None:
    held = sum(table.fails(name) is None for table in TABLES for name in table.cases)
    every = held + sum(len(table.not_applicable) for table in TABLES)
    assert held == sum(len(table.cases) for table in TABLES)
    assert held >= 200
    assert held >= 0.94 * every  # 200 of 212
    page = (ROOT / "notebooks" / "differences.md").read_text(encoding="utf-8")
    assert f"Of {every} tested ways to use torch's layers, {held} work" in " ".join(page.split())


def test_calls_of_pygs_layers() -> None:
    """Each file counts its own; more than calls are held in GCN's (an error) and SAGE's."""
    held = sum(len(module.CALLS) for module in PYG) + 1
    held += len(test_pyg_sage.LAZY) + len(test_pyg_sage.COMPILED)
    every = held + sum(len(module.NOT_APPLICABLE) for module in PYG)
    assert held >= 85 / 91 * every
    page = (ROOT / "notebooks/swap.md").read_text(encoding="utf-8")
    assert f"Of {every} calls in PyG's own tests, {held} pass here" in " ".join(page.split())


@pytest.mark.parametrize("place", range(len(NOT_APPLICABLE)))
def test_what_does_not_apply_says_why(place) -> None:
    for name, reason in NOT_APPLICABLE[place].items():
        assert len(reason.split()) > 5, name
    if place < len(TABLES):
        assert not set(TABLES[place].cases) & set(TABLES[place].not_applicable)
