"""Which files of a folder are images of which class."""

from __future__ import annotations

import os
from pathlib import Path


def list_images(folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """The classes of a folder, which are its subfolders, sorted, and its images with their labels.

    Files and folders whose name begins with a dot are left out, as shells leave them out: editors,
    file managers and archives keep previews and notes of their own there.

    Raises:
        OSError: no such folder, one without a class, or a class without images.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, is_image_file, make_dataset

    above = len(str(folder))  # whose own name may begin with a dot

    def is_shown_image(path: str) -> bool:  # called a million times for ImageNet
        return is_image_file(path) and f"{os.sep}." not in path[above:]

    with os.scandir(folder) as found:
        classes = sorted(at.name for at in found if at.is_dir() and not at.name.startswith("."))
    if not classes:
        raise FileNotFoundError(f"no class folder in {folder}")
    labels = {name: label for label, name in enumerate(classes)}
    images = make_dataset(str(folder), labels, is_valid_file=is_shown_image, allow_empty=True)
    empty = sorted(set(classes) - {classes[label] for _, label in images})
    if empty:
        raise FileNotFoundError(
            f"no valid file for the classes {', '.join(empty)}; images are those that end with "
            f"{', '.join(IMG_EXTENSIONS)}"
        )
    return classes, images
