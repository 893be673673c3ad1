"""The public names: what the packages' ``__all__`` export, and what is used from single modules.

Read by the site, which describes each of them, and by the test that runs their examples.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

TOP = "mpnn_arch"
# A page of marimo, which is run by marimo.
NOT_IMPORTED = f"{TOP}.explorer.app"
# Modules whose packages export nothing, or not these: their public names.
FROM_MODULES = {
    f"{TOP}.kernels.block_matmul": ["block_conv2d", "block_matmul"],
    f"{TOP}.kernels.plan": ["RoundPlan", "make_plan"],
    f"{TOP}.kernels.geometry": ["ConvGeometry"],
    f"{TOP}.kernels.backends": ["Backend", "get", "names", "register"],
    f"{TOP}.rounds.aggregations": ["aggregations"],
    f"{TOP}.rounds.updates": ["NodeNorm", "SqueezeExcitation", "norms"],
    f"{TOP}.training.recipes": ["RECIPES", "Recipe", "list_recipes", "recipe", "set_values"],
    f"{TOP}.studies.comparison": ["compare_swaps"],
    f"{TOP}.training.nodes": ["train_on_karate_club"],
    f"{TOP}.diagnostics.agreement": ["Agreement", "compare_backends"],
    f"{TOP}.diagnostics.receipt": ["receipt"],
    f"{TOP}.diagnostics.timing": ["Timing", "interleaved"],
}


def modules() -> Iterator[tuple[str, bool]]:
    """(name, whether it is a package) of every module of the package."""
    yield TOP, True
    for module in pkgutil.walk_packages(importlib.import_module(TOP).__path__, f"{TOP}."):
        if module.name != NOT_IMPORTED:
            yield module.name, module.ispkg


def exporters() -> list[str]:
    """The packages with an ``__all__``, and the modules of :data:`FROM_MODULES`."""
    packages = [
        name
        for name, is_package in modules()
        if is_package and hasattr(importlib.import_module(name), "__all__")
    ]
    return packages + list(FROM_MODULES)


def exported(module: str) -> Iterator[tuple[str, Any]]:
    """(name, object) of every public name of a module but subpackages and ``__version__``."""
    home = importlib.import_module(module)
    for name in FROM_MODULES.get(module, getattr(home, "__all__", ())):
        value = getattr(home, name)
        if not isinstance(value, ModuleType) and not name.startswith("__"):
            yield name, value


def homes() -> dict[str, Any]:
    """Every public object under one name: that of the shortest package below the top one."""
    found: dict[int, tuple[str, Any]] = {}
    for module in sorted(exporters(), key=lambda name: (name == TOP, name.count("."), name)):
        for name, value in exported(module):
            found.setdefault(id(value), (f"{module}.{name}", value))
    return dict(sorted(found.values(), key=lambda pair: pair[0]))
