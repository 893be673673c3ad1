"""Models, data sets, messages and aggregations of the user's own, by import path.

A study holds the path and the SHA-256 of the file it leads to. Nothing is imported before a trial
is run, and then only if the study was made here by the same user or is said to be trusted.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpnn_arch.errors import InputError


def is_import_path(name: str | None) -> bool:
    """Whether ``name`` is ``module:attribute``, as of an entry point, and not a name of ours."""
    # Imported here: it brings torch, which showing a study does without.
    from mpnn_arch.training.own_data import is_function_name

    return name is not None and is_function_name(name)


def source_hash(path: str) -> str:
    """SHA-256 of the file in which ``path`` is defined, found without importing its module.

    Only packages around the module are imported, as Python does it. The module is looked for among
    the installed packages, then in the current folder.

    Raises:
        InputError: the module cannot be found, or is not a Python file.
    """
    module = path.partition(":")[0]
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if module == "__main__" or spec is None or not (spec.origin or "").endswith(".py"):
        raise InputError(
            f"{path!r} cannot be found (there is no file of the module {module!r} on Python's "
            "path); put it into a file of its own, and its folder into PYTHONPATH"
        )
    return hashlib.sha256(Path(str(spec.origin)).read_bytes()).hexdigest()


def check(path: str, expected: str) -> None:
    """Whether the file of ``path`` is the one that the study was made with.

    Raises:
        InputError: it was changed, or cannot be found again.
    """
    if source_hash(path) != expected:
        raise InputError(
            f"the file of {path!r} was changed since the study was made with it; restore the file, "
            "or make a new study"
        )


def load(path: str, expected: str) -> Any:
    """What ``path`` names, if its file is the one that the study was made with.

    Raises:
        InputError: it cannot be found again, was changed, raises, or lacks the attribute.
    """
    from mpnn_arch.training.own_code import attribute_of, own_code  # here, as above

    check(path, expected)
    module, _, attribute = path.partition(":")
    with own_code(f"the module {module!r}"):
        imported = importlib.import_module(module)
    found = attribute_of(imported, attribute)
    if found is None:
        raise InputError(
            f"the module {module!r} has no {attribute!r}; give the path of something it defines"
        )
    return found


def python_path() -> str:
    """``PYTHONPATH`` with which another process finds what this one finds."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


# -- whose study it is ------------------------------------------------------------------------


def sign(study: str, sources: Mapping[str, str]) -> str:
    """A signature of these import paths that only this user on this machine can make."""
    text = json.dumps([study, sorted(sources.items())])
    return hmac.new(_own_key(), text.encode(), "sha256").hexdigest()


def is_signed(signature: str, study: str, sources: Mapping[str, str]) -> bool:
    """Whether this user on this machine made the signature for these import paths."""
    return hmac.compare_digest(signature.encode(), sign(study, sources).encode())


def _own_key() -> bytes:
    """A random key of this user, made when it is first needed."""
    try:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:
        raise InputError(
            "this user has no home directory that could keep the key of your studies; name a "
            "folder that can be written in XDG_CONFIG_HOME"
        ) from None
    file = Path(base) / "mpnn_arch" / "key"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "wb") as opened:
                opened.write(secrets.token_bytes(32))
        key = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"the key of your studies cannot be kept in {file} ({error.strerror}); name a folder "
            "that can be written in XDG_CONFIG_HOME"
        ) from None
    if len(key) < 32:
        raise InputError(f"the key of your studies, {file}, is cut short; delete it")
    return key
