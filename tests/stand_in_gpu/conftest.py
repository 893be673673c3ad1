"""A GPU that is not there: host memory, where each tensor is said to be on a device.

What is computed from tensors of two devices raises, as it would on a GPU, so code that forgets to
move a table or a buffer fails here. So does float64 on Apple's MPS, which has none. Kernels,
streams and captures are not simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from mpnn_arch.kernels import product, triton

HOST = torch.device("cpu")
DEVICES = {"cuda": torch.device("cuda", 0), "mps": torch.device("mps", 0)}
# Functions of tensors that may be on two devices, and those that read none of their numbers.
_OF_TWO = {"copy_", "__getitem__", "__setitem__", "__get__", "__set__", "is_", "set_"}
_OF_TWO |= {"_has_compatible_shallow_copy_type", "__deepcopy__", "_parse_to", "__repr__"}
_MAKES_VIEWS = {"data", "grad", "T", "mT"}  # attributes that are tensors


def place_of(device: torch.device | str) -> torch.device:
    """``device`` as tensors on it name it."""
    return DEVICES.get(torch.device(device).type, HOST)


class Places(TorchFunctionMode):
    """While entered, every tensor made has a device: the one asked for, or that of its sources.

    A device belongs to a storage, so views and parameters share it. References to storages are
    kept, as a new one at the address of an old one would be taken for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[StorageWeakRef, torch.device]] = {}

    def device_of(self, tensor: Tensor) -> torch.device | None:
        """Where it is said to be; None if it was made elsewhere, as by the autograd engine."""
        _, device = self.known.get(tensor.untyped_storage()._cdata, (None, None))
        return device

    def put(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Say that it is on ``device``."""
        if device.type == "mps" and tensor.dtype == torch.float64:
            raise TypeError("MPS has no float64")
        storage = tensor.untyped_storage()
        self.known[storage._cdata] = StorageWeakRef(storage), device
        return tensor

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name, attribute = func.__name__, getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "__get__" and attribute in ("device", "is_cuda", "is_mps"):
            device = self.device_of(args[0]) or HOST
            return device if attribute == "device" else attribute == f"is_{device.type}"
        if name == "get_device":
            return -1 if self.device_of(args[0]) in (None, HOST) else 0
        if name in ("to", "cpu", "cuda"):
            return self.moved(name, *args, **kwargs)
        if name == "_parse_to" or (name == "__get__" and attribute not in _MAKES_VIEWS):
            return func(*args, **kwargs)
        asked = kwargs.get("device")
        if asked is not None:
            kwargs = kwargs | {"device": HOST}
        given = args[:1] if name == "__deepcopy__" else (args, kwargs)  # its memo has others
        sources = [a for a in tree_flatten(given)[0] if isinstance(a, Tensor)]
        places = {self.device_of(s) for s in sources if s.dim()} - {None}
        if len(places) > 1 and name not in _OF_TWO:
            sizes = [(tuple(s.shape), str(self.device_of(s))) for s in sources]
            raise RuntimeError(f"{name} of tensors on two devices: {sizes}")
        out = func(*args, **kwargs)
        if asked is not None:
            place = place_of(asked)
        else:  # a tensor of one number may be used with those of another device
            place = next(iter(places), None) or next(map(self.device_of, sources), HOST)
        mine = {id(source) for source in sources}
        for made in tree_flatten(out)[0]:
            if isinstance(made, Tensor) and id(made) not in mine and place is not None:
                self.put(made, place)
        return out

    def moved(self, name: str, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``tensor.to(...)``: on another device a copy, as it would be."""
        was = self.device_of(tensor) or HOST
        target = was if name == "to" else place_of(name)

        def here(value: Any) -> Any:
            nonlocal target
            if isinstance(value, Tensor):
                target = self.device_of(value) or HOST
            elif isinstance(value, str | torch.device):
                target = place_of(value)
                return HOST
            return value

        args, kwargs = tree_map(here, (args, kwargs))
        out = tensor.to(*args, **kwargs) if name == "to" else tensor.to(HOST)
        if target != was and out.untyped_storage()._cdata == tensor.untyped_storage()._cdata:
            out = out.clone()
        return self.put(out, target)


PLACES = Places()  # one for all tests, as plans are shared among them


def _cuda() -> dict[str, Any]:
    """What is read of ``torch.cuda``."""
    stream = SimpleNamespace(cuda_stream=0, wait_stream=lambda other: None)
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "stand-in",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(total_memory=2**36),
        "mem_get_info": lambda device=None: (2**36, 2**36),
        "synchronize": lambda device=None: None,
        "is_current_stream_capturing": lambda: False,
        "device": lambda device: nullcontext(),
        "stream": lambda stream: nullcontext(),
        "Stream": lambda *args, **kwargs: stream,
        "current_stream": lambda device=None: stream,
        "manual_seed": lambda seed: None,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
    }


@contextmanager
def stand_in_gpu(kind: str) -> Iterator[torch.device]:
    """While entered, torch finds a device of this kind, without Triton's kernels."""

    def entered(backward: Any) -> Any:
        """Autograd runs ``backward`` outside the mode, on gradients of its own."""

        def on_gpu(ctx: Any, *grads: Any) -> Any:
            with PLACES:
                for grad in grads:
                    if isinstance(grad, Tensor) and PLACES.device_of(grad) is None:
                        PLACES.put(grad, DEVICES[kind])
                return backward(ctx, *grads)

        return staticmethod(on_gpu)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in _cuda().items() if kind == "cuda" else ():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch.mps, "synchronize", lambda: None)
        patch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
        patch.setattr(triton, "unavailable_reason", lambda: "there is a stand-in for a GPU")
        for function in (product._Forward, product._GradInput, product._GradWeight):
            patch.setattr(function, "backward", entered(function.backward))
        with PLACES:
            yield DEVICES[kind]


@pytest.fixture(params=DEVICES)
def stand_in(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[torch.device]]:
    """To enter when what is built on the CPU has been built: the stand-in makes calls slow."""
    return partial(stand_in_gpu, request.param)


@pytest.fixture
def gpu(stand_in: Callable[[], AbstractContextManager[torch.device]]) -> Iterator[torch.device]:
    """The device that torch finds."""
    with stand_in() as device:
        yield device


@pytest.fixture
def no_trials() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
