"""JSON as the standard has it."""

import math

import numpy as np
import pytest

from mpnn_arch.io.json_text import format_json, parse_json


def test_numbers_that_are_not_finite_are_null_and_those_of_numpy_plain():
    value = {
        "nan": math.nan,
        "95%": (np.float64(-math.inf), np.float32(0.5)),
        "rows": [{"count": np.int64(3), "kept": np.bool_(True), "mean": np.float64("nan")}],
        "array": np.array([1.0, math.nan]),
        "note": None,
    }
    expected = {
        "nan": None,
        "95%": [None, 0.5],
        "rows": [{"count": 3, "kept": True, "mean": None}],
        "array": [1.0, None],
        "note": None,
    }
    assert parse_json(format_json(value)) == expected
    assert "\n" in format_json(value, indent=2)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1, "a": 2}', "[" * 100_000])
def test_what_the_standard_refuses_is_refused(text):
    with pytest.raises(ValueError):
        parse_json(text)
