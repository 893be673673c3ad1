"""The default graphs and training settings of each model, and recipes by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args, get_type_hints

from mpnn_arch import graphs
from mpnn_arch.checks import check_choice, meant, parse_number, parse_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.models import MODELS
from mpnn_arch.models.init import INITS
from mpnn_arch.registry import Registry
from mpnn_arch.training.config import TrainingConfig

#: name -> a class of :class:`Recipe`; ``RECIPES.get(name)()`` is the recipe.
RECIPES: Registry[type[Recipe]] = Registry("recipe")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Defaults of one model for small images without augmentation.

    Attributes:
        training: learning rate, batch size, epochs, augmentation.
        init: weight initialisation; None: the model's default.
        graph: a specification; None: the model's default.
        against_complete: whether the complete graph is trained too, for comparison.
        seeds: number of trainings of each graph.

    Raises:
        InputError: a value out of its range.

    Example:
        >>> from mpnn_arch.training.recipes import RECIPES
        >>> recipe = RECIPES.get("mlp_cifar10")()
        >>> recipe.training.epochs, recipe.seeds
        (200, 5)
    """

    model: ClassVar[str | None] = None  # what a recipe with a name is for
    dataset: ClassVar[str | None] = None

    training: TrainingConfig = field(default_factory=TrainingConfig)
    init: str | None = None
    graph: str | None = None
    against_complete: bool = True
    seeds: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.training, TrainingConfig):
            raise InputError(f"training is a TrainingConfig, {self.training!r} was given")
        if self.init is not None:
            check_choice("init", self.init, INITS)
        if not isinstance(self.seeds, int) or isinstance(self.seeds, bool) or self.seeds < 1:
            raise InputError(f"seeds is an integer of at least 1, {self.seeds!r} was given")


# With the published initialisation a residual block starts as the identity, which suits runs of a
# hundred epochs: after two epochs of mnist5k, 62 steps, resnet20 still had 71 % error, but 3 % with
# fan-in (kaiming) initialisation.
_IMAGES = Recipe(training=TrainingConfig(epochs=6), init="kaiming")
# Without BatchNorm the initial rate of 0.1 is too high.
_LAYER_NORM = Recipe(training=TrainingConfig(epochs=15, learning_rate=0.03), init="kaiming")

_DEFAULTS = {
    # Inside the paper's sweet spot for the 5-layer MLP, C in [0.43, 0.50] and L in [1.82, 2.28]
    # (section 5.2): C = 0.476, L = 2.106.
    "mlp": Recipe(graph="ws_flex:64,12,0.15,0"),
    # At equal cost its relational form on the complete graph is narrower than 16 nodes.
    "efficientnet_b0": Recipe(
        training=TrainingConfig(epochs=6), init="kaiming", against_complete=False
    ),
    "vit": _LAYER_NORM,
    "mlp_mixer": _LAYER_NORM,
}


@RECIPES.register("mlp_mnist5k")
@dataclass(frozen=True, kw_only=True)
class MLPOnMNIST5k(Recipe):
    """The 5-layer MLP on 4,000 MNIST digits: what ``mpnn-arch train`` does by itself.

    Command: ``mpnn-arch train --recipe mlp_mnist5k``. Time of its six trainings, with one thread of
    a shared AMD EPYC: 43 s of processor time. Memory: 1.0 GB, most of it libraries. Test error
    over three seeds: 4.0 +- 0.7 % on the graph, 4.2 +- 0.2 % on the complete one.
    """

    model: ClassVar[str] = "mlp"
    dataset: ClassVar[str] = "mnist5k"
    graph: str | None = "ws_flex:64,12,0.15,0"


# The fused step, see `OPTIMIZER_STEPS`: 0.46 of the 4.7 ms of a step of this MLP
# became 0.12 on a quiet machine.
_SIGNALS = TrainingConfig(optimizer="fused")


@RECIPES.register("mlp_mnist1d")
@dataclass(frozen=True, kw_only=True)
class MLPOnMNIST1D(Recipe):
    """The 5-layer MLP on 4,000 signals of MNIST-1D.

    Command: ``mpnn-arch train --recipe mlp_mnist1d``. Time of its six trainings, with one thread of
    a shared AMD EPYC: 58 s of processor time. Memory: 1.0 GB, most of it libraries. Test error
    over three seeds: 40.9 +- 2.2 % on the graph, 37.0 +- 2.9 % on the complete one.
    """

    model: ClassVar[str] = "mlp"
    dataset: ClassVar[str] = "mnist1d"
    training: TrainingConfig = _SIGNALS
    graph: str | None = "ws_flex:64,12,0.15,0"


@RECIPES.register("cnn1d_mnist1d")
@dataclass(frozen=True, kw_only=True)
class CNN1DOnMNIST1D(Recipe):
    """The small 1-D CNN on 4,000 signals of MNIST-1D.

    Command: ``mpnn-arch train --recipe cnn1d_mnist1d``. Time of one epoch with its evaluation on
    20,000 signals, with one thread of a shared AMD EPYC: 2.2 s of processor time. Memory: 1.3 GB.
    Test error of one seed: 3.6 % on the graph, 2.3 % on the complete one.
    """

    model: ClassVar[str] = "cnn1d"
    dataset: ClassVar[str] = "mnist1d"
    training: TrainingConfig = _SIGNALS
    init: str | None = "kaiming"


_CIFAR = TrainingConfig(
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine_by_epoch",
    optimizer="fused",
    flip=True,
    crop_padding=4,
)
_CIFAR_RESNET = dataclasses.replace(_CIFAR, weight_decay=1e-4)


@RECIPES.register("mlp_cifar10")
@dataclass(frozen=True, kw_only=True)
class MLPOnCIFAR10(Recipe):
    """The paper's first experiment: the 5-layer MLP on CIFAR-10, 200 epochs, 5 seeds.

    Images are normalised by their channels' mean (125.3, 123.0, 113.9) and deviation (63.0, 62.1,
    66.7), then flipped and cropped at random.

    Command: ``mpnn-arch train --recipe mlp_cifar10 --data-root FOLDER``. Time, memory and error:
    not measured here.

    Source: You et al., ICML 2020, section 4.1.
    """

    model: ClassVar[str] = "mlp"
    dataset: ClassVar[str] = "cifar10"
    training: TrainingConfig = _CIFAR
    graph: str | None = "ws_flex:64,12,0.15,0"
    seeds: int = 5


@RECIPES.register("resnet20_cifar10")
@dataclass(frozen=True, kw_only=True)
class ResNet20OnCIFAR10(Recipe):
    """ResNet-20 on CIFAR-10 with weight decay 1e-4, otherwise as the MLP.

    Command: ``mpnn-arch train --recipe resnet20_cifar10 --data-root FOLDER``. Time, memory and
    error: not measured here.

    Source: He, Zhang, Ren, Sun, CVPR 2016, section 4.2, with a cosine in place of its steps.
    """

    model: ClassVar[str] = "resnet20"
    dataset: ClassVar[str] = "cifar10"
    training: TrainingConfig = _CIFAR_RESNET
    init: str | None = "published"
    seeds: int = 5


_IMAGENET = TrainingConfig(
    epochs=100,
    batch_size=256,
    learning_rate=0.1,
    weight_decay=1e-4,
    schedule="cosine_by_epoch",
    optimizer="fused",
    drop_last=True,
    flip=True,
    smallest_area=0.08,
    lighting=0.1,
    batch_norm_images=1024,
)
_IMAGENET_EFFICIENT = dataclasses.replace(
    _IMAGENET, batch_size=512, learning_rate=0.2, weight_decay=5e-5
)


@dataclass(frozen=True, kw_only=True)
class _OnImageNet(Recipe):
    """The published ImageNet training: 100 epochs, random crops of at least 8 % of the area.

    The last, smaller batch is dropped, BatchNorm is estimated anew on 1,024 training images before
    each evaluation, and the last BatchNorm of a residual block starts at 0.
    """

    dataset: ClassVar[str] = "imagenet"
    training: TrainingConfig = _IMAGENET
    init: str | None = "published"
    seeds: int = 1


@RECIPES.register("cnn8_imagenet")
@dataclass(frozen=True, kw_only=True)
class CNN8OnImageNet(_OnImageNet):
    """The paper's 8-layer CNN on ImageNet.

    Command: ``mpnn-arch train --recipe cnn8_imagenet --data-root FOLDER``. Time, memory and
    error: not measured here.

    Source: You et al., ICML 2020, section 4.2.
    """

    model: ClassVar[str] = "cnn8"


@RECIPES.register("resnet34_imagenet")
@dataclass(frozen=True, kw_only=True)
class ResNet34OnImageNet(_OnImageNet):
    """ResNet-34 on ImageNet.

    Command: ``mpnn-arch train --recipe resnet34_imagenet --data-root FOLDER``. Time, memory and
    error: not measured here.

    Source: You et al., ICML 2020, section 4.2.
    """

    model: ClassVar[str] = "resnet34"


@RECIPES.register("resnet34_sep_imagenet")
@dataclass(frozen=True, kw_only=True)
class ResNet34SepOnImageNet(_OnImageNet):
    """ResNet-34 with separable convolutions on ImageNet.

    Command: ``mpnn-arch train --recipe resnet34_sep_imagenet --data-root FOLDER``. Time, memory
    and error: not measured here.

    Source: You et al., ICML 2020, section 4.2.
    """

    model: ClassVar[str] = "resnet34_sep"


@RECIPES.register("resnet50_imagenet")
@dataclass(frozen=True, kw_only=True)
class ResNet50OnImageNet(_OnImageNet):
    """ResNet-50 on ImageNet.

    Command: ``mpnn-arch train --recipe resnet50_imagenet --data-root FOLDER``. Time, memory and
    error: not measured here.

    Source: You et al., ICML 2020, section 4.2.
    """

    model: ClassVar[str] = "resnet50"


@RECIPES.register("efficientnet_b0_imagenet")
@dataclass(frozen=True, kw_only=True)
class EfficientNetB0OnImageNet(_OnImageNet):
    """EfficientNet-B0 on ImageNet, batch 512, rate 0.2, weight decay 5e-5.

    Command: ``mpnn-arch train --recipe efficientnet_b0_imagenet --data-root FOLDER``. Time, memory
    and error: not measured here.

    Source: You et al., ICML 2020, section 4.2.
    """

    model: ClassVar[str] = "efficientnet_b0"
    training: TrainingConfig = _IMAGENET_EFFICIENT
    against_complete: bool = False


# The recipes that a model and a data set select by themselves.
_BY_DATASET: dict[tuple[str | None, str | None], str] = {
    (kind.model, kind.dataset): name
    for name, kind in ((name, RECIPES.get(name)) for name in RECIPES)
    if kind.dataset in ("mnist5k", "mnist1d")
}


def recipe(model: str, dataset: str | None = None) -> Recipe:
    """The default recipe of the model called ``model``.

    Args:
        model: its name.
        dataset: the data set's; None: any.

    Example:
        >>> from mpnn_arch.training.recipes import recipe
        >>> recipe("mlp").graph
        'ws_flex:64,12,0.15,0'
    """
    name = _BY_DATASET.get((model, dataset))
    return RECIPES.get(name)() if name else _DEFAULTS.get(model, _IMAGES)


def recipe_note(model: str, training: TrainingConfig, dataset: str | None = None) -> str | None:
    """One line on what a model without a recipe of its own is trained by; None if it has one.

    Args:
        model: its name.
        training: what it is trained by: the recipe of image models, but for what the user said.
        dataset: the data set's name; None: any.
    """
    if model in _DEFAULTS or (model, dataset) in _BY_DATASET:
        return None
    return (
        f"{model} has no recipe of its own; it is trained by that of image models: "
        f"{training.epochs} epochs, batch {training.batch_size}, learning rate "
        f"{training.learning_rate:g}, weight decay {training.weight_decay:g}"
    )


def list_recipes() -> list[str]:
    """Names of all recipes.

    Example:
        >>> from mpnn_arch.training.recipes import list_recipes
        >>> list_recipes()[-2:]
        ['resnet34_sep_imagenet', 'resnet50_imagenet']
    """
    return RECIPES.names()


def set_values(settings: Mapping[str, str]) -> dict[str, Any]:
    """Fields of :class:`~mpnn_arch.training.config.TrainingConfig` from text, each by its type.

    Args:
        settings: name to text, as ``{"learning_rate": "0.05", "flip": "true"}``; ``none`` where a
            field may be None.

    Raises:
        InputError: no such field, or text that is none of its values.

    Example:
        >>> from mpnn_arch.training.recipes import set_values
        >>> set_values({"epochs": "3", "flip": "true"})
        {'epochs': 3, 'flip': True}
    """
    kinds = get_type_hints(TrainingConfig)
    values = {}
    for name, text in settings.items():
        if name not in kinds:
            raise InputError(
                f"a recipe has no field {shown(name)}{meant(name, kinds)}; it has "
                f"{', '.join(kinds)}"
            )
        values[name] = _value(name, text.strip(), kinds[name])
    return values


def _value(name: str, text: str, kind: Any) -> Any:
    choices = get_args(kind) or (kind,)
    if type(None) in choices and text.lower() == "none":
        return None
    if bool in choices:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InputError(f"{name} is true or false, {shown(text)} was given")
    if str in choices:
        return text
    try:
        return parse_whole(text) if int in choices else parse_number(text)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def default_graphs(model: str, chosen: Recipe | None = None) -> tuple[str, ...]:
    """The model's default graph, and the complete graph with the same number of nodes.

    Args:
        model: its name.
        chosen: its recipe; None: the model's default.

    Raises:
        InputError: no such model.
    """
    chosen = chosen or recipe(model)
    own = chosen.graph or MODELS.get(model).default_graph
    if not chosen.against_complete:
        return (own,)
    (graph,) = graphs.parse(own)
    return own, f"complete:{graph.num_nodes}"
