"""The settings of a model that its data decide."""

from __future__ import annotations

import dataclasses
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.models import MODELS
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder


def input_settings(model: str, data: ImageDataset | ImageFolder) -> dict[str, Any]:
    """Classes and size of the input, as ``models.build`` takes them.

    Images that are not square are for models of plain features, as ``mlp``, and of signals, as
    ``cnn1d``.

    Raises:
        InputError: no such model, or one that takes square images only.
    """
    channels, height, width = data.image_shape
    settings: dict[str, Any] = {"num_classes": data.num_classes, "in_channels": channels}
    if height == width:
        return settings | {"image_size": height}
    known = {field.name for field in dataclasses.fields(MODELS.get(model))}
    if "length" in known:
        return settings | {"length": height * width}
    if "in_features" in known:
        return settings | {"in_features": data.num_features}
    takers = [
        name
        for name in MODELS
        if {"length", "in_features"} & {f.name for f in dataclasses.fields(MODELS.get(name))}
    ]
    raise InputError(
        f"the images of {data.name!r} are {height} x {width} pixels and {model} takes square ones; "
        f"use {' or '.join(takers)}"
    )
