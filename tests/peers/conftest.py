"""What the files of this folder share: one call, of PyG's layer and of ours with its weights.

Counted are the calls that PyG's suite makes by default. Those of its full run with TorchScript, and
those that need torch-sparse, are not: a round is compiled by ``torch.compile``, and torch-sparse is
not a dependency. Nor is ``gcn_norm``, which is a function of PyG and not a layer.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor


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
