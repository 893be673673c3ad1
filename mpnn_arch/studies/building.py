"""The graph, the data and the model of a trial, from what the ledger has of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpnn_arch import models
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.studies import import_paths
from mpnn_arch.studies.trial import Trial
from mpnn_arch.training.data import ImageDataset, load_dataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.inputs import input_settings


@lru_cache(maxsize=1)
def load_data(
    name: str,
    source: str | None,
    data_root: str | None,
    train_images: int | None,
    test_images: int | None,
) -> tuple[ImageDataset | ImageFolder, str]:
    """The data set and its fingerprint; the last one is kept, since trials share it.

    The fingerprint covers images and labels, of a folder that is read image by image the names of
    its files: it is too large to be read for it.

    Args:
        name: of the data set, a folder of images, or an import path.
        source: SHA-256 of the import path's file.
        data_root: folder of downloaded data.
        train_images, test_images: if given, only so many.

    Raises:
        InputError: no such data set, or a source file that was changed.
    """
    if source is not None:
        import_paths.check(name, source)
    data = load_dataset(name, data_root).subset(train_images, test_images)
    return data, data.listing_hash if isinstance(data, ImageFolder) else data.content_hash


@lru_cache(maxsize=1)
def check_repeats(
    name: str,
    source: str,
    data_root: str | None,
    train_images: int | None,
    test_images: int | None,
) -> None:
    """Refuse a function that returns other data when a worker or a continuation calls it again.

    Args: as for :func:`load_data`.

    Raises:
        InputError: its second call returned other data than its first.
    """
    asked = (name, source, data_root, train_images, test_images)
    _, first = load_data.__wrapped__(*asked)  # let go of, before they are loaded again
    if load_data(*asked)[1] != first:
        raise InputError(
            f"the function {name!r} returns other images or labels at every call, and workers and "
            "continuations call it again; draw them with a generator of a fixed seed"
        )


def data_of(trial: Trial, data_root: str | Path | None) -> tuple[ImageDataset | ImageFolder, str]:
    """The data set of ``trial`` and its fingerprint, see :func:`load_data`."""
    return load_data(
        trial.dataset,
        dict(trial.sources).get(trial.dataset),
        None if data_root is None else str(data_root),
        trial.train_images,
        trial.test_images,
    )


def check_data(dataset: str, found: str, then: str) -> None:
    """Compare the fingerprint of a data set with the one that it had when the study was made.

    Raises:
        InputError: they differ.
    """
    if found != then:
        raise InputError(
            f"the data set {dataset!r} is not the one that the study was made with (fingerprint "
            f"{found[:8]}, then {then[:8]}); restore it, or make a new study"
        )


def build_model(
    trial: Trial, graph: RelationalGraph, data: ImageDataset | ImageFolder, **more: Any
) -> Any:
    """The model of ``trial`` with its initial weights, widths matched to the dense one's cost.

    Args:
        trial: what to build.
        graph: of all rounds.
        data: gives classes, channels and size.
        more: ``device="meta"`` for shapes only; a model of the user's own does not get it.

    Raises:
        InputError: a name that is unknown, or a graph or images that do not fit the model.
    """
    sources = dict(trial.sources)
    if trial.model in sources:
        channels, height, width = data.image_shape
        size = {"image_size": height} if height == width else {"in_features": data.num_features}
        settings = {"num_classes": data.num_classes, "in_channels": channels, **size}
        function = import_paths.load(trial.model, sources[trial.model])
        # Layers of torch draw their weights from the global state, which the caller keeps.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(trial.seed)
            made = function(graph, seed=trial.seed, **settings)
        if not isinstance(made, nn.Module):
            raise InputError(f"{trial.model!r} gives a {type(made).__name__}; return a nn.Module")
        return made

    def named(name: str | None) -> Any:
        return import_paths.load(name, sources[name]) if name and name in sources else name

    return models.build(
        trial.model,
        graph,
        init=trial.init,  # type: ignore[arg-type]
        order=trial.order,  # type: ignore[arg-type]
        backend=trial.backend,
        message=named(trial.message),
        aggr=named(trial.aggr),
        width_multiplier=trial.width_multiplier,
        seed=trial.seed,
        **input_settings(trial.model, data),
        **more,
    )
