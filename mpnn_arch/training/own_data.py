"""A user's own data: a folder of images, or a function of a module."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpnn_arch.errors import InputError
from mpnn_arch.training.listing import list_images
from mpnn_arch.training.own_code import attribute_of, own_code
from mpnn_arch.training.rgb_image import read_rgb

#: (B, C, H, W) bytes and (B,) labels.
Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def read_image_folder(root: Path) -> tuple[Part, Part, int]:
    """The images of ``root/train/CLASS/`` and ``root/test/CLASS/``, and the number of classes.

    They are found as torchvision's ``ImageFolder`` finds them, but for names that begin with a dot,
    and read as RGB. Classes are numbered in the order of the names of the training folders. Where
    there is no ``test``, ``val`` is read.

    Shapes:
        - images: (B, 3, H, W) uint8, labels: (B,) int64; first the training, then the test part

    Raises:
        InputError: a folder that is missing or empty, a class that is not trained on, a file that
            is no image or has more than 8 bits, or images of different sizes.
    """
    train = root / "train"
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise InputError(
            f"the folder {root} has no {'train' if not train.is_dir() else 'test or val'} "
            "subfolder; lay images out as train/CLASS/*.png and test/CLASS/*.png"
        )
    parts: list[Part] = []
    classes: list[str] = []
    size: tuple[int, ...] = ()
    for folder in (train, test):
        try:
            names, samples = list_images(folder)
        except FileNotFoundError as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{folder} is no folder of images by class ({reason}); give every class a "
                "subfolder with images, or remove it"
            ) from None
        classes = classes or names
        unknown = next((name for name in names if name not in classes), None)
        if unknown is not None:
            raise InputError(
                f"{folder / unknown} is a class without training images; add {train / unknown} "
                "or remove it"
            )
        images = []
        for path, _ in samples:
            image = _pixels(path)
            size = size or image.shape
            if image.shape != size:
                raise InputError(
                    f"{path} has {image.shape[0]} x {image.shape[1]} pixels, the images before it "
                    f"{size[0]} x {size[1]}; give all images one size"
                )
            images.append(image)
        labels = [classes.index(names[label]) for _, label in samples]
        parts.append((np.stack(images).transpose(0, 3, 1, 2), np.array(labels, dtype=np.int64)))
    return parts[0], parts[1], len(classes)


def _pixels(path: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3)"""
    try:
        return np.asarray(read_rgb(path), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as an image ({error}); repair or remove it"
        ) from None


def is_function_name(name: str) -> bool:
    """Whether ``name`` is written as ``module:function``, or ``module:Class.method``."""
    module, colon, function = name.partition(":")
    return bool(colon) and all(map(str.isidentifier, f"{module}.{function}".split(".")))


def call_function(name: str) -> object:
    """What the function ``module:function`` returns; the module is imported, which runs its code.

    A module is looked for among the installed packages, then in the current folder.

    Raises:
        InputError: no such module or function, one that cannot be called without arguments, or one
            that raises.
    """
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    with own_code(f"the module {module_name!r}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # An import that fails inside the module is an error of the user's code.
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise InputError(
                f"there is no module {error.name!r} for the data set {name!r}, neither installed "
                f"nor in {os.getcwd()}; correct the name, or run the command where the module lies"
            ) from None
    function = attribute_of(module, function_name)
    if not callable(function):
        what = "nothing called" if function is None else "no function, but a value, called"
        raise InputError(
            f"the module {module_name!r} ({getattr(module, '__file__', None)}) has {what} "
            f"{function_name!r}; name a function that returns an ImageDataset"
        )
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InputError(
            f"the function {name!r} is called without arguments ({error}); give them defaults"
        ) from None
    except ValueError:  # a function in C without a signature
        pass
    with own_code(f"the function {name!r}"):
        return function()
