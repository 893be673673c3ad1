import pytest

from mpnn_arch import InputError
from mpnn_arch.graphs import generate, parse, parse_one


def test_a_generator_with_its_parameters_in_order_or_by_name():
    graph = generate("ws_flex", 64, 8.5, 0.1, 3)
    assert parse("ws_flex:64,8.5,0.1,3") == [graph]
    assert parse(" ws_flex:64, 8.5, seed=3, rewiring_probability=0.1 ") == [graph]
    assert parse_one("complete:8") == generate("complete", 8)
    assert parse_one("ring:8,4") == generate("ring", num_nodes=8, degree=4)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("", "it starts with one of"),
        ("torus:8", "it starts with one of ba, complete"),
        ("complete", "lacks parameters"),
        ("complete:", r"\(num_nodes\)"),
        ("complete:eight", "'eight' is not a number"),
        ("complete:8,4", "too many positional"),
        ("ws_flex:64", "missing a required argument"),
        ("ring:8,size=3", "no parameter 'size'"),
        ("ring:degree=4,8", "follows a named parameter"),
        ("ring:8,3.5", "degree is an integer"),
        ("complete:1", "num_nodes is at least 2"),
    ],
)
def test_invalid_specs_give_one_sentence(spec, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(spec)
