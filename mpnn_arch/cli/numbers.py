"""Numbers, names and paths on the command line; numbers are spelled as in graph specs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from mpnn_arch.checks import parse_number, parse_whole, shown
from mpnn_arch.errors import InputError

MOST_SEEDS = 10_000
"""The most trainings of one kind that a command starts."""


class StrictNumber(click.ParamType):
    """A type of click for numbers that takes only ASCII digits, and only finite numbers.

    Click's own types take what Python's ``int`` and ``float`` do: 64_0, digits of other scripts,
    thousands of digits, inf and nan.

    Args:
        inner: click's type, which checks the range if it has one.
    """

    def __init__(self, inner: click.ParamType) -> None:
        self.inner, self.name = inner, inner.name
        self._parse = parse_whole if _is_whole(inner) else parse_number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number that ``value`` spells."""
        if isinstance(value, str):
            try:
                value = self._parse(value)
            except InputError as error:
                self.fail(str(error), param, ctx)
        return self.inner.convert(value, param, ctx)

    def __repr__(self) -> str:
        return repr(self.inner)


class StrictPath(click.ParamType):
    """A type of click for paths that refuses the empty one, which Python takes for this folder.

    Such is ``--out "$OUT"`` where no ``OUT`` is set: a report would be written over this folder.

    Args:
        inner: click's type.
    """

    def __init__(self, inner: click.Path) -> None:
        self.inner, self.name = inner, inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path that ``value`` spells."""
        if value == "":
            self.fail("the path is empty; give one, or . for this folder", param, ctx)
        return self.inner.convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Paths that begin so."""
        return self.inner.shell_complete(ctx, param, incomplete)

    def __repr__(self) -> str:
        return repr(self.inner)


def read_strictly(command: click.Command) -> click.Command:
    """``command``, whose numbers are read by :class:`StrictNumber`, paths by :class:`StrictPath`.

    Also those of its subcommands.
    """
    for parameter in command.params:
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            parameter.type = StrictNumber(parameter.type)
        elif isinstance(parameter.type, click.Path):
            parameter.type = StrictPath(parameter.type)
    for inner in getattr(command, "commands", {}).values():
        read_strictly(inner)
    return command


def check_count(option: str, value: int, most: int) -> None:
    """Refuse a value of ``--option`` outside [1, most].

    Raises:
        InputError: it is outside.
    """
    if value < 1:
        raise InputError(f"--{option} is at least 1, {value} was given; choose a larger number")
    if value > most:
        raise InputError(f"--{option} is at most {most:,}, {value:,} was given; choose a smaller")


def read_names(option: str, text: str) -> list[str]:
    """The names that ``text``, the value of ``--option``, separates by commas.

    Raises:
        InputError: none, or one of them twice.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise InputError(f"--{option} {shown(text)} is empty; give a name, or leave it out")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--{option} {shown(text)} repeats {name}; give each name once")
    return names


def read_assignments(option: str, texts: Iterable[str], example: str) -> dict[str, str]:
    """Names and their values from ``NAME=VALUE``, as the repeated ``--option`` gives them.

    Args:
        option: without its dashes.
        texts: of each.
        example: of one, for the message.

    Raises:
        InputError: one without a name or a value, or a name that comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name:
            missing = "name before the =" if sign else "value: it has no ="
            raise InputError(
                f"--{option} {shown(text)} gives no {missing}; write NAME=VALUE, as "
                f"--{option} {example}"
            )
        if name in found:
            raise InputError(
                f"--{option} gives {name} twice, {shown(found[name])} and {shown(value)}; leave "
                "one out"
            )
        found[name] = value
    return found


def _is_whole(kind: click.ParamType) -> bool:
    return isinstance(kind, click.types.IntParamType)
