"""Results of files, folders and studies as tidy tables: a row for every graph, seed and epoch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from mpnn_arch.analysis.results_files import (
    IN_FOLDER,
    file_of_results,
    is_study,
    name_of,
    read_table,
    results_in,
    study_table,
)
from mpnn_arch.analysis.results_table import final, has_epochs
from mpnn_arch.analysis.tidy_results import Results, shortcomings, tidy
from mpnn_arch.checks import as_list, check_path
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.remote import data_folders

# Keys of a report's findings that name no results.
NOT_RESULTS = ("correlations", "sweet_spot_intersection", "readings")


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
        InputError: no such file, a column that is missing or of the wrong type, nothing left, or
            runs of one graph with several ``first_stage_width`` or ``learning_rate``, columns that
            an export has: they are not seeds of one network.

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
    paths = results_in(_published_folder(root))
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
            if folder.is_dir() and results_in(folder):
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
    if is_study(path):
        table, notes, graphs = study_table(path)
        read = tidy(table, path.resolve().name, path / "study.json")
        return [replace(one, notes=(*notes, *one.notes), graphs=graphs) for one in read]
    path = file_of_results(path)
    return tidy(read_table(path), name_of(path), path)


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
            and not is_study(path)
            and not any((path / name).is_file() for name in IN_FOLDER)
        )
        inside = results_in(path) if several else [path]
        if not inside:
            from mpnn_arch.studies.description import name_studies_in

            fix = name_studies_in(path) or "give a CSV or Parquet file of them"
            raise InputError(f"there are no results in the folder {path}; {fix}")
        files += [file for file in inside if file not in files]
    if not files:
        raise InputError("there are no results to read; give one CSV file or more")
    read = [part for file in files for one in read_results(file) for part in _by_size(one)]
    return _merged(_unique_names(read))


def _by_size(results: Results) -> list[Results]:
    sizes = sorted(results.table["num_nodes"].unique())
    if len(sizes) == 1:
        return [results]
    parts = []
    for size in sizes:
        name = f"{results.name}_n{size}"
        table = results.table[results.table["num_nodes"] == size].assign(results=name)
        notes = (*results.notes, *shortcomings(table))
        table = table.reset_index(drop=True)
        parts.append(replace(results, name=name, table=table, notes=notes))
    return parts


def file_name(name: str) -> str:
    """``name`` with what a file's name should not hold replaced."""
    return re.sub(r"[^\w.-]+", "_", name)


def file_names(names: Sequence[str]) -> list[str]:
    """:func:`file_name` of each of ``names``, numbered where one of them has it already."""
    return [file_name(name) for name in _numbered(names, set())]


def _unique_names(read: list[Results]) -> list[Results]:
    """Files of one name in different folders get a number, as do names that are one in a file's."""
    names = _numbered([one.name for one in read], set(NOT_RESULTS))
    return [
        one if one.name == name else replace(one, name=name, table=one.table.assign(results=name))
        for one, name in zip(read, names, strict=True)
    ]


def _numbered(names: Sequence[str], taken: set[str]) -> list[str]:
    def of_file(name: str) -> str:
        return file_name(name).casefold()  # on some disks upper and lower case are one

    given = {of_file(name) for name in names}
    found = []
    for name in names:
        free = name
        if of_file(name) in taken:
            numbered = (f"{name}_{number}" for number in count(2))
            free = next(one for one in numbered if of_file(one) not in given | taken)
        taken.add(of_file(free))
        found.append(free)
    return found


def _merged(read: list[Results]) -> list[Results]:
    kept: list[Results] = []
    for results in sorted(read, key=lambda one: not has_epochs(one.table)):
        twin = next((one for one in kept if _same_runs(one, results)), None)
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


def _same_runs(first: Results, second: Results) -> bool:
    def runs(table: pd.DataFrame) -> pd.Series:
        last = final(table)
        return last.set_index(["graph", "train_seed"])["error"].sort_index()

    # Errors of few test images may be equal by chance.
    if any(first.kind[name] != second.kind[name] for name in first.kind.keys() & second.kind):
        return False
    a, b = runs(first.table), runs(second.table)
    return a.index.equals(b.index) and bool(np.allclose(a, b))
