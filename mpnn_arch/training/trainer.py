"""The training loop: one model, one data set, one recipe."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import ImageDataset

# Images per evaluation step; bounds memory and does not change results.
EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """Metrics of one epoch.

    Attributes:
        epoch: counted from 1.
        learning_rate: of the epoch's last step.
        train_loss: mean cross-entropy (nats) over the epoch's images, during training.
        train_error: share of them misclassified during training, in percent.
        test_loss: mean cross-entropy (nats) over the test images after the epoch.
        test_error: share of them misclassified, in percent.
        seconds: time of the epoch's training steps, evaluation not counted.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_error: float
    test_loss: float
    test_error: float
    seconds: float


class Trainer:
    """Trains ``model`` on ``dataset`` with the recipe ``config``, one epoch at a time.

    The images are reshuffled every epoch. The last batch of an epoch is smaller if the batch size
    does not divide the number of images; if it would hold a single image it is skipped, since
    BatchNorm cannot normalise one (a different image each epoch).

    All randomness comes from ``generator``: the order of the images, and a seed per epoch for
    layers that draw (dropout). The global random state is not changed. A training resumed from
    :mod:`mpnn_arch.training.checkpoint` gives the same bits.

    Args:
        model: from images (B, C, H, W) to logits (B, num_classes).
        dataset: images and labels, all moved to ``device``.
        config: the recipe.
        generator: on the CPU.
        device: where to train.

    Raises:
        InputError: the model's outputs are not the data set's classes, or the loss diverges.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: ImageDataset,
        config: TrainingConfig,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.dataset = dataset.to(self.device)
        self.config = config
        self.generator = generator
        self.epoch = 0  # finished epochs
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
        num_images = len(self.dataset.train_labels)
        full, rest = divmod(num_images, config.batch_size)
        self.steps_per_epoch = full + (rest > 1)
        if not self.steps_per_epoch:
            raise InputError(
                f"the data set {dataset.name!r} has {num_images} training image; give 2 or more"
            )
        self._check_outputs()

    def _check_outputs(self) -> None:
        """Compare the shape of the model's outputs with the number of classes."""
        # A batch of the training size, so that backend trials for it are not wasted.
        images = self.dataset.test_images[: self.config.batch_size]
        with torch.random.fork_rng(self._forked_devices()):
            logits = self._evaluate(images)
        if logits.shape != (len(images), self.dataset.num_classes):
            raise InputError(
                f"the model has outputs of shape {tuple(logits.shape)} for {len(images)} images, "
                f"but {self.dataset.name!r} has {self.dataset.num_classes} classes; build the "
                f"model with num_classes={self.dataset.num_classes}"
            )

    def _forked_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    @property
    def finished(self) -> bool:
        """Whether all epochs are finished."""
        return self.epoch >= self.config.epochs

    def train_epoch(self) -> EpochMetrics:
        """Train the next epoch and evaluate.

        Raises:
            InputError: the loss is no longer finite.
        """
        images, labels = self.dataset.train_images, self.dataset.train_labels
        order = torch.randperm(len(labels), generator=self.generator).to(self.device)
        seed = int(torch.randint(2**63 - 1, (), generator=self.generator))
        step = self.epoch * self.steps_per_epoch
        num_steps = self.config.epochs * self.steps_per_epoch
        # Sums stay on the device: reading them at every step would synchronise.
        loss_sum = torch.zeros((), device=self.device)
        wrong_sum = torch.zeros((), dtype=torch.int64, device=self.device)
        trained = 0
        rate = 0.0

        self.model.train()
        self._wait()
        start = time.perf_counter()
        with torch.random.fork_rng(self._forked_devices()):
            torch.manual_seed(seed)
            for batch in order.split(self.config.batch_size)[: self.steps_per_epoch]:
                rate = self.config.learning_rate_at(step, num_steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                logits = self.model(images[batch])
                loss = F.cross_entropy(logits, labels[batch])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                loss_sum += loss.detach() * len(batch)
                wrong_sum += (logits.detach().argmax(1) != labels[batch]).sum()
                trained += len(batch)
                step += 1
        self._wait()
        seconds = time.perf_counter() - start

        train_loss = float(loss_sum) / trained
        if not torch.isfinite(loss_sum):
            raise InputError(
                f"the training loss became {train_loss} in epoch {self.epoch + 1}: lower the "
                f"learning rate (it is {self.config.learning_rate})"
            )
        self.epoch += 1
        test_loss, test_error = self.evaluate()
        return EpochMetrics(
            epoch=self.epoch,
            learning_rate=rate,
            train_loss=train_loss,
            train_error=100 * int(wrong_sum) / trained,
            test_loss=test_loss,
            test_error=test_error,
            seconds=seconds,
        )

    def evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy (nats) and error (percent) on the test images."""
        images, labels = self.dataset.test_images, self.dataset.test_labels
        logits = torch.cat([self._evaluate(part) for part in images.split(EVALUATION_BATCH)])
        wrong = int((logits.argmax(1) != labels).sum())
        return float(F.cross_entropy(logits, labels)), 100 * wrong / len(labels)

    @torch.no_grad()
    def _evaluate(self, images: Tensor) -> Tensor:
        self.model.eval()
        logits: Tensor = self.model(images)
        return logits

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
