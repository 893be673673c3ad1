"""Successive halving over epochs: at each rung the best go on, the others are stopped.

Source: Jamieson and Talwalkar, AISTATS 2016. That the order of graphs after few epochs is close to
that after all is a finding of You, Leskovec, He, Xie, ICML 2020.
"""

from __future__ import annotations

import math
import sqlite3
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpnn_arch.studies.ledger import Ledger, about_trial

if TYPE_CHECKING:
    from mpnn_arch.studies.writer import LedgerWriter

_Candidate = tuple[str, str | None, str]  # graph, message, aggregation


@dataclass(frozen=True, kw_only=True)
class RungCorrelation:
    """How the order at a rung agrees with the order at the end.

    Attributes:
        rung: epochs.
        candidates: that were let run to the end, over which both orders are taken.
        of: all that were at the rung.
        spearman: rank correlation of mean test errors; None for fewer than three candidates, or
            where all are equal.
    """

    rung: int
    candidates: int
    of: int
    spearman: float | None


def advance(ledger: LedgerWriter, rungs: Sequence[int], keep: float) -> list[dict[str, Any]]:
    """Decide the lowest rung at which trials wait; to be called when none is queued or running.

    What competes is a graph with its message and aggregation: the mean test error over its seeds,
    which go on or stop together. Of n that are at a rung the best ``ceil(keep * n)`` go on; of
    equal ones the first in the study. The decision follows from the epochs in the ledger alone.
    After an extension it is taken anew over all that were ever at the rung: one that was stopped
    goes on if it is among the best now, and one that went on is not called back.

    Args:
        ledger: within a transaction.
        rungs: epochs, rising.
        keep: share that goes on.

    Returns:
        An event for each trial that is stopped, with ``is`` ``"stopped"``.
    """
    trials = list(ledger.trials())
    events: list[dict[str, Any]] = []
    for number, rung in enumerate(rungs):
        at_rung = _at_rung(trials, rung)
        if not at_rung:
            return events
        means = _means(ledger, at_rung, rung)
        order = sorted(at_rung, key=lambda one: (means[one], at_rung[one][0]["id"]))
        kept = max(1, math.ceil(keep * len(order) - 1e-9))
        until = rungs[number + 1] if number + 1 < len(rungs) else None
        gone_on = False
        for place, candidate in enumerate(order, 1):
            reason = (
                f"{place} of {len(order)} after epoch {rung} (mean test error "
                f"{means[candidate]:.2f} %); the best {kept} went on"
            )
            for row in at_rung[candidate]:
                waits = row["state"] == "waiting" and row["until"] == rung
                was_stopped = row["state"] == "stopped" and row["rung"] == rung
                if place <= kept and (waits or was_stopped):
                    ledger.go_on(row["id"], until or row["epochs"])
                    gone_on = True
                elif place > kept and waits:
                    ledger.stop(row["id"], rung, reason)
                    stopped = {"is": "stopped", "rung": rung, "reason": reason}
                    events.append({**about_trial(row), **stopped})
        if gone_on:
            return events  # the next rung is decided when they are there
    return events


def correlations(ledger: Ledger, rungs: Sequence[int]) -> list[RungCorrelation]:
    """Of every rung, the rank correlation with the end over the candidates that were let run.

    They are the best at that rung. The correlation over all candidates may differ and is not known,
    since the others were stopped.
    """
    trials = list(ledger.trials())
    found = []
    for rung in rungs:
        at_rung = _at_rung(trials, rung)
        through = {
            one: rows for one, rows in at_rung.items() if all(r["state"] == "done" for r in rows)
        }
        then = _means(ledger, through, rung)
        now = {one: _mean([row["test_error"] for row in rows]) for one, rows in through.items()}
        pairs = [(then[one], now[one]) for one in through]
        spearman = _spearman([a for a, _ in pairs], [b for _, b in pairs])
        found.append(
            RungCorrelation(rung=rung, candidates=len(pairs), of=len(at_rung), spearman=spearman)
        )
    return found


def _at_rung(trials: Sequence[sqlite3.Row], rung: int) -> dict[_Candidate, list[sqlite3.Row]]:
    """The trials, but for failed ones, of each candidate that has all of them at the rung."""
    groups: dict[_Candidate, list[sqlite3.Row]] = {}
    for row in trials:
        if row["state"] != "failed":
            groups.setdefault((row["graph"], row["message"], row["aggr"]), []).append(row)
    return {
        one: rows for one, rows in groups.items() if all(r["epochs_done"] >= rung for r in rows)
    }


def _means(
    ledger: Ledger, groups: dict[_Candidate, list[sqlite3.Row]], epoch: int
) -> dict[_Candidate, float]:
    return {
        one: _mean(
            [
                epoch_row["test_error"]
                for row in rows
                for epoch_row in ledger.query(
                    "SELECT test_error FROM epoch WHERE trial = ? AND epoch = ?", row["id"], epoch
                )
            ]
        )
        for one, rows in groups.items()
    }


def _mean(errors: Sequence[float | None]) -> float:
    """Mean error; one that is not a number is worse than all."""
    if not errors or any(error is None for error in errors):
        return math.inf
    return statistics.fmean(error for error in errors if error is not None)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    count = Counter(values)
    ranks, below = {}, 0
    for value in sorted(count):
        ranks[value] = below + (count[value] + 1) / 2
        below += count[value]
    return [ranks[value] for value in values]
