"""Tensors in a safetensors file that records its kind and a checksum."""

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
    """Write ``tensors`` and ``metadata`` atomically.

    Args:
        path: the file; an older one is replaced.
        tensors: by name; they may share memory and be on any device.
        metadata: strings by name.
        kind: the file type, such as ``"mpnn_arch model 1"``; :func:`read_tensors` checks it.

    Raises:
        InputError: the directory does not exist or is not writable.
    """
    # Copies, because safetensors rejects tensors that share memory.
    copies = {
        name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())
    }
    header = {**metadata, "kind": kind}
    header["sha256"] = _digest(copies, header)
    try:
        write_whole(path, lambda temporary: save_file(copies, temporary, header))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def read_tensors(
    path: str | os.PathLike[str], *, kind: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata that :func:`write_tensors` wrote.

    Raises:
        InputError: no such file, a file of another kind, or one that is truncated or was changed.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}; give the path of a file saved by mpnn_arch")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is cut short or is not a safetensors file ({error}); save or copy it again"
        ) from None
    found_kind = metadata.get("kind")
    if found_kind != kind:
        raise InputError(
            f"{path} is {found_kind or 'a file of unknown kind'}, not {kind}; give another file"
        )
    recorded = {name: value for name, value in metadata.items() if name != "sha256"}
    if metadata.get("sha256") != _digest(tensors, recorded):
        raise InputError(f"{path} was changed after it was saved; save or copy it again")
    return tensors, recorded


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
