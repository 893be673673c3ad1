"""Data, configuration and the training loop."""

from mpnn_arch.training.config import RunConfig, TrainingConfig
from mpnn_arch.training.data import DATASETS, ImageDataset, list_datasets, load_dataset
from mpnn_arch.training.trainer import EpochMetrics, Trainer

__all__ = [
    "DATASETS",
    "EpochMetrics",
    "ImageDataset",
    "RunConfig",
    "Trainer",
    "TrainingConfig",
    "list_datasets",
    "load_dataset",
]
