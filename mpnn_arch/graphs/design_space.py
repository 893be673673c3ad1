"""The design space: a sweep that generates and measures every graph of a grid of parameters."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import check_bytes, check_path, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators import GENERATORS, generate
from mpnn_arch.graphs.generators.family import is_seeded
from mpnn_arch.graphs.generators.limits import check_num_nodes
from mpnn_arch.graphs.generators.ws_flex import ws_flex_words
from mpnn_arch.graphs.measures import MEASURES, GraphBatch
from mpnn_arch.io.files import make_folder, write_text, write_whole
from mpnn_arch.io.temporary import sweep

C_AND_L = ("clustering_coefficient", "average_path_length")

# Graphs per part: some seconds of work, and a few megabytes of words.
PART = 10_000
# Graphs measured at once; bounds the memory of a worker.
_BATCH = 1_000


def paper_grid(num_nodes: int) -> dict[str, list[float]]:
    """The WS-flex parameters that the published lists were drawn from, each with seeds 0 to 29.

    degree = linspace(sqrt(d), sqrt(N - 2), m)^2 and p = linspace(0, 1, 300)^2, with d = 8 and
    m = 300 for 64 nodes, d = 4 and m = 200 for 16: every density and p of the published files is
    one of these to the last digit. Other sizes use d = sqrt(N) and m = 200.

    Example:
        >>> from mpnn_arch import graphs
        >>> {name: len(values) for name, values in graphs.paper_grid(64).items()}
        {'average_degree': 300, 'rewiring_probability': 300}
    """
    num_nodes = check_num_nodes(num_nodes, least=8)
    least, count = (8, 300) if num_nodes == 64 else (num_nodes**0.5, 200)
    degree = np.linspace(np.sqrt(least), np.sqrt(num_nodes - 2), count) ** 2
    return {
        "average_degree": degree.tolist(),
        "rewiring_probability": (np.linspace(0, 1, 300) ** 2).tolist(),
    }


def sweep_design_space(
    generator: str,
    num_nodes: int,
    grid: Mapping[str, Sequence[float]],
    repeats: int = 1,
    workers: int = 1,
    *,
    out: str | Path,
    measures: Sequence[str] = C_AND_L,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Generate and measure every graph of a grid, streaming the rows to Parquet files.

    Rows are ordered by seed, then by the product of the grid's lists. They are written in parts of
    10,000 graphs, each part atomically: the same call resumes an interrupted sweep, and one with
    more repeats continues it. A graph that its generator rejects (none connected in its tries) has
    no row.

    Args:
        generator: name of the family.
        num_nodes: N of every graph.
        grid: the values of every other parameter of the family but the seed.
        repeats: seeds 0 .. repeats - 1 at every point; 1 for families without a seed.
        workers: processes.
        out: folder of the Parquet files; created if it does not exist.
        measures: names of the columns to measure.
        progress: called with the number of finished parts and of all parts.

    Returns:
        ``out``; read it with ``pandas.read_parquet``. A row has ``num_nodes``, the parameters that
        were asked for, ``density`` (of the graph's edges: mean degree over N) and the measures.

    Raises:
        InputError: an unknown name, an empty list, a folder that holds another sweep, or values
            that the generator rejects throughout a part.

    Example:
        >>> import pandas as pd
        >>> from mpnn_arch import graphs
        >>> grid = {"average_degree": [4, 8], "rewiring_probability": [0.0, 0.5]}
        >>> folder = graphs.sweep_design_space("ws_flex", 16, grid, repeats=2, out="sweep")
        >>> len(pd.read_parquet(folder))
        8
    """
    GENERATORS.get(generator)
    for name in measures:
        MEASURES.get(name)
    num_nodes = check_whole("num_nodes", num_nodes, 1)
    repeats = check_whole("repeats", repeats, 1, 1_000_000 if is_seeded(generator) else 1)
    workers = check_whole("workers", workers, 1, 1024)
    check_bytes(
        f"a sweep over graphs of {num_nodes:,} nodes",
        workers * _BATCH * num_nodes * -(-num_nodes // 64) * 8,
        "ask for smaller graphs or fewer workers",
    )
    empty = [name for name, values in grid.items() if not len(values)]
    if empty:
        raise InputError(f"the grid gives no value for {empty[0]}; give one or more")
    out = check_path(out)
    plan = _Sweep(
        generator,
        num_nodes,
        {name: [float(v) for v in values] for name, values in grid.items()},
        repeats,
        tuple(measures),
        PART,
    )
    _claim(out, plan)
    parts = range(-(-plan.num_graphs // plan.part))
    waiting = [part for part in parts if not _part_path(out, part).exists()]
    done = len(parts) - len(waiting)
    report = progress or (lambda done, total: None)
    report(done, len(parts))
    for _ in _swept(plan, out, waiting, workers):
        done += 1
        report(done, len(parts))
    return out


@dataclass(frozen=True)
class _Sweep:
    generator: str
    num_nodes: int
    grid: dict[str, list[float]]
    repeats: int
    measures: tuple[str, ...]
    part: int

    @property
    def num_points(self) -> int:
        return int(np.prod([len(values) for values in self.grid.values()], dtype=np.int64))

    @property
    def num_graphs(self) -> int:
        return self.num_points * self.repeats

    def rows(self, start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
        """The parameters of graphs start .. stop - 1, one column each; seeds vary slowest."""
        number = np.arange(start, stop)
        seed, point = np.divmod(number, self.num_points)
        places = np.unravel_index(point, [len(values) for values in self.grid.values()] or [1])
        columns: dict[str, npt.NDArray[Any]] = {
            name: np.asarray(values)[place]
            for (name, values), place in zip(self.grid.items(), places, strict=False)
        }
        return columns | ({"seed": seed} if is_seeded(self.generator) else {})

    def description(self) -> dict[str, Any]:
        values = json.dumps(self.grid, sort_keys=True)
        return {
            "generator": self.generator,
            "num_nodes": self.num_nodes,
            "grid": {name: len(values) for name, values in self.grid.items()},
            "grid_sha256": hashlib.sha256(values.encode()).hexdigest(),
            "repeats": self.repeats,
            "measures": list(self.measures),
            "part": self.part,
        }


def _claim(out: Path, plan: _Sweep) -> None:
    """Create the folder, or check that it holds this sweep with at most as many repeats."""
    make_folder(out)
    sweep(out)
    note = out / "_sweep.json"
    described = plan.description()
    if note.exists():
        found = json.loads(note.read_text())
        differs = [key for key, value in described.items() if found.get(key) != value]
        if differs == ["repeats"] and found["repeats"] < plan.repeats:
            # The seeds vary slowest, so all parts stay valid except a last, shorter one.
            short = plan.num_points * found["repeats"] // plan.part
            _part_path(out, short).unlink(missing_ok=True)
        elif differs:
            raise InputError(
                f"{out} holds another sweep (it differs in {', '.join(differs)}); "
                "choose another folder, or the same settings to go on with it"
            )
        else:
            return
    elif any(out.glob("*.parquet")):
        raise InputError(f"{out} holds Parquet files of something else; choose another folder")
    write_text(note, json.dumps(described, indent=1))


def _swept(plan: _Sweep, out: Path, parts: Sequence[int], workers: int) -> Iterator[None]:
    """Sweep these parts; an item for each that is done."""
    if workers == 1:
        for part in parts:
            _sweep_part(plan, out, part)
            yield
        return
    # Spawned, not forked: threads of the caller (torch's) would not survive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_sweep_part, plan, out, part) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _part_path(out: Path, part: int) -> Path:
    return out / f"part-{part:05d}.parquet"


def _sweep_part(plan: _Sweep, out: Path, part: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[npt.NDArray[Any]]] = {}
    refused: InputError | None = None
    stop = min((part + 1) * plan.part, plan.num_graphs)
    for start in range(part * plan.part, stop, _BATCH):
        params = plan.rows(start, min(start + _BATCH, stop))
        words, kept, error = _make(plan.generator, plan.num_nodes, params)
        refused = refused or error
        if not kept.any():
            continue
        batch = GraphBatch(words)
        made: dict[str, npt.NDArray[Any]] = {
            "num_nodes": np.full(len(batch), plan.num_nodes),
            **{name: values[kept] for name, values in params.items()},
            "density": batch.degrees.mean(axis=1) / plan.num_nodes,
            **{name: MEASURES.get(name)(batch) for name in plan.measures},
        }
        for name, values in made.items():
            columns.setdefault(name, []).append(values)
    if not columns:
        raise InputError(f"no graph of part {part} of the sweep can be made: {refused}")
    table = pa.table({name: np.concatenate(values) for name, values in columns.items()})
    write_whole(_part_path(out, part), lambda temporary: pq.write_table(table, temporary))


def _make(
    generator: str, num_nodes: int, params: dict[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_], InputError | None]:
    """Words of the valid graphs, a mask of which are valid, and the first error."""
    from mpnn_arch.graphs import bitset

    names, count = list(params), len(next(iter(params.values()), [0]))
    rows = list(zip(*(values.tolist() for values in params.values()), strict=True)) or [()] * count
    if generator == "ws_flex" and set(names) == {"average_degree", "rewiring_probability", "seed"}:
        try:
            return ws_flex_words(num_nodes, **params), np.ones(count, dtype=bool), None
        except InputError:
            pass  # one by one below, so that the others are kept
    made, kept, error = [], np.zeros(count, dtype=bool), None
    for i, row in enumerate(rows):
        try:
            graph = generate(generator, num_nodes=num_nodes, **dict(zip(names, row, strict=True)))
        except InputError as refusal:
            error = error or refusal
            continue
        made.append(bitset.pack(graph.adjacency))
        kept[i] = True
    shape = (0, num_nodes, -(-num_nodes // 64))
    return (np.stack(made) if made else np.zeros(shape, np.uint64)), kept, error
