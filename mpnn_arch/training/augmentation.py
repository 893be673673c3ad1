"""Random flips and crops of small images, on their device, a whole batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch.training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What one epoch does to its images, drawn before the epoch begins.

    Attributes:
        flipped: (n,) bool, whether the epoch's k-th image is mirrored left to right; None: none.
        offsets: (2, n) int64, the top and left edge of the k-th image's window in the padded
            image; None: no crop.
        padding: pixels of zeros on each side of an image that is cropped.
    """

    flipped: Tensor | None
    offsets: Tensor | None
    padding: int

    @classmethod
    def draw(
        cls,
        config: TrainingConfig,
        num_images: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> Augmentation | None:
        """An epoch's augmentation; None, and nothing drawn, where ``config`` asks for none.

        Args:
            config: its ``flip`` and ``crop_padding`` count.
            num_images: n, images of the epoch.
            generator: on the CPU, so that every device gets the same.
            device: where the images lie.
        """
        flipped = offsets = None
        if config.flip:
            flipped = torch.rand(num_images, generator=generator, device="cpu") < 0.5
            flipped = flipped.to(device)
        if config.crop_padding:
            places = 2 * config.crop_padding + 1
            offsets = torch.randint(places, (2, num_images), generator=generator, device="cpu")
            offsets = offsets.to(device)
        if flipped is None and offsets is None:
            return None
        return cls(flipped=flipped, offsets=offsets, padding=config.crop_padding)

    def __call__(self, images: Tensor, start: int) -> Tensor:
        """The augmented batch that begins with the epoch's image number ``start``.

        Shapes:
            - **images** and **output:** (B, C, H, W)
        """
        batch, channels, height, width = images.shape
        device = images.device
        rows = torch.arange(height, device=device).expand(batch, height)
        columns = torch.arange(width, device=device).expand(batch, width)
        if self.flipped is not None:
            mirrored = self.flipped[start : start + batch, None]
            columns = torch.where(mirrored, width - 1 - columns, columns)
        if self.offsets is not None:
            images = F.pad(images, [self.padding] * 4)
            top, left = self.offsets[:, start : start + batch, None]
            rows, columns = rows + top, columns + left
        sample = torch.arange(batch, device=device)[:, None, None, None]
        channel = torch.arange(channels, device=device)[None, :, None, None]
        return images[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
