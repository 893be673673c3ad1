"""Where a training's batches come from: tensors in memory, or a folder that is read as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.training.augmentation import Augmentation
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.share import WHOLE, Share

Batches = Iterator[tuple[Tensor, Tensor]]


class Source(Protocol):
    """Images (B, C, H, W) and labels (B,), batch by batch, on the device that trains."""

    name: str
    num_classes: int

    @property
    def num_train(self) -> int:
        """Training images."""

    def train_batches(
        self,
        config: TrainingConfig,
        order: Tensor,
        generator: torch.Generator,
        share: Share = WHOLE,
    ) -> Batches:
        """The training images in this order, augmented with numbers from ``generator``.

        Everything random is drawn by the call itself, before the first batch is asked for, and
        does not depend on ``share``, the part of every batch that is given.
        """

    def test_batches(self, batch_size: int, share: Share = WHOLE) -> Batches:
        """The test images; of every batch, the part ``share``."""


class MemorySource:
    """The batches of a data set in memory.

    Args:
        dataset: its tensors lie on the device that trains.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset
        self.name, self.num_classes = dataset.name, dataset.num_classes
        self.num_train = dataset.num_train

    def train_batches(
        self,
        config: TrainingConfig,
        order: Tensor,
        generator: torch.Generator,
        share: Share = WHOLE,
    ) -> Batches:
        """See :class:`Source`."""
        images, labels = self.dataset.train_images, self.dataset.train_labels
        augment = Augmentation.draw(config, len(order), generator, images.device)
        order = order.to(images.device)

        def batches() -> Batches:
            start = 0
            for batch in order.split(config.batch_size):
                mine = share.of(len(batch))
                part = batch[mine]
                inputs = images[part]
                if augment is not None:
                    inputs = augment(inputs, start + mine.start)
                yield inputs, labels[part]
                start += len(batch)

        return batches()

    def test_batches(self, batch_size: int, share: Share = WHOLE) -> Batches:
        """See :class:`Source`."""
        images, labels = self.dataset.test_images, self.dataset.test_labels
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            yield x[share.of(len(x))], y[share.of(len(y))]


def source_of(dataset: ImageDataset | ImageFolder, config: TrainingConfig) -> Source:
    """Where the batches of ``dataset`` come from.

    Raises:
        InputError: the recipe augments in a way that this kind of data set does not know.
    """
    if isinstance(dataset, ImageDataset):
        if config.smallest_area is not None or config.lighting:
            raise InputError(
                f"smallest_area and lighting are for folders of images, and {dataset.name!r} is in "
                "memory; use flip and crop_padding"
            )
        _, height, width = dataset.image_shape
        if config.crop_padding > max(height, width):
            raise InputError(
                f"crop_padding is at most {max(height, width)} for images of {height} x {width} "
                f"pixels, {config.crop_padding:,} was given: most windows would lie outside of them"
            )
        return MemorySource(dataset)
    if config.crop_padding:
        raise InputError(
            f"crop_padding is for data sets in memory, and {dataset.name!r} is a folder of images; "
            "use smallest_area"
        )
    return dataset
