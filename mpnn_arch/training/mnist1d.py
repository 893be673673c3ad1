"""MNIST-1D: a small set on which architectures differ, generated from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch

from mpnn_arch.errors import InputError
from mpnn_arch.training.data import DATASETS, ImageDataset

TRAIN_SIGNALS, TEST_SIGNALS = 4_000, 20_000
SEED = 42  # the published one


@DATASETS.register("mnist1d")
def mnist1d(data_root: Path) -> ImageDataset:
    """24,000 signals of 40 numbers, 10 classes: 4,000 for training, 20,000 for testing.

    Templates of the ten digits, padded, scaled, moved, sheared and made noisy at random. The
    published set has 4,000 and 1,000; a test set of 20,000 resolves smaller differences. A
    signal is an image of 1 channel, 1 row and 40 columns.

    Source: the package mnist1d; Greydanus, Kobak, *Scaling Down Deep Learning with MNIST-1D*,
    ICML 2024.
    """
    return _signals()


@cache  # it takes a few seconds
def _signals() -> ImageDataset:
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError:
        raise InputError(
            "the data set 'mnist1d' is made by the package mnist1d, which is not installed: "
            'pip install "mpnn-arch[mnist1d]"'
        ) from None
    settings = get_dataset_args()
    settings.num_samples, settings.seed = TRAIN_SIGNALS + TEST_SIGNALS, SEED
    with _global_states_kept():
        dataset = make_dataset(settings)
    # Shuffled and normalised by the package; it splits in a ratio, which need not be whole.
    signals = np.concatenate([dataset["x"], dataset["x_test"]])
    labels = np.concatenate([dataset["y"], dataset["y_test"]])
    images = torch.tensor(signals, dtype=torch.float32, device="cpu")[:, None, None, :]
    targets = torch.tensor(labels, dtype=torch.int64, device="cpu")
    return ImageDataset(
        name="mnist1d",
        train_images=images[:TRAIN_SIGNALS],
        train_labels=targets[:TRAIN_SIGNALS],
        test_images=images[TRAIN_SIGNALS:],
        test_labels=targets[TRAIN_SIGNALS:],
        num_classes=10,
    )


@contextmanager
def _global_states_kept() -> Iterator[None]:
    """The package seeds and reads NumPy's and Python's global states; give them back after."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
