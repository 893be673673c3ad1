"""Checks of numbers that a user gave: their type, their range, their text, the memory they need."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpnn_arch.errors import InputError

if TYPE_CHECKING:  # the command line checks numbers without loading numpy
    import numpy as np
    import numpy.typing as npt

LARGEST_COUNT = 2**31 - 1
"""The largest number of nodes, channels or classes: what 32-bit indices can name."""

# 18 digits are below 2^63; longer integers fit no tensor.
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII
)


def shown(value: object, limit: int = 80) -> str:
    """``repr(value)``, its middle left out where it is longer than ``limit`` characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        text = f"an integer of {math.floor(value.bit_length() * math.log10(2)) + 1} digits"  # type: ignore[attr-defined]
    text = " ".join(text.split("\n")) if "\n" in text else text  # arrays: a message is one line
    if len(text) <= limit:
        return text
    half = limit // 2 - 2
    return f"{text[:half]}...{text[-half:]} ({len(text)} characters)"


def counted(number: int, one: str) -> str:
    """``1 seed``, ``5 seeds``: a number of what ``one`` names."""
    return f"{number:,} {one}" + ("" if number == 1 else "s")


def kind_of(value: object) -> str:
    """What a function returned, in a few words: the shape of a tensor or array, else the type."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return "None" if value is None else f"a {type(value).__name__}"
    return f"shape {tuple(shape)}"


def is_whole(value: object) -> bool:
    """Whether ``value`` is an integer: a Python or numpy one, and no bool."""
    return hasattr(value, "__index__") and not isinstance(value, bool) and not _is_bool(value)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """``value`` as an int in [least, most].

    Floats that are integers, such as 64.0, are accepted, because tables hold all numbers as floats.

    Raises:
        InputError: it is not an integer, or outside.
    """
    limit = f"at least {least}" if most is None else f"between {least} and {most}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        if not is_whole(value):
            raise TypeError
        whole = int(value.__index__())
    except (TypeError, RuntimeError):  # a float, text, a tensor of several numbers
        raise InputError(
            f"{name} is an integer {limit}, {shown(value)} was given; change it"
        ) from None
    if whole < least or (most is not None and whole > most):
        raise InputError(
            f"{name} is {limit}, {shown(whole)} was given; choose a value in that range"
        )
    return whole


def whole_number(name: str, value: Any, most: int = LARGEST_COUNT) -> int:
    """:func:`check_whole` from 1 to ``most``, for what is no float in torch's layers either.

    Raises:
        InputError: anything else, such as 2.7, "3", True or None.
    """
    if isinstance(value, float):
        raise InputError(
            f"{name} is an integer between 1 and {most}, {shown(value)} was given; change it"
        )
    return check_whole(name, value, 1, most)


def check_range(name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float in [low, high].

    Raises:
        InputError: it is not a number, or outside.
    """
    try:
        if isinstance(value, str | bytes | bool) or value is None or _is_bool(value):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(
            f"{name} is a number between {low:g} and {high:g}, {shown(value)} was given; change it"
        ) from None
    if math.isnan(number) or not low <= number <= high:
        raise InputError(
            f"{name} lies between {low:g} and {high:g}, {number:g} was given; "
            "choose a value in that range"
        )
    return number


def check_flag(name: str, value: Any) -> bool:
    """``value``, which is True or False.

    Raises:
        InputError: anything else, such as the text "no", which Python takes for true.
    """
    if not (isinstance(value, bool) or _is_bool(value)):
        raise InputError(f"{name} is True or False, not {shown(value)}; give one of them")
    return bool(value)


def as_list(name: str, values: Any) -> list[Any]:
    """``values`` as a list.

    Raises:
        InputError: text, or what cannot be gone through.
    """
    try:
        if isinstance(values, str | bytes):
            raise TypeError
        return list(values)
    except TypeError:
        raise InputError(f"{name} is a list, not {shown(values)}; put it in brackets") from None


def as_numbers(name: str, values: Any, dimensions: int = 1) -> npt.NDArray[np.float64]:
    """``values`` as an array of that many dimensions.

    Raises:
        InputError: text, an array of another shape, or what holds anything but numbers.
    """
    import numpy as np

    try:
        numbers = np.asarray(values)
        if numbers.ndim != dimensions or numbers.dtype.kind not in "biuf":
            raise TypeError
        return numbers.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(
            f"{name} is {'a list' if dimensions == 1 else 'a table'} of numbers, not "
            f"{shown(values)}; give numbers"
        ) from None


def check_kind(name: str, value: Any, kind: type, fix: str) -> None:
    """Refuse a value that is no ``kind``; ``fix`` says where to get one.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} is a {kind.__name__}, not {shown(value)}; {fix}")


def check_callable(name: str, value: Any, fix: str) -> None:
    """Refuse what cannot be called; ``fix`` says what to give.

    Raises:
        InputError: it cannot.
    """
    if not callable(value):
        raise InputError(f"{name} is a function, not {shown(value)}; {fix}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a value that is not one of the texts ``choices``.

    Raises:
        InputError: it is not.
    """
    named = list(choices)
    if not (isinstance(value, str) and value in named):
        raise InputError(
            f"there is no {name} {shown(value)}{meant(value, named)}; choose one of "
            f"{', '.join(named)}"
        )


def meant(name: object, choices: Iterable[str]) -> str:
    """The question whether the nearest of ``choices``, in any case, was meant; empty for none."""
    from difflib import get_close_matches  # of use only once something is wrong

    folded = {choice.casefold(): choice for choice in choices}
    given = name[:80].casefold() if isinstance(name, str) else ""
    near = get_close_matches(given, list(folded), n=1)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def check_columns(table: Any, columns: Iterable[str], fix: str) -> None:
    """Refuse what is no table with these columns.

    Args:
        table: a DataFrame; pandas is not imported for the check.
        columns: that it has.
        fix: where to get such a table.

    Raises:
        InputError: no DataFrame, or a column is missing.
    """
    there = getattr(table, "columns", None)
    if there is None or not hasattr(table, "iloc"):
        raise InputError(f"a table is a pandas.DataFrame, not {shown(table)}; {fix}")
    missing = [name for name in columns if name not in there]
    if missing:
        raise InputError(f"the table has no column {missing[0]!r}; {fix}")


def check_path(path: Any) -> Path:
    """``path`` as a Path that an operating system can take.

    Raises:
        InputError: neither text nor a path, no text, or text with a NUL character or with one that
            names of files cannot have here.
    """
    if isinstance(path, str) and not path:  # which Path takes for the current folder
        raise InputError("the path is empty; give the name of a file, or . for this folder")
    try:
        found = Path(path)
    except TypeError:
        raise InputError(f"a path is text, not {shown(path)}; give the name of a file") from None
    if "\0" in str(found):
        raise InputError(f"the path {shown(str(found))} holds a NUL character; leave it out")
    try:
        os.fsencode(found)
    except UnicodeEncodeError as error:  # in a locale other than UTF-8, or half of a pair
        raise InputError(
            f"the path {ascii(str(found))[:200]} holds a character that names of files cannot have "
            f"in this locale ({error.encoding}); leave it out, or set PYTHONUTF8=1"
        ) from None
    return found


def parse_whole(text: str) -> int:
    """The integer that ``text`` spells: a sign, then 1 to 18 ASCII digits, and spaces around it.

    Python's ``int`` also takes underscores (64_0), digits of other scripts and thousands of digits.

    Raises:
        InputError: anything else.
    """
    digits = text.strip(" ")
    if not _WHOLE.fullmatch(digits):
        raise InputError(
            f"{shown(text)} is not an integer; write 1 to 18 digits 0 to 9, such as 64"
        )
    return int(digits)


def parse_number(text: str) -> float:
    """The finite number that ``text`` spells in ASCII digits, as 8.5 or 1e-3.

    Raises:
        InputError: anything else, infinity and NaN too.
    """
    digits = text.strip(" ")
    number = float(digits) if _NUMBER.fullmatch(digits) else math.nan
    if not math.isfinite(number):
        raise InputError(f"{shown(text)} is not a number; write a finite one, such as 8.5 or 1e-3")
    return number


def check_bytes(what: str, count: int, fix: str) -> None:
    """Refuse to start what needs more memory than there is.

    Args:
        what: needs the memory, for the message.
        count: bytes that it needs, at least.
        fix: what to do instead, for the message.

    Raises:
        InputError: ``count`` is more than the memory of this machine or container.
    """
    # Small needs, the usual case, do not look up how much memory there is.
    if count > 2**28 and count > (memory := memory_limit()):
        raise InputError(
            f"{what} needs {count:,} bytes ({_in_gib(count)}), and there is memory for {memory:,} "
            f"({_in_gib(memory)}); {fix}"
        )


def memory_limit() -> int:
    """Bytes that this process may still use: what is free, or the limit of its container."""
    limit = host_memory() or 2**36
    try:  # Linux
        table = Path("/proc/meminfo").read_text()
        return min(limit, 1024 * int(table.split("MemAvailable:")[1].split()[0]))
    except (OSError, ValueError, IndexError):
        return limit


@cache
def host_memory() -> int | None:
    """Bytes of memory of this machine or container; None where the system does not say."""
    found = []
    with suppress(AttributeError, OSError, ValueError):  # not a POSIX system
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in ("memory.max", "memory/memory.limit_in_bytes"):  # control groups 2 and 1
        with suppress(OSError, ValueError):  # absent, or "max"
            found.append(int((Path("/sys/fs/cgroup") / file).read_text()))
    return min((number for number in found if number > 0), default=None)


def _in_gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"


def _is_bool(value: Any) -> bool:
    """Whether this is a bool of numpy or torch, which has an ``__index__`` too."""
    return str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
