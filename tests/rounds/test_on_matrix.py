"""Functions of a matrix on rounds, and what they refuse; torch's own are tried in tests/peers."""

import pytest
from torch import nn
from torch.nn.utils import parametrizations, prune

from mpnn_arch import InputError, RelationalLinear, graphs
from mpnn_arch.rounds import on_matrix

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")


@pytest.mark.parametrize(
    ("message", "apply", "words"),
    [
        ("shared_linear", parametrizations.weight_norm, "one matrix for all edges"),
        ("gated", parametrizations.weight_norm, "this round has no matrix of weights"),
        ("linear", nn.utils.spectral_norm, "spectral_norm registers no parametrisation"),
        ("linear", lambda m: prune.ln_structured(m, "weight", 0.5, 2, 0), "custom_from_mask"),
    ],
)
def test_what_is_no_matrix_or_no_parametrisation_is_one_sentence(message, apply, words):
    layer = RelationalLinear(GRAPH, 19, 26, message=message)
    with pytest.raises(InputError, match=words):
        on_matrix(layer, apply)
