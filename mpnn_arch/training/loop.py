"""An epoch of training, whatever is trained: one network, or several side by side."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mpnn_arch.checks import check_kind, counted, shown
from mpnn_arch.errors import InputError
from mpnn_arch.io.weights import load_weights
from mpnn_arch.rounds.generator import check_generator
from mpnn_arch.training.batch_norm import reestimate_batch_norm
from mpnn_arch.training.config import TrainingConfig, check_training
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.share import WHOLE, Share, in_words
from mpnn_arch.training.sources import Batches, source_of

# Test loss and error of an epoch that is not evaluated.
NOT_EVALUATED = (math.nan, math.nan)
# Images per evaluation step; bounds memory and does not change results.
EVALUATION_BATCH = 500


class DivergedError(InputError):
    """The training loss is no longer finite."""


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """Metrics of one epoch.

    Attributes:
        epoch: counted from 1.
        learning_rate: of the epoch's last step.
        train_loss: mean cross-entropy (nats) over the epoch's images, during training.
        train_error: share of them misclassified during training, in percent.
        test_loss: mean cross-entropy (nats) over the test images after the epoch; NaN where the
            recipe's ``evaluate_every`` passes it over.
        test_error: share of them misclassified, in percent; NaN likewise.
        seconds: time of the epoch's training steps, evaluation not counted.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs, models
        >>> from mpnn_arch.training import Trainer, TrainingConfig, load_dataset
        >>> data = load_dataset("digits").subset(256, 100)
        >>> model = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=64)
        >>> generator = torch.Generator().manual_seed(0)
        >>> trainer = Trainer(model, data, TrainingConfig(epochs=1), generator=generator)
        >>> 0 <= trainer.train_epoch().test_error <= 100
        True
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_error: float
    test_loss: float
    test_error: float
    seconds: float


@dataclass(frozen=True)
class Steps:
    """Sums over the steps of one epoch; a population has one a network, (P,), else ().

    Attributes:
        loss_sum: mean losses times images.
        wrong_sum: images misclassified when they were trained on.
        images: trained on.
        learning_rate: of the last step.
        seconds: of all.
    """

    loss_sum: Tensor
    wrong_sum: Tensor
    images: int
    learning_rate: float
    seconds: float


class EpochLoop(ABC):
    """The epochs of a :class:`~mpnn_arch.training.trainer.Trainer` or a ``Population``.

    Args: as for :class:`~mpnn_arch.training.trainer.Trainer`.

    Attributes:
        epoch: finished epochs.
        steps_per_epoch: steps of the optimiser in each.
        share: the part of every batch that this process computes; all of it, where one trains.
    """

    share: Share = WHOLE
    processes_text = in_words(1, "")  # in checkpoints and messages

    def __init__(
        self,
        model: nn.Module,
        dataset: ImageDataset | ImageFolder,
        config: TrainingConfig,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        check_kind("model", model, nn.Module, "build one with mpnn_arch.models.build")
        if not isinstance(dataset, ImageDataset | ImageFolder):
            raise InputError(
                f"dataset is an ImageDataset or an ImageFolder, not {shown(dataset)}; load one "
                "with mpnn_arch.training.load_dataset"
            )
        check_training(config)
        check_generator(generator)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError(
                f"the model, a {type(model).__name__}, has no parameter to train; give it layers "
                "with parameters, or set requires_grad_(True) on those that it has"
            )
        self.device = torch.device(device)
        self.model = model.to(self.device)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dataset = dataset.to(self.device)
        self.source = source_of(self.dataset, config)
        self.config = config
        self.generator = generator
        self.epoch = 0
        self._network: Callable[[Tensor], Any] = self._make_network()
        self.optimizer = make_optimizer(self.model.parameters(), self.config)
        self.steps_per_epoch = count_steps(dataset, config)
        self._check_outputs()

    def _make_network(self) -> Callable[[Tensor], Any]:
        """What is called on a batch: ``model``, or what wraps it."""
        return torch.compile(self.model) if self.config.compile else self.model

    def _check_outputs(self) -> None:
        """Compare the shape of the model's outputs with the number of classes."""
        # A batch of the training size, so that backend trials for it are not wasted.
        images, _ = next(iter(self.source.test_batches(self.config.batch_size, self.share)))
        with torch.random.fork_rng(self._forked_devices()):
            logits = self._evaluate(images)
        self._check_logits(logits, len(images))

    def _check_logits(self, logits: Tensor, num_images: int) -> None:
        if not isinstance(logits, Tensor):
            raise InputError(
                f"the model returns a {type(logits).__name__}; return a tensor of shape "
                f"({num_images}, {self.source.num_classes}) for {num_images} images"
            )
        if logits.shape != (num_images, self.source.num_classes):
            raise InputError(
                f"the model has outputs of shape {tuple(logits.shape)} for {num_images} images, "
                f"but {self.source.name!r} has {self.source.num_classes} classes; build the "
                f"model with num_classes={self.source.num_classes}"
            )

    def logits(self, images: Tensor) -> Tensor:
        """Class scores of a batch, computed as the recipe says."""
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.config.precision == "float32":
            scores: Tensor = self._network(images)
            return scores
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            scores = self._network(images)
        return scores.float()

    @abstractmethod
    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the optimiser; mean losses, and numbers of images misclassified."""

    @property
    def _is_evaluated(self) -> bool:
        """Whether the recipe has the epoch that was just trained evaluated."""
        return self.config.is_evaluated(self.epoch)

    def _set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _forked_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    @property
    def finished(self) -> bool:
        """Whether all epochs are finished."""
        return self.epoch >= self.config.epochs

    def state(self) -> dict[str, Tensor]:
        """Weights as ``model/NAME`` and momentum as ``momentum/NAME``, for a checkpoint."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum/{name}"] = momentum
        return tensors

    def load_state(self, weights: Mapping[str, Tensor], momenta: Mapping[str, Tensor]) -> None:
        """Take over weights and momentum, by name."""
        load_weights(self.model, weights)
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                momentum = momenta[name].to(parameter.device)
                self.optimizer.state[parameter]["momentum_buffer"] = momentum

    def trained_model(self) -> nn.Module:
        """The network with its weights, as it can be saved."""
        return self.model

    def checkpoint_metadata(self) -> dict[str, str]:
        """What a checkpoint keeps beside tensors, epoch and identity."""
        return {}

    def prepare_to_load(self, metadata: Mapping[str, str]) -> None:
        """Called before a checkpoint's tensors are loaded; a population drops frozen members.

        Raises:
            InputError: the checkpoint is a population's and this is none, or the other way round,
                or it was written by another number of processes.
        """
        if "diverged" in metadata:
            raise InputError(
                "the checkpoint holds a population of networks; load it into a Population of them"
            )
        written, mine = metadata.get("processes", in_words(1, "")), self.processes_text
        if written != mine:
            raise InputError(
                f"the checkpoint was written by {written[:40]}, and this training is one of {mine},"
                " which would round differently; start it again as it was begun (see torchrun's "
                "--nproc-per-node and --parallel)"
            )

    def _diverged(self, loss: float, epoch: int) -> str:
        return (
            f"the training loss became {loss} in epoch {epoch}: lower the learning rate (it is "
            f"{self.config.learning_rate:g})"
        )

    def _train_steps(self) -> Steps:
        """The steps of one epoch."""
        order = torch.randperm(self.source.num_train, generator=self.generator, device="cpu")
        seed = _draw_seed(self.generator)
        order = order[: self.steps_per_epoch * self.config.batch_size]
        batches = self.source.train_batches(self.config, order, self.generator, self.share)
        step = self.epoch * self.steps_per_epoch
        # Sums stay on the device: reading them at every step would synchronise.
        loss_sum = torch.zeros((), device=self.device)
        wrong_sum = torch.zeros((), dtype=torch.int64, device=self.device)
        trained = 0
        rate = 0.0

        self.model.train()
        self._wait()
        start = time.perf_counter()
        with torch.random.fork_rng(self._forked_devices()):
            # Layers that draw: processes that share a batch must not drop the same of each part.
            torch.manual_seed((seed + self.share.rank) % 2**63)
            for images, labels in batches:
                rate = self.config.scheduled_rate(step, self.steps_per_epoch)
                self._set_rate(rate)
                loss, wrong = self._step(images, labels)
                loss_sum = loss_sum + loss * len(labels)
                wrong_sum = wrong_sum + wrong
                trained += len(labels)
                step += 1
        self._wait()
        return Steps(loss_sum, wrong_sum, trained, rate, time.perf_counter() - start)

    def _test_logits(self) -> tuple[Tensor, Tensor]:
        """Logits and labels of all test images."""
        if self.config.batch_norm_images:
            self._reestimate_batch_norm()
        parts = [(self._evaluate(x), y) for x, y in self._test_batches()]
        return torch.cat([logits for logits, _ in parts]), torch.cat(
            [labels for _, labels in parts]
        )

    def _test_batches(self) -> Batches:
        return self.source.test_batches(EVALUATION_BATCH, self.share)

    def _reestimate_batch_norm(self) -> None:
        """On training images drawn for this one evaluation, augmented as in training.

        The numbers of the training's own generator are left to the training, which has the same
        bits however often it is evaluated.
        """
        generator = torch.Generator().manual_seed(_draw_seed(self.generator.clone_state()))
        order = torch.randperm(self.source.num_train, generator=generator, device="cpu")
        seed = _draw_seed(generator)
        order = order[: self.config.batch_norm_images]
        batches = self.source.train_batches(self.config, order, generator, self.share)
        sizes = [len(part) for part in order.split(self.config.batch_size)]
        more_than_one = (x for (x, _), size in zip(batches, sizes, strict=True) if size > 1)
        with torch.random.fork_rng(self._forked_devices()):
            torch.manual_seed(seed)
            self.model.train()
            reestimate_batch_norm(self.model, self.logits, more_than_one)

    @torch.no_grad()
    def _evaluate(self, images: Tensor) -> Tensor:
        self.model.eval()
        return self.logits(images)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def count_steps(dataset: ImageDataset | ImageFolder, config: TrainingConfig) -> int:
    """Steps of the optimiser in an epoch.

    Raises:
        InputError: none, as there are too few training images.
    """
    full, rest = divmod(dataset.num_train, config.batch_size)
    steps = full + (rest > 1 and not config.drop_last)
    if not steps:
        raise InputError(
            f"the data set {dataset.name!r} has {counted(dataset.num_train, 'training image')}, "
            f"fewer than a step needs; give {config.batch_size if config.drop_last else 2} or more"
        )
    return steps


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))


def make_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainingConfig
) -> torch.optim.Optimizer:
    """SGD as ``config`` says."""
    # A ledger has 1.0 as 1, and torch takes no integer of more than 64 bits.
    return torch.optim.SGD(
        parameters,
        lr=float(config.learning_rate),
        momentum=float(config.momentum),
        nesterov=config.nesterov,
        weight_decay=float(config.weight_decay),
        **_OPTIMIZER_SWITCHES[config.optimizer],
    )


# On CUDA torch's own default is `foreach`, which "loop" leaves to it.
_OPTIMIZER_SWITCHES: dict[str, dict[str, bool]] = {
    "loop": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
