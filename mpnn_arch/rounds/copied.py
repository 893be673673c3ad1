"""A deep copy of a module whose weights may be computed, as those that torch prunes are."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def deep_copy(module: Module, memo: dict[int, Any] | None = None) -> Module:
    """``copy.deepcopy(module)``, also after a step with pruned weights.

    Pruning leaves the masked weight on its module as a tensor with a history, which torch does not
    copy. The copy has its numbers, until the next call masks the weight anew.

    Args:
        module: to copy.
        memo: copies of tensors and others, by the id of the original.
    """
    memo = {} if memo is None else memo
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)
