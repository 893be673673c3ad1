"""Data, configuration and the training loop."""

from mpnn_arch import pyg as _quiet  # noqa: F401  before PyG's own imports
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import DATASETS, ImageDataset, list_datasets, load_dataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import EpochMetrics
from mpnn_arch.training.mnist1d import mnist1d as _registers_it  # noqa: F401
from mpnn_arch.training.population import Population
from mpnn_arch.training.populations import MemberResult, train_population
from mpnn_arch.training.trainer import Trainer

__all__ = [
    "DATASETS",
    "EpochMetrics",
    "ImageDataset",
    "ImageFolder",
    "MemberResult",
    "Population",
    "Trainer",
    "TrainingConfig",
    "list_datasets",
    "load_dataset",
    "train_population",
]
