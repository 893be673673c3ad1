"""From the options of ``train``, ``compare`` and ``sweep`` to a study."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

from mpnn_arch.cli.defaults import Defaults
from mpnn_arch.cli.numbers import read_assignments, read_names
from mpnn_arch.cli.options import read_rungs, read_seeds
from mpnn_arch.errors import InputError
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.populations import check_population
from mpnn_arch.studies.study import ExistsError, Study
from mpnn_arch.training.devices import find_device

_TRAINING_OPTIONS = ("epochs", "batch_size", "learning_rate", "weight_decay")


def find_study(
    defaults: Defaults,
    given: dict[str, Any],
    *,
    out: Path | None,
    resume: bool,
    extend: bool,
    trust: bool,
    data_root: Path | None,
    device: str,
    population: int | Literal["auto", "off"] | None,
) -> Study:
    """The study in ``out`` if it is what the options ask for, or a new one.

    Args:
        defaults: of the command.
        given: the options of :func:`mpnn_arch.cli.options.trial_options`, and ``weights``.
        out, resume, extend, trust, data_root, device, population: of ``study_options``.

    Raises:
        InputError: the options contradict each other, the study that is there, or what exists.
    """
    for flag, name in ((resume, "--resume"), (extend, "--extend")):
        if flag and (out is None or not is_there(out)):
            raise InputError(f"{name} needs --out with a study that is there")
    where = find_device(device).type
    if out is None or not is_there(out):
        config = configure(defaults, given)
        check_backend(config.backend, where)
        check_population(population, config)
        if out is None:
            return _create(defaults, config, data_root)
        with suppress(ExistsError):  # another command has just made it: it is gone on with
            return Study.create(out, config, data_root=data_root, command=defaults.command)
    study = Study.open(out)
    before = study.config
    check_backend(before.backend, where)
    fields, training = asked_for(given)
    base = before.training
    if "recipe" in fields:
        base = _named_recipe(fields["recipe"], fields.get("model", before.model)).training
    asked = dataclasses.replace(before, training=dataclasses.replace(base, **training), **fields)
    before.check_same(asked)
    added = before.added_by(asked)
    if added and not extend:
        raise InputError(
            f"the study {out} would get {added}; give --extend to add that, or another --out"
        )
    if added:
        check_population(population, before.merged(asked))
        study.extend(asked, data_root=data_root, trust=trust)
    return study


def is_there(out: Path) -> bool:
    """Whether a study may be there already."""
    try:
        return out.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL: said when it is made
        return False


def _create(defaults: Defaults, config: StudyConfig, data_root: Path | None) -> Study:
    """A study in the default folder; of several begun in one second each has its own."""
    first = _new_path(defaults.prefix, config)
    for number in count(1):
        path = first if number == 1 else first.with_name(f"{first.name}-{number}")
        with suppress(ExistsError):
            return Study.create(path, config, data_root=data_root, command=defaults.command)
    raise AssertionError  # count does not end


def _new_path(prefix: str, config: StudyConfig) -> Path:
    from mpnn_arch.training.data import short_name

    stamp = time.strftime("%Y%m%d-%H%M%S")
    # A name that is too long for a folder is refused for what it is, not for its length.
    model, dataset = (short_name(name)[:60] for name in (config.model, config.dataset))
    return Path("runs") / f"{prefix}{model}-{dataset}-{stamp}"


def configure(defaults: Defaults, given: dict[str, Any]) -> StudyConfig:
    """What the options ask for, completed by the recipe and by the command's defaults.

    Raises:
        InputError: an unknown name, or a value out of its range.
    """
    from mpnn_arch.studies.import_paths import is_import_path
    from mpnn_arch.training.recipes import Recipe, default_graphs, recipe

    fields, training = asked_for(given)
    if "keep" in fields and "race" not in fields:
        raise InputError("--keep is for --race; give that too, or neither")
    if "recipe" in fields:
        found = _named_recipe(fields["recipe"], fields.get("model"))
        fields.setdefault("model", found.model)
        fields.setdefault("dataset", found.dataset)
    model = fields.setdefault("model", "mlp")
    dataset = fields.setdefault("dataset", "mnist5k")
    own = is_import_path(model)
    if "recipe" not in fields:
        found = Recipe() if own else recipe(model, dataset)
    fields.setdefault("seeds", tuple(range(found.seeds)))
    if "graphs" not in fields:
        if own:
            raise InputError(f"the model {model!r} has no graphs of its own; give --graphs")
        graphs = default_graphs(model, found)
        fields["graphs"] = graphs if defaults.against_complete else graphs[:1]
    if not own:
        fields.setdefault("init", found.init)
    for name in ("messages", "aggrs", "weights"):
        fields.setdefault(name, getattr(defaults, name))
    return StudyConfig(training=dataclasses.replace(found.training, **training), **fields)


def _named_recipe(name: str, model: str | None) -> Any:
    from mpnn_arch.training.recipes import RECIPES

    found = RECIPES.get(name)()
    if model is not None and found.model != model:
        raise InputError(
            f"the recipe {name!r} is for {found.model}, not {model}; leave out --model, or --recipe"
        )
    return found


def asked_for(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that were given: fields of :class:`StudyConfig`, and of its recipe.

    Raises:
        InputError: text that cannot be read, or two options that contradict each other.
    """
    from mpnn_arch.training.data import full_name

    asked = {name: value for name, value in given.items() if value not in (None, ())}
    if "dataset" in asked:
        asked["dataset"] = full_name(asked["dataset"])
    if "seeds" in asked:
        asked["seeds"] = read_seeds(asked["seeds"])
    if "race" in asked:
        asked["race"] = read_rungs(asked["race"])
    for field, option in (("messages", "message"), ("aggrs", "aggr")):
        if field in asked:
            asked[field] = tuple(read_names(option, asked[field]))
    training = {name: asked.pop(name) for name in _TRAINING_OPTIONS if name in asked}
    for name, value in _settings(asked.pop("settings", ())).items():
        if training.setdefault(name, value) != value:
            option = name.replace("_", "-")
            raise InputError(
                f"--{option} {training[name]} and --set {name}={value} contradict each other; give "
                "one of them"
            )
    return asked, training


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """``("flip=true", ...)`` as values of a recipe."""
    if not texts:
        return {}
    from mpnn_arch.training.recipes import set_values

    return set_values(read_assignments("set", texts, "weight_decay=1e-4"))


def check_backend(backend: str | None, device: str) -> None:
    """A backend that cannot run on this device must not be replaced by another silently.

    Raises:
        InputError: no such backend, or one that cannot run here.
    """
    import torch

    from mpnn_arch.kernels.backends import check_name, unavailable_reason

    if backend in (None, "auto", "reference"):
        return
    check_name(backend, "auto", "reference")
    reason = unavailable_reason(backend, device, torch.float32)
    if reason:
        raise InputError(f"--backend {backend} cannot be used: {reason}; leave it out")
