"""JSON by the strict rules of the standard, read and written."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """The value in ``text``, which is not trusted.

    Python's parser alone accepts NaN and Infinity, keeps the last of two equal names, and has
    errors of several classes.

    Raises:
        ValueError: not JSON, a name given twice, a number that is not finite, an integer of
            thousands of digits, or values nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it gives {twice[:80]!r} twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is not a number")


def format_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON: null for numbers that are not finite, and NumPy's numbers as Python's."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "dtype"):  # NumPy's, which is not imported for this
        value = value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
