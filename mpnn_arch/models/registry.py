"""The registry of models."""

from __future__ import annotations

import dataclasses
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.models.config import ModelConfig
from mpnn_arch.registry import Registry

MODELS: Registry[type[ModelConfig]] = Registry("model")


def list_models() -> list[str]:
    """Names of all models.

    Example:
        >>> from mpnn_arch import models
        >>> models.list_models()[:4]
        ['cnn1d', 'cnn8', 'efficientnet_b0', 'mlp']
    """
    return MODELS.names()


def make_config(name: str, **model_kwargs: Any) -> ModelConfig:
    """The settings of the model called ``name``.

    Raises:
        InputError: an unknown model, or a setting that it does not have.

    Example:
        >>> from mpnn_arch import models
        >>> models.make_config("resnet20", num_classes=100).num_classes
        100
    """
    kind = MODELS.get(name)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in model_kwargs:
        if key not in known:
            raise InputError(f"{name} has no setting {key!r}; it takes {', '.join(known)}")
    return kind(**model_kwargs)
