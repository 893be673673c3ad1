"""Launching a compiled Triton kernel again, without Triton's dispatch.

Triton binds, specialises and looks up every argument at every launch. For tensors of the same
shapes, strides and alignment on the same plan the result is the same, so the compiled kernel is
cached with its arguments, of which only the stream and three pointers change: :class:`Ready` calls
the C function of Triton's own launcher directly. Where the tile sizes ask for another layout
(:mod:`mpnn_arch.kernels.triton_layouts`), the pointers are those of the copies. These are allocated
anew for each launch, so what held for the first one, their alignment included, holds for all.

The arguments of that function differ between versions of Triton. So the launcher is run once with
recognisable numbers in place of the stream and the pointers, and with a function that records what
it passes on. Where the numbers are not found there, or something else is unexpected, the ordinary
launch stays in use.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels.dispatch.machines import tf32_allowed

# Stand for the stream and the pointers in the recorded call: as large and as aligned as real ones.
_STREAM = 0x5EED_0001_0000
_POINTERS = (0x5EED_0002_0000, 0x5EED_0003_0000, 0x5EED_0004_0000)
_MOST = 256  # shapes a plan, as batches may all differ in size


@dataclass(frozen=True, eq=False)
class Launch:
    """A launch as it was made.

    Attributes:
        kernel: Triton's function.
        compiled: what its launch returned; None in the interpreter.
        grid: number of programs.
        fixed: arguments after the three tensors: tables and numbers.
        constants: its constants, and options of the compiler.
        config: the tile sizes and layout that it is for.
        splits: parts of the sum that it leaves.
    """

    kernel: Any
    compiled: Any
    grid: int
    fixed: tuple[Any, ...]
    constants: dict[str, Any]
    config: dict[str, int]
    splits: int = 1


def start(
    kernel: Any,
    grid: int,
    tensors: Sequence[Tensor],
    fixed: Sequence[Any],
    constants: dict[str, Any],
    config: dict[str, int],
    splits: int = 1,
) -> Launch:
    """Launch ``kernel`` the ordinary way, on its three tensors and what follows them."""
    compiled = kernel[(grid,)](*tensors, *fixed, **constants)
    return Launch(kernel, compiled, grid, tuple(fixed), constants, config, splits)


@dataclass(frozen=True, eq=False)
class Ready:
    """A launch that can be repeated; see :func:`ready`.

    Attributes:
        splits: parts of the sum that the kernel leaves.
        config: the tile sizes and layout that it is for.
    """

    splits: int
    config: dict[str, int]
    _function: Callable[..., object]
    _before: tuple[Any, ...]
    _between: tuple[Any, ...]
    _rest: tuple[Any, ...]
    _after: tuple[Any, ...]
    _nested: bool
    _stream_of: Callable[[int], int]
    _device_now: Callable[[], int]
    _hooks: Callable[[], object]
    _kept: tuple[Any, ...]  # the module and the tables, whose addresses are passed

    def usable(self, device: int) -> bool:
        """Whether it can be launched now, for tensors on this device.

        Not while another device is the current one, and not while a profiler listens to launches.
        """
        return device == self._device_now() and not self._hooks()

    def __call__(self, device: int, out: Tensor, first: Tensor, second: Tensor) -> None:
        """Launch on these tensors, of the layout that it is for; only where it is usable."""
        pointers = (out.data_ptr(), first.data_ptr(), second.data_ptr(), *self._rest)
        stream = self._stream_of(device)
        if self._nested:
            self._function(*self._before, stream, *self._between, pointers, *self._after)
        else:
            self._function(*self._before, stream, *self._between, *pointers)


def ready(launch: Launch) -> Ready | None:
    """``launch`` as one that can be repeated; None where this Triton's launcher works otherwise."""
    try:
        return _ask(launch)
    except Exception:  # whatever differs, the ordinary launch works
        return None


def _ask(launch: Launch) -> Ready | None:
    from triton import knobs
    from triton.runtime import driver

    compiled = launch.compiled
    launcher = compiled.run
    names = launch.kernel.arg_names[len(_POINTERS) + len(launch.fixed) :]
    fixed = [v.data_ptr() if isinstance(v, Tensor) else v for v in launch.fixed]
    rest = (*fixed, *(launch.constants[name] for name in names))
    passed: list[tuple[Any, ...]] = []
    asked = copy.copy(launcher)  # another thread may be launching with the original
    asked.launch = lambda *values: passed.append(values)
    asked(
        *(launch.grid, 1, 1, _STREAM, compiled.function, compiled.packed_metadata),
        *(None, None, None, *_POINTERS, *rest),
    )
    (values,) = passed
    place = values.index(_STREAM)
    nested = [i for i, value in enumerate(values) if isinstance(value, tuple) and _holds(value)]
    if len(nested) > 1 or values.count(_STREAM) != 1:
        return None
    if nested:
        where, arguments, after = nested[0], values[nested[0]], values[nested[0] + 1 :]
    else:
        where = values.index(_POINTERS[0])
        arguments, after = values[where:], ()
    if arguments != (*_POINTERS, *rest) or where <= place:
        return None
    runtime = knobs.runtime
    return Ready(
        splits=launch.splits,
        config=launch.config,
        _function=launcher.launch,
        _before=values[:place],
        _between=values[place + 1 : where],
        _rest=rest,
        _after=after,
        _nested=bool(nested),
        _stream_of=driver.active.get_current_stream,
        _device_now=driver.active.get_current_device,
        _hooks=lambda: _calls(runtime.launch_enter_hook) or _calls(runtime.launch_exit_hook),
        _kept=(compiled, *launch.fixed),
    )


def _holds(value: tuple[Any, ...]) -> bool:
    return value[: len(_POINTERS)] == _POINTERS


def _calls(hook: Any) -> object:
    """The registered hooks: a list in newer versions of Triton, else a function or None."""
    return getattr(hook, "calls", hook)


Known = dict[tuple[Any, ...], Ready | None]


def remember(known: Known, key: tuple[Any, ...], launch: Launch) -> None:
    """Cache the :class:`Ready` of ``launch``, or None where it cannot be repeated."""
    if launch.compiled is None:
        return
    if len(known) >= _MOST:
        known.clear()
    known[key] = ready(launch)


def ready_key(
    what: str, first: Tensor, second: Tensor, *more: object, convolution: bool
) -> tuple[Any, ...]:
    """All that checks and Triton's dispatch depend on, on a plan and the device of ``first``."""
    dtype = first.dtype
    return (
        what,
        dtype,
        second.dtype,
        second.get_device(),
        first.shape,
        second.shape,
        first.stride(),
        second.stride(),
        first.data_ptr() & 15,
        second.data_ptr() & 15,
        dtype == torch.float32 and tf32_allowed(convolution),
        torch.are_deterministic_algorithms_enabled(),
        *more,
    )
