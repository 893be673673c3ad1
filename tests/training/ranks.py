"""Trainings that tests compare, run by one process or by several; called as a program.

    python ranks.py RESULTS CASE...

trains every case and writes, on rank 0, RESULTS/CASE.pt: weights, and metrics of every epoch.
Several processes find each other as torchrun's do.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import torch

from mpnn_arch import graphs, models
from mpnn_arch.training.checkpoint import load_checkpoint, save_checkpoint
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import load_dataset
from mpnn_arch.training.distributed import DistributedTrainer
from mpnn_arch.training.processes import Processes
from mpnn_arch.training.trainer import Trainer

# 203 images in batches of 50: the last one holds 3, in shares of 2 and 1, or 1, 1, 1 and 0.
IMAGES, BATCH, EPOCHS = 203, 50, 2

CASES = {
    "float64": {},
    "float32": {},
    "augmented": {"flip": True, "crop_padding": 1},
    "smoothed": {"label_smoothing": 0.1},
    "clipped": {"clip_gradient_norm": 0.05},
    "reestimated": {"batch_norm_images": 101},
    "bfloat16": {"precision": "bfloat16"},
    "channels_last": {"channels_last": True, "model": "cnn8"},
    "compiled": {"compile": True},
    "foreach": {"optimizer": "foreach"},
    "fused": {"optimizer": "fused"},
    "auto": {"backend": "auto"},
}


def make_trainer(case, processes=None, parallel="ddp", seed=3):
    asked = dict(CASES[case])
    dtype = torch.float32 if case in ("float32", "bfloat16", "compiled", "auto") else torch.float64
    data = load_dataset("digits").subset(IMAGES, 101)
    data = dataclasses.replace(
        data, train_images=data.train_images.to(dtype), test_images=data.test_images.to(dtype)
    )
    model = models.build(
        asked.pop("model", "mlp"),
        graphs.parse_one("ws_flex:8,4,0.2,0"),
        num_classes=10, in_channels=1, image_size=8, width_multiplier=0.125, init="kaiming",
        seed=0, backend=asked.pop("backend", "gather"),
    ).to(dtype)  # fmt: skip
    config = TrainingConfig(epochs=EPOCHS, batch_size=BATCH, **asked)
    generator = torch.Generator().manual_seed(seed)
    if processes is None:
        return Trainer(model, data, config, generator=generator)
    return DistributedTrainer(
        model, data, config, generator=generator, processes=processes, parallel=parallel
    )


def result_of(trainer, metrics):
    state = {name: x.clone() for name, x in trainer.trained_model().state_dict().items()}
    return {"weights": state, "metrics": [m.__dict__ for m in metrics]}


def train(case, processes=None, parallel="ddp"):
    trainer = make_trainer(case, processes, parallel)
    return result_of(trainer, [trainer.train_epoch() for _ in range(EPOCHS)])


def train_resumed(case, processes, parallel, folder):
    """With a new trainer for every epoch; rank 0 alone reads and writes checkpoints."""
    path, metrics = folder / f"{case}-{parallel}.safetensors", []
    for epoch in range(EPOCHS):
        # A process's own random numbers must not matter.
        trainer = make_trainer(case, processes, parallel, seed=3 if processes.leads else 77)
        if epoch and processes.leads:
            load_checkpoint(trainer, path, "test")
        metrics.append(trainer.train_epoch())
        if processes.leads:
            save_checkpoint(trainer, path, "test")
    return result_of(trainer, metrics)


def main(folder, cases):
    torch.set_num_threads(1)
    # All of torch.compile but the C++ that it would write, which takes minutes.
    torch.compile = functools.partial(torch.compile, backend="aot_eager")
    with Processes.from_environment() as processes:
        for case in cases:
            name, *how = case.split("-")
            parallel = "fsdp2" if "fsdp2" in how else "ddp"
            if "resumed" in how:
                found = train_resumed(name, processes, parallel, folder)
            else:
                found = train(name, processes, parallel)
            if processes.leads:
                torch.save(found, folder / f"{case}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
