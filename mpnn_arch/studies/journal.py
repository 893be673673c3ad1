"""Epochs of a training under way, a line each, beside its checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import read_error, remove
from mpnn_arch.studies.crash import crash_point


class Journal:
    """Lines that are appended and reach the disk before the checkpoint that follows them.

    A line that a crash left half is passed over, and where an epoch stands there twice the later
    one holds.

    Args:
        path: the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: dict[str, Any]) -> None:
        """Write one epoch.

        Args:
            entry: with the epoch's number under ``["metrics"]["epoch"]``.
        """
        # It begins with a new line too: the one before may have no end.
        line = f"\n{json.dumps(entry)}\n".encode()
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(file, line[: len(line) // 2])
            crash_point("journal.half")
            os.write(file, line[len(line) // 2 :])
            os.fsync(file)
        finally:
            os.close(file)
        crash_point("journal.written")

    def read(self, epochs: int) -> list[dict[str, Any]]:
        """Epochs 1 to ``epochs`` in order; those that are missing are left out.

        Raises:
            ReadError: the file is there and cannot be read.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise read_error(self.path, error) from None
        found: dict[int, dict[str, Any]] = {}
        for line in lines:
            try:
                entry = json.loads(line)
                found[entry["metrics"]["epoch"]] = entry
            except (ValueError, KeyError, TypeError):
                continue
        return [found[epoch] for epoch in range(1, epochs + 1) if epoch in found]

    def read_since(self, known: int, epochs: int, what: str) -> list[dict[str, Any]]:
        """As :meth:`read`; every epoch that the ledger lacks has to be there.

        Args:
            known: epochs that the ledger has.
            epochs: of the checkpoint.
            what: is trained, for the message.

        Raises:
            InputError: an epoch is missing here and in the ledger.
        """
        past = self.read(epochs)
        written = {entry["metrics"]["epoch"] for entry in past}
        if not written.issuperset(range(known + 1, epochs + 1)):
            raise InputError(
                f"the journal {self.path} lacks epochs up to {epochs} that the ledger lacks too; "
                f"{what} starts again"
            )
        return past

    def clear(self) -> None:
        """Delete the file, if it exists.

        Raises:
            WriteError: it cannot be deleted.
        """
        remove(self.path)
