"""What ``train``, ``compare`` and ``sweep`` ask for where an option is left out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a command asks for where an option is left out.

    Attributes:
        command: its name.
        prefix: of its default folder, before MODEL-DATASET-TIME.
        against_complete: whether the complete graph is trained too.
        messages, aggrs, weights: as in :class:`~mpnn_arch.studies.config.StudyConfig`.
        workers: processes; None: one per core.
    """

    command: str
    prefix: str = ""
    against_complete: bool = True
    messages: tuple[str | None, ...] = (None,)
    aggrs: tuple[str, ...] = ("sum",)
    weights: str = "none"
    workers: int | None = 0
