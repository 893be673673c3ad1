"""The ``Conv1D`` of transformers on a relational graph."""

from __future__ import annotations

from typing import Any

from mpnn_arch.rounds import RelationalLinear


class TransposedLinear(RelationalLinear):
    """A linear round that takes the weight (C_in, C_out) of transformers' ``Conv1D`` when it loads.

    Of a square weight the shape does not tell which it is, so that the class has to.
    """

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if f"{prefix}weight" in state:
            state[f"{prefix}weight"] = state[f"{prefix}weight"].t()
        super()._load_from_state_dict(state, prefix, *args)
