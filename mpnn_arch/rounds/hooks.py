"""PyG's hooks on the steps of a round, which decide how the round is computed."""

from __future__ import annotations

import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

# A fused product computes no messages and aggregates, and supports hooks on the other two.
MESSAGE_HOOKS = ("message", "aggregate")
FUSED_HOOKS = ("propagate", "message_and_aggregate")
HOOKED_STEPS = MESSAGE_HOOKS + FUSED_HOOKS


def hook_kinds(steps: tuple[str, ...]) -> list[str]:
    """PyG's names of the hooks before and after each of these steps."""
    return [f"{step}_forward_{kind}" for step in steps for kind in ("pre_hook", "hook")]


def watch_hooks(layer: Any) -> None:
    """Have a fused round decide again whenever one of its hooks is added or removed."""
    for kind in hook_kinds(HOOKED_STEPS):
        setattr(layer, f"_{kind}s", Hooks(layer, kind))


def rebind_hooks(copied: Any) -> None:
    """Have a copy of a round decide for itself by its hooks; others than fused ones have none."""
    for hooks in vars(copied).values():
        if isinstance(hooks, Hooks):
            hooks.watched_by(copied)


def registered_hook(layer: Any, steps: tuple[str, ...]) -> str | None:
    """The kind of a hook that is registered on one of these steps of a fused round."""
    # `len`, as the compiler of torch 2.9 takes every `Hooks` for true.
    for kind in hook_kinds(steps):
        if len(layer.__dict__[f"_{kind}s"]) > 0:
            return kind
    return None


class Hooks(OrderedDict[int, Callable[..., Any]]):
    """PyG's hooks of one kind; the round decides again when one is added or removed."""

    def __init__(self, layer: Any, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.watched_by(layer)

    def watched_by(self, layer: Any) -> None:
        """Have ``layer`` decide, to which they belong.

        They do not keep it alive: in a cycle of references its weights would be freed only when
        Python next looks for such, and not when the layer is deleted.
        """
        self._layer = weakref.ref(layer)

    @property
    def layer(self) -> Any:
        """The round; None where it is gone, and its hooks are not."""
        return self._layer()

    def __reduce__(self) -> Any:
        return Hooks, (self.layer, self.kind), tuple(self.items())

    def __setstate__(self, items: tuple[tuple[int, Callable[..., Any]], ...]) -> None:
        for key, hook in items:  # a copied or unpickled layer has its decision, and no parts yet
            super().__setitem__(key, hook)

    def __setitem__(self, key: int, hook: Callable[..., Any]) -> None:
        layer = self.layer
        was_fused = not layer.passes_messages
        super().__setitem__(key, hook)
        layer._decide()
        if was_fused and layer.passes_messages:
            layer.prepare()
            warnings.warn(
                f"the {self.kind} needs messages, which a fused round does not compute: the round "
                f"runs on the reference backend instead of {layer.backend!r} until the hook "
                "is removed",
                stacklevel=3,  # the line that registers the hook
            )

    def __delitem__(self, key: int) -> None:
        super().__delitem__(key)
        if (layer := self.layer) is not None:
            layer._decide()
