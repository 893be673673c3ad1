"""What a shell completes: values of options, by click's own mechanism.

The names are written out, since the registries that hold them import torch, which takes seconds; a
test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from mpnn_arch.cli.model_list import ROWS

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

MODELS = tuple(row[0] for row in ROWS)
DATASETS = ("cifar10", "digits", "imagenet", "mnist1d", "mnist5k")
RECIPES = (
    "cnn1d_mnist1d", "cnn8_imagenet", "efficientnet_b0_imagenet", "mlp_cifar10", "mlp_mnist1d",
    "mlp_mnist5k", "resnet20_cifar10", "resnet34_imagenet", "resnet34_sep_imagenet",
    "resnet50_imagenet",
)  # fmt: skip
SETTINGS = (
    "epochs", "batch_size", "learning_rate", "momentum", "nesterov", "weight_decay", "schedule",
    "optimizer", "label_smoothing", "clip_gradient_norm", "drop_last", "flip", "crop_padding",
    "smallest_area", "lighting", "batch_norm_images", "precision", "channels_last", "compile",
    "evaluate_every",
)  # fmt: skip
MESSAGES = (
    "affine", "attention", "bilinear", "conv", "edge_mlp", "gated", "identity", "linear",
    "low_rank", "scalar", "separable_conv", "shared_attention", "shared_conv", "shared_linear",
)  # fmt: skip
AGGREGATIONS = (
    "add", "attentional", "degree-scaled", "max", "mean", "median", "min", "mul", "multi",
    "power-mean", "quantile", "softmax", "std", "sum", "var",
)  # fmt: skip
BACKENDS = ("auto", "cpu", "gather", "masked", "onednn", "reference", "triton")
FAMILIES = (
    "ba", "complete", "core_periphery", "er", "grid", "harary", "hypercube", "lfr", "modular",
    "regular", "ring", "star", "tree", "ws", "ws_flex",
)  # fmt: skip
SOURCES = ("connectome", "file", "list", "published", "rewired", "rewired_to_clustering", "sample")
MEASURES = (
    "algebraic_connectivity", "assortativity", "augmented_forman_curvature", "average_path_length",
    "betweenness_max", "betweenness_mean", "clustering_coefficient", "core_periphery",
    "degree_entropy", "degree_max", "degree_mean", "degree_min", "degree_std", "density",
    "diameter", "entropy_rate", "forman_curvature", "global_efficiency", "local_efficiency",
    "modularity", "modularity_by_depth", "neighbourhood_clustering", "ollivier_ricci_curvature",
    "small_world_omega", "small_world_sigma", "spectral_gap",
)  # fmt: skip
GNN_LAYERS = ("gat", "gcn", "gin", "graph", "sage", "sage_max")
INITS = ("kaiming", "published")
WEIGHTS = ("all", "best", "none")
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "float64", "bfloat16", "float16")


def one_of(names: Iterable[str]) -> Complete:
    """Completes to one of ``names``."""

    def complete(
        ctx: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def several_of(names: Iterable[str], separators: str = ",") -> Complete:
    """Completes the last of several names, which are divided by any of ``separators``."""

    def complete(
        ctx: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        begun = max(incomplete.rfind(separator) for separator in separators) + 1
        before, last = incomplete[:begun], incomplete[begun:]
        used = before.replace("+", ",").split(",")
        return [
            CompletionItem(before + name)
            for name in names
            if name.startswith(last) and name not in used
        ]

    return complete


models = one_of(MODELS)
datasets = one_of(DATASETS)
recipes = one_of(RECIPES)
settings = one_of(tuple(f"{name}=" for name in SETTINGS))
messages = several_of(MESSAGES)
aggregations = several_of(AGGREGATIONS, ",+")
backends = one_of(BACKENDS)
graphs = one_of(tuple(f"{name}:" for name in sorted((*FAMILIES, *SOURCES))))
measures = one_of(MEASURES)
gnn_layers = several_of(GNN_LAYERS)
inits = one_of(INITS)
weights = one_of(WEIGHTS)
devices = one_of(DEVICES)
dtypes = one_of(DTYPES)
