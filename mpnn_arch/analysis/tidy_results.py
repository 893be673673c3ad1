"""A table in the published style as tidy results: columns under our names, values checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mpnn_arch.analysis.graph_rows import PARAMETERS, identify
from mpnn_arch.analysis.per_graph import complete_part
from mpnn_arch.analysis.results_table import (
    COLUMNS,
    EPOCH_NAMES,
    ERROR_NAMES,
    KIND,
    RUN,
    SEED_NAMES,
    WIDE,
    final,
    is_baseline,
)
from mpnn_arch.checks import LARGEST_COUNT
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.graphs.design_space import C_AND_L


@dataclass(frozen=True)
class Results:
    """The results of one file.

    Args:
        name: of the file, without its ending.
        table: see :func:`mpnn_arch.analysis.load_results`.
        notes: what was left out, a sentence each.
        twins: other files that hold the same runs, and are not analysed again.
        graphs: by name those that came from files and are kept with the results.
        kind: model, data set, message and aggregation, as far as the file names them.
    """

    name: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    graphs: Mapping[str, RelationalGraph] = field(default_factory=dict)
    kind: Mapping[str, str] = field(default_factory=dict)


class _NothingLeftError(InputError):
    """No row of a kind of network can be analysed."""


def tidy(raw: pd.DataFrame, name: str, source: Path) -> list[Results]:
    """The results of a table in the published style, one a kind of network.

    Where ``model``, ``dataset``, ``message`` or ``aggr`` differ between rows, the kinds are apart.

    Args:
        raw: see :func:`mpnn_arch.analysis.load_results`.
        name: of the results.
        source: the file, for messages; published lists are looked for in its folder.

    Raises:
        InputError: as :func:`mpnn_arch.analysis.load_results`.
    """
    # Bytes of a folder's name that are no UTF-8, which neither a table nor a page can hold.
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    # No message, that is the model's own, is a kind too.
    there = [column for column in KIND if column in raw.columns]
    apart = [column for column in there if raw[column].nunique(dropna=False) > 1]
    if not apart:
        return [_tidy(raw, name, source)]
    read, refused = [], []
    for values, rows in raw.groupby(apart, dropna=False, sort=False):
        kind = "_".join(map(_named, values))
        try:
            read.append(_tidy(rows, f"{name}_{kind}", source))
        except _NothingLeftError as error:  # as where every training of one diverged
            refused.append((kind, error))
    if not read:
        raise refused[0][1]
    notes = tuple(f"{kind} is left out: {error}" for kind, error in refused)
    return [replace(read[0], notes=(*notes, *read[0].notes)), *read[1:]]


def _tidy(raw: pd.DataFrame, name: str, source: Path) -> Results:
    notes: list[str] = []
    long = _clean(_long(raw, source), source, notes)
    keys = [column for column in ("graph", *PARAMETERS, *C_AND_L) if column in long.columns]
    number = long.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    _check_one_network(raw, long, number, source)
    first = long[keys].iloc[np.unique(number, return_index=True)[1]].reset_index(drop=True)
    graphs, left_out = identify(first, source.parent)
    notes += left_out
    kept = np.isin(number, graphs.index)
    if not kept.any():
        raise _NothingLeftError(f"{source} holds no graph that is known; {' '.join(notes)}")
    described = graphs.loc[number[kept]].reset_index(drop=True)
    runs = long.loc[kept, ["train_seed", "epoch", "error"]].reset_index(drop=True)
    table = pd.concat([described, runs], axis=1)
    table.insert(0, "results", name)
    table = _unrepeated(table[list(COLUMNS)], source, notes)
    table["num_nodes"] = table["num_nodes"].astype(int)
    table = _finished(table, notes)
    if table["num_nodes"].nunique() == 1:  # else of each size by itself
        notes += shortcomings(table)
    kind = {column: _named(raw[column].iloc[0]) for column in KIND if column in raw.columns}
    return Results(name, table, tuple(notes), kind=kind)


def _check_one_network(
    raw: pd.DataFrame, long: pd.DataFrame, graph: npt.NDArray[np.int64], source: Path
) -> None:
    """Refuse networks of several widths or recipes, which would be averaged as seeds of one.

    Runs that end earlier are left out later, so the last epoch is looked at.

    Raises:
        InputError: there are some.
    """
    last = (long["epoch"] == long["epoch"].max()).to_numpy()
    for column in sorted({"first_stage_width", "learning_rate"} & {*raw.columns}):
        values = pd.to_numeric(raw.loc[long.loc[last, "line"], column], errors="coerce")
        found = values.astype(np.float64).groupby(graph[last]).agg(["min", "max"])
        for low, high in found[found["max"] - found["min"] > 1e-6 * found["max"]].to_numpy():
            raise InputError(
                f"{source} has several networks of one graph, with a {column} of {low:g} and of "
                f"{high:g}, whose errors would be averaged as those of one; put each into a file "
                "of its own"
            )


def _named(value: object) -> str:
    """The name of a part of a network; no message, that is the model's own, is ``none``."""
    return "none" if pd.isna(value) else str(value)


def _long(raw: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The columns under our names, one row per epoch."""
    _need(raw, ("graph",), path)
    plain = raw["graph"].isin(["ws_flex", "complete"])
    # An export gives the family in `graph`, and in `graph_spec` the graph itself.
    graph = raw["graph"].where(plain, raw["graph_spec"]) if "graph_spec" in raw else raw["graph"]
    columns = {"graph": graph, "train_seed": raw[_need(raw, SEED_NAMES, path)]}
    columns |= {name: raw[name] for name in (*PARAMETERS, *C_AND_L) if name in raw.columns}
    for name in PARAMETERS if plain.any() else ():
        _need(raw, (name,), path)
    wide = {int(m[1]): m[0] for m in map(WIDE.fullmatch, raw.columns) if m}
    if wide:
        runs = pd.DataFrame(columns)
        parts = [runs.assign(epoch=t, error=raw[wide[t]], line=raw.index) for t in sorted(wide)]
        return pd.concat(parts, ignore_index=True)
    columns["error"] = raw[_need(raw, (*ERROR_NAMES, "epoch1"), path)]
    named = re.search(r"epoch(\d+)", path.stem)
    there = [name for name in EPOCH_NAMES if name in raw.columns]
    columns["epoch"] = raw[there[0]] if there else int(named[1]) if named else 0
    return pd.DataFrame(columns).assign(line=raw.index)


def _need(raw: pd.DataFrame, choices: Sequence[str], path: Path) -> str:
    for name in choices:
        if name in raw.columns:
            return name
    raise InputError(
        f"{path} has no column {' or '.join(choices)}, only {', '.join(map(str, raw.columns))}; "
        "name the columns as in the published results"
    )


def _clean(long: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    """Numbers as numbers; rows without an error are left out."""
    whole = ("num_nodes", "graph_seed", "train_seed", "epoch")
    for name in ("error", *whole, *PARAMETERS, *C_AND_L):
        if name not in long.columns:
            continue
        numbers = pd.to_numeric(long[name], errors="coerce")
        wrong = numbers.isna() & long[name].notna()
        if numbers.dtype == bool:  # a column of True and False
            wrong = long[name].notna()
        if name in whole:
            wrong |= numbers.notna() & (numbers % 1 != 0)
            if numbers.dtype.kind in "uf":  # several could become one number of 64 bits
                wrong |= numbers.astype(np.float64).abs() >= 2.0**63
        if wrong.any():
            what = "a whole number of 64 bits" if name in whole else "a number"
            _refuse_value(long, name, wrong, what, path)
        # Of a Parquet file they may be short, or of types of pandas' own.
        is_whole = isinstance(numbers.dtype, np.dtype) and numbers.dtype.kind in "iu"
        long[name] = numbers.astype(np.int64 if is_whole else np.float64)
    for name in ("train_seed", "epoch"):
        if long[name].isna().any():
            _refuse_value(long, name, long[name].isna(), "a whole number", path)
        long[name] = long[name].astype(int)
    for name, least, most in (
        ("error", 0, 100),
        ("num_nodes", 1, LARGEST_COUNT),
        ("density", 0, 1),
        ("rewiring_probability", 0, 1),
    ):
        if name in long.columns:
            outside = np.isfinite(long[name]) & ~long[name].between(least, most)
            if outside.any():
                _refuse_value(long, name, outside, f"between {least} and {most}", path)
    if long["graph"].isna().any():
        _refuse_value(long, "graph", long["graph"].isna(), "the name of a graph", path)
    finite = np.isfinite(long["error"])
    if not finite.any():
        raise _NothingLeftError(f"{path} has no row with a finite error; give errors in percent")
    if not finite.all():
        notes.append(
            f"{int((~finite).sum())} of {len(long)} rows left out: their error is no number"
        )
    if long.loc[finite, "error"].max() <= 1:
        notes.append("all errors are 1 or less and read as percent; multiply fractions by 100")
    return long[finite].reset_index(drop=True)


def _refuse_value(long: pd.DataFrame, name: str, wrong: pd.Series, what: str, path: Path) -> None:
    row = long[wrong].iloc[0]
    value = getattr(row[name], "item", lambda: row[name])()  # True, not np.True_
    raise InputError(
        f"{path}, line {int(row['line']) + 2}: {name} is {value!r}, which is not {what}; correct "
        "it or leave the row out"
    )


def _unrepeated(table: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    again = table.duplicated(RUN, keep=False)
    if not again.any():
        return table
    spread = table[again].groupby(RUN)["error"].nunique()
    if (spread > 1).any():
        graph, seed, epoch = spread.index[spread.to_numpy() > 1][0]
        raise InputError(
            f"{path} has several errors for {graph}, training seed {seed}, epoch {epoch}; keep one"
        )
    once = table.drop_duplicates(RUN)
    notes.append(f"{len(table) - len(once)} of {len(table)} rows left out: they repeat another")
    return once.reset_index(drop=True)


def _finished(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Without the runs that end before the last epoch."""
    run = ["graph", "train_seed"]
    short = table.groupby(run)["epoch"].transform("max") < table["epoch"].max()
    if not short.any():
        return table
    notes.append(
        f"{len(table.loc[short, run].drop_duplicates())} of {len(table[run].drop_duplicates())} "
        f"runs left out: they end before epoch {table['epoch'].max()}"
    )
    return table[~short].reset_index(drop=True)


def shortcomings(table: pd.DataFrame) -> list[str]:
    """What the results are too few for, a sentence each."""
    notes = []
    if not is_baseline(table).any():
        notes.append(
            "there is no baseline (complete graph), so nothing is compared with the dense network"
        )
    runs = final(table).groupby(["graph", "train_seed"]).size().unstack(fill_value=0) > 0
    graphs, seeds = complete_part(runs.to_numpy())
    if not (graphs.all() and seeds.all()):
        notes.append(
            f"not every graph has every training seed: pairing of seeds, selection bias, false "
            f"alarms and few epochs are of {graphs.sum()} of {len(graphs)} graphs with "
            f"{seeds.sum()} of {len(seeds)} seeds"
        )
    if table["train_seed"].nunique() == 1:
        notes.append(
            "there is one training seed, so no deviation, no test between single graphs, no "
            "pairing of seeds and no selection bias"
        )
    return notes
