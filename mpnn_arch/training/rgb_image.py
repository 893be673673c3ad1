"""Reading an image file as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def read_rgb(path: str | Path) -> Image.Image:
    """The image at ``path`` as RGB.

    Raises:
        ValueError: its numbers have more than 8 bits, which Pillow would clip at 255, so that most
            of them became white; or it has more pixels than Pillow takes.
        OSError, SyntaxError, ValueError: what Pillow raises for a file that is broken or no image.
    """
    from PIL import Image

    try:
        with Path(path).open("rb") as file, Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(
                    f"its pixels, of Pillow's mode {image.mode!r}, have more than 8 bits; convert "
                    "it to 8 bits"
                )
            return image.convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
