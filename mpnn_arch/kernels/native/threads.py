"""The threads of the kernels: those of the OpenMP runtime that torch runs on.

Torch's threads wait for their next region on the processors, so a second set of threads would
compete with them. The library links no runtime (see ``team.h``); the functions of torch's are
looked up here in the process and handed over. Where torch has none, the library starts its threads
for each call.

GNU's runtime does not survive ``os.fork``: the child has one thread, and the runtime waits for ever
for the others. So a thread that forks ends its team before, and parent and child start another with
their next region. That serves torch's own operations in the child, too.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

import torch

# What `use_gomp` and `use_kmpc` of team.h take, in order. GNU's interface first: libgomp has only
# that, and LLVM's runtime has both, but on Windows.
_INTERFACES = {
    "use_gomp": ("GOMP_parallel", "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads"),
    "use_kmpc": (
        "__kmpc_fork_call",
        "__kmpc_push_num_threads",
        "__kmpc_global_thread_num",
        "__kmpc_barrier",
        "omp_get_thread_num",
        "omp_get_num_threads",
    ),
}
_HARD = 2  # omp_pause_hard


def share_threads(library: ctypes.CDLL, runtime: ctypes.CDLL | None = None) -> str:
    """Have a library of kernels run on an OpenMP runtime's threads.

    Not while its kernels run.

    Args:
        library: of the kernels.
        runtime: the OpenMP runtime, or a library that is linked with it; None: torch's.

    Returns:
        Which threads they are, in words.
    """
    runtime = _of_torch() if runtime is None else runtime
    for use, names in _INTERFACES.items():
        addresses = [_address(runtime, name) for name in names]
        if all(addresses):
            getattr(library, use)(*map(ctypes.c_void_p, addresses))
            return f"torch's OpenMP threads ({names[0]})"
    library.use_own_threads()
    return "threads started for each call, as torch has no OpenMP runtime here"


@cache
def _end_of_team() -> Callable[[int], int] | None:
    """The function of torch's runtime that ends the calling thread's team; None if not needed."""
    runtime = _of_torch()
    if _address(runtime, "__kmpc_fork_call"):  # LLVM's runtime starts anew in a child by itself
        return None
    end: Callable[[int], int] | None = getattr(runtime, "omp_pause_resource_all", None)
    return end


def _before_fork() -> None:
    end = _end_of_team()
    if end is not None:
        end(_HARD)


# Before any kernel is loaded: the index tensors of a round are made by torch's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def _of_torch() -> ctypes.CDLL | None:
    """A library in which, or in whose dependencies, torch's runtime is found by name."""
    # A look-up in a loaded library goes through what it is linked with; on Windows it does not.
    name = "libiomp5md.dll" if sys.platform == "win32" else torch._C.__file__
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _address(library: ctypes.CDLL | None, name: str) -> int | None:
    function = getattr(library, name, None)
    return None if function is None else ctypes.cast(function, ctypes.c_void_p).value
