"""A run stopped between epochs: everything that its continuation depends on, in one file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.training.files import write_whole
from mpnn_arch.training.trainer import Trainer

_FORMAT = "mpnn_arch checkpoint 1"


def save_checkpoint(trainer: Trainer, path: Path, identity: str) -> None:
    """Write weights, momentum, the generator's state and the epoch, as safetensors.

    Args:
        trainer: between two epochs.
        path: the file, written whole or not at all.
        identity: what the run is (model, graph, recipe, seed); asked for again when it is read.
    """
    tensors = {f"model/{name}": value for name, value in trainer.model.state_dict().items()}
    for name, parameter in trainer.model.named_parameters():
        momentum = trainer.optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    tensors["generator"] = trainer.generator.get_state()
    # A copy each: safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    metadata = {
        "format": _FORMAT,
        "epoch": str(trainer.epoch),
        "identity": identity,
        "sha256": _digest(tensors),
    }
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_checkpoint(trainer: Trainer, path: Path, identity: str) -> None:
    """Put ``trainer`` where :func:`save_checkpoint` left it.

    Raises:
        InputError: the file is truncated or was changed, or belongs to another run.
    """
    mend = "delete it, and its training starts again"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"the checkpoint {path} cannot be read ({error}); {mend}") from None
    if metadata.get("format") != _FORMAT:
        raise InputError(f"{path} is not a checkpoint of a training run; {mend}")
    if metadata.get("sha256") != _digest(tensors):
        raise InputError(
            f"the checkpoint {path} was changed after it was written (its checksum is wrong); "
            f"{mend}"
        )
    if metadata.get("identity") != identity:
        raise InputError(
            f"the checkpoint {path} belongs to another run ({metadata.get('identity')}; this one "
            f"is {identity}); {mend}"
        )
    part = {
        kind: {name.split("/", 1)[1]: t for name, t in tensors.items() if name.startswith(kind)}
        for kind in ("model/", "momentum/")
    }
    trainer.model.load_state_dict(part["model/"])
    for name, parameter in trainer.model.named_parameters():
        if name in part["momentum/"]:
            momentum = part["momentum/"][name].to(parameter.device)
            trainer.optimizer.state[parameter]["momentum_buffer"] = momentum
    trainer.generator.set_state(tensors["generator"])
    trainer.epoch = int(metadata["epoch"])


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
