"""Checkpoints between epochs: everything needed to resume a training, in one file."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from pathlib import Path

from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import ReadError, remove
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.rounds import export_choices, import_choices
from mpnn_arch.training.loop import EpochLoop

_KIND = "mpnn_arch checkpoint 1"


def save_checkpoint(trainer: EpochLoop, path: Path, identity: str) -> None:
    """Write weights, momentum, the generator's state and the epoch, atomically.

    The checkpoint that was at ``path`` is kept beside it, see :func:`previous_checkpoint`.

    Args:
        trainer: a trainer or a population, between two epochs.
        path: the file.
        identity: describes the run (model, graph, recipe, seed); compared when the file is read.
    """
    tensors = {**trainer.state(), "generator": trainer.generator.get_state()}
    metadata = {
        "epoch": str(trainer.epoch),
        "identity": identity,
        "backend_choices": json.dumps(export_choices(trainer.model)),
        **trainer.checkpoint_metadata(),
    }
    write_tensors(path, tensors, metadata, kind=_KIND, previous=previous_checkpoint(path))


def load_checkpoint(trainer: EpochLoop, path: Path, identity: str) -> None:
    """Restore the state of ``trainer`` that :func:`save_checkpoint` wrote.

    If the file is damaged or missing, the one before it is read instead, with a warning.

    Raises:
        InputError: the file is truncated or modified and there is no other or it is too, or it
            belongs to another run.
        ReadError: the system does not let it be read.
    """
    source, tensors, metadata = _read(path)
    if metadata["identity"] != identity:
        raise InputError(
            f"the checkpoint {source} belongs to another run ({metadata['identity']}; this one "
            f"is {identity}); {how_to_restart(path)}"
        )
    trainer.prepare_to_load(metadata)
    weights, momenta = (
        {name[len(kind) :]: value for name, value in tensors.items() if name.startswith(kind)}
        for kind in ("model/", "momentum/")
    )
    # Backends round differently: a resumed run keeps the backends that it started with.
    import_choices(trainer.model, dict(json.loads(metadata["backend_choices"])))
    trainer.load_state(weights, momenta)
    trainer.generator.set_state(tensors["generator"])
    trainer.epoch = int(metadata["epoch"])
    if source != path:
        # Otherwise the next checkpoint would keep the damaged one as its predecessor.
        with contextlib.suppress(OSError):
            os.replace(source, path)


def restore(trainer: EpochLoop, path: Path, identity: str) -> None:
    """Load a checkpoint, which may be forged.

    Raises:
        InputError: the file is damaged, or is not a checkpoint of this training.
        ReadError: the system does not let it be read.
    """
    epochs = trainer.config.epochs
    try:
        load_checkpoint(trainer, path, identity)
        if not 1 <= trainer.epoch <= epochs:
            raise ValueError(f"epoch {trainer.epoch} of {epochs}")
        for parameter, state in trainer.optimizer.state.items():
            momentum = state.get("momentum_buffer")
            if momentum is not None and momentum.shape != parameter.shape:
                raise ValueError(f"a momentum of shape {tuple(momentum.shape)}")
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{path} is not a checkpoint of this training ({str(error)[:200]!r}); "
            f"{how_to_restart(path)}"
        ) from error


def previous_checkpoint(path: Path) -> Path:
    """The path of the checkpoint before the one at ``path``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def generations(path: Path) -> list[Path]:
    """The existing ones of the checkpoint at ``path`` and the one before it."""
    return [file for file in (path, previous_checkpoint(path)) if file.exists()]


def has_checkpoint(path: Path) -> bool:
    """Whether the checkpoint at ``path`` exists, or the one before it."""
    return bool(generations(path))


def delete_checkpoint(path: Path) -> None:
    """Delete the checkpoint at ``path`` and the one before it, if they exist.

    Raises:
        WriteError: one cannot be deleted.
    """
    for file in generations(path):
        remove(file)


def how_to_restart(path: Path) -> str:
    """The fix of a message about the checkpoint at ``path``, which cannot be resumed."""
    names = [file.name for file in generations(path)]
    return f"delete {' and '.join(names) if len(names) > 1 else 'it'} to restart its training"


def _read(path: Path) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """The file that was read, its tensors and its metadata: ``path``, or the one before it."""
    try:
        return path, *read_tensors(path, kind=_KIND)
    except ReadError:  # it may be sound
        raise
    except InputError as error:
        before = previous_checkpoint(path)
        if not before.exists():
            raise InputError(f"{error}, or {how_to_restart(path)}") from None
        try:
            tensors, metadata = read_tensors(before, kind=_KIND)
        except InputError:
            raise InputError(
                f"{error}, and the one before it, {before.name}, is damaged too: "
                f"{how_to_restart(path)}"
            ) from None
        warnings.warn(
            f"{error}; the training is resumed from the checkpoint before it, after epoch "
            f"{metadata['epoch'][:20]}",
            stacklevel=3,
        )
        return before, tensors, metadata
