"""The ledger of a folder, be it a study or a run directory of an earlier ``mpnn-arch train``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpnn_arch.checks import check_path
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.study import Study, is_run_directory


@contextmanager
def open_ledger(folder: str | Path) -> Iterator[Ledger]:
    """The ledger, for reading.

    A run directory is read into a ledger that is gone afterwards.

    Raises:
        InputError: neither of the two, or one that is damaged.
    """
    folder = check_path(folder)
    if is_run_directory(folder):
        from mpnn_arch.studies.run_ledger import ledger_of_run

        with ledger_of_run(folder) as ledger:
            yield ledger
    else:
        with Study.open(folder).ledger() as ledger:
            yield ledger
