"""Tensors in a safetensors file that records its kind and a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpnn_arch.checks import check_path
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import read_error, shown_path, write_whole
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.io.tensor_bytes import tensor_bytes

_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of safetensors."""


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    kind: str,
    previous: str | os.PathLike[str] | None = None,
) -> None:
    """Write ``tensors`` and ``metadata`` atomically; equal ones give equal bytes.

    Args:
        path: the file; an older one is replaced.
        tensors: by name; they may share memory and be on any device.
        metadata: strings by name.
        kind: the file type, such as ``"mpnn_arch model 1"``; :func:`read_tensors` checks it.
        previous: if given, an older file at ``path`` is kept under this name.

    Raises:
        InputError: the file cannot be written, see :func:`~mpnn_arch.io.files.write_whole`.
    """
    # Copies, because safetensors rejects tensors that share memory.
    copies = {
        name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())
    }
    header = {**metadata, "kind": kind}
    header["sha256"] = _digest(copies, header)

    def write(temporary: Path) -> None:
        try:
            save_file(copies, temporary, header)
        except SafetensorError as error:
            code = re.search(r"(?:os error|code:) ([0-9]+)", str(error))
            number = int(code[1]) if code else 0
            raise OSError(number, os.strerror(number) if number else str(error)) from error
        _sort_metadata(temporary)

    write_whole(path, write, previous=previous)


def read_tensors(
    path: str | os.PathLike[str], *, kind: str, others: Mapping[str, str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata that :func:`write_tensors` wrote.

    Args:
        path: the file.
        kind: the file type that it must have.
        others: what to do about files of other kinds.

    Raises:
        InputError: no such file, a file of another kind, or one that is truncated or was changed.
        ReadError: the file is there and the system does not let it be read.
    """
    _check_file(path)
    try:
        _read_header(Path(path))  # refuses a tensor named twice, which safetensors lets pass
    except OSError as error:
        raise read_error(path, error) from None
    except ValueError as error:
        raise _not_safetensors(path, error) from None
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # safetensors raises its own errors, torch's, and those of dtypes that it does not know.
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise _not_safetensors(path, error) from None
    except (AttributeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"{path} holds tensors that cannot be read here ({str(error)[:300]}); save it again"
        ) from None
    found_kind = metadata.get("kind")
    if found_kind != kind:
        same, _, number = (found_kind or "").rpartition(" ")
        is_of_another_version = same == kind.rpartition(" ")[0] and number.isdecimal()
        fix = "use the mpnn_arch that wrote it" if is_of_another_version else "give another file"
        raise InputError(
            f"{path} is {(found_kind or 'a file of unknown kind')[:80]}, not {kind}; "
            f"{(others or {}).get(found_kind or '', fix)}"
        )
    recorded = {name: value for name, value in metadata.items() if name != "sha256"}
    if metadata.get("sha256") != _digest(tensors, recorded):
        raise InputError(f"{path} was changed after it was saved; save or copy it again")
    return tensors, recorded


def _not_safetensors(path: str | os.PathLike[str], error: Exception) -> InputError:
    return InputError(
        f"{path} is cut short or is not a safetensors file ({str(error)[:300]}); save or copy it "
        "again"
    )


def recorded_checksum(path: str | os.PathLike[str]) -> str:
    """The checksum in the header of a file of :func:`write_tensors`; its tensors are not read.

    Raises:
        InputError: no such file, or none that has a checksum.
    """
    _check_file(path)
    try:
        digest = _read_header(Path(path))["__metadata__"]["sha256"]
        if not isinstance(digest, str):
            raise TypeError
    except (OSError, ValueError, TypeError, LookupError):
        raise InputError(
            f"{shown_path(path)} has no checksum of mpnn_arch; give a file that mpnn_arch saved"
        ) from None
    return digest


def _check_file(path: str | os.PathLike[str]) -> None:
    try:
        found = check_path(path).is_file()
    except OSError:  # a name too long, or a folder that may not be read
        found = False
    if not found:
        raise InputError(
            f"there is no file {shown_path(path)}; give the path of a file saved by mpnn_arch"
        )


def _read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file.

    Raises:
        ValueError: no JSON object, a name given twice, or a header longer than the file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_LONGEST_HEADER, path.stat().st_size - 8):
            raise ValueError(f"its header of {length} bytes is longer than the file or too long")
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header


def _sort_metadata(path: Path) -> None:
    """Order the metadata of a safetensors file by name: safetensors writes it in a random order.

    The header keeps its length, so the tensors stay where they are.
    """
    header = _read_header(path)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise RuntimeError("safetensors wrote a header that JSON does not give back")
        file.write(text.ljust(length))


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(tensor_bytes(value).numpy().tobytes())
    return digest.hexdigest()
