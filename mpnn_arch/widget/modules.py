"""The JavaScript modules beside this file as one, which is what anywidget and a page take."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

STATIC = resources.files("mpnn_arch.widget") / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def joined(entry: str) -> str:
    """The module ``entry`` and what it imports, each module once, before those that import it.

    Imports are left out, and exports are plain declarations: all share one scope, so that no two
    modules may declare the same name outside their functions.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        text = (STATIC / name).read_text(encoding="utf-8")
        for imported in _IMPORT.findall(text):
            add(imported)
        parts[name] = _EXPORT.sub("", _IMPORT.sub("", text)).strip()

    add(entry)
    return "\n\n".join(parts.values()) + "\n"
