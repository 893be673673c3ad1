"""Which trials of a study are trained side by side: decided once, and fixed in the ledger."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import suppress
from itertools import product
from typing import Literal

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.graph_names import expand
from mpnn_arch.studies.recording import Recorder
from mpnn_arch.studies.tasks import make_model
from mpnn_arch.training.population_size import choose_population_size

Asked = Literal["auto", "off"] | int

_MOST_TRIED = 8  # members that a timed trial builds


def check_population(asked: Asked | None, config: StudyConfig) -> None:
    """Whether a study of ``config`` can train so many networks side by side, before it is made.

    Raises:
        InputError: it cannot.
    """
    if asked in (None, "auto", "off", 1):
        return
    if config.race:
        raise _in_a_race()
    swaps = product(config.messages, config.aggrs)
    some = any(_is_taken(config.model, config.backend, *swap) for swap in swaps)
    if not some or len(expand(config.graphs)) < 2:
        raise _no_two(asked)


def plan_populations(
    recorder: Recorder, asked: Asked | None, default: Asked = "auto"
) -> str | None:
    """Put trials together that have not begun; return what was decided, in words, or None.

    Trials go together that have the same seed, message and aggregation: a population shares the
    order of its images. Populations that have begun stay as they are, whatever is asked now.

    Args:
        recorder: of the study.
        asked: most that are trained side by side; ``"auto"``: as many as a timed trial says, and
            no more than leave every worker something to do; ``"off"``: none; None: as it was
            decided before, else ``default``.
        default: see ``asked``.

    Raises:
        InputError: a number is asked for, and no two trials of the study can be in a population.
    """
    ledger = recorder.ledger
    before = ledger.setting("population")
    said = None
    if recorder.settings.race:
        if isinstance(asked, int) and asked > 1:
            raise _in_a_race()
        asked = "off"
    if asked is None:
        asked = before["asked"] if before else default
    elif before and before["asked"] != asked:
        with ledger.transaction():
            ledger.take_apart()
    unbegun = list(
        ledger.query(
            "SELECT * FROM trial WHERE state = 'queued' AND attempts = 0 AND population IS NULL"
            " ORDER BY id"
        )
    )
    groups = _groups(unbegun)
    # Of a study that is continued a single network may be all that has not begun.
    several = bool(groups) or any(ledger.query("SELECT 1 FROM member LIMIT 1"))
    if isinstance(asked, int) and asked > 1 and unbegun and not several:
        raise _no_two(asked)
    size = asked if isinstance(asked, int) else 1
    tried = before["tried"] if before else None
    if asked == "auto" and groups:
        share = max(1, sum(map(len, groups)) // max(1, recorder.settings.workers))
        threads = recorder.settings.threads
        if share > 1 and (tried is None or tried["threads"] != threads):
            # What cannot be built here fails as a trial, with its reason.
            with suppress(Exception):
                tried, said = _timed(recorder, groups[0][: min(share, _MOST_TRIED)])
        size = min(share, tried["size"]) if tried else 1
    with ledger.transaction():
        ledger.store_setting("population", {"asked": asked, "tried": tried})
        for group in groups:
            for start in range(0, len(group), size):
                members = group[start : start + size]
                if len(members) > 1:
                    text = " ".join(row["hash"] for row in members)
                    hash = hashlib.sha256(text.encode()).hexdigest()
                    ledger.put_together([row["id"] for row in members], hash)
    return said


def _groups(rows: list[sqlite3.Row]) -> list[list[sqlite3.Row]]:
    """The trials that can be trained side by side, by seed, message and aggregation."""
    groups: dict[tuple[object, ...], list[sqlite3.Row]] = {}
    for row in rows:
        spec = json.loads(row["spec"])
        if _is_taken(spec["model"], spec["backend"], spec["message"], spec["aggr"]):
            key = (row["seed"], spec["message"], spec["aggr"])
            groups.setdefault(key, []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def _is_taken(model: str, backend: str | None, message: str | None, aggr: str) -> bool:
    """Whether a population takes such networks."""
    plain = message in (None, "linear") and aggr in ("sum", "add")
    return model == "mlp" and backend is None and plain


def _in_a_race() -> InputError:
    return InputError("in a race each network is trained alone; leave out population")


def _no_two(asked: object) -> InputError:
    return InputError(
        f"population {asked} trains side by side mlp models of one seed, with the message linear, "
        "the aggregation sum and no --backend of their own, and this study has no two such trials; "
        "leave it out, or give more graphs"
    )


def _timed(recorder: Recorder, rows: list[sqlite3.Row]) -> tuple[dict[str, int], str | None]:
    """The size that a trial on this machine finds, with the threads of a worker; and in words."""
    made = [make_model(recorder.task(row)) for row in rows]
    threads = recorder.settings.threads
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = choose_population_size(
            [model for _, model, _ in made],
            made[0][2],
            made[0][0].recipe,
            device=recorder.settings.device,
        )
    finally:
        torch.set_num_threads(before)
    said = None
    if found.size > 1:
        ratio = found.seconds[found.size] / found.seconds[1]
        said = (
            f"trains up to {found.size} networks side by side: a step of one takes {ratio:.2f} of "
            "its time alone, by a timed trial"
        )
    return {"size": found.size, "threads": threads}, said
