"""What the files of this folder share: one call, of PyG's layer and of ours with its weights.

Counted are the calls that PyG's suite makes by default. Those of its full run with TorchScript, and
those that need torch-sparse, are not: a round is compiled by ``torch.compile``, and torch-sparse is
not a dependency. Nor is ``gcn_norm``, which is a function of PyG and not a layer.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mpnn_arch import RelationalGraph, relationalize
from mpnn_arch.models.relationalize import RelationalizeReport

sys.path.insert(0, str(Path(__file__).parent))  # for the tables that files of this folder share


def leaves(value: Any) -> list[Tensor]:
    """The tensors of a result, a sparse one as its dense form and the shape of its values."""
    if isinstance(value, tuple | list):
        return [leaf for one in value for leaf in leaves(one)]
    if value.layout == torch.strided:
        return [value]
    coo = value if value.layout == torch.sparse_coo else value.to_sparse()
    coo = coo.coalesce()
    dense = torch.zeros(coo.shape).index_put((*coo.indices(),), coo.values())
    return [dense, torch.tensor(coo.values().shape)]


@pytest.fixture
def hold() -> Callable[..., Tensor]:
    """Check that our layer with PyG's weights gives PyG's results and gradients in a call."""

    def check(
        kind: Any, make: Callable[[], Any], x: Any, edges: Any, before: Any = None, **rest: Any
    ) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs = make()
        ours = kind.from_pyg(theirs)
        results, sums = [], []
        for layer in (ours, theirs):
            if before is not None:
                before(layer)
            out = leaves(layer(x, edges, **rest))
            out[0].square().sum().backward()
            grads = [p.grad for p in layer.parameters() if p.grad is not None]
            sums.append(sorted(float(g.abs().sum()) for g in grads if g.abs().sum() > 0))
            layer.zero_grad()
            results.append(out)
        for mine, other in zip(*results, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(*map(torch.tensor, sums), rtol=1e-3, atol=1e-3)
        return results[0][0]

    return check


def _first_tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _refill(model: nn.Module, gain: float = 1.0) -> nn.Module:
    """Weights that every layer's output depends on: libraries start some at zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                size = gain * parameter[0].numel() ** -0.5
                parameter.normal_(0, size, generator=generator)
    return model.eval()


def _flops(model: nn.Module, inputs: dict[str, Tensor]) -> int:
    """What torch counts in a call: two for a multiply-add, along the edges of a round."""
    # The counter does not know the fused attention of the CPU; its products are the same.
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return int(counter.get_total_flops())


def _check_model(model: nn.Module, inputs: dict[str, Tensor]) -> RelationalizeReport:
    """Equality on the complete graph, its cost, and five steps on a sparse graph."""
    complete = RelationalGraph.from_adjacency(np.ones((8, 8), dtype=int))
    same = relationalize(model, complete, backend="masked", inputs=inputs)
    with torch.no_grad():
        ours, theirs = (_first_tensor(m(**inputs)) for m in (same, model))
    assert theirs.std() > 1e-4
    scale = theirs.std().item()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * scale)
    report = same.relationalize_report
    batch = len(next(iter(inputs.values())))
    assert _flops(model, inputs) == 2 * batch * report.multiply_adds_before
    assert report.parameters_after == report.parameters_before
    assert report.multiply_adds_after == report.multiply_adds_before > 0
    assert all(layer.outcome == "round" or layer.reason for layer in report.layers)

    sparse = relationalize(model, "ws_flex:8,4,0.2,0", backend="masked", inputs=inputs)
    assert sparse.relationalize_report.multiply_adds_after < report.multiply_adds_after
    counted = relationalize(model, "ws_flex:8,4,0.2,0", backend="gather", inputs=inputs)
    cost = counted.relationalize_report.multiply_adds_after
    assert _flops(counted, inputs) == 2 * batch * cost
    optimiser = torch.optim.Adam(sparse.parameters(), lr=1e-3)
    target = theirs.detach()
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        loss = (_first_tensor(sparse(**inputs)) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    return sparse.relationalize_report


@pytest.fixture
def refill() -> Callable[..., nn.Module]:
    """refill(model, gain=1): in eval mode, with weights on which every layer's output depends."""
    return _refill


@pytest.fixture
def check_model() -> Callable[..., RelationalizeReport]:
    """check_model(model, inputs): nothing changes on the complete graph, a sparse one trains."""
    return _check_model
