"""Channels given as -1: a layer takes their number from its first input, as PyG's layers do.

``__new__`` keeps what the constructor was called with, and the constructor builds the layer for one
channel in the place of each -1. The first input, or a state dict that is loaded before, tells the
channels: a second layer is built with them, and the first takes over its shapes. Parts and
parameters stay the same objects, with the hooks and settings that they were given meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpnn_arch.checks import shown, whole_number
from mpnn_arch.errors import InputError
from mpnn_arch.rounds.graph_input import features_of


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


_PARTS = ("norm", "activation", "squeeze", "aggr_module", "message_function")


class LazyChannels(nn.Module):
    """A layer whose first constructor argument is ``in_channels``, possibly -1.

    Its parameters remain the same objects when the channels are known, so that an optimizer may
    precede the first input.
    """

    # Positional and named arguments of the constructor until the channels are known; then None.
    _awaiting: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    # Of the parts, those that were set after the round's own constructor.
    _set_parts: frozenset[str] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        part = "aggr_module" if name == "aggr" else name
        if part in _PARTS and "graph" in self.__dict__:
            self.__dict__["_set_parts"] = self._set_parts | {part}
        super().__setattr__(name, value)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Keep the arguments of a layer whose channels are unknown."""
        layer = super().__new__(cls)
        given = args[0] if args else kwargs.get("in_channels")
        if any(isinstance(number, int) and number == -1 for number in _numbers(given)):
            object.__setattr__(layer, "_awaiting", (args, kwargs))
        return layer

    def check_lazy(self, in_channels: Any) -> None:
        """Refuse a -1 that a subclass's constructor did not have as its own first argument.

        Raises:
            InputError: a layer that could not be built anew at its first input.
        """
        if self._awaiting is None and -1 in _numbers(in_channels):
            raise InputError(
                f"{type(self).__name__} gives in_channels={in_channels!r} to the layer that it "
                "extends, and is built anew when they are known: take in_channels as its own "
                "first argument and hand it on"
            )

    def fix_channels(self, x: Any) -> None:
        """Take unknown numbers of channels from ``x``, a tensor or a pair; None of a pair is 1."""
        if self._awaiting is None:
            return
        found = [1 if one is None else one.shape[-1] for one in features_of(x)]
        given = self._given_channels()
        if isinstance(given, (tuple, list)):
            found = [new if old == -1 else old for old, new in zip(given, found, strict=True)]
        self._become(self._built_for(found).train(self.training))

    def _given_channels(self) -> Any:
        """The constructor's ``in_channels``: -1, or a pair with one."""
        args, kwargs = self._awaiting or ((), {})
        return args[0] if args else kwargs["in_channels"]

    def _built_for(self, channels: Sequence[int]) -> Any:
        """Another layer of the same arguments, but for these channels, as many as were given."""
        args, kwargs = self._awaiting or ((), {})
        is_pair = isinstance(self._given_channels(), (tuple, list))
        known = tuple(channels) if is_pair else channels[0]
        if args:
            return type(self)(known, *args[1:], **kwargs)
        return type(self)(**{**kwargs, "in_channels": known})

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Weights of a layer whose channels were known tell them, as in PyG's lazy layers."""
        if self._awaiting is not None:
            start = len(prefix)
            self._take_channels_of(
                {
                    name[start:]: tuple(value.shape)
                    for name, value in state_dict.items()
                    if name.startswith(prefix) and isinstance(value, Tensor) and not is_lazy(value)
                }
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _take_channels_of(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Build the layer for the channels with which its parameters have these shapes, if any."""
        # A size that depends on the channels is a multiple of them, and of 1 channel here: each
        # quotient of a given size and an own one may be their number. The layer that is built for
        # the right ones has the shapes that were given.
        quotients = {1}
        for name, own in _shapes(self).items():
            pairs = zip(own, shapes.get(name, ()), strict=False)
            quotients |= {new // old for old, new in pairs if old and new % old == 0}
        if quotients == {1}:
            return
        given = self._given_channels()
        options = [sorted(quotients, reverse=True) if n == -1 else [n] for n in _numbers(given)]
        for known in itertools.product(*options):
            with torch.random.fork_rng(devices=[]):
                fresh = self._built_for(known)
            if all(shapes.get(name, own) == own for name, own in _shapes(fresh).items()):
                self._become(fresh.train(self.training))
                return

    def _become(self, fresh: Any) -> None:
        """Take over the shapes and channels of ``fresh``; parts and parameters remain one's own.

        Raises:
            InputError: a message function, or parameters, that were set before the channels were
                known.
        """
        given = self._set_parts - fresh._set_parts  # a subclass's constructor may set some, too
        if "message_function" in given:
            raise InputError(
                f"the message_function of this {type(self).__name__} was set before its channels "
                "were known: create the layer with in_channels or message=, or set it after the "
                "first call"
            )
        for name in given:
            fresh._modules.pop(name, None)
            if (part := self._modules.get(name)) is not None:
                vars(fresh).pop(name, None)  # a None
                fresh._modules[name] = part
        old = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for name, value in [*fresh.named_parameters(), *fresh.named_buffers()]:
            if name not in old:
                raise InputError(
                    f"{name} of this {type(self).__name__} was removed, pruned or parametrised "
                    "before its channels were known: create the layer with in_channels, or change "
                    "it after the first call"
                )
            own = old[name]
            # What does not depend on the channels may have been loaded or learned already.
            if own is not value and own.shape != value.shape:
                own.data = value.data.to(own.device, own.dtype)
            owner, _, last = name.rpartition(".")
            setattr(fresh.get_submodule(owner), last, own)
        self._keep_parts(fresh)
        self._modules.update(fresh._modules)
        for name, value in vars(fresh).items():
            if name.endswith(("_channels", "_partition")):
                setattr(self, name, value)
        self._awaiting = None

    def _keep_parts(self, fresh: nn.Module) -> None:
        """Put the own parts into ``fresh``: with their hooks, mode and settings, and its shapes."""
        first = dict(self._built_at_first().named_modules())
        own_parts = dict(self.named_modules(remove_duplicate=False))
        for name, new in list(fresh.named_modules(remove_duplicate=False)):
            own, start = own_parts.get(name), first.get(name)
            if not name or own is None or start is None or own is new:
                continue
            if type(own) is type(start):  # else it was replaced
                kept = {
                    key
                    for key, value in vars(own).items()
                    if isinstance(value, bool | int | float | str) and value != vars(start).get(key)
                }
                for key in ("_parameters", "_buffers", "_modules"):
                    for child in vars(own)[key].keys() - vars(start)[key].keys():
                        vars(new)[key][child] = vars(own)[key][child]
                own.__dict__.update({key: vars(new)[key] for key in vars(new).keys() - _OWN - kept})
            above, _, last = name.rpartition(".")
            fresh.get_submodule(above)._modules[last] = own

    def _built_at_first(self) -> nn.Module:
        """Another layer as the constructor made this one, of 1 channel for each that is unknown."""
        args, kwargs = self._awaiting or ((), {})
        generators = [g for g in (*args, *kwargs.values()) if isinstance(g, torch.Generator)]
        states = [generator.get_state() for generator in generators]
        with torch.random.fork_rng(devices=[]):
            given = _numbers(self._given_channels())
            first: nn.Module = self._built_for([1 if n == -1 else n for n in given])
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        return first


# Of a module, what a change of its shapes leaves: hooks and mode.
_OWN = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules"}


def _numbers(in_channels: Any) -> tuple[Any, ...]:
    return tuple(in_channels) if isinstance(in_channels, (tuple, list)) else (in_channels,)


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of the parameters and buffers whose shapes are known."""
    named = itertools.chain(layer.named_parameters(), layer.named_buffers())
    return {name: tuple(value.shape) for name, value in named if not is_lazy(value)}
