"""A data set too large for memory: a folder of images that is read as training goes."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mpnn_arch.checks import check_path
from mpnn_arch.errors import InputError
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.cores import available_cores
from mpnn_arch.training.data import DATASETS
from mpnn_arch.training.listing import list_images
from mpnn_arch.training.rgb_image import read_rgb
from mpnn_arch.training.share import WHOLE, Share

# Mean and deviation of ImageNet's pixels in [0, 1], red, green, blue.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Principal components of ImageNet's pixels in [0, 1]: standard deviations, and a row a colour.
# Source: Krizhevsky, Sutskever, Hinton, NeurIPS 2012, section 4.1, as published with fb.resnet.
_SPREADS = (0.2175, 0.0188, 0.0045)
_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


class ImageFolder:
    """The images of ``root/train`` and ``root/val``, a folder a class, as ImageNet's are laid out.

    A training image is cut out at random and resized (``smallest_area``), mirrored (``flip``), its
    colours shifted along their principal components (``lighting``); a test image is resized so
    that its shorter side has 256 pixels for every 224 of ``image_size``, and its centre taken. All
    are normalised by ImageNet's mean and deviation. What is drawn for an image depends on the
    trial's generator and the image's place in the epoch, and on no number of workers. Files and
    folders whose name begins with a dot are left out.

    Args:
        root: the folder.
        name: what the data set is called.
        image_size: height and width of what the model gets, in pixels.
        workers: processes that read and decode; None: one per core, at most 8; 0: none.

    Raises:
        InputError: no such folder, a class without images, or other classes in val than in train.

    Source: the augmentation is that of You et al., ICML 2020, section 4.2: Szegedy et al., CVPR
    2015, and Krizhevsky, Sutskever, Hinton, NeurIPS 2012.

    Example:
        >>> from mpnn_arch.training import ImageFolder
        >>> ImageFolder("nowhere")
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: nowhere/train is not a folder of images with a folder a ...
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "imagenet",
        image_size: int = 224,
        workers: int | None = None,
    ) -> None:
        self.root, self.name, self.image_size = check_path(root), name, image_size
        self.workers = min(8, available_cores()) if workers is None else workers
        self.device = torch.device("cpu")
        classes, self._train = _listed(self.root / "train")
        test_classes, self._test = _listed(self.root / "val")
        if classes != test_classes:
            odd = sorted(set(classes) ^ set(test_classes))[0]
            raise InputError(
                f"the class {odd!r} is in only one of the folders train and val of {self.root}; "
                "both need the same classes"
            )
        self.num_classes = len(classes)

    @property
    def num_train(self) -> int:
        """Training images."""
        return len(self._train)

    @property
    def num_test(self) -> int:
        """Test images."""
        return len(self._test)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return 3, self.image_size, self.image_size

    @property
    def num_features(self) -> int:
        """C x H x W, the numbers in one image."""
        return 3 * self.image_size**2

    @property
    def listing_hash(self) -> str:
        """SHA-256 of the images' names within the folder and of their classes, not of pixels."""
        digest = hashlib.sha256(f"{self.num_classes} {self.image_size}".encode())
        for part in (self._train, self._test):
            digest.update(b"\0part\0")
            for path, label in part:
                digest.update(f"{os.path.relpath(path, self.root)}\0{label}\0".encode())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> ImageFolder:
        """This folder, its batches on ``device``."""
        copied = copy.copy(self)
        copied.device = torch.device(device)
        return copied

    def subset(
        self, train_images: int | None = None, test_images: int | None = None
    ) -> ImageFolder:
        """The first so many images of each part, taken class by class in turn.

        Raises:
            InputError: more images than there are, or too few for every class to be trained on.
        """
        copied = copy.copy(self)
        if train_images is not None:
            copied._train = self._first(self._train, train_images, "train")
            if train_images < self.num_classes:
                raise InputError(
                    f"{train_images} training images leave some of the {self.num_classes} classes "
                    f"of {self.name!r} without one; ask for {self.num_classes} or more"
                )
        if test_images is not None:
            copied._test = self._first(self._test, test_images, "test")
        return copied

    def _first(self, images: Sequence[_Image], count: int, part: str) -> list[_Image]:
        if not 1 <= count <= len(images):
            raise InputError(
                f"{count} {part} images were asked for, but {self.name!r} has {len(images)}; "
                f"give a number from 1 to {len(images)}"
            )
        seen: dict[int, int] = {}
        ranked = []
        for place, (_, label) in enumerate(images):
            seen[label] = rank = seen.get(label, -1) + 1
            ranked.append((rank, place))
        return [images[place] for place in sorted(place for _, place in sorted(ranked)[:count])]

    def train_batches(
        self,
        config: TrainingConfig,
        order: Tensor,
        generator: torch.Generator,
        share: Share = WHOLE,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The training images in this order, augmented with numbers from ``generator``.

        Of every batch only the part ``share`` is read.
        """
        seed = int(torch.randint(2**31, (), generator=generator, device="cpu"))
        images = [self._train[place] for place in order.tolist()]
        return self._batches(
            images, _train_transform(config, self.image_size), config.batch_size, seed, share
        )

    def test_batches(
        self, batch_size: int, share: Share = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The test images, their centres; of every batch, the part ``share``."""
        return self._batches(self._test, _test_transform(self.image_size), batch_size, 0, share)

    def _batches(
        self,
        images: Sequence[_Image],
        transform: Any,
        batch_size: int,
        seed: int,
        share: Share,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        places = range(len(images))
        batches = [places[start : start + batch_size] for start in places[::batch_size]]
        loader: DataLoader[Any] = DataLoader(
            _Decoded(images, transform, seed),
            batch_sampler=[list(batch[share.of(len(batch))]) for batch in batches],
            num_workers=min(self.workers, len(batches)),
            collate_fn=partial(_collate, size=self.image_size),
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else the workers' seed is drawn from the global state
        )
        for batch in loader:
            if isinstance(batch, _Unreadable):
                raise InputError(
                    f"the image {batch.path} cannot be read ({batch.reason}); replace or remove it"
                )
            pixels, labels = batch
            yield (
                pixels.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )


_Image = tuple[str, int]  # path, label


@DATASETS.register("imagenet")
def imagenet(data_root: Path) -> ImageFolder:
    """ImageNet's 1,281,167 training and 50,000 test images, from ``imagenet/`` in the data folder.

    Source: Russakovsky et al., *ImageNet Large Scale Visual Recognition Challenge*, 2015.
    """
    return ImageFolder(data_root / "imagenet")


def _listed(folder: Path) -> tuple[list[str], list[_Image]]:
    """The classes of a folder, sorted, and its images with their labels."""
    try:
        return list_images(folder)
    except OSError as error:
        raise InputError(
            f"{folder} is not a folder of images with a folder a class ({error}); name the folder "
            "that holds train and val"
        ) from None


@dataclass(frozen=True)
class _Unreadable:
    """An image that could not be decoded; workers hand it on, so that the trainer can name it."""

    path: str
    reason: str


class _Decoded(Dataset[Any]):
    """Images decoded and transformed, each with random numbers of its own place."""

    def __init__(self, images: Sequence[_Image], transform: Any, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, int] | _Unreadable:
        path, label = self.images[place]
        try:
            image = read_rgb(path)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files
            return _Unreadable(path, " ".join(str(error).split()))
        # torchvision's transforms draw from the global state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + place)
            return self.transform(image), label


def _collate(samples: Sequence[Any], size: int) -> Any:
    if not samples:  # the share of a process in a batch smaller than the number of processes
        return torch.empty(0, 3, size, size), torch.empty(0, dtype=torch.int64)
    broken = next((sample for sample in samples if isinstance(sample, _Unreadable)), None)
    if broken is not None:
        return broken
    return (
        torch.stack([pixels for pixels, _ in samples]),
        torch.tensor([label for _, label in samples]),
    )


def _train_transform(config: TrainingConfig, size: int) -> Any:
    from torchvision.transforms import v2

    if config.smallest_area is None:
        geometry: list[Any] = [v2.Resize(_shorter_side(size)), v2.CenterCrop(size)]
    else:
        geometry = [v2.RandomResizedCrop(size, scale=(config.smallest_area, 1.0))]
    if config.flip:
        geometry.append(v2.RandomHorizontalFlip())
    light = [Lighting(config.lighting)] if config.lighting else []
    return v2.Compose([*geometry, *_as_numbers(), *light, v2.Normalize(MEAN, DEVIATION)])


def _test_transform(size: int) -> Any:
    from torchvision.transforms import v2

    geometry = [v2.Resize(_shorter_side(size)), v2.CenterCrop(size)]
    return v2.Compose([*geometry, *_as_numbers(), v2.Normalize(MEAN, DEVIATION)])


def _as_numbers() -> list[Any]:
    from torchvision.transforms import v2

    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]


def _shorter_side(size: int) -> int:
    return round(size * 256 / 224)


class Lighting(torch.nn.Module):
    """PCA lighting: a random shift of all pixels along the principal components of their colours.

    Component i is added alpha_i times its standard deviation, alpha_i normal with deviation
    ``deviation``, drawn from torch's global state as torchvision's transforms do.

    Args:
        deviation: of the alphas; the published value is 0.1.

    Shapes:
        - **pixels** and **output:** (3, H, W) in [0, 1]; the output may lie outside

    Source: Krizhevsky, Sutskever, Hinton, NeurIPS 2012, section 4.1.
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, pixels: Tensor) -> Tensor:
        """The shifted image."""
        alphas = self.deviation * torch.randn(3)
        shift = torch.tensor(_COMPONENTS) @ (alphas * torch.tensor(_SPREADS))
        return pixels + shift[:, None, None]
