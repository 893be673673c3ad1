"""Registries: generators, measures, messages, models and data sets, looked up by name."""

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mpnn_arch.checks import meant, shown
from mpnn_arch.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to entries of one kind, filled by a decorator.

    Args:
        kind: what an entry is, in the singular, for error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers its target under ``name``.

        Raises:
            InputError: the name is taken.
        """
        if name in self._entries:
            raise InputError(f"the {self.kind} {name!r} is already registered; choose another name")

        def enter(entry: T) -> T:
            self._entries[name] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            InputError: there is none; the message lists the choices.
        """
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            hint = meant(name, self._entries)
            raise InputError(
                f"there is no {self.kind} {shown(name)}{hint}; choose one of "
                f"{', '.join(self.names())}"
            ) from None

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())


def first_line(entry: object) -> str:
    """What the docstring of an entry says of it first, without the marks of its markup."""
    line = str(entry.__doc__ or "").strip().split("\n")[0]
    return re.sub(r"(?::\w+:)?`+([^`]*)`+", r"\1", line)
