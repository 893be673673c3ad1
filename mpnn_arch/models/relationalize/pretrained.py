"""A relationalized Hugging Face model in a folder, in the layout of that library.

``config.json``, the weights as safetensors, in one file or in shards with an index, and
``relational_graphs.safetensors``: which layers are rounds on which graphs. No file names a class
or a module to import: the caller hands in the model class.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpnn_arch.checks import check_path, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import make_folder, shown_path, write_text
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.io.tensor_file import read_tensors, recorded_checksum, write_tensors
from mpnn_arch.models.relationalize.pretrained_module import CONFIG, module_to_fill
from mpnn_arch.models.relationalize.report import RelationalizeReport
from mpnn_arch.models.relationalize.saved import describe, filled, state_of
from mpnn_arch.models.saved_schema import check_saved_layers

GRAPHS_FILE = "relational_graphs.safetensors"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_KIND_OF_GRAPHS, _KIND_OF_WEIGHTS = "mpnn_arch relational graphs 1", "mpnn_arch weights 1"
_MOST_SHARDS = 99_999


def save_pretrained(
    model: nn.Module, folder: str | os.PathLike[str], *, max_shard_size: int = 5 * 2**30
) -> None:
    """Write a relationalized model of transformers into a folder, each file atomically.

    The weights have the names and the files of that library: ``model.safetensors``, or
    ``model-00001-of-00003.safetensors``, ... with ``model.safetensors.index.json``. Tied weights
    are written once. The file of the graphs comes last and has the checksums of the others, so
    that a folder whose writing was interrupted is refused and not read as another model.

    Args:
        model: changed by :func:`relationalize`, and with a configuration of transformers.
        folder: created if need be; files of an earlier save in it are replaced.
        max_shard_size: bytes of a file of weights, unless one tensor is larger.

    Raises:
        InputError: a model that was not relationalized or has no such configuration, weights on the
            meta device, or a folder that cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from types import SimpleNamespace
        >>> from torch import nn
        >>> import mpnn_arch
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2))
        >>> model.config = SimpleNamespace(to_json_string=lambda: "{}")  # as transformers' has
        >>> model = mpnn_arch.relationalize(model, "ring:8,4")
        >>> mpnn_arch.save_pretrained(model, "saved")
        >>> sorted(path.name for path in Path("saved").iterdir())
        ['config.json', 'model.safetensors', 'relational_graphs.safetensors']
    """
    config: Any = getattr(model, "config", None)
    if not isinstance(getattr(model, "relationalize_report", None), RelationalizeReport):
        raise InputError(
            f"this {type(model).__name__} was not relationalized; call mpnn_arch.relationalize, or "
            "the model's own save_pretrained"
        )
    if not hasattr(config, "to_json_string"):
        raise InputError(
            f"this {type(model).__name__} has no configuration of transformers; use mpnn_arch.save"
        )
    most = check_whole("max_shard_size", max_shard_size, 1)
    graphs, metadata = describe(model)
    state = state_of(model)
    if any(value.is_meta for value in state.values()):
        raise InputError("a model on the meta device has no weights to save; move it to one first")
    kept, tied = _untied(state)
    parts = list(_shards(kept, most))
    folder = make_folder(check_path(folder))
    files = [_shard_name(number, len(parts)) for number in range(len(parts))]
    for name, part in zip(files, parts, strict=True):
        write_tensors(folder / name, part, {"format": "pt"}, kind=_KIND_OF_WEIGHTS)
    if len(files) > 1:
        index = {
            "metadata": {"total_size": sum(value.nbytes for value in kept.values())},
            "weight_map": {
                key: file for file, part in zip(files, parts, strict=True) for key in part
            },
        }
        write_text(folder / _INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
    write_text(folder / CONFIG, _config_text(model))
    generation: Any = getattr(model, "generation_config", None)
    if hasattr(generation, "to_json_string"):
        write_text(folder / "generation_config.json", generation.to_json_string())
    metadata["files"] = json.dumps({name: recorded_checksum(folder / name) for name in files})
    metadata["tied"] = json.dumps(tied, sort_keys=True)
    write_tensors(folder / GRAPHS_FILE, graphs, metadata, kind=_KIND_OF_GRAPHS)
    _remove_stale(folder, {*files, *([_INDEX] if len(files) > 1 else [])})


def from_pretrained(
    folder: str | os.PathLike[str],
    into: type[nn.Module] | nn.Module | Callable[[], nn.Module],
    *,
    config: Any = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """The model that :func:`save_pretrained` wrote, in eval mode, with the dtypes of its weights.

    Args:
        folder: of the files.
        into: the class of the model before it was relationalized, such as
            ``transformers.LlamaForCausalLM``, or such a module, which is not changed, or a function
            that builds one. Nothing that a file names is imported, and nothing is downloaded.
        config: for a class: its configuration; None: that of the folder.
        device: where to put the model.

    Raises:
        InputError: no such folder, files that are missing, damaged, forged or of two saves, or a
            class, configuration or module that does not fit them.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> from torch import nn
        >>> import mpnn_arch
        >>> def build():  # or a class, such as transformers.LlamaForCausalLM
        ...     model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2))
        ...     model.config = SimpleNamespace(to_json_string=lambda: "{}")
        ...     return model
        >>> model = mpnn_arch.relationalize(build(), "ring:8,4")
        >>> mpnn_arch.save_pretrained(model, "saved")
        >>> x = torch.randn(3, 8)
        >>> torch.equal(mpnn_arch.from_pretrained("saved", build)(x), model(x))
        True
    """
    folder = check_path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {shown_path(folder)}; give one of save_pretrained")
    if not (folder / GRAPHS_FILE).is_file():
        raise InputError(
            f"{shown_path(folder)} has no {GRAPHS_FILE}; save the model with "
            "mpnn_arch.save_pretrained, not with the method of transformers"
        )
    tensors, metadata = read_tensors(folder / GRAPHS_FILE, kind=_KIND_OF_GRAPHS)
    try:
        files = _names(metadata.pop("files", ""))
        tied = _names(metadata.pop("tied", ""))
        tensors |= {f"model/{key}": value for key, value in _read_weights(folder, files).items()}
        for key, other in tied.items():
            if f"model/{other}" not in tensors:
                raise InputError(f"{shown(key)} is tied to {shown(other)}, not there")
            tensors[f"model/{key}"] = tensors[f"model/{other}"]
        saved = check_saved_layers(tensors, metadata)
        module = module_to_fill(folder, into, config, saved)
        model = filled(module, saved, match_dtypes=True)
    except RecursionError:
        raise InputError(
            f"{shown_path(folder)} holds text nested too deeply; save it again"
        ) from None
    except InputError as error:
        raise InputError(f"{shown_path(folder)} cannot be loaded: {error}") from None
    return model.eval() if device is None else model.eval().to(device)


def _untied(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor once, and of the further names of one the first."""
    first: dict[tuple[Any, ...], str] = {}
    kept, tied = {}, {}
    for name, value in state.items():
        place = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        # Empty tensors all have the address 0.
        if value.numel() and place in first:
            tied[name] = first[place]
        else:
            first[place] = name
            kept[name] = value
    return kept, tied


def _shards(state: Mapping[str, Tensor], most: int) -> Iterator[dict[str, Tensor]]:
    part: dict[str, Tensor] = {}
    size = 0
    for name, value in state.items():
        if part and size + value.nbytes > most:
            yield part
            part, size = {}, 0
        part[name] = value
        size += value.nbytes
    yield part


def _shard_name(number: int, count: int) -> str:
    if count > _MOST_SHARDS:
        raise InputError(f"that is {count} files of weights; choose a larger max_shard_size")
    return _WEIGHTS if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _config_text(model: Any) -> str:
    values = json.loads(model.config.to_json_string())
    # As the library's own save_pretrained notes them; for the reader only.
    values["architectures"] = [type(model).__name__]
    values["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _remove_stale(folder: Path, current: set[str]) -> None:
    """Remove the weights of an earlier save, which other programs would read."""
    for path in [*folder.glob("model-*-of-*.safetensors"), folder / _WEIGHTS, folder / _INDEX]:
        if path.name not in current and path.is_file():
            path.unlink()


def _names(text: str) -> dict[str, str]:
    """A JSON object of texts."""
    try:
        value = parse_json(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise InputError(f"its {GRAPHS_FILE} holds {shown(text)} where names belong")
    return value


def _read_weights(folder: Path, files: Mapping[str, str]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, digest in files.items():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{shown(name)} is not the name of a file of weights")
        if recorded_checksum(folder / name) != digest:
            raise InputError(f"{name} is of another save than {GRAPHS_FILE}; save it again")
        part, _ = read_tensors(folder / name, kind=_KIND_OF_WEIGHTS)
        state |= part
    return state
