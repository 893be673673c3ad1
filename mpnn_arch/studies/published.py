"""The paper's published test errors, where they are at hand, by model and graph."""

from __future__ import annotations

import csv
import statistics
from functools import lru_cache

from mpnn_arch.graphs import remote

_FILES = {
    "mlp": "mlp_cifar10_epoch200.csv",
    "resnet34": "resnet34_imagenet_epoch100.csv",
}
PUBLISHED_ON = {"mlp": "CIFAR-10", "resnet34": "ImageNet"}
"""The data set of the published errors, which a study of the model may have another one of."""

Key = tuple[str, int, float, float, int]
"""Family, nodes, density and rewiring probability rounded to 6 digits, seed of the graph."""


@lru_cache(maxsize=4)
def published_errors(model: str) -> dict[Key, float]:
    """Mean published test error (percent) of every graph; empty where there is no file.

    The files are looked for in ``$MPNN_ARCH_DATA`` and the cache, also in their folder
    ``published/``; they are not fetched.

    Source: You, Leskovec, He, Xie, ICML 2020; facebookresearch/graph2nn (MIT).
    """
    name = _FILES.get(model)
    path = None if name is None else remote.find([name, f"published/{name}"], None)
    if path is None:
        return {}
    errors: dict[Key, list[float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (
                row["graph"],
                int(row["num_nodes"]),
                float(row["density"]),
                float(row["rewiring_probability"]),
                int(row["graph_seed"]),
            )
            errors.setdefault(key, []).append(float(row["top1_error"]))
    return {key: statistics.mean(found) for key, found in errors.items()}
