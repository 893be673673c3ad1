"""Message functions and aggregations in a saved configuration: names, and objects of the caller's.

An object is saved by the name of its class, with a mark, since a class of the caller's may have the
name of one that is here, and an instance has settings that its class's name does not give back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch_geometric.nn import Aggregation
from torch_geometric.nn.resolver import aggregation_resolver

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.rounds import message_functions
from mpnn_arch.rounds.aggregations import aggregations, registered_name

_MARK = "object of class "

_HOW = {
    "message": ("message function", "rounds.message_functions", "a class"),
    "aggr": ("aggregation", "rounds.aggregations.aggregations", "a class or an instance"),
}


def is_named(value: Any) -> bool:
    """Whether the name that a configuration has for ``value`` gives it back."""
    if isinstance(value, list | tuple):
        return all(is_named(item) for item in value)
    if value is None or isinstance(value, str):
        return True
    if isinstance(value, Aggregation):
        made = _of_pyg(type(value).__name__)
        # Settings that their `repr` does not show are in their attributes.
        return type(made) is type(value) and _settings(made) == _settings(value)
    if isinstance(value, type) and issubclass(value, Aggregation):
        return type(_of_pyg(value.__name__)) is value
    return any(value is message_functions.get(name) for name in message_functions)


def mark_objects(config: Mapping[str, Any], objects: Iterable[str]) -> dict[str, Any]:
    """The configuration for a file: the settings in ``objects`` as names that are no names."""
    marked = {}
    for setting in objects:
        value = config[setting]
        names = value if isinstance(value, list) else [value]
        marked[setting] = _MARK + " and ".join(names)
    return {**config, **marked}


def check_parts(config: Mapping[str, Any]) -> None:
    """Refuse a message function and an aggregation that this process cannot make by their names.

    Raises:
        InputError: an object of the caller's, or a name that nothing was registered under.
    """
    for setting, (what, registry, kind) in _HOW.items():
        value = config.get(setting)
        for name in value if isinstance(value, list) else [value]:
            if not isinstance(name, str):
                continue
            if name.startswith(_MARK):
                raise InputError(
                    f"its {what} is {kind} of your own, {shown(name.removeprefix(_MARK))}, of "
                    f"which a file has the name only; give it: load(path, {setting}=...)"
                )
            if not _is_known(setting, name):
                raise InputError(
                    f"its {what} is {shown(name)}, and none of that name is registered here; "
                    f"register it with {registry}.register, as where the model was built, or "
                    f"give it: load(path, {setting}=...)"
                )


def _is_known(setting: str, name: str) -> bool:
    if setting == "message":
        return name in message_functions
    names = [registered_name(part) for part in name.split("+")]
    return all(part in aggregations or _of_pyg(part) is not None for part in names)


def _of_pyg(name: str) -> Any:
    """PyG's aggregation of this name: True where it needs arguments, None where there is none."""
    try:
        return aggregation_resolver(name)
    except ValueError as error:
        return None if "Could not resolve" in str(error) else True
    except Exception:  # whatever a constructor raises without its arguments
        return True


def _settings(value: Any) -> dict[str, str]:
    hidden = ("_parameters", "_buffers", "_modules")
    own = {name: repr(one) for name, one in vars(value).items() if name not in hidden}
    return own | {"state": repr(value.state_dict()), "parts": str(value)}
