"""``study.json``, the description of a study: what was asked, versions, machine."""

from __future__ import annotations

import errno
import json
import platform
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpnn_arch import __version__
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import read_error, shown_path, typed_path, write_text
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.studies import import_paths

if TYPE_CHECKING:
    from mpnn_arch.studies.config import StudyConfig
    from mpnn_arch.studies.trial import Trial

FORMAT = 1


def read_description(path: Path) -> dict[str, Any]:
    """The description of the study in the folder ``path``.

    Raises:
        InputError: there is none, it cannot be read, or it is of another format.
    """
    file = path / "study.json"
    try:
        there = file.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise read_error(file, error) from None
        there = False
    if not there:
        raise InputError(
            f"{shown_path(path)} is not a study (it has no study.json); "
            f"{name_studies_in(path) or 'check the folder'}"
        )
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise read_error(file, error) from None
    try:
        about = parse_json(raw)
        number = about["format"]
        _ = about["id"], about["config"], about["trials"], about["sources"], about["signature"]
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{file} is not the description of a study; restore it from a copy, or start a new "
            "study in another folder"
        ) from None
    if number != FORMAT:
        raise InputError(
            f"{file} has format {number}, this library knows format {FORMAT}; use the "
            "mpnn-arch that it was made with"
        )
    return dict(about)


def write_description(folder: Path, about: dict[str, Any]) -> None:
    """Write ``study.json`` into ``folder``.

    Raises:
        InputError: it cannot be written.
    """
    write_text(folder / "study.json", json.dumps(about, indent=2) + "\n")


def new_description(config: StudyConfig, trials: Sequence[Trial], command: str) -> dict[str, Any]:
    """What ``study.json`` of a new study holds."""
    study = str(uuid.uuid4())
    return {
        "format": FORMAT,
        "id": study,
        "made": {
            "mpnn_arch": __version__,
            "command": command,
            "python": platform.python_version(),
            "machine": platform.platform(),
            "host": socket.gethostname(),
        },
        **asked_for(study, config, trials),
    }


def asked_for(study: str, config: StudyConfig, trials: Sequence[Trial]) -> dict[str, Any]:
    """The part of ``study.json`` that says what to train."""
    sources = {path: digest for trial in trials for path, digest in trial.sources}
    return {
        "config": config.to_dict(),
        "trials": len(trials),
        "sources": sources,
        "signature": import_paths.sign(study, sources) if sources else "",
    }


def name_studies_in(folder: Path) -> str:
    """The studies to name in the place of a folder of them; empty if there are none in it."""
    try:
        inside = [typed_path(path.parent) for path in sorted(folder.glob("*/study.json"))]
    except OSError:  # a name that is too long, a folder that may not be read
        return ""
    if not inside:
        return ""
    more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
    return f"name a study in it: {' '.join(inside[:3])}{more}"
