"""Two habits of these docstrings that napoleon reads otherwise."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

SEVERAL = re.compile(r"^:(ivar|param|raises) ([\w*\\]+(?:, [\w*\\]+)+):(.*)$")


def as_written(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """After napoleon.

    ``Whether it is fused: ...`` in a property is a sentence, not a type and a description;
    ``device, dtype: of the parameters`` are two arguments, not one with a type.
    """
    if what in ("property", "attribute", "data"):
        kinds = [line for line in lines if line.startswith(":type:")]
        if kinds and lines:
            lines[:] = [line for line in lines if not line.startswith(":type:")]
            lines[0] = f"{kinds[0].removeprefix(':type:').strip()}: {lines[0]}"
    written: list[str] = []
    copies: list[list[str]] = []  # the fields of one line, each with the lines that continue it
    for line in lines:
        several = SEVERAL.match(line)
        if copies and not several and line.startswith(" "):
            for copy in copies:
                copy.append(line)
            continue
        written += [each for copy in copies for each in copy]
        copies = []
        if several:
            kind, names, said = several.groups()
            copies = [[f":{kind} {each}:{said}"] for each in names.split(", ")]
        else:
            written.append(line)
    lines[:] = written + [each for copy in copies for each in copy]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", as_written, priority=900)
    return {"parallel_read_safe": True}
