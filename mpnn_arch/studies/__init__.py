"""Trials and studies: many trainings with one ledger, stopped and continued at any moment.

A *trial* is one network trained once; a *study* is a set of trials with a ledger. Names load when
they are first used: showing and exporting a study imports no torch.
"""

import importlib
from typing import Any

_HOME = {
    "Ledger": "mpnn_arch.studies.ledger",
    "Study": "mpnn_arch.studies.study",
    "StudyConfig": "mpnn_arch.studies.config",
    "Trial": "mpnn_arch.studies.trial",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mpnn_arch.studies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
