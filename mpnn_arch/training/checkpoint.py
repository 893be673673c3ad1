"""Checkpoints between epochs: everything needed to resume a training, in one file."""

from __future__ import annotations

import json
from pathlib import Path

from mpnn_arch.errors import InputError
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.models.old_names import renamed
from mpnn_arch.rounds import export_choices, import_choices
from mpnn_arch.training.trainer import Trainer

_KIND = "mpnn_arch checkpoint 1"


def save_checkpoint(trainer: Trainer, path: Path, identity: str) -> None:
    """Write weights, momentum, the generator's state and the epoch, atomically.

    Args:
        trainer: between two epochs.
        path: the file.
        identity: describes the run (model, graph, recipe, seed); compared when the file is read.
    """
    tensors = {f"model/{name}": value for name, value in trainer.model.state_dict().items()}
    for name, parameter in trainer.model.named_parameters():
        momentum = trainer.optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    tensors["generator"] = trainer.generator.get_state()
    metadata = {
        "epoch": str(trainer.epoch),
        "identity": identity,
        "backend_choices": json.dumps(export_choices(trainer.model)),
    }
    write_tensors(path, tensors, metadata, kind=_KIND)


def load_checkpoint(trainer: Trainer, path: Path, identity: str) -> None:
    """Restore the state of ``trainer`` that :func:`save_checkpoint` wrote.

    Raises:
        InputError: the file is truncated or modified, or belongs to another run.
    """
    fix = "delete it to restart its training"
    try:
        tensors, metadata = read_tensors(path, kind=_KIND)
    except InputError as error:
        raise InputError(f"{error}, or {fix}") from None
    if metadata["identity"] != identity:
        raise InputError(
            f"the checkpoint {path} belongs to another run ({metadata['identity']}; this one "
            f"is {identity}); {fix}"
        )
    weights, momenta = (
        {name[len(kind) :]: value for name, value in tensors.items() if name.startswith(kind)}
        for kind in ("model/", "momentum/")
    )
    trainer.model.load_state_dict(weights)
    # Backends round differently: a resumed run keeps the backends that it started with.
    choices = json.loads(metadata.get("backend_choices", "{}"))
    names = renamed(trainer.model, [*choices, *momenta])
    import_choices(trainer.model, {names[name]: choice for name, choice in choices.items()})
    momenta = {names[name]: value for name, value in momenta.items()}
    for name, parameter in trainer.model.named_parameters():
        if name in momenta:
            trainer.optimizer.state[parameter]["momentum_buffer"] = momenta[name].to(
                parameter.device
            )
    trainer.generator.set_state(tensors["generator"])
    trainer.epoch = int(metadata["epoch"])
