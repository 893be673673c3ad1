"""Files, folders and studies that hold results, read as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mpnn_arch.analysis.exact_csv import read_csv
from mpnn_arch.analysis.results_table import ERROR_NAMES, KIND, WIDE
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.io.files import read_error, typed_path

# What a folder may call its results: an export of a study, and the metrics of `mpnn-arch train`.
IN_FOLDER = ("export.csv", "export.parquet", "metrics.csv")


def is_study(path: Path) -> bool:
    """Whether this is the folder of a study."""
    return (path / "study.json").is_file()


def study_table(
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
        again = f"mpnn-arch {study.command} --out {typed_path(path)} --resume"
        with study.ledger() as ledger:
            failed = list(failures(ledger))
        if failed:
            raise InputError(
                f"the study {path} has no trained epoch; {counts.failed} of {counts.trials} trials "
                f"failed ({failed[0][0]}); fix that, then {again} --retry-failed"
            )
        raise InputError(f"the study {path} has no trained epoch yet; run it with {again}")
    notes: tuple[str, ...] = ()
    if counts.left_out:
        notes = (f"without a result: {counts.left_out}; see mpnn-arch status {typed_path(path)}",)
    # A recipe may pass epochs over (``evaluate_every``): they have a training loss and no error.
    evaluated = table[table["top1_error"].notna()]
    with study.ledger() as ledger:
        graphs = kept_graphs(ledger, filter(file_of, table["graph_spec"].unique()))
    return table if evaluated.empty else evaluated.reset_index(drop=True), notes, graphs


def file_of_results(path: Path) -> Path:
    """The file itself, or that of :data:`IN_FOLDER` in a folder.

    Raises:
        InputError: there is none.
    """
    if path.is_dir():
        for name in IN_FOLDER:
            if (path / name).is_file():
                return path / name
        names = ", ".join(IN_FOLDER)
        raise InputError(f"the folder {path} has none of {names}; give a file of results")
    if not path.is_file():
        what = f"{path} is a device or a pipe" if path.exists() else f"there is no file {path}"
        raise InputError(f"{what}; give a CSV file of results")
    return path


def name_of(path: Path) -> str:
    """The name of the results in a file: the file's, or that of the folder it stands for."""
    return path.parent.resolve().name if path.name in IN_FOLDER else path.stem


def results_in(folder: Path) -> list[Path]:
    """The CSV and Parquet files of a folder that have the columns of results."""
    files = sorted([*folder.glob("*.csv"), *folder.glob("*.parquet")])
    return [path for path in files if path.is_file() and _looks_like_results(path)]


def _header(path: Path) -> str:
    # A spreadsheet's mark of UTF-8 is no part of the first name.
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.readline()
    except OSError as error:
        raise read_error(path, error) from None


def _looks_like_results(path: Path) -> bool:
    if path.suffix == ".parquet":
        header = _parquet_columns(path)
    else:
        header = {name.strip().strip('"') for name in _header(path).split(",")}
    return "graph" in header and bool(
        header & set(ERROR_NAMES) or any(WIDE.fullmatch(name) for name in header)
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


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file with the columns that it has.

    Raises:
        InputError: it cannot be read as one, or has no row.
    """
    raw = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    if raw.empty:
        raise InputError(f"{path} holds no row; give results of one run or more")
    return raw


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet as pq

        # Without what pandas noted of it: an index would be no column, and types of pandas' own
        # compute otherwise.
        raw: pd.DataFrame = pq.ParquetFile(path).read().to_pandas(ignore_metadata=True)
    except ImportError:
        raise _no_pyarrow() from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no Parquet file of results: {str(error).strip()}") from None
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
        text = dict.fromkeys(("graph", "graph_spec", *KIND), str)
        raw = read_csv(path, skipinitialspace=True, dtype=text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV file of results: {str(error).strip()}") from None
    # What there is too much pandas takes for names.
    if not (raw.empty or isinstance(raw.index, pd.RangeIndex)):
        raise InputError(
            f"{path}, line 2 has more values than line 1 has names; put graphs that hold commas "
            'into quotes, as "ring:64,4"'
        )
    return raw
