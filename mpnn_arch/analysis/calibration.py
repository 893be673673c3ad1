"""False alarms and power of the rules for a sweet spot, measured on planted landscapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mpnn_arch.analysis.corrected import BestSet, adjusted, flatness
from mpnn_arch.analysis.landscape import binned, plane_of
from mpnn_arch.analysis.per_graph import Array, Flags, Numbers, error_matrix, run_variance
from mpnn_arch.analysis.sweet_spot import worse_than
from mpnn_arch.checks import as_numbers, check_kind, check_whole
from mpnn_arch.errors import InputError

ALPHA = 0.05
RULES = ("paper", "holm", "simultaneous")


@dataclass(frozen=True)
class Design:
    """What was trained, and how far chance went: what a planted landscape copies.

    Args:
        candidate: (graphs,) the bin or graph that each graph counts for.
        c: (candidates,) clustering coefficient.
        length: (candidates,) average path length.
        seeds: training seeds a graph.
        graph_deviation: of graphs within a bin; 0 where candidates are graphs.
        seed_deviation: of a graph's runs, without what a training seed does to all graphs.
        common_deviation: of what a training seed does to all graphs alike.
    """

    candidate: Numbers
    c: Array
    length: Array
    seeds: int
    graph_deviation: float
    seed_deviation: float
    common_deviation: float


def design_of(table: pd.DataFrame) -> Design:
    """The design of results, candidates being coarse bins or, with one graph per bin, graphs.

    Raises:
        InputError: fewer than two training seeds, or than four candidates.

    Example:
        >>> from mpnn_arch.analysis import design_of, load_results
        >>> type(design_of(load_results("results.csv"))).__name__
        'Design'
    """
    graphs, errors = error_matrix(table)
    if errors.shape[1] < 2:
        raise InputError("one training seed shows no chance; give results of two or more")
    plane = plane_of(graphs)
    placed = binned(graphs.assign(row=np.arange(len(graphs))), plane)
    by_bin = placed.groupby("bin")["row"].size().median() > 1
    within, common = _seed_variances(errors)
    if by_bin:
        candidate = placed["bin"].rank(method="dense").to_numpy().astype(int) - 1
        first = placed.sort_values("bin").drop_duplicates("bin")
        c, length = plane.centres(first["c_bin"].to_numpy(), first["l_bin"].to_numpy())
        means = errors.mean(axis=1)[placed["row"]]
        count = np.bincount(candidate)
        spread = (means - (np.bincount(candidate, means) / count)[candidate]) ** 2
        between = spread.sum() / max(1, len(means) - len(count)) - within / errors.shape[1]
    else:
        candidate, between = np.arange(len(placed)), 0.0
        c, length = (
            placed[name].to_numpy() for name in ("clustering_coefficient", "average_path_length")
        )
    if candidate.max() < 3:
        raise InputError(f"{candidate.max() + 1} candidates are too few; give four or more")
    return Design(
        candidate,
        c,
        length,
        errors.shape[1],
        float(np.sqrt(max(0.0, between))),
        float(np.sqrt(within)),
        float(np.sqrt(common)),
    )


def _seed_variances(errors: Array) -> tuple[float, float]:
    """Of a run apart from its graph and its seed, and of a seed over all graphs.

    By the mean squares of a two-way layout without replication.
    """
    within = run_variance(errors) if len(errors) > 1 else 0.0
    return within, max(0.0, float(errors.mean(axis=0).var(ddof=1)) - within / len(errors))


def planted(design: Design, depth: float) -> Array:
    """Candidates' true errors: a bowl of this depth around C = 0.4 and the 40 % quantile of L.

    The bowl is flat at its bottom, which is the true sweet spot, and outside its rim.
    """
    c, length = design.c, design.length
    span = max(float(np.ptp(length)), 1e-9)
    away = np.hypot((c - 0.4) / 0.25, (length - np.quantile(length, 0.4)) / (0.25 * span))
    return depth * np.clip(away - 0.5, 0, 1)


def calibrate(
    design: Design,
    depths: tuple[float, ...] = (0.25, 0.5, 1.0),
    repeats: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """How often each rule is wrong, and how often it finds what is there.

    On a flat landscape a rule raises a false alarm when it calls a region smaller than the plane a
    sweet spot. On a planted one it has ``found`` the spot when it claims one that holds the truly
    best candidates' majority and leaves out the majority of those outside the bowl.

    Args:
        design: of the results.
        depths: of the planted bowls, in percentage points.
        repeats: made-up results for every landscape.
        seed: of them.

    Returns:
        A row for every rule and depth, the flat landscape being depth 0: ``claimed`` (share of
        results with a region smaller than the plane: the false-alarm rate where depth is 0),
        ``found``, ``excluded`` (mean share of the candidates outside the bowl that are left out:
        the power a candidate) and ``lost`` (mean share of the truly best that are left out).

    Example:
        >>> from mpnn_arch.analysis import calibrate, design_of, load_results
        >>> rules = calibrate(design_of(load_results("results.csv")), depths=(1.0,), repeats=4)
        >>> sorted(set(rules["depth"]))
        [0.0, 1.0]
    """
    check_kind("design", design, Design, "make it with mpnn_arch.analysis.design_of")
    depths = tuple(as_numbers("depths", depths))
    repeats, seed = check_whole("repeats", repeats, 1, 10**6), check_whole("seed", seed, 0)
    random = np.random.default_rng(seed)
    best_set = _best_set(design)
    rows = []
    for depth in (0.0, *depths):
        truth = planted(design, depth)
        bottom, outside = truth == truth.min(), truth >= max(depth, 1e-12)
        tally = {rule: np.zeros(4) for rule in RULES}
        for _ in range(repeats):
            kept = _apply(design, truth, best_set, random)
            for rule, keeps in kept.items():
                claimed = not keeps.all()
                excluded = (~keeps[outside]).mean() if outside.any() else np.nan
                lost = (~keeps[bottom]).mean()
                found = claimed and lost < 0.5 and excluded > 0.5
                tally[rule] += claimed, found, excluded, lost
        for rule, counts in tally.items():
            claimed, found, excluded, lost = counts / repeats
            rows.append((rule, depth, claimed, found if depth else np.nan, excluded, lost))
    columns = ["rule", "depth", "claimed", "found", "excluded", "lost"]
    return pd.DataFrame(rows, columns=columns)


def _best_set(design: Design) -> BestSet:
    count = np.bincount(design.candidate).astype(np.float64)
    values = count if _by_bin(design) else count * design.seeds
    return BestSet(values, int(values.sum()) - len(values), draws=2000)


def _by_bin(design: Design) -> bool:
    return len(design.candidate) > len(design.c)


def _apply(
    design: Design, truth: Array, best_set: BestSet, random: np.random.Generator
) -> dict[str, Flags]:
    """Which candidates each rule keeps on one made-up set of results."""
    graphs = truth[design.candidate]
    graphs = graphs + design.graph_deviation * random.standard_normal(len(graphs))
    noise = design.seed_deviation * random.standard_normal((len(graphs), design.seeds))
    common = design.common_deviation * random.standard_normal(design.seeds)
    errors = graphs[:, None] + noise + common
    mean, std, count = _moments(design.candidate, errors.ravel(), design.seeds)
    best = int(mean.argmin())
    candidates = pd.DataFrame({"mean": mean, "std": std, "count": count})
    p = worse_than(candidates, best)
    rest = np.arange(len(mean)) != best
    holm = np.ones(len(mean), dtype=bool)
    holm[rest] = adjusted(p[rest]) > ALPHA
    if _by_bin(design):
        mean, std, count = _moments(design.candidate, errors.mean(axis=1), 1)
    free = int(count.sum()) - len(count)
    within = float(np.sqrt(((count - 1) * std**2).sum() / free))
    simultaneous = best_set.p_values(mean, within) > ALPHA
    simultaneous[int(mean.argmin())] = True
    if flatness(mean, within, count, free) > ALPHA:
        simultaneous[:] = True
    return {
        "paper": ~rest | (p > ALPHA),
        "holm": holm,
        "simultaneous": simultaneous,
    }


def _moments(candidate: Numbers, values: Array, repeat: int) -> tuple[Array, Array, Array]:
    place = np.repeat(candidate, repeat)
    count = np.bincount(place).astype(np.float64)
    mean = np.bincount(place, values) / count
    squares = np.bincount(place, (values - mean[place]) ** 2)
    return mean, np.sqrt(squares / (count - 1).clip(min=1)), count
