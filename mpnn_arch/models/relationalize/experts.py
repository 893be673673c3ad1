"""A mixture's experts, each of whose three matrices is a round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.rounds import RelationalLinear


class RelationalExperts(nn.Module):
    r"""The experts of a mixture, of which a router chooses k for every token; every matrix a round.

    .. math::
        y = \sum_{e \in \text{top } k} p_e\, W_e^{down}
        (\mathrm{act}(W_e^{gate} x) \odot W_e^{up} x)

    It replaces the stacks of transformers (``MixtralExperts`` and others like it) and is called
    as they are; the router around them is not changed. Every expert runs on the tokens for which it
    was chosen. Shapes then depend on values, which ``torch.export`` does not follow: an exported
    program runs every expert on all tokens, E / k times the multiply-adds.

    Args:
        graph: along whose edges the messages of all rounds flow, or its specification.
        num_experts: E.
        hidden_size, intermediate_size: channels H of a token, and I inside an expert.
        act: the activation.
        device, dtype: of the parameters.
        **kwargs: of the rounds; see :class:`~mpnn_arch.rounds.RelationalLinear`.

    Shapes:
        - **hidden_states:** (T, H) tokens
        - **top_k_index**, **top_k_weights:** (T, k)
        - **output:** (T, H)

    Raises:
        InputError: a width below the number of nodes.

    Source: Jiang et al., *Mixtral of Experts*, 2024, section 2.1.

    Example:
        >>> import torch
        >>> from mpnn_arch.models.relationalize import RelationalExperts
        >>> experts = RelationalExperts("ring:8,4", 4, 32, 64, torch.nn.functional.silu)
        >>> scores, chosen = torch.rand(5, 4).softmax(1).topk(2)  # two of four experts
        >>> experts(torch.randn(5, 32), chosen, scores).shape
        torch.Size([5, 32])
    """

    def __init__(
        self,
        graph: GivenGraph,
        num_experts: int,
        hidden_size: int,
        intermediate_size: int,
        act: Callable[[Tensor], Tensor],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.num_experts, self.act = num_experts, act
        where: dict[str, Any] = {"device": device, "dtype": dtype, "bias": False}

        def stack(width: int, out_width: int) -> nn.ModuleList:
            return nn.ModuleList(
                RelationalLinear(graph, width, out_width, **where, **kwargs)
                for _ in range(num_experts)
            )

        self.gate, self.up = (stack(hidden_size, intermediate_size) for _ in range(2))
        self.down = stack(intermediate_size, hidden_size)
        self.register_load_state_dict_pre_hook(_take_stacks)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """The sum of the chosen experts' outputs, weighted."""
        out = torch.zeros_like(hidden_states)
        if hidden_states.is_meta:  # no values to route by: as many calls, each of all tokens
            for number in range(top_k_index.shape[-1]):
                out = out + self._expert(number % self.num_experts, hidden_states)
            return out
        if torch.compiler.is_exporting():
            for number in range(self.num_experts):
                share = torch.where(top_k_index == number, top_k_weights, 0).sum(-1, keepdim=True)
                out = out + (self._expert(number, hidden_states) * share).to(out.dtype)
            return out
        for number in range(self.num_experts):
            token, place = torch.where(top_k_index == number)
            # In training every expert takes part, so that every parameter has a gradient.
            if not self.training and not len(token):
                continue
            chosen = self._expert(number, hidden_states[token])
            chosen = chosen * top_k_weights[token, place, None]
            out = out.index_add(0, token, chosen.to(out.dtype))
        return out

    def _expert(self, number: int, x: Tensor) -> Tensor:
        down: Tensor = self.down[number](self.act(self.gate[number](x)) * self.up[number](x))
        return down


def is_stack_of_experts(layer: Any) -> bool:
    """Whether this is a stack of gated experts of transformers, in its usual layout.

    That library marks each such module with its layout. The usual one is (E, C_out, C_in), the
    gate's rows above those of the up projection, without biases.
    """
    gate_up, down = getattr(layer, "gate_up_proj", None), getattr(layer, "down_proj", None)
    marks = ("has_gate", "is_concatenated", "has_bias", "is_transposed", "has_post_expert_norm")
    return (
        isinstance(gate_up, Tensor)
        and isinstance(down, Tensor)
        and gate_up.dim() == down.dim() == 3
        and gate_up.shape == (len(down), 2 * down.shape[2], down.shape[1])
        and len(list(layer.parameters())) == 2
        and [getattr(layer, mark, None) for mark in marks] == [True, True, False, False, False]
        and getattr(type(layer)._apply_gate, "__name__", "") == "_default_apply_gate"
        and not getattr(layer, "_is_expert_parallel", False)
        and callable(getattr(layer, "act_fn", None))
    )


def matrices(gate_up: Tensor, down: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """Gate, up and down of every expert, by their names here, from the two stacks."""
    half = gate_up.shape[1] // 2
    return {
        "gate": tuple(one[:half] for one in gate_up),
        "up": tuple(one[half:] for one in gate_up),
        "down": tuple(down),
    }


def _take_stacks(layer: RelationalExperts, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take a dense stack's state dict: on the complete graph rounds accept dense matrices."""
    names = [f"{prefix}{name}" for name in ("gate_up_proj", "down_proj")]
    if not all(name in state and state[name].dim() == 3 for name in names):
        return
    for name, stack in matrices(*(state.pop(name) for name in names)).items():
        for number, matrix in enumerate(stack):
            state[f"{prefix}{name}.{number}.weight"] = matrix
