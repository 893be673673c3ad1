"""The training loop: one model, one data set, one recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch.checks import check_flag
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.devices import check_graphs
from mpnn_arch.training.graphed_step import GraphedStep
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import NOT_EVALUATED, DivergedError, EpochLoop, EpochMetrics


class Trainer(EpochLoop):
    """Trains ``model`` on ``dataset`` with the recipe ``config``, one epoch at a time.

    The images are reshuffled every epoch. The last batch of an epoch is smaller if the batch size
    does not divide the number of images; if it would hold a single image it is skipped, since
    BatchNorm cannot normalise one (a different image each epoch).

    All randomness comes from ``generator``: the order of the images, their augmentation, and a
    seed per epoch for layers that draw (dropout). The global random state is not changed. A
    training resumed from :mod:`mpnn_arch.training.checkpoint` gives the same bits.

    Args:
        model: from images (B, C, H, W) to logits (B, num_classes).
        dataset: images and labels, all moved to ``device``; or a folder that is read batch by
            batch, see :class:`~mpnn_arch.training.image_folder.ImageFolder`.
        config: the recipe.
        generator: on the CPU.
        device: where to train.
        cuda_graphs: whether a step is captured as a CUDA graph and replayed, see
            :mod:`mpnn_arch.training.graphed_step`; SGD's step is then a fused one, which rounds
            differently.

    Raises:
        InputError: the model's outputs are not the data set's classes, the recipe augments what
            the data set cannot, CUDA graphs are asked for on another device, or
            (``DivergedError``) the loss diverges.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs, models
        >>> from mpnn_arch.training import Trainer, TrainingConfig, load_dataset
        >>> data = load_dataset("digits").subset(256, 100)
        >>> model = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=64)
        >>> generator = torch.Generator().manual_seed(0)
        >>> trainer = Trainer(model, data, TrainingConfig(epochs=1), generator=generator)
        >>> trainer.train_epoch().epoch
        1
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: ImageDataset | ImageFolder,
        config: TrainingConfig,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        cuda_graphs: bool = False,
    ) -> None:
        if check_flag("cuda_graphs", cuda_graphs):
            check_graphs(torch.device(device))
            config = dataclasses.replace(config, optimizer="fused")
        super().__init__(model, dataset, config, generator=generator, device=device)
        self._rate: Tensor | None = None
        self._graphed: GraphedStep | None = None
        if cuda_graphs:
            # A number would be fixed in the graph.
            self._rate = torch.zeros((), device=self.device)
            self._graphed = GraphedStep(self._eager_step)
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate

    @property
    def notes(self) -> list[str]:
        """Sentences about this training that a user should see; empty as a rule."""
        return [self._graphed.refusal] if self._graphed and self._graphed.refusal else []

    def _set_rate(self, rate: float) -> None:
        if self._rate is None:
            super()._set_rate(rate)
        else:
            self._rate.fill_(rate)

    def load_state(self, weights: Mapping[str, Tensor], momenta: Mapping[str, Tensor]) -> None:
        """Take over weights and momentum, by name."""
        super().load_state(weights, momenta)
        if self._graphed is not None:
            self._graphed.forget()

    def train_epoch(self) -> EpochMetrics:
        """Train the next epoch and evaluate, if the recipe says so after this one.

        Raises:
            DivergedError: the loss is no longer finite.
        """
        steps = self._train_steps()
        train_loss = float(steps.loss_sum) / steps.images
        if not torch.isfinite(steps.loss_sum):
            raise DivergedError(self._diverged(train_loss, self.epoch + 1))
        self.epoch += 1
        test_loss, test_error = self.evaluate() if self._is_evaluated else NOT_EVALUATED
        return EpochMetrics(
            epoch=self.epoch,
            learning_rate=steps.learning_rate,
            train_loss=train_loss,
            train_error=100 * int(steps.wrong_sum) / steps.images,
            test_loss=test_loss,
            test_error=test_error,
            seconds=steps.seconds,
        )

    def evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy (nats) and error (percent) on the test images.

        Where the recipe says so, BatchNorm's statistics are estimated anew before.
        """
        logits, labels = self._test_logits()
        wrong = int((logits.argmax(1) != labels).sum())
        return float(F.cross_entropy(logits, labels)), 100 * wrong / len(labels)

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        step = self._eager_step if self._graphed is None else self._graphed
        return step(images, labels)

    def _eager_step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the optimiser; the mean loss and the number of images misclassified."""
        logits = self.logits(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.clip_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_gradient_norm)
        self.optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) != labels).sum()
