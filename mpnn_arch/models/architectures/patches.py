"""Models that cut an image into patches, one token each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpnn_arch.errors import InputError
from mpnn_arch.models.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class PatchConfig(ModelConfig):
    """A model over the patches of an image; every block can have its own graph.

    Args:
        patch_size: height and width of a patch in pixels; None: 16, or 4 for images below 64.
    """

    width: ClassVar[int]
    depth: ClassVar[int]

    patch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % self.patch:
            raise InputError(
                f"image_size {self.image_size} is not a multiple of the patch size {self.patch}; "
                "resize the images or set patch_size"
            )

    @property
    def patch(self) -> int:
        """Height and width of a patch in pixels."""
        return self.patch_size or (4 if self.is_small else 16)

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch) ** 2

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """One width, that of every token."""
        return (self.scaled(self.width),)

    @property
    def num_stages(self) -> int:
        """One per block."""
        return self.depth
