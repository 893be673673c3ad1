"""Functions of a matrix on rounds, and what they refuse; torch's own are tried in tests/peers."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from mpnn_arch import InputError, MessageRound, RelationalLinear, graphs
from mpnn_arch.rounds import on_matrix

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")


@pytest.mark.parametrize(
    ("message", "apply", "words"),
    [
        ("shared_linear", parametrizations.weight_norm, "one matrix for all edges"),
        ("gated", parametrizations.weight_norm, "this round is not one product with its"),
        ("linear", nn.utils.spectral_norm, "spectral_norm registers no parametrisation"),
        ("linear", lambda m: prune.ln_structured(m, "weight", 0.5, 2, 0), "custom_from_mask"),
    ],
)
def test_what_is_no_matrix_or_no_parametrisation_is_one_sentence(message, apply, words):
    layer = RelationalLinear(GRAPH, 19, 26, message=message)
    with pytest.raises(InputError, match=words):
        on_matrix(layer, apply)


NORMS = [parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.weight_norm]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__module__.split(".")[-1])
@pytest.mark.parametrize("message", ["shared_linear", "shared_attention"])
def test_a_weight_that_all_edges_share_is_a_matrix_and_takes_norms(message, norm, generator):
    layer = RelationalLinear(GRAPH, 16, 24, message=message, generator=generator)
    plain = MessageRound(GRAPH, 16, 24, message=message)
    plain.load_state_dict(layer.state_dict())
    norm(layer.message_function)
    layer.eval()
    plain.message_function.weight = nn.Parameter(layer.message_function.weight.detach())
    x = torch.randn(3, 16, generator=generator)
    torch.testing.assert_close(layer(x), plain(x))
    layer.backend = "reference"
    torch.testing.assert_close(layer(x), plain(x))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__module__.split(".")[-1])
def test_the_norm_of_an_edge_products_vector_is_refused(norm):
    layer = RelationalLinear(GRAPH, 16, 24, message="gated")
    norm(layer.message_function.value)
    with pytest.raises(
        InputError, match=r"takes? the flat weight of this EdgeProduct for a vector"
    ):
        layer(torch.ones(3, 16))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_the_refusal_of_a_norm_names_that_norm(norm):
    layer = RelationalLinear(GRAPH, 16, 24)
    norm(layer.message_function)
    with pytest.raises(InputError, match=rf"parametrizations\.{norm.__name__}\)"):
        layer(torch.ones(3, 16))
