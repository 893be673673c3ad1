"""Results as one tidy table: a row for every graph, training seed and epoch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from mpnn_arch.analysis.complete_part import complete_part
from mpnn_arch.analysis.graph_rows import PARAMETERS, identify
from mpnn_arch.checks import as_list, check_columns, check_path
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.graphs.design_space import C_AND_L
from mpnn_arch.graphs.remote import data_folders

COLUMNS = ("results", "graph", *PARAMETERS, *C_AND_L, "train_seed", "epoch", "error")

# What a results file may call its columns; the first name that is there is taken.
_ERROR = ("top1_error", "test_error", "error")
_SEED = ("train_seed", "seed")
_EPOCH = ("epoch", "epochs")
_RUN = ["graph", "train_seed", "epoch"]
# What a study may vary besides the graph.
_KIND = ("model", "dataset", "message", "aggr")
_WIDE = re.compile(r"epoch(\d+)")
# What a folder may call its results: an export of a study, and the metrics of `mpnn-arch train`.
_IN_FOLDER = ("export.csv", "export.parquet", "metrics.csv")


@dataclass(frozen=True)
class Results:
    """The results of one file.

    Args:
        name: of the file, without its ending.
        table: see :func:`load_results`.
        notes: what was left out, a sentence each.
        twins: other files that hold the same runs, and are not analysed again.
        graphs: by name those that came from files and are kept with the results.
    """

    name: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    graphs: Mapping[str, RelationalGraph] = field(default_factory=dict)


def load_results(path: str | os.PathLike[str]) -> pd.DataFrame:
    """One tidy table of a results file or of a folder with one.

    Args:
        path: a CSV or Parquet file in the style of the published ones: ``graph`` (``ws_flex``,
            ``complete`` or a name that ``graphs.parse`` takes), ``num_nodes``, ``density``,
            ``rewiring_probability``, ``graph_seed``, ``train_seed``, and ``top1_error`` in percent
            with or without ``epoch``, or ``epoch1``, ``epoch2``, ... with the error after each. Or
            the folder of a study, which may be running, or one with an ``export.csv``,
            ``export.parquet`` or ``metrics.csv``.

    Returns:
        Columns ``results`` (the file's name, and the kind of network where a study has several, to
        be analysed one by one: ``for name, one in table.groupby("results")``),
        ``graph`` (a name that ``graphs.parse`` takes; the baseline is ``complete:N``),
        ``num_nodes``, ``density``, ``rewiring_probability``, ``graph_seed``,
        ``clustering_coefficient``, ``average_path_length``, ``train_seed``, ``epoch`` (of the
        file's name, or 0, where no column has it) and ``error`` in percent.

    Raises:
        InputError: no such file, a column that is missing or of the wrong type, or nothing left.

    Example:
        >>> from mpnn_arch.analysis import load_results
        >>> table = load_results("results.csv")  # of 53 graphs, 5 seeds, 3 epochs
        >>> len(table), table["graph"].nunique()
        (795, 53)
    """
    return pd.concat([one.table for one in read_results(path)], ignore_index=True)


def published(root: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """The published results at hand as one tidy table, its column ``results`` naming the file.

    Analyse each by itself: ``for name, one in published().groupby("results")``.

    Args:
        root: the folder with ``mlp_cifar10_epoch200.csv`` and its like, or the one above it; by
            default the folders of published data (``$MPNN_ARCH_DATA``, then the cache).

    Raises:
        InputError: there are none.

    Source: You, Leskovec, He, Xie, ICML 2020; facebookresearch/graph2nn (MIT).

    Example:
        >>> from mpnn_arch.analysis import published
        >>> published("nowhere")
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: there are no published results in nowhere; give the folder ...
    """
    paths = _results_in(_published_folder(root))
    return pd.concat([load_results(path) for path in paths], ignore_index=True)


def published_results(root: str | os.PathLike[str] | None = None) -> list[Results]:
    """The published results at hand, one a network; a file with all epochs stands for its twin.

    Args:
        root: as for :func:`published`.

    Raises:
        InputError: there are none.

    Source: You, Leskovec, He, Xie, ICML 2020; facebookresearch/graph2nn (MIT).

    Example:
        >>> from mpnn_arch.analysis import published_results
        >>> [one.name for one in published_results(".")]  # of a folder with results.csv
        ['results']
    """
    return read_many([_published_folder(root)])


def _published_folder(root: str | os.PathLike[str] | None) -> Path:
    for place in data_folders(root):
        for folder in (place, place / "published"):
            if folder.is_dir() and _results_in(folder):
                return folder
    raise InputError(
        f"there are no published results in {root or 'the folders of published data'}; give the "
        "folder that holds mlp_cifar10_epoch200.csv"
    )


def read_results(path: str | os.PathLike[str]) -> list[Results]:
    """As :func:`load_results`, one a kind of network, with the sentences on what was left out.

    Raises:
        InputError: as there.
    """
    path = check_path(path)
    if _is_study(path):
        table, notes, graphs = _study_table(path)
        read = tidy(table, path.resolve().name, path / "study.json")
        return [replace(one, notes=(*notes, *one.notes), graphs=graphs) for one in read]
    path = _file(path)
    return tidy(_read_table(path), _name(path), path)


def tidy(raw: pd.DataFrame, name: str, source: Path) -> list[Results]:
    """The results of a table in the published style, one a kind of network.

    Where ``model``, ``dataset``, ``message`` or ``aggr`` differ between rows, the kinds are apart.

    Args:
        raw: see :func:`load_results`.
        name: of the results.
        source: the file, for messages; published lists are looked for in its folder.

    Raises:
        InputError: as :func:`load_results`.
    """
    # Bytes of a folder's name that are no UTF-8, which neither a table nor a page can hold.
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    # No message, that is the model's own, is a kind too.
    there = [column for column in _KIND if column in raw.columns]
    apart = [column for column in there if raw[column].nunique(dropna=False) > 1]
    if not apart:
        return [_tidy(raw, name, source)]
    kinds = raw[apart].fillna("none").astype(str).agg("_".join, axis=1)
    return [_tidy(raw[kinds == kind], f"{name}_{kind}", source) for kind in kinds.unique()]


def _tidy(raw: pd.DataFrame, name: str, source: Path) -> Results:
    notes: list[str] = []
    long = _clean(_long(raw, source), source, notes)
    keys = [column for column in ("graph", *PARAMETERS, *C_AND_L) if column in long.columns]
    number = long.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    first = long[keys].iloc[np.unique(number, return_index=True)[1]].reset_index(drop=True)
    graphs, left_out = identify(first, source.parent)
    notes += left_out
    kept = np.isin(number, graphs.index)
    if not kept.any():
        raise InputError(f"{source} holds no graph that is known; {' '.join(notes)}")
    described = graphs.loc[number[kept]].reset_index(drop=True)
    runs = long.loc[kept, ["train_seed", "epoch", "error"]].reset_index(drop=True)
    table = pd.concat([described, runs], axis=1)
    table.insert(0, "results", name)
    table = _unrepeated(table[list(COLUMNS)], source, notes)
    table["num_nodes"] = table["num_nodes"].astype(int)
    table = _finished(table, notes)
    if table["num_nodes"].nunique() == 1:  # else of each size by itself
        notes += _shortcomings(table)
    return Results(name, table, tuple(notes))


def read_many(paths: Iterable[str | os.PathLike[str]]) -> list[Results]:
    """The results of files and folders, one per file, kind of network and number of nodes.

    A file that holds the same runs as another, such as the error by epoch of a file with the last
    error, stands for both under the other's name.

    Raises:
        InputError: as :func:`load_results`, or no path.

    Example:
        >>> from mpnn_arch.analysis import read_many
        >>> [results.name for results in read_many(["results.csv"])]
        ['results']
    """
    files: list[Path] = []
    for path in map(check_path, as_list("paths", paths)):
        several = (
            path.is_dir()
            and not _is_study(path)
            and not any((path / name).is_file() for name in _IN_FOLDER)
        )
        inside = _results_in(path) if several else [path]
        if not inside:
            from mpnn_arch.studies.study import name_studies_in

            fix = name_studies_in(path) or "give a CSV or Parquet file of them"
            raise InputError(f"there are no results in the folder {path}; {fix}")
        files += [file for file in inside if file not in files]
    if not files:
        raise InputError("there are no results to read; give one CSV file or more")
    read = [part for file in files for one in read_results(file) for part in _by_size(one)]
    return _merged(_unique_names(read))


def check_table(table: pd.DataFrame, columns: Iterable[str] = COLUMNS[1:]) -> None:
    """Refuse what is no table of results, or lacks one of ``columns``.

    Where they are those of a run, every run is there once: of several networks a graph's errors
    would be averaged as if they were one's.

    Raises:
        InputError: it is not, or does, or holds several results.
    """
    columns = list(columns)
    check_columns(table, columns, "load one with mpnn_arch.analysis.load_results")
    if not {*_RUN, "error"} <= set(columns):
        return
    names = table["results"].unique() if "results" in table.columns else []
    if len(names) > 1:
        listed = ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
        raise InputError(
            f"the table holds {len(names)} results ({listed}), of several networks or files; "
            f"analyse them one by one, as table[table['results'] == {str(names[0])!r}]"
        )
    again = table[table.duplicated(_RUN)]
    if len(again):
        graph, seed, epoch = again[_RUN].iloc[0]
        raise InputError(
            f"the table has several errors for {graph}, training seed {seed}, epoch {epoch}; keep "
            "one, or analyse each network by itself"
        )


def final(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last epoch.

    Raises:
        InputError: no table of results.
    """
    check_table(table)
    last: pd.DataFrame = table[table["epoch"] == table["epoch"].max()]
    return last


def is_baseline(table: pd.DataFrame) -> pd.Series:
    """Which rows are the complete graph's.

    Raises:
        InputError: no table with a column ``graph``.
    """
    check_table(table, ["graph"])
    answer: pd.Series = table["graph"].str.startswith("complete:")
    return answer


def has_epochs(table: pd.DataFrame) -> bool:
    """Whether the table knows more than one epoch.

    Raises:
        InputError: no table with a column ``epoch``.
    """
    check_table(table, ["epoch"])
    return table["epoch"].nunique() > 1


def _is_study(path: Path) -> bool:
    return (path / "study.json").is_file()


def _study_table(
    path: Path,
) -> tuple[pd.DataFrame, tuple[str, ...], Mapping[str, RelationalGraph]]:
    """Every epoch of a study, a sentence on the trials that have no last one, graphs of files.

    Raises:
        InputError: there is none yet, or the study cannot be read.
    """
    from mpnn_arch.studies import Study
    from mpnn_arch.studies.graph_names import file_of, kept_graphs
    from mpnn_arch.studies.results import failures

    study = Study.open(path)
    table, counts = study.table(all_epochs=True), study.counts()
    if table.empty:
        again = f"mpnn-arch {study.command} --out {path} --resume"
        with study.ledger() as ledger:
            failed = list(failures(ledger))
        if failed:
            raise InputError(
                f"the study {path} has no trained epoch; {counts.failed} of {counts.trials} trials "
                f"failed ({failed[0][0]}); mend that, then {again} --retry-failed"
            )
        raise InputError(f"the study {path} has no trained epoch yet; run it with {again}")
    notes: tuple[str, ...] = ()
    if counts.left_out:
        notes = (f"without a result: {counts.left_out}; see mpnn-arch status {path}",)
    # A recipe may pass epochs over (``evaluate_every``): they have a training loss and no error.
    evaluated = table[table["top1_error"].notna()]
    with study.ledger() as ledger:
        graphs = kept_graphs(ledger, filter(file_of, table["graph_spec"].unique()))
    return table if evaluated.empty else evaluated.reset_index(drop=True), notes, graphs


def _file(path: Path) -> Path:
    if path.is_dir():
        for name in _IN_FOLDER:
            if (path / name).is_file():
                return path / name
        names = ", ".join(_IN_FOLDER)
        raise InputError(f"the folder {path} has none of {names}; give a file of results")
    if not path.is_file():
        what = f"{path} is a device or a pipe" if path.exists() else f"there is no file {path}"
        raise InputError(f"{what}; give a CSV file of results")
    return path


def _name(path: Path) -> str:
    return path.parent.resolve().name if path.name in _IN_FOLDER else path.stem


def _results_in(folder: Path) -> list[Path]:
    files = sorted([*folder.glob("*.csv"), *folder.glob("*.parquet")])
    return [path for path in files if path.is_file() and _looks_like_results(path)]


def _header(path: Path) -> str:
    # A spreadsheet's mark of UTF-8 is no part of the first name.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline()


def _looks_like_results(path: Path) -> bool:
    if path.suffix == ".parquet":
        header = _parquet_columns(path)
    else:
        header = {name.strip().strip('"') for name in _header(path).split(",")}
    return "graph" in header and bool(
        header & set(_ERROR) or any(_WIDE.fullmatch(name) for name in header)
    )


def _parquet_columns(path: Path) -> set[str]:
    try:
        import pyarrow.parquet as pq

        return set(pq.read_schema(path).names)
    except ImportError:
        raise _no_pyarrow() from None
    except (ValueError, OSError):  # no Parquet file
        return set()


def _no_pyarrow() -> InputError:
    from mpnn_arch.studies.export import PYARROW_IS_MISSING

    return InputError(PYARROW_IS_MISSING)


def _read_table(path: Path) -> pd.DataFrame:
    raw = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    if raw.empty:
        raise InputError(f"{path} holds no row; give results of one run or more")
    return raw


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        raw = pd.read_parquet(path)
    except ImportError:
        raise _no_pyarrow() from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no Parquet file of results: {str(error).strip()}") from None
    if raw.index.names != [None]:  # columns that were made the index
        raw = raw.reset_index()
    # Categories take no value that is none of them, as the name of a graph would be.
    kinds = {name: kind for name, kind in raw.dtypes.items() if hasattr(kind, "categories")}
    return raw.astype({name: kind.categories.dtype for name, kind in kinds.items()})


def _read_csv(path: Path) -> pd.DataFrame:
    header = _header(path)
    if "graph" in header and "," not in header:
        for mark, name in ((";", "semicolons"), ("\t", "tabs")):
            if mark in header:
                raise InputError(
                    f"{path} has {name} between its columns; save it with commas between columns "
                    "and points in numbers"
                )
    try:
        # Names are text, also where all of them could be read as numbers.
        text = dict.fromkeys(("graph", "graph_spec", *_KIND), str)
        raw = pd.read_csv(path, skipinitialspace=True, dtype=text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV file of results: {str(error).strip()}") from None
    # What there is too much pandas takes for names.
    if not (raw.empty or isinstance(raw.index, pd.RangeIndex)):
        raise InputError(
            f"{path}, line 2 has more values than line 1 has names; put graphs that hold commas "
            'into quotes, as "ring:64,4"'
        )
    return raw


def _long(raw: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The columns under our names, one row per epoch."""
    _need(raw, ("graph",), path)
    plain = raw["graph"].isin(["ws_flex", "complete"])
    # An export gives the family in `graph`, and in `graph_spec` the graph itself.
    graph = raw["graph"].where(plain, raw["graph_spec"]) if "graph_spec" in raw else raw["graph"]
    columns = {"graph": graph, "train_seed": raw[_need(raw, _SEED, path)]}
    columns |= {name: raw[name] for name in (*PARAMETERS, *C_AND_L) if name in raw.columns}
    for name in PARAMETERS if plain.any() else ():
        _need(raw, (name,), path)
    wide = {int(m[1]): m[0] for m in map(_WIDE.fullmatch, raw.columns) if m}
    if wide:
        runs = pd.DataFrame(columns)
        parts = [runs.assign(epoch=t, error=raw[wide[t]], line=raw.index) for t in sorted(wide)]
        return pd.concat(parts, ignore_index=True)
    columns["error"] = raw[_need(raw, (*_ERROR, "epoch1"), path)]
    named = re.search(r"epoch(\d+)", path.stem)
    there = [name for name in _EPOCH if name in raw.columns]
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
        if wrong.any():
            _refuse_value(
                long, name, wrong, "a whole number" if name in whole else "a number", path
            )
        # Of a Parquet file they may be short, or of types of pandas' own.
        is_whole = isinstance(numbers.dtype, np.dtype) and numbers.dtype.kind in "iu"
        long[name] = numbers.astype(np.int64 if is_whole else np.float64)
    for name in ("train_seed", "epoch"):
        if long[name].isna().any():
            _refuse_value(long, name, long[name].isna(), "a whole number", path)
        long[name] = long[name].astype(int)
    for name, least, most in (("error", 0, 100), ("density", 0, 1), ("rewiring_probability", 0, 1)):
        if name in long.columns:
            outside = np.isfinite(long[name]) & ~long[name].between(least, most)
            if outside.any():
                _refuse_value(long, name, outside, f"between {least} and {most}", path)
    if long["graph"].isna().any():
        _refuse_value(long, "graph", long["graph"].isna(), "the name of a graph", path)
    finite = np.isfinite(long["error"])
    if not finite.any():
        raise InputError(f"{path} has no row with a finite error; give errors in percent")
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
    again = table.duplicated(_RUN, keep=False)
    if not again.any():
        return table
    spread = table[again].groupby(_RUN)["error"].nunique()
    if (spread > 1).any():
        graph, seed, epoch = spread.index[spread.to_numpy() > 1][0]
        raise InputError(
            f"{path} has several errors for {graph}, training seed {seed}, epoch {epoch}; keep one"
        )
    once = table.drop_duplicates(_RUN)
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


def _shortcomings(table: pd.DataFrame) -> list[str]:
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


def _by_size(results: Results) -> list[Results]:
    sizes = sorted(results.table["num_nodes"].unique())
    if len(sizes) == 1:
        return [results]
    parts = []
    for size in sizes:
        name = f"{results.name}_n{size}"
        table = results.table[results.table["num_nodes"] == size].assign(results=name)
        notes = (*results.notes, *_shortcomings(table))
        table = table.reset_index(drop=True)
        parts.append(replace(results, name=name, table=table, notes=notes))
    return parts


def file_name(name: str) -> str:
    """``name`` with what a file's name should not hold replaced."""
    return re.sub(r"[^\w.-]+", "_", name)


def _unique_names(read: list[Results]) -> list[Results]:
    """Files of one name in different folders get a number, as do names that are one in a file's."""

    def of_file(name: str) -> str:
        return file_name(name).casefold()  # on some disks upper and lower case are one

    given = {of_file(one.name) for one in read}
    taken: set[str] = set()
    named = []
    for results in read:
        name = results.name
        if of_file(name) in taken:
            numbered = (f"{results.name}_{number}" for number in count(2))
            name = next(one for one in numbered if of_file(one) not in given | taken)
            results = replace(results, name=name, table=results.table.assign(results=name))
        taken.add(of_file(name))
        named.append(results)
    return named


def _merged(read: list[Results]) -> list[Results]:
    kept: list[Results] = []
    for results in sorted(read, key=lambda one: not has_epochs(one.table)):
        twin = next((one for one in kept if _same_runs(one.table, results.table)), None)
        if twin is None:
            kept.append(results)
            continue
        note = f"{twin.name} holds the same runs, and the two are analysed once"
        table = twin.table.assign(results=results.name)
        merged = replace(
            results, table=table, notes=(*results.notes, note), twins=(twin.name, *twin.twins)
        )
        kept = [merged if one is twin else one for one in kept]
    order = {one.name: place for place, one in enumerate(read)}
    return sorted(kept, key=lambda one: order[one.name])


def _same_runs(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    def runs(table: pd.DataFrame) -> pd.Series:
        last = final(table)
        return last.set_index(["graph", "train_seed"])["error"].sort_index()

    a, b = runs(first), runs(second)
    return a.index.equals(b.index) and bool(np.allclose(a, b))
