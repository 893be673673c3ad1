"""The study behind Figures 4, 5 and 6: the paper's graphs and the complete one, trained once.

The scripts of these figures take ``--published PATH`` (no training), ``--results FILE ...`` (your
own), or train by ``--small`` or ``--full``. What one of them has trained the others read; a stopped
run goes on where it was.

``--small``: MLP on ``mnist1d``, the 52 graphs, 2 seeds, 15 epochs; 106 trainings of about 10 s of
one core. ``--full``: the paper's MLP on CIFAR-10, the 3,942 graphs, 5 seeds, 200 epochs; 19,715
trainings.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpnn_arch import InputError
from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.training.recipes import RECIPES

SETTINGS = {
    "small": ("mlp_mnist1d", "published:64/52", 2),
    "full": ("mlp_cifar10", "published:64/3942", 5),
}


def add_sources(parser: argparse.ArgumentParser) -> None:
    """The options that say where results come from, one of which is needed."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--published", type=Path, help="folder of the published results")
    source.add_argument("--results", type=Path, nargs="+", help="results or studies of your own")
    source.add_argument("--small", action="store_const", const="small", dest="size")
    source.add_argument("--full", action="store_const", const="full", dest="size")
    parser.add_argument(
        "--study", type=Path, help="folder of --small or --full  [default: in runs]"
    )
    parser.add_argument("--workers", type=int, help="processes of a study  [default: one per core]")
    parser.add_argument("--data-root", type=Path, help="folder of downloaded data")


def connectome_folder(args: argparse.Namespace) -> Path | None:
    """The folder with ``connectomes/``: as asked, beside the published results, else None."""
    if args.connectomes or not args.published:
        return args.connectomes
    beside = args.published.resolve().parent
    return beside if (beside / "connectomes").is_dir() else None


def paths_of(args: argparse.Namespace) -> list[Path]:
    """Results to read, after training what is missing.

    Raises:
        InputError: the study is another one, or cannot be trained here.
    """
    if args.published:
        return [args.published]
    if args.results:
        return list(args.results)
    return [trained(args.size, args.study, args.workers, args.data_root)]


def trained(size: str, folder: Path | None, workers: int | None, data_root: Path | None) -> Path:
    """The study's folder, all its trainings done."""
    name, graphs, seeds = SETTINGS[size]
    recipe = RECIPES.get(name)()
    config = StudyConfig(
        model=str(recipe.model),
        dataset=str(recipe.dataset),
        graphs=(graphs, "complete:64"),
        seeds=tuple(range(seeds)),
        training=recipe.training,
        init=recipe.init,
    )
    folder = folder or Path("runs") / f"paper-{size}"
    if folder.exists():
        study = Study.open(folder)
        study.config.check_same(config)
        if missing := study.config.added_by(config):
            raise InputError(f"the study {folder} lacks {missing}; choose another --study")
    else:
        study = Study.create(folder, config, data_root=data_root)
    counts = study.run(workers=workers, data_root=data_root, watch=show)
    if counts.failed:
        print(f"{counts.failed} of {counts.trials} trainings failed: mpnn-arch status {folder}")
    return folder


def show(event: Mapping[str, Any]) -> None:
    """A line for every training that ends."""
    if event["is"] in ("done", "failed"):
        print(event.get("graph"), "seed", event.get("seed"), event["is"], flush=True)
