"""Errors of code of the user's own, which the library imports or calls by name."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

from mpnn_arch.errors import InputError


@contextmanager
def own_code(what: str) -> Iterator[None]:
    """Say in one sentence what the user's code raises inside; the error itself is the cause.

    Errors of the library's own are passed on, and so is a lack of memory.

    Args:
        what: the code, as the beginning of a sentence: ``the function 'my_data:load'``.

    Raises:
        InputError: ``what`` raised; the sentence has the error, and the file and line of the first
            call within the user's code.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        frames = traceback.extract_tb(error.__traceback__)[2:]  # less this one and the caller's
        places = [frame for frame in frames if "importlib" not in frame.filename]
        where = f" ({places[0].filename}, line {places[0].lineno})" if places else ""
        said = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise InputError(f"{what} raised {said}{where}; correct it") from error


def attribute_of(module: object, name: str) -> Any:
    """What ``name`` leads to in ``module``, dotted as in Python's entry points, or None."""
    try:
        return reduce(getattr, name.split("."), module)
    except AttributeError:
        return None
