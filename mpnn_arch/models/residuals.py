"""Which rounds of a model add a residual, and over which rounds it leads."""

from __future__ import annotations

from typing import Any

from torch import nn

from mpnn_arch.models.on_meta import example_on_meta, on_meta
from mpnn_arch.rounds import MessageRound


def residual_spans(model: nn.Module) -> list[tuple[str, ...]]:
    """The rounds of every residual connection by name: from the first that it skips to the adder.

    A round that is given a residual, or that adds its own input, ends a connection. It starts at
    the first round, since the last connection's end, inside the innermost module around that round
    which is not given the residual itself: the block that splits its input in two. Sums outside of
    rounds, as in models of other libraries, are not seen. A copy of the model runs once on the meta
    device.

    Raises:
        InputError: a model whose input size is not known.
    """
    positional, named, _ = example_on_meta(model, None, None)
    return _Trace(on_meta(model)).run(*positional, **named)


class _Trace:
    """Follows one call of a model through hooks."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._spans: list[tuple[str, ...]] = []
        # Of every open call: whether it was given a residual, and the rounds called inside it.
        self._open: list[tuple[bool, list[str]]] = []
        for name, module in model.named_modules():
            if "shortcut" in name.split("."):
                continue
            module.register_forward_pre_hook(self._enter(name), with_kwargs=True)
            module.register_forward_hook(self._leave)

    def run(self, *args: Any, **kwargs: Any) -> list[tuple[str, ...]]:
        """The connections, in the order of the call."""
        self._model(*args, **kwargs)
        return self._spans

    def _enter(self, name: str) -> Any:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = kwargs.get("residual", args[1] if len(args) > 1 else None) is not None
            if isinstance(module, MessageRound) and module.graph is not None:
                for _, rounds in self._open:
                    rounds.append(name)
                if getattr(module, "residual", False):
                    self._spans.append((name,))
                elif given:
                    block = next((r for has, r in reversed(self._open) if not has), [name])
                    self._spans.append(tuple(block))
                    for _, rounds in self._open:
                        rounds.clear()
            self._open.append((given, []))

        return enter

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._open.pop()
