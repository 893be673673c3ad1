"""Channels given as -1: a layer takes their number from its first input, as PyG's layers do."""

from __future__ import annotations

from typing import Any

from torch import nn

from mpnn_arch.checks import shown, whole_number
from mpnn_arch.errors import InputError


def channel_pair(in_channels: int | tuple[int, int]) -> tuple[int, int]:
    """Channels of senders and receivers, a lazy -1 being 1 until the first input.

    Raises:
        InputError: numbers below 1, other than -1.
    """
    pair = in_channels if isinstance(in_channels, (tuple, list)) else (in_channels, in_channels)
    if len(pair) != 2:
        raise InputError(
            f"in_channels is a number or a pair of numbers, of senders and receivers; not "
            f"{shown(in_channels)}"
        )
    source, target = (
        1 if type(number) is int and number == -1 else whole_number("in_channels", number)
        for number in pair
    )
    return source, target


class LazyChannels(nn.Module):
    """A layer whose first constructor argument is ``in_channels``, possibly -1.

    Until the first input it has weights for one channel; then it is built anew for the channels of
    that input. Its parameters remain the same objects, so that an optimizer may precede the input.
    """

    _awaiting: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Keep the arguments of a layer whose channels are unknown."""
        layer = super().__new__(cls)
        given = args[0] if args else kwargs.get("in_channels")
        pair = given if isinstance(given, tuple | list) else (given,)
        if any(isinstance(number, int) and number == -1 for number in pair):
            object.__setattr__(layer, "_awaiting", (args, kwargs))
        return layer

    def fix_channels(self, x: Any) -> None:
        """Take unknown numbers of channels from ``x``, a tensor or a pair; None of a pair is 1."""
        if self._awaiting is None:
            return
        args, kwargs = self._awaiting
        given = args[0] if args else kwargs["in_channels"]
        pair = x if isinstance(x, (tuple, list)) else (x, x)
        found = [1 if one is None else one.shape[-1] for one in pair]
        if isinstance(given, (tuple, list)):
            found = [new if old == -1 else old for old, new in zip(given, found, strict=True)]
        known = tuple(found) if isinstance(given, (tuple, list)) else found[0]
        if args:
            fresh = type(self)(known, *args[1:], **kwargs)
        else:
            fresh = type(self)(**{**kwargs, "in_channels": known})
        self._adopt(fresh.train(self.training))

    def _adopt(self, fresh: Any) -> None:
        old = dict(self.named_parameters())
        for name, parameter in fresh.named_parameters():
            own = old[name]
            own.data = parameter.data.to(own.device, own.dtype)
            owner, _, last = name.rpartition(".")
            setattr(fresh.get_submodule(owner), last, own)
        self._modules.update(fresh._modules)
        for name, value in vars(fresh).items():
            if name.endswith(("_channels", "_partition")):
                setattr(self, name, value)
        self._awaiting = None
