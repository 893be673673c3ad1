"""How many Python calls a fused round costs: small rounds are bound by them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest
import torch

import mpnn_arch
from mpnn_arch import RelationalLinear, graphs
from mpnn_arch.kernels import cpu

PACKAGE = Path(mpnn_arch.__file__).parent


def python_calls(layer: torch.nn.Module, x: torch.Tensor) -> list[Path]:
    """The file of every Python function that ``layer(x)`` calls, torch's included."""
    files: list[Path] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.append(Path(frame.f_code.co_filename))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        layer(x)
    finally:
        sys.setprofile(before)
    return files


@pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())
def test_a_warm_linear_round_on_the_cpu_kernels_is_thirteen_calls():
    generator = torch.Generator().manual_seed(0)
    graph = graphs.ws_flex(16, average_degree=4, rewiring_probability=0.1, seed=0)
    layer = RelationalLinear(graph, 64, 64, backend="cpu", generator=generator)
    x = torch.randn(8, 64, generator=generator)
    layer(x)  # prepares the product of this shape
    files = python_calls(layer, x)
    own = {path for path in files if path.is_relative_to(PACKAGE)}
    assert 0 < len(files) <= 13
    assert len(own) <= 6
