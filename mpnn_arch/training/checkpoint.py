"""A run stopped between epochs: everything that its continuation depends on, in one file."""

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
    """Write weights, momentum, the generator's state and the epoch, whole or not at all.

    Args:
        trainer: between two epochs.
        path: the file.
        identity: what the run is (model, graph, recipe, seed); asked for again when it is read.
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
    """Put ``trainer`` where :func:`save_checkpoint` left it.

    Raises:
        InputError: the file is truncated or was changed, or belongs to another run.
    """
    mend = "delete it, and its training starts again"
    try:
        tensors, metadata = read_tensors(path, kind=_KIND)
    except InputError as error:
        raise InputError(f"{error}, or {mend}") from None
    if metadata["identity"] != identity:
        raise InputError(
            f"the checkpoint {path} belongs to another run ({metadata['identity']}; this one "
            f"is {identity}); {mend}"
        )
    weights, momenta = (
        {name[len(kind) :]: value for name, value in tensors.items() if name.startswith(kind)}
        for kind in ("model/", "momentum/")
    )
    trainer.model.load_state_dict(weights)
    # Backends round differently: a continuation keeps those that the run began with.
    choices = json.loads(metadata.get("backend_choices", "{}"))
    names = renamed(trainer.model, [*choices, *momenta])
    import_choices(trainer.model, {names[name]: kept for name, kept in choices.items()})
    momenta = {names[name]: value for name, value in momenta.items()}
    for name, parameter in trainer.model.named_parameters():
        if name in momenta:
            trainer.optimizer.state[parameter]["momentum_buffer"] = momenta[name].to(
                parameter.device
            )
    trainer.generator.set_state(tensors["generator"])
    trainer.epoch = int(metadata["epoch"])
