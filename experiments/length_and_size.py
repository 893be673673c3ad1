"""Is the order of graphs a matter of the task, the length of training, or the size of the data?

    python experiments/length_and_size.py --small              # 1 hour of one core
    python experiments/length_and_size.py                      # 52 graphs, 5 seeds: 25 hours
    python experiments/length_and_size.py --smoke              # shows that it runs; no result
    python experiments/length_and_size.py --studies runs/a runs/b --out runs/read    # no training

Trains the MLP on ``mnist1d`` (recipe ``mlp_mnist1d``) once for every number of epochs and of
training images, each a study in ``--out``; a stopped run goes on. With a quarter of the images and
four times the epochs the number of steps is the same, which tells the two apart. For each study,
and for studies of your own:

- the graphs' means (lowest, highest), the deviation of one training, and the F-test that all graphs
  but the complete one have one mean (one-way analysis of variance over training seeds);
- the share of the variance between graphs that density explains, what C and L add to it with the
  p-value of nothing added (``analysis.variance_ladder``), and the share that is not chance in the
  seeds (``not_chance``; what a seed does to all graphs alike counts as chance, as in F, so that it
  may be a little more);
- the correlation of the graphs' means with their density, with those of the first study, and with
  the published CIFAR-10 errors of the same graphs where these are at hand.

Writes ``length_and_size.csv``, a row a study.

Source of the published errors: You, Leskovec, He, Xie, ICML 2020; facebookresearch/graph2nn (MIT).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mpnn_arch import InputError
from mpnn_arch.analysis import variance_ladder, variance_shares
from mpnn_arch.analysis.per_graph import per_graph, without_baseline
from mpnn_arch.analysis.tidy_results import tidy
from mpnn_arch.cli.failures import run_script
from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.training.recipes import RECIPES


@dataclass(frozen=True)
class Setting:
    """What is trained."""

    graphs: str
    seeds: int
    epochs: tuple[int, ...]
    images: tuple[int, ...]


SETTINGS = {
    "smoke": Setting("sample:16/48/0:6", 2, (1, 2), (300,)),
    "small": Setting("published:64/52/0:26", 2, (15, 60), (1000, 4000)),
    "full": Setting("published:64/52", 5, (5, 15, 40, 80, 160), (1000, 2000, 4000)),
}
ALL_IMAGES = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_const", const="small", dest="size")
    size.add_argument("--smoke", action="store_const", const="smoke", dest="size")
    size.add_argument("--studies", type=Path, nargs="+", help="read these, and train nothing")
    parser.add_argument("--workers", type=int, help="processes  [default: one per core]")
    parser.add_argument("--out", type=Path, default=Path("runs/length-and-size"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.studies:
        studies = {str(path): Study.open(path) for path in args.studies}
    else:
        studies = train(SETTINGS[args.size or "full"], args.out, args.workers)
    table = read(studies)
    table.to_csv(args.out / "length_and_size.csv", index=False)
    print(table.round(3).T.to_string(header=False))
    print(f"-> {args.out}")


def train(setting: Setting, out: Path, workers: int | None) -> dict[str, Study]:
    """A study for every length and size, the shortest first."""
    recipe = RECIPES.get("mlp_mnist1d")()
    studies = {}
    nodes = setting.graphs.partition(":")[2].partition("/")[0]
    cells = [(e, n) for e in setting.epochs for n in setting.images]
    for epochs, images in sorted(cells, key=lambda cell: cell[0] * cell[1]):
        name = f"epochs{epochs}-images{images}"
        config = StudyConfig(
            model="mlp",
            dataset="mnist1d",
            graphs=(setting.graphs, f"complete:{nodes}"),
            seeds=tuple(range(setting.seeds)),
            # Only the error after the last epoch is read.
            training=dataclasses.replace(recipe.training, epochs=epochs, evaluate_every=epochs),
            init=recipe.init,
            train_images=None if images >= ALL_IMAGES else images,
        )
        path = out / name
        study = Study.open(path) if path.exists() else Study.create(path, config)
        study.config.check_same(config)
        print(f"{name}: {study.run(workers=workers)}", flush=True)
        studies[name] = study
    return studies


def read(studies: Mapping[str, Study]) -> pd.DataFrame:
    """A row a study; see the head of this file."""
    rows, first = [], None
    for name, study in studies.items():
        exported = study.table()
        if exported.empty:
            raise InputError(f"no training of the study {study.path} is done; run it first")
        results = tidy(exported, name, study.path)[0]
        means = per_graph(without_baseline(results.table)).set_index("graph")
        rows.append(
            {
                "study": name,
                "epochs": study.config.training.epochs,
                "images": study.config.train_images or "all",
                "graphs": len(means),
                "seeds": results.table["train_seed"].nunique(),
                "lowest": means["mean"].min(),
                "highest": means["mean"].max(),
                **variance(results.table),
                **correlations(means, published(exported), first),
            }
        )
        first = means["mean"] if first is None else first
    return pd.DataFrame(rows)


def variance(table: pd.DataFrame) -> dict[str, Any]:
    """What graphs, seeds, density, C and L explain."""
    graphs = without_baseline(table)
    found: dict[str, Any] = {}
    groups = [group.to_numpy() for _, group in graphs.groupby("graph")["error"] if len(group) > 1]
    if len(groups) > 1:
        test = stats.f_oneway(*groups)
        found["seed_deviation"] = np.sqrt(np.mean([group.var(ddof=1) for group in groups]))
        found["F"], found["F_p"] = float(test.statistic), float(test.pvalue)
        found["not_chance"] = max(0.0, 1 - 1 / found["F"])
        found["share_of_seed"] = variance_shares(graphs).seed
    try:
        ladder = variance_ladder(table).set_index("step")
    except InputError as error:
        print(f"left out: {error}")
        return found
    found["density_r2"] = ladder.loc["density", "r2"]
    for step, short in (("degrees", "degrees"), ("C and L", "C_and_L")):
        found[f"{short}_add"] = ladder.loc[step, "added"]
        found[f"{short}_p"] = ladder.loc[step, "p_value"]
    return found


def published(exported: pd.DataFrame) -> pd.Series:
    """The published error of every graph that has one."""
    known = exported.dropna(subset=["published_top1_error"]).drop_duplicates("graph_spec")
    errors: pd.Series = known.set_index("graph_spec")["published_top1_error"]
    return errors


def correlations(
    means: pd.DataFrame, errors: pd.Series, first: pd.Series | None
) -> dict[str, float]:
    """Pearson's and Spearman's correlations of the graphs' means."""
    others = {"density": means["density"], "published": errors, "first": first}
    found = {}
    for name, other in others.items():
        if other is None:
            continue
        pairs = pd.concat([means["mean"], other.rename("other")], axis=1, join="inner").dropna()
        if len(pairs) > 3:
            found[f"pearson_{name}"] = float(stats.pearsonr(*pairs.to_numpy().T).statistic)
            found[f"spearman_{name}"] = float(stats.spearmanr(*pairs.to_numpy().T).statistic)
    return found


if __name__ == "__main__":
    run_script(main)
