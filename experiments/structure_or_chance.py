"""Does the structure of a graph matter beyond density and degrees? Fixed before the first run.

    python experiments/structure_or_chance.py --small --out runs/structure     # 4 hours of one core
    python experiments/structure_or_chance.py --small --degrees 1 --density 0 --clustering 0
    python experiments/structure_or_chance.py                  # CIFAR-10, 20 seeds, 200 epochs
    python experiments/structure_or_chance.py --smoke          # shows that it runs; no result
    python experiments/structure_or_chance.py --small --out runs/structure --analyse   # no training

Design. Each of the paper's 52 graphs (``published:64/52``) is trained beside null graphs of three
kinds: ``degrees``, the graph rewired at equal degrees (``graphs.rewired``; 3 a graph);
``clustering``, rewired to its C at equal degrees (``graphs.rewired_to_clustering``; 1);
``density``, a random graph of as many edges (``graphs.er``; 1). All are MLPs at equal
multiply-adds on ``mnist1d`` by the recipe ``mlp_mnist1d``, with the same seeds (5), beside the
complete graph. Nulls of the first two kinds keep the degree of every node, and so its fan-in and
its initial scale: neither density, degrees nor initialisation can cause a difference. Nulls of
equal density have other fan-ins; ``--init kaiming`` (the full setting has it) scales the weights of
every node by its own.

``--out`` is a study: what is there is not trained again, a stopped run goes on, and a study of the
same recipe with the 52 graphs is extended by their nulls. Seeds are trained in order, so that a run
that is stopped early has whole seeds; analysed are the seeds that all graphs and nulls of a kind
have, and their number is stated.

Outcome: test error in percent after the last epoch; nothing is selected on test images.

Analysis, for each kind of null, at level 0.05 with Holm's correction for the three tests:

1. ``difference``: mean over graphs of (error of the graph less the mean error of its nulls),
   two-sided t-test over graphs (``analysis.compare_families``).
2. ``within``: F-test that a graph and its nulls have equal errors (the same function): structure
   matters, in whatever direction.
3. ``slopes``: F-test that the difference in error depends neither on that in C nor on that in L
   (``analysis.structure_slopes``). A dozen of the 52 graphs are dense and have the C and L of their
   nulls, which dilutes the first two tests and not this one.

After the fact, and described only: ``split`` has the mean difference of the graphs whose nulls have
nearly their C, at most 0.02 more or less, and of those that rewiring takes 0.3 of C or more;
``drift`` is the difference that is left where C and L are those of the nulls (the intercept, were
one fitted), as a change of the machine between graphs and nulls would show.

Reading: structure matters beyond what the nulls share with the graph if a test is significant after
correction; else the intervals, and what the design finds in 80 % of cases, are the result. What C
and L explain beyond density and degrees (``analysis.variance_ladder``, graphs and nulls of equal
degrees together) is described with its interval, not tested.

Power, with 2.0 points for the deviation of one training (four seeds of the 52 graphs at 15 epochs
gave F = 4 with means from 34.1 to 42.8). With one null of equal degrees, 5 seeds and no other
deviation between graphs, a mean difference of 0.5 points is found in 80 % of cases (three nulls:
93 %), and so is a slope of 1.7 points per unit of C (1.4), or of 0.95 per unit of L (0.78); a
deviation between graphs of equal degrees of 0.7 points is found in 72 % (98 %), of 1.0 in 98 %, and
the slopes found in 80 % are then 2.6 (2.1) and 1.43 (1.16). The published CIFAR-10 errors of these
graphs range over 2 points. The script prints the power of what is asked for before it trains.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from paper_study import show
from scipy import stats
from statsmodels.regression.linear_model import OLS

from mpnn_arch import InputError
from mpnn_arch.analysis import (
    compare_families,
    detectable_slope,
    family_power,
    structure_slopes,
    variance_ladder,
)
from mpnn_arch.analysis.corrected import adjusted
from mpnn_arch.analysis.structure_slopes import differences
from mpnn_arch.analysis.tidy_results import tidy
from mpnn_arch.checks import check_whole
from mpnn_arch.cli.failures import run_script
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.graphs.design_space import C_AND_L
from mpnn_arch.io.files import write_text
from mpnn_arch.io.json_text import format_json
from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.studies.graph_names import expand
from mpnn_arch.training.recipes import RECIPES

KINDS = ("degrees", "clustering", "density")
SEED_DEVIATION = 2.0
LEVEL = 0.05


@dataclass(frozen=True)
class Setting:
    """What is trained."""

    recipe: str
    graphs: str
    seeds: int
    nulls: tuple[int, int, int]  # of each of KINDS
    epochs: int | None = None
    init: str | None = None


SETTINGS = {
    "smoke": Setting("mlp_mnist1d", "sample:16/48/0:5", 2, (1, 1, 1), epochs=1),
    "small": Setting("mlp_mnist1d", "published:64/52", 5, (3, 1, 1)),
    "full": Setting("mlp_cifar10", "published:64/52", 20, (3, 1, 1), init="kaiming"),
}


@dataclass(frozen=True)
class Member:
    """A graph or a null of it: ``number`` 0 is the graph itself."""

    family: str
    kind: str
    number: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_const", const="small", dest="size")
    size.add_argument("--smoke", action="store_const", const="smoke", dest="size")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, help=f"null graphs of equal {kind} a graph")
    parser.add_argument("--graphs", help="instead of the paper's 52")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--init", choices=["published", "kaiming"])
    parser.add_argument("--workers", type=int, help="processes  [default: one per core]")
    parser.add_argument("--data-root", type=Path, help="folder of downloaded data")
    parser.add_argument("--out", type=Path, help="the study  [default: runs/structure-SIZE]")
    parser.add_argument("--analyse", action="store_true", help="only what is trained already")
    args = parser.parse_args()
    size = args.size or "full"
    setting = SETTINGS[size]
    given = {name: getattr(args, name) for name in ("graphs", "seeds", "epochs", "init")}
    setting = dataclasses.replace(setting, **{k: v for k, v in given.items() if v is not None})
    counts = {
        kind: default if getattr(args, kind) is None else getattr(args, kind)
        for kind, default in zip(KINDS, setting.nulls, strict=True)
    }
    for kind, count in counts.items():
        check_whole(kind, count, 0)
    check_whole("seeds", setting.seeds, 2)
    out = args.out or Path("runs") / f"structure-{size}"
    members, graphs = with_nulls(setting.graphs, counts)
    print_power(members, graphs, counts, setting.seeds)
    if args.analyse:
        study = Study.open(out)
    else:
        study = open_study(out, configure(setting, list(members)), args.data_root)
        study.run(workers=args.workers, data_root=args.data_root, watch=show)
    table = rows(study.table(), members)
    found = {kind: analyse(table, kind) for kind in KINDS if counts[kind]}
    found["ladder"] = ladder(study, members, table)
    table.to_csv(out / "structure_or_chance.csv", index=False)
    text = format_json(found, indent=2)
    write_text(out / "structure_or_chance.json", text + "\n")
    print(text)
    print(f"-> {out}")


def with_nulls(
    graphs: str, counts: Mapping[str, int]
) -> tuple[dict[str, Member], dict[str, RelationalGraph]]:
    """Every graph, and its nulls; both by the names that they have in a study."""
    made = expand([graphs])
    members = {name: Member(name, "graph", 0) for name in made}
    specs = []
    for place, (name, graph) in enumerate(made.items()):
        for kind in KINDS:
            for number in range(counts[kind]):
                spec = {
                    "degrees": f"rewired:{number}/{name}",
                    "clustering": f"rewired_to_clustering:{number}/{name}",
                    # Two graphs may have as many edges, and do not share a null.
                    "density": f"er:{graph.num_nodes},{graph.num_edges},{1000 * place + number}",
                }[kind]
                specs.append((spec, Member(name, kind, number + 1)))
    left_out = set()
    for spec, member in specs:
        try:
            for name, null in expand([spec]).items():
                made[name], members[name] = null, member
        except InputError as error:
            left_out.add(member.family)
            print(f"{member.family} is left out: {error}")
    members = {name: one for name, one in members.items() if one.family not in left_out}
    if not members:
        raise InputError(f"no graph of {graphs!r} has a null of every kind; give other --graphs")
    return members, {name: made[name] for name in members}


def configure(setting: Setting, names: list[str]) -> StudyConfig:
    """The study of these graphs and the complete one."""
    recipe = RECIPES.get(setting.recipe)()
    training = recipe.training
    if setting.epochs is not None:
        training = dataclasses.replace(training, epochs=setting.epochs)
    nodes = expand([names[0]])[names[0]].num_nodes
    # The list as such where a study that is there may have it.
    own = [name for name in names if name not in expand([setting.graphs])]
    return StudyConfig(
        model=str(recipe.model),
        dataset=str(recipe.dataset),
        graphs=(setting.graphs, f"complete:{nodes}", *own),
        seeds=tuple(range(setting.seeds)),
        training=training,
        init=recipe.init if setting.init is None else setting.init,
    )


def open_study(out: Path, config: StudyConfig, data_root: Path | None) -> Study:
    """The study in ``out`` with what ``config`` adds to it, or a new one."""
    if not out.exists():
        return Study.create(out, config, data_root=data_root)
    study = Study.open(out)
    study.config.check_same(config)
    if study.config.added_by(config):
        study.extend(config, data_root=data_root)
    return study


def rows(trained: pd.DataFrame, members: Mapping[str, Member]) -> pd.DataFrame:
    """A row a training of a member, in the columns of ``analysis.compare_families``."""
    mine = trained[trained["graph_spec"].isin(list(members))]
    who = [members[name] for name in mine["graph_spec"]]
    columns = ["train_seed", "clustering_coefficient", "average_path_length", "average_degree"]
    return mine[columns].assign(
        family=[one.family for one in who],
        graph=mine["graph_spec"],
        kind=[one.kind for one in who],
        is_null=[one.number > 0 for one in who],
        error=mine["top1_error"],
    )


def analyse(table: pd.DataFrame, kind: str) -> dict[str, Any]:
    """The three tests of one kind of null, on the seeds and families that are complete."""
    mine = table[table["kind"].isin(["graph", kind]) & np.isfinite(table["error"])]
    trained = mine.pivot(index=["family", "graph"], columns="train_seed", values="error")
    # A seed counts where nearly all have it: a training that failed costs its family, not the seed.
    seeds = [seed for seed in trained if trained[seed].notna().mean() > 0.95]
    whole = trained[seeds].notna().all(axis=1).groupby("family").all()
    sizes = trained.groupby("family").size()
    families = whole.index[whole & (sizes == sizes.max())]
    mine = mine[mine["train_seed"].isin(seeds) & mine["family"].isin(families)]
    try:
        test, slopes = compare_families(mine), structure_slopes(mine)
    except InputError as error:
        return {"left_out": str(error)}
    p_values = {
        "difference": test.difference_p,
        "within": test.within_p,
        "slopes": slopes.p_value,
    }
    corrected = holm(p_values)
    gap, excess = differences(mine)
    deviation = np.sqrt(test.seed_deviation**2 / test.seeds * (1 + 1 / test.nulls))
    c, length = detectable_slope(excess, deviation)
    return {
        **asdict(test),
        "slopes": asdict(slopes),
        "p_holm": corrected,
        "structure_matters": min(corrected.values()) < LEVEL,
        "slope_found_in_80_percent": {"clustering": c, "path_length": length},
        "split": split(gap, excess[:, 0]),
        "drift": drift(gap, excess),
        "left_out_families": sorted(set(table["family"]) - set(families)),
    }


def split(gap: np.ndarray, taken: np.ndarray) -> dict[str, Any]:
    """Mean differences in error where rewiring hardly changes C, and where it takes much of it.

    Args:
        gap: (F,) error of every graph less its nulls'.
        taken: (F,) C of every graph less its nulls'.
    """
    parts = {
        "C_within_0.02_of_the_nulls": np.abs(taken) <= 0.02,
        "0.3_of_C_or_more_taken": taken >= 0.3,
    }
    return {
        name: {
            "graphs": int(part.sum()),
            "difference": float(gap[part].mean()),
            "standard_error": float(stats.sem(gap[part])),
        }
        for name, part in parts.items()
        if part.sum() > 1
    }


def drift(gap: np.ndarray, excess: np.ndarray) -> dict[str, Any]:
    """The slopes' regression with an intercept: a difference that C and L do not explain.

    Args:
        gap: (F,) error of every graph less its nulls'.
        excess: (F, 2) C and L of every graph less its nulls'.
    """
    fit = OLS(gap, np.column_stack([np.ones(len(gap)), excess])).fit()
    rows = zip(("intercept", "clustering", "path_length"), fit.params, fit.conf_int(), strict=True)
    return {name: {"points": float(at), "95%": ends.tolist()} for name, at, ends in rows}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values, corrected for their number."""
    names = sorted(p_values, key=p_values.__getitem__)
    corrected = adjusted(np.array([p_values[name] for name in names]))
    return dict(zip(names, corrected.tolist(), strict=True))


def ladder(study: Study, members: Mapping[str, Member], table: pd.DataFrame) -> Any:
    """What density, degrees, C and L explain, over graphs and nulls of equal degrees together."""
    names = [name for name, one in members.items() if one.kind in ("graph", "degrees")]
    trained = study.table()
    seeds = table.groupby("train_seed")["graph"].nunique()
    whole = seeds.index[seeds == seeds.max()]
    mine = trained[trained["graph_spec"].isin(names) & trained["train_seed"].isin(whole)]
    try:
        (results,) = tidy(mine, "structure", study.path)
        return variance_ladder(results.table).to_dict("records")
    except InputError as error:
        return {"left_out": str(error)}


def print_power(
    members: Mapping[str, Member],
    graphs: Mapping[str, RelationalGraph],
    counts: Mapping[str, int],
    seeds: int,
) -> None:
    """The chance of finding what is there, before anything is trained."""
    c_and_l = {
        name: [getattr(graph, measure) for measure in C_AND_L] for name, graph in graphs.items()
    }
    for kind in KINDS:
        if not counts[kind] or seeds < 2:
            continue
        plane = pd.DataFrame(
            [
                (one.family, name, one.number > 0, seed, 0.0, *c_and_l[name])
                for name, one in members.items()
                if one.kind in ("graph", kind)
                for seed in range(2)
            ],
            columns=["family", "graph", "is_null", "train_seed", "error", *C_AND_L],
        )
        excess = differences(plane)[1]
        for within in (0.0, 0.7, 1.0):
            power = family_power(
                len(excess),
                counts[kind],
                seeds,
                seed_deviation=SEED_DEVIATION,
                within_deviation=within,
                difference=0.5,
            )
            one = np.sqrt((within**2 + SEED_DEVIATION**2 / seeds) * (1 + 1 / counts[kind]))
            c, length = detectable_slope(excess, one)
            print(
                f"{kind}, deviation of {within} between a graph and its nulls: found in "
                f"{power[1]:.0%}; a difference of 0.5 in {power[0]:.0%}; in 80 % a slope of "
                f"{c:.1f} points per unit of C, {length:.2f} per unit of L"
            )


if __name__ == "__main__":
    run_script(main)
