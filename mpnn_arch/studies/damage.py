"""What is wrong with a ledger that was changed by hand, or by a disk."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from mpnn_arch.studies.schema import TABLES
from mpnn_arch.studies.trial import Trial

_STORED = {
    "INTEGER": ("integer",),
    "REAL": ("real", "integer"),
    "TEXT": ("text",),
    "BLOB": ("blob",),
}
_JSON: dict[str, dict[str, type]] = {
    "trial": {"spec": dict, "machine": dict, "choices": dict, "widths": list},
    "epoch": {"more": dict},
    "setting": {"value": object},
}
_LONGEST = 60


def find_damage(connection: sqlite3.Connection) -> str | None:
    """The first value that no driver writes, in words; None if there is none.

    It goes through the whole ledger, so it is asked only where reading has failed.
    """
    try:
        return next(_damages(connection), None)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


def _damages(connection: sqlite3.Connection) -> Iterator[str]:
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute("PRAGMA quick_check(1)")
    (answer,) = cursor.fetchone()
    if answer != "ok":
        yield " ".join(str(answer).split())
    for table, columns in _tables().items():
        kept = {row[1] for row in cursor.execute(f"PRAGMA table_info({table})").fetchall()}
        for name, kind, needed in columns:
            if name not in kept:
                yield f"the table {table} has no column {name}"
                return
            fits = (*_STORED[kind], *(() if needed else ("null",)))
            yield from _of_another_type(cursor, table, name, fits)
            if name in _JSON.get(table, {}):
                yield from _not_json(cursor, table, name, _JSON[table][name])
    yield from _unlike_a_trial(cursor)
    for (value,) in cursor.execute("SELECT num_nodes FROM graph WHERE num_nodes < 1 LIMIT 1"):
        yield f"num_nodes of graph is {value}"
    for (value,) in cursor.execute(
        "SELECT id FROM trial WHERE graph_hash NOT IN (SELECT hash FROM graph) LIMIT 1"
    ):
        yield f"the graph of trial {value} is not there"


def _tables() -> dict[str, list[tuple[str, str, bool]]]:
    """Of every table its columns: name, type, and whether it always has a value."""
    made = sqlite3.connect(":memory:")
    try:
        made.executescript(TABLES)
        names = [
            row[0] for row in made.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {
            table: [
                (name, kind, bool(needed or key))
                for _, name, kind, needed, _, key in made.execute(f"PRAGMA table_info({table})")
            ]
            for table in names
        }
    finally:
        made.close()


def _of_another_type(
    cursor: sqlite3.Cursor, table: str, name: str, fits: tuple[str, ...]
) -> Iterator[str]:
    marks = ", ".join("?" * len(fits))
    cursor.execute(
        f"SELECT {name} FROM {table} WHERE typeof({name}) NOT IN ({marks}) LIMIT 1", fits
    )
    for (value,) in cursor.fetchall():
        yield f"{name} of {table} is {_shown(value)}, which is no {' or '.join(fits)}"
    if "text" in fits:
        cursor.execute(f"SELECT {name} FROM {table}")  # decodes each
        for _ in cursor:
            pass


def _not_json(cursor: sqlite3.Cursor, table: str, name: str, kind: type) -> Iterator[str]:
    cursor.execute(f"SELECT {name} FROM {table} WHERE {name} IS NOT NULL")
    for (text,) in cursor:
        try:
            fits = isinstance(json.loads(text), kind)
        except (ValueError, RecursionError):
            fits = False
        if not fits:
            yield f"{name} of {table} is {_shown(text)}, which is no JSON that was written there"
            return


def _unlike_a_trial(cursor: sqlite3.Cursor) -> Iterator[str]:
    needed = {field.name for field in dataclasses.fields(Trial)}
    cursor.execute("SELECT id, spec FROM trial")
    for number, text in cursor:
        missing = needed - json.loads(text).keys()
        if missing:
            yield f"spec of trial {number} has no {min(missing)}"
            return


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
