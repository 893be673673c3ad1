"""Many networks of one architecture trained in one process, as one network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.training.config import TrainingConfig, check_training
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import NOT_EVALUATED, EpochLoop, EpochMetrics, make_optimizer
from mpnn_arch.training.union import MLPUnion, check_members, part_from


class Population(EpochLoop):
    """Trains ``members`` side by side on the same batches, an epoch at a time.

    They are one network, see :class:`~mpnn_arch.training.union.MLPUnion`: a step is one forward
    and one backward pass and one step of the optimiser for all. Each member equals, to rounding,
    the network that :class:`~mpnn_arch.training.trainer.Trainer` trains alone with a generator of
    the same state. A member whose loss is no longer finite is frozen at the end of that epoch and
    trained no further; the others go on.

    A checkpoint holds all members: :func:`~mpnn_arch.training.checkpoint.save_checkpoint` and
    ``load_checkpoint`` take a population as they take a trainer.

    Args:
        members: MLPs as ``models.build`` makes them; they are trained in place.
        dataset, config, generator, device: as for ``Trainer``, the same for all members.

    Attributes:
        diverged: number of the member to the sentence that says why it was frozen.

    Raises:
        InputError: as for ``Trainer`` and ``MLPUnion``.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs, models
        >>> from mpnn_arch.training import Population, TrainingConfig, load_dataset
        >>> data = load_dataset("digits").subset(256, 100)
        >>> members = [
        ...     models.build("mlp", graph, in_features=64, hidden_features=64)
        ...     for graph in (graphs.ring(16, 4), graphs.grid(16))
        ... ]
        >>> generator = torch.Generator().manual_seed(0)
        >>> population = Population(members, data, TrainingConfig(epochs=1), generator=generator)
        >>> sorted(population.train_epoch())  # metrics by number of the member
        [0, 1]
    """

    model: MLPUnion

    def __init__(
        self,
        members: Sequence[nn.Module],
        dataset: ImageDataset | ImageFolder,
        config: TrainingConfig,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        members = check_members(members)
        check_training(config)
        self.members = [member.to(device) for member in members]
        self.active = list(range(len(members)))
        self.diverged: dict[int, str] = {}
        union = MLPUnion(self.members, config.precision)
        super().__init__(union, dataset, config, generator=generator, device=device)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or no member is left."""
        return super().finished or not self.active

    def train_epoch(self) -> dict[int, EpochMetrics]:
        """Train the next epoch; the metrics of every member that came through.

        Their seconds are the population's, divided by its members.
        """
        steps = self._train_steps()
        finite = torch.isfinite(steps.loss_sum).tolist()
        losses = (steps.loss_sum / steps.images).tolist()
        wrong = dict(zip(self.active, steps.wrong_sum.tolist(), strict=True))
        train_losses = dict(zip(self.active, losses, strict=True))
        seconds = steps.seconds / len(self.active)
        self.epoch += 1
        for member, is_finite in zip(list(self.active), finite, strict=True):
            if not is_finite:
                self.diverged[member] = self._diverged(train_losses[member], self.epoch)
        if not all(finite):
            self._keep([member for member in self.active if member not in self.diverged])
        evaluated = self.evaluate() if self._is_evaluated else {}
        return {
            member: EpochMetrics(
                epoch=self.epoch,
                learning_rate=steps.learning_rate,
                train_loss=train_losses[member],
                train_error=100 * wrong[member] / steps.images,
                test_loss=test_loss,
                test_error=test_error,
                seconds=seconds,
            )
            for member in self.active
            for test_loss, test_error in [evaluated.get(member, NOT_EVALUATED)]
        }

    def evaluate(self) -> dict[int, tuple[float, float]]:
        """Mean cross-entropy (nats) and error (percent) of every active member."""
        if not self.active:
            return {}
        logits, labels = self._test_logits()
        wrong = (logits.argmax(2) != labels[:, None]).sum(0).tolist()
        losses = [float(F.cross_entropy(own, labels)) for own in logits.unbind(1)]
        errors = [100 * count / len(labels) for count in wrong]
        return dict(zip(self.active, zip(losses, errors, strict=True), strict=True))

    def release(self) -> None:
        """Give the members memory of their own; the population cannot train on after that."""
        part_from(self.members)
        self.active = []

    def checkpoint_metadata(self) -> dict[str, str]:
        """Which members were frozen, and why."""
        return {"diverged": json.dumps(self.diverged)}

    def prepare_to_load(self, metadata: Mapping[str, str]) -> None:
        """Leave out the members that had been frozen when the checkpoint was written.

        Raises:
            InputError: the checkpoint is that of a single network.
        """
        if "diverged" not in metadata:
            raise InputError("the checkpoint holds a single network; load it into a Trainer")
        self.diverged = {int(k): why for k, why in json.loads(metadata["diverged"]).items()}
        remaining = [member for member in range(len(self.members)) if member not in self.diverged]
        if remaining != self.active:
            self._rebuild(remaining, {})

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of all members; mean losses (P,) and numbers misclassified (P,)."""
        logits = self.logits(images)
        batch, members, _ = logits.shape
        losses = F.cross_entropy(
            logits.flatten(0, 1),
            labels.repeat_interleave(members),
            reduction="none",
            label_smoothing=self.config.label_smoothing,
        )
        losses = losses.view(batch, members).mean(0)
        self.optimizer.zero_grad()
        losses.sum().backward()  # no member's loss depends on another's weights
        if self.config.clip_gradient_norm is not None:
            self._clip(self.config.clip_gradient_norm)
        self.optimizer.step()
        wrong = (logits.detach().argmax(2) != labels[:, None]).sum(0)
        return losses.detach(), wrong

    def _clip(self, largest: float) -> None:
        """Clip every member's gradient by its own norm, as ``clip_grad_norm_`` does."""
        for place in range(len(self.active)):
            gradients = [gradient[own[place]] for gradient, own in self._gradients()]
            norm = torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm()
            scale = (largest / (norm + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(scale)

    def _gradients(self) -> list[tuple[Tensor, list[slice]]]:
        slices = self.model.slices
        return [
            (p.grad, slices[name])
            for name, p in self.model.named_parameters()
            if p.grad is not None
        ]

    def _keep(self, members: list[int]) -> None:
        """Go on with these of the active members alone."""
        remaining = [self.active.index(member) for member in members]
        momenta = {
            name: torch.cat([buffer[self.model.slices[name][place]] for place in remaining])
            for name, buffer in self._momenta().items()
            if remaining
        }
        self._rebuild(members, momenta)

    def _rebuild(self, members: list[int], momenta: Mapping[str, Tensor]) -> None:
        part_from(self.members)
        self.active = members
        if not members:
            return
        self.model = MLPUnion([self.members[member] for member in members], self.config.precision)
        self._network = self._make_network()
        self.optimizer = make_optimizer(self.model.parameters(), self.config)
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                self.optimizer.state[parameter]["momentum_buffer"] = momenta[name]

    def _momenta(self) -> dict[str, Tensor]:
        """The momentum of every parameter that has been trained."""
        state = self.optimizer.state
        buffers = {
            name: state[parameter].get("momentum_buffer")
            for name, parameter in self.model.named_parameters()
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}

    def _check_logits(self, logits: Tensor, num_images: int) -> None:
        super()._check_logits(logits[:, 0], num_images)
