"""Tensors in a safetensors file that tells what it is and notices when it was changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import write_whole


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    kind: str,
) -> None:
    """Write ``tensors`` and ``metadata`` whole or not at all.

    Args:
        path: the file; an older one is replaced.
        tensors: by name; they may share memory and lie on any device.
        metadata: strings by name.
        kind: what the file is, such as ``"mpnn_arch model 1"``; asked for again when it is read.

    Raises:
        InputError: the folder does not exist or cannot be written.
    """
    # A copy each: safetensors refuses tensors that share memory.
    copies = {
        name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())
    }
    told = {**metadata, "kind": kind}
    told["sha256"] = _digest(copies, told)
    try:
        write_whole(path, lambda temporary: save_file(copies, temporary, told))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def read_tensors(
    path: str | os.PathLike[str], *, kind: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata that :func:`write_tensors` wrote.

    Raises:
        InputError: no such file, one of another kind, or one that is cut short or was changed.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}; give the path of a file that was saved here")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is cut short or is no safetensors file ({error}); save or copy it again"
        ) from None
    found = metadata.get("kind")
    if found != kind:
        raise InputError(
            f"{path} is {found or 'a file of no known kind'}, not {kind}; give another file"
        )
    told = {name: value for name, value in metadata.items() if name != "sha256"}
    if metadata.get("sha256") != _digest(tensors, told):
        raise InputError(f"{path} was changed after it was saved; save or copy it again")
    return tensors, told


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
