"""The table of models by name."""

from __future__ import annotations

from mpnn_arch.models.config import ModelConfig
from mpnn_arch.registry import Registry

MODELS: Registry[type[ModelConfig]] = Registry("model")
