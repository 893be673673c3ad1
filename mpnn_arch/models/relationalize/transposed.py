"""The ``Conv1D`` of transformers on a relational graph."""

from __future__ import annotations

from typing import Any

from mpnn_arch.rounds import RelationalLinear


class TransposedLinear(RelationalLinear):
    """A linear round that takes the weight (C_in, C_out) of transformers' ``Conv1D`` when it loads.

    A square weight fits either way round, so it is the class that decides.
    """

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if f"{prefix}weight" in state:
            state[f"{prefix}weight"] = state[f"{prefix}weight"].t()
        super()._load_from_state_dict(state, prefix, *args)
