"""One network trained by several processes, each on its share of every batch."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch.checks import check_choice
from mpnn_arch.io.weights import load_weights
from mpnn_arch.rounds import export_choices, import_choices
from mpnn_arch.rounds.copied import deep_copy
from mpnn_arch.training import sharding
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.global_batch_norm import over_processes
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import EpochMetrics, Steps
from mpnn_arch.training.processes import Processes
from mpnn_arch.training.share import Share, in_words
from mpnn_arch.training.trainer import Trainer

PARALLEL = ("ddp", "fsdp2")
"""Every process has the whole network (``ddp``), or a part of each of its tensors (``fsdp2``)."""


# Its name from torch 2.14 on, and before.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(nn.parallel.DistributedDataParallel).parameters
)


class DistributedTrainer(Trainer):
    """A ``Trainer`` whose batches are shared among processes; the result is that of one process.

    All processes draw the same order and augmentation; of every batch each computes its share
    (:class:`~mpnn_arch.training.share.Share`). BatchNorm takes its statistics from the whole batch,
    and the gradient is that of the mean loss over it, so losses and weights are those of a single
    process to rounding. Layers that draw (dropout) draw differently on every process.

    Every process makes one and calls :meth:`train_epoch`; rank 0's weights, epoch, random state
    and backends are handed to the others before the first epoch, so only rank 0 reads and writes
    checkpoints: with ``state``, ``load_state`` and ``trained_model``, between epochs.

    Args:
        model, dataset, config, generator, device: as for ``Trainer``, the same on every process but
            for the device. BatchNorms of ``model`` are replaced.
        processes: entered.
        parallel: ``"ddp"`` (torch's ``DistributedDataParallel``), or ``"fsdp2"`` (``fully_shard``)
            for networks that do not fit on one device. Under the latter the recipe's ``fused``
            step is computed as ``foreach``: torch has no fused one for parts of tensors.
        is_stopping: asked after every step; if true, ``KeyboardInterrupt`` ends the epoch.

    Raises:
        InputError: as ``Trainer``, on every process if on one; or ``parallel`` is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: ImageDataset | ImageFolder,
        config: TrainingConfig,
        *,
        generator: torch.Generator,
        processes: Processes,
        device: torch.device | str = "cpu",
        parallel: str = "ddp",
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        check_choice("parallel", parallel, PARALLEL)
        self.processes, self.parallel = processes, parallel
        self.share = Share(processes.rank, processes.world_size)
        self.processes_text = in_words(processes.world_size, parallel)
        self._is_stopping = is_stopping
        self._in_step = False  # whether rank 0's state is that of the others
        self._loaded: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] | None = None
        self._whole: dict[str, Tensor] = {}
        self._twin: nn.Module | None = None
        self._left = 0  # images of the epoch that were not trained on yet
        super().__init__(model, dataset, config, generator=generator, device=device)
        if parallel == "ddp":
            self._fix_buckets()

    def _make_network(self) -> Callable[[Tensor], Any]:
        if self.parallel == "fsdp2":
            if self.processes.leads:
                self._twin = deep_copy(self.model).cpu()
            if self.config.optimizer == "fused":
                self.config = dataclasses.replace(self.config, optimizer="foreach")
        with torch.no_grad():
            for tensor in self.model.state_dict().values():
                dist.broadcast(tensor, src=0)
        self.model = over_processes(self.model, self.device)
        network: Any = self.model
        if self.parallel == "fsdp2":
            sharding.shard(self.model, self.processes.mesh(self.device.type))
        else:
            # Statistics of the global batch are the same on every process.
            without_buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
            network = nn.parallel.DistributedDataParallel(
                self.model,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                **without_buffers,
            )
        return torch.compile(network) if self.config.compile else network

    def _fix_buckets(self) -> None:
        """Take a backward pass whose gradients are thrown away.

        DDP arranges gradients in other buckets after its first backward pass, and sums over three
        or more processes in another order then. A training that is resumed must not differ from
        one that goes on.
        """
        images, _ = next(iter(self.source.test_batches(self.config.batch_size, self.share)))
        self.model.eval()
        with torch.random.fork_rng(self._forked_devices()):
            self.logits(images).sum().backward()
        self.optimizer.zero_grad()

    # -- an epoch -------------------------------------------------------------------------------

    def train_epoch(self) -> EpochMetrics:
        """Train the next epoch and evaluate, on every process at the same time.

        Raises:
            DivergedError: the loss is no longer finite; on every process.
            KeyboardInterrupt: ``is_stopping``; the epoch is lost.
        """
        self._come_in_step()
        metrics = super().train_epoch()
        self._share_choices()
        if self.parallel == "fsdp2":
            self._whole = sharding.gather(super().state(), keep=self.processes.leads)
        return metrics

    def _train_steps(self) -> Steps:
        size = self.config.batch_size
        self._left = min(self.source.num_train, self.steps_per_epoch * size)
        steps = super()._train_steps()
        sums = torch.stack([steps.loss_sum.double(), steps.wrong_sum.double()])
        sums = torch.cat([sums, sums.new_tensor([float(steps.images)])])
        dist.all_reduce(sums)
        return Steps(sums[0], sums[1], int(sums[2]), steps.learning_rate, steps.seconds)

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step on the global batch; mean loss and wrong images of this process's share."""
        if self._is_stopping():
            raise KeyboardInterrupt
        batch = min(self.config.batch_size, self._left)
        self._left -= batch
        logits = self.logits(images)
        loss = F.cross_entropy(
            logits, labels, label_smoothing=self.config.label_smoothing, reduction="sum"
        )
        self.optimizer.zero_grad()
        # Gradients are averaged over processes: this is the mean over the global batch.
        (loss * (self.processes.world_size / batch)).backward()
        if self.config.clip_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradient_norm)
        self.optimizer.step()
        wrong = (logits.detach().argmax(1) != labels).sum()
        return loss.detach() / max(1, len(labels)), wrong

    def evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy (nats) and error (percent) on the test images, of all processes."""
        if self.config.batch_norm_images:
            self._reestimate_batch_norm()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for images, labels in self._test_batches():
            logits = self._evaluate(images)
            sums[0] += F.cross_entropy(logits, labels, reduction="sum")
            sums[1] += (logits.argmax(1) != labels).sum()
            sums[2] += len(labels)
        dist.all_reduce(sums)
        loss, wrong, count = sums.tolist()
        return loss / count, 100 * wrong / count

    # -- rank 0's state, and all others' ----------------------------------------------------------

    def _come_in_step(self) -> None:
        """Take over rank 0's state, which it may have read from a checkpoint."""
        if self._in_step:
            return
        has_loaded = self._loaded is not None
        own = (self.epoch, self.generator.get_state(), export_choices(self.model), has_loaded)
        self.epoch, random, choices, has_loaded = self.processes.broadcast(
            own if self.processes.leads else None
        )
        self.generator.set_state(random)
        import_choices(self.model, choices)
        if has_loaded:
            sharding.scatter(self.model, self.optimizer, self._loaded)
            self._loaded = None
        self._in_step = True

    def _share_choices(self) -> None:
        """Give all processes the same backends: rank 0's, and the others' where it has none."""
        merged: dict[str, dict[str, str]] = {}
        for choices in reversed(self.processes.gather(export_choices(self.model))):
            for name, of_shape in choices.items():
                merged[name] = {**merged.get(name, {}), **of_shape}
        import_choices(self.model, merged)

    def state(self) -> dict[str, Tensor]:
        """See ``Trainer``; on rank 0, after an epoch."""
        return self._whole if self.parallel == "fsdp2" else super().state()

    def load_state(self, weights: Mapping[str, Tensor], momenta: Mapping[str, Tensor]) -> None:
        """See ``Trainer``; on rank 0, before an epoch, which hands it to the others."""
        expected = {name: value.shape for name, value in self.model.state_dict().items()}
        shapes = {name: value.shape for name, value in weights.items()}
        shapes |= {name: value.shape for name, value in momenta.items()}
        if weights.keys() != expected.keys() or shapes != expected:
            raise ValueError("weights or momentum of another model")
        self._loaded = weights, momenta
        self._whole = {
            **{f"model/{name}": value for name, value in weights.items()},
            **{f"momentum/{name}": value for name, value in momenta.items()},
        }
        if self.parallel == "ddp":
            super().load_state(weights, momenta)
        self._in_step = False

    def checkpoint_metadata(self) -> dict[str, str]:
        """How many processes trained it."""
        return {"processes": self.processes_text}

    def trained_model(self) -> nn.Module:
        """See ``Trainer``; on rank 0."""
        if self._twin is None:
            return self.model
        kind = "model/"
        load_weights(
            self._twin,
            {name[len(kind) :]: x for name, x in self._whole.items() if name.startswith(kind)},
        )
        import_choices(self._twin, export_choices(self.model))
        return self._twin
