"""Repeated launches: Triton's own launcher and compiler, on a driver that is not there."""

import dataclasses
import functools
from types import SimpleNamespace

import pytest
import torch

from mpnn_arch import graphs
from mpnn_arch.errors import InputError
from mpnn_arch.kernels import triton as backend
from mpnn_arch.kernels import triton_launch, triton_ready, triton_tables
from mpnn_arch.kernels.plan import make_plan
from mpnn_arch.kernels.triton_ready import Launch, ready

STREAM = 77

pytestmark = pytest.mark.skipif(
    triton_launch.interpreting(), reason="the interpreter launches nothing"
)


@pytest.fixture
def real_check():
    return backend._check  # before it is replaced


@pytest.fixture
def launches(real_check, monkeypatch):
    """What Triton's launcher passes to its C function, and the functions that Triton dispatched."""
    pytest.importorskip("triton")
    nvidia = pytest.importorskip("triton.backends.nvidia.driver")
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver, jit

    from mpnn_arch.kernels import triton_jit

    passed, dispatched = [], []
    utils = SimpleNamespace(
        launch=lambda *values: passed.append(values),
        load_binary=lambda *binary: (1, 0xF00, 32, 0, 1024),
        unload_module=lambda module: None,
        get_device_properties=lambda device: {"max_shared_mem": 1 << 20},
        build_signature_metadata=lambda signature: bytes(len(signature)),
    )
    stand_in = SimpleNamespace(
        get_current_device=lambda: -1,  # what a tensor on the CPU calls its device
        get_current_stream=lambda device: STREAM,
        get_current_target=lambda: GPUTarget("cuda", 80, 32),
        utils=utils,
        launcher_cls=nvidia.CudaLauncher,
    )
    monkeypatch.setattr(driver, "_active", stand_in)
    monkeypatch.setattr(nvidia, "PyKernelArg", lambda nested_tuple, type: type, raising=False)
    run = jit.JITFunction.run

    def counted(self, *args, **how):
        dispatched.append(self.fn.__name__)
        return run(self, *args, **how)

    monkeypatch.setattr(jit.JITFunction, "run", counted)
    monkeypatch.setattr(backend, "_check", lambda *_: None)
    yield SimpleNamespace(passed=passed, dispatched=dispatched, device=stand_in)
    for name in ("linear_product", "linear_weights", "conv_product", "conv_weights"):
        getattr(triton_jit, name).device_caches.clear()


def plain(value):
    """Pointers as numbers, in nested tuples too."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return value.data_ptr() if hasattr(value, "data_ptr") else value


@pytest.fixture
def plan():
    made = make_plan(graphs.ring(5, 2).edge_index, [4, 3, 4, 4, 3], [2, 5, 3, 3, 2])
    yield made
    triton_tables.forget_tables(made)


def products(plan, batch=20, fill=0.0):
    """The six products, as functions of tensors of one number."""

    def full(*shape):
        return torch.full(shape, fill)

    geometry = {"padding": 1}
    x, grad = full(batch, plan.in_channels), full(batch, plan.out_channels)
    weight = full(plan.num_weights)
    maps = full(batch, plan.in_channels, 4, 6)
    grad_maps = full(batch, plan.out_channels, 4, 6)
    kernels = full(plan.num_weights, 3, 3)
    return {
        "linear": lambda: backend.linear_forward(x, weight, plan),
        "linear dX": lambda: backend.linear_grad_input(grad, weight, plan),
        "linear dW": lambda: backend.linear_grad_weight(grad, x, plan),
        "conv": lambda: backend.conv2d_forward(maps, kernels, plan, **geometry),
        "conv dX": lambda: backend.conv2d_grad_input(grad_maps, kernels, plan, (4, 6), **geometry),
        "conv dW": lambda: backend.conv2d_grad_weight(grad_maps, maps, plan, 3, **geometry),
    }


PRODUCTS = list(products(make_plan(torch.tensor([[0], [0]]), [1], [1])))


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_repeated_launch_passes_what_the_first_one_did(launches, plan, product):
    call = products(plan)[product]
    outs = [call() for _ in range(3)]
    first, *others = map(plain, launches.passed)
    assert len(launches.dispatched) == 1  # the others went past Triton's dispatch
    assert len(others) == 2
    assert STREAM in first
    arguments = first[-1]
    for other, out in zip(others, outs[1:], strict=True):
        assert out.data_ptr() != outs[0].data_ptr()
        assert other[-1][0] == out.data_ptr()
        assert other[-1][1:] == arguments[1:]
        # What listens to launches, and what it would be told, is left out.
        differing = [i for i, (a, b) in enumerate(zip(first, other, strict=True)) if a != b]
        assert all(other[i] is None for i in differing if i != len(first) - 1)


def test_each_shape_stride_alignment_and_switch_is_dispatched_once(launches, plan, monkeypatch):
    weight = torch.empty(plan.num_weights)
    x = torch.empty(40, plan.in_channels)
    apart = torch.empty(40, plan.in_channels + 1)[:, 1:]
    unaligned = torch.empty(20 * plan.in_channels + 1)[1:].view(20, plan.in_channels)
    for read in (x, x[:20], x[:1], apart, unaligned, x.double()):
        of = weight.double() if read.dtype == torch.float64 else weight
        before = len(launches.dispatched)
        for _ in range(3):
            backend.linear_forward(read, of, plan)
        assert len(launches.dispatched) == before + 1
    before = len(launches.dispatched)
    monkeypatch.setattr(triton_ready, "tf32_allowed", lambda convolution: True)
    backend.linear_forward(x, weight, plan)
    assert len(launches.dispatched) == before + 1


@pytest.mark.parametrize("product", PRODUCTS)
def test_tensors_of_a_known_launch_are_not_checked_again(launches, plan, monkeypatch, product):
    checked = []
    monkeypatch.setattr(backend, "_check", lambda name, *_: checked.append(name))
    call = products(plan)[product]
    call()
    assert len(checked) == 2
    call()
    assert len(checked) == 2


def test_tensors_that_do_not_fit_are_refused_after_a_launch_of_others(
    launches, plan, monkeypatch, real_check
):
    for call in products(plan).values():
        call()
    monkeypatch.setattr(backend, "_check", real_check)
    monkeypatch.setattr(backend, "interpreting", lambda: True)
    x, grad = torch.zeros(20, plan.in_channels), torch.zeros(20, plan.out_channels)
    weight = torch.zeros(plan.num_weights)
    backend.linear_forward(x, weight, plan)
    for wrong in (weight[1:], weight.double(), weight[:, None], weight[0]):
        with pytest.raises(InputError, match="weight"):
            backend.linear_forward(x, wrong, plan)
        with pytest.raises(InputError, match="weight"):
            backend.linear_grad_input(grad, wrong, plan)
    for wrong in (x[:, 1:], x[:7], x.double(), x[0]):
        with pytest.raises(InputError, match=r"x|grad"):
            backend.linear_grad_weight(grad, wrong, plan)
    maps, kernels = x[..., None, None].expand(-1, -1, 4, 6), weight[:, None, None].expand(-1, 3, 3)
    for wrong in (kernels[1:], kernels.double(), weight, kernels[:, :, 0]):
        with pytest.raises(InputError, match="weight"):
            backend.conv2d_forward(maps, wrong, plan, padding=1)
    for wrong in (maps[:, 1:], x, maps[..., 0]):
        with pytest.raises(InputError, match="x has shape"):
            backend.conv2d_forward(wrong, kernels, plan, padding=1)
    with pytest.raises(InputError, match="grad has shape"):
        backend.conv2d_grad_input(grad[..., None, None], kernels, plan, (4, 6), padding=1)


def test_a_weight_that_is_not_contiguous_is_copied_each_time(launches, plan):
    x = torch.empty(20, plan.in_channels)
    spread = torch.empty(plan.num_weights, 2)[:, 0]
    for _ in range(2):
        backend.linear_forward(x, spread, plan)
    for values in launches.passed:
        assert plain(values)[-1][2] != spread.data_ptr()


def laid_out(monkeypatch, pack, pad):
    """Only configurations of one layout."""

    def of_layout(configs, *args):
        fitting = [config for config in configs(*args) if config["pad"] == pad]
        return [config | {"pack": pack} for config in fitting]

    for name in ("linear_product", "linear_weights", "conv_product", "conv_weights"):
        configs = getattr(backend, f"{name}_configs")
        monkeypatch.setattr(backend, f"{name}_configs", functools.partial(of_layout, configs))


PACKED = [(name, 1, 0) for name in PRODUCTS if name.startswith("linear")]


@pytest.mark.parametrize(
    ("product", "pack", "pad"), [*PACKED, *((name, 0, 1) for name in PRODUCTS)]
)
def test_a_repeated_launch_reads_copies_in_another_layout(
    launches, plan, monkeypatch, product, pack, pad
):
    laid_out(monkeypatch, pack, pad)
    call = products(plan)[product]
    outs = [call() for _ in range(3)]
    assert len(launches.dispatched) == 1
    first, *others = map(plain, launches.passed)
    assert len(others) == 2
    for other in others:
        assert other[-1][3:] == first[-1][3:]  # tables and numbers
    assert all(out.shape == outs[0].shape and out.is_contiguous() for out in outs)


@pytest.mark.parametrize("product", PRODUCTS)
def test_padded_copies_hold_what_was_given(launches, plan, monkeypatch, product):
    """What the kernel is given, and where the result is read from, each time anew."""
    laid_out(monkeypatch, 0, 1)
    call = products(plan, fill=1.0)[product]
    call()
    given = []
    monkeypatch.setattr(triton_ready.Ready, "__call__", lambda self, *values: given.append(values))
    call()
    ((device, _, *inputs),) = given
    assert device == -1
    for tensor in inputs:
        assert set(tensor.unique().tolist()) == {0.0, 1.0}  # shares of 3 and 5 have gaps
        assert tensor.data_ptr() % 16 == 0


def test_another_current_device_or_a_profiler_takes_the_ordinary_launch(
    launches, plan, monkeypatch
):
    from triton import knobs

    call = products(plan)["linear"]
    call()
    monkeypatch.setattr(launches.device, "get_current_device", lambda: 1)
    repeat = next(iter(triton_tables.tables(plan, torch.device("cpu")).forward.ready.values()))
    moved = dataclasses.replace(repeat, _device_now=lambda: 1)
    assert moved.usable(1)
    assert not moved.usable(-1)
    monkeypatch.setattr(launches.device, "get_current_device", lambda: -1)

    def listen(metadata):
        received.append(metadata)

    received = []
    hook = knobs.runtime.launch_enter_hook
    if not hasattr(hook, "add"):
        pytest.skip("this Triton has one hook, which it stores")
    hook.add(listen)
    try:
        before = len(launches.dispatched)
        call()
        assert len(launches.dispatched) == before + 1
    finally:
        hook.remove(listen)
    call()
    assert len(launches.dispatched) == before + 1


def test_a_launcher_that_is_another_one_is_left_alone(launches, plan):
    made = []

    class Other:
        def __init__(self, **what):
            self.launch = made.append
            self.__dict__.update(what)

        def __call__(self, *values):
            self.launch(self.passes(*values))

    launch = Launch(
        kernel=SimpleNamespace(arg_names=["out", "a", "w", "n", "C"]),
        compiled=SimpleNamespace(function=1, packed_metadata=(1,), run=None),
        grid=3,
        fixed=(5,),
        constants={"C": 6},
        config={"pad": 0},
    )

    def asked(passes):
        compiled = SimpleNamespace(**{**launch.compiled.__dict__, "run": passes})
        return ready(dataclasses.replace(launch, compiled=compiled))

    class Flat(Other):  # as versions of Triton before have it
        def __call__(self, *values):
            self.launch(*values)

    class Reordered(Other):
        def __call__(self, *values):
            self.launch(*values[:-5], *reversed(values[-5:]))

    class Twice(Other):
        def __call__(self, *values):
            self.launch(*values)
            self.launch(*values)

    class Refuses(Other):
        def __call__(self, *values):
            raise TypeError("another number of arguments")

    flat = Flat()
    received = []
    flat.launch = lambda *values: received.append(values)
    repeat = asked(flat)
    assert repeat is not None
    tensors = torch.empty(4), torch.empty(4), torch.empty(4)
    repeat(-1, *tensors)
    pointers = tuple(t.data_ptr() for t in tensors)
    assert received == [(3, 1, 1, STREAM, 1, (1,), None, None, None, *pointers, 5, 6)]
    for other in (Reordered(), Twice(), Refuses(), object()):
        assert asked(other) is None


def test_tiles_of_a_cold_capture_are_not_kept(launches, plan, monkeypatch):
    """They are not timed, and the next eager call times them."""
    call = products(plan)["linear"]
    with monkeypatch.context() as patch:
        patch.setattr(backend, "is_capturing", lambda device: True)
        call()
    assert not triton_tables.tables(plan, torch.device("cpu")).forward.ready
    for _ in range(2):
        call()
    assert len(launches.dispatched) == 2


def test_what_cannot_be_repeated_is_not_asked_again(launches, plan, monkeypatch):
    asked = []
    monkeypatch.setattr(triton_ready, "_ask", lambda launch: asked.append(launch))
    call = products(plan)["linear"]
    for _ in range(3):
        call()
    assert len(asked) == 1
    assert len(launches.dispatched) == 3


def test_the_number_of_kept_launches_is_bounded(launches, plan, monkeypatch):
    monkeypatch.setattr(triton_ready, "_MOST", 3)
    weight = torch.empty(plan.num_weights)
    for batch in range(1, 9):
        backend.linear_forward(torch.empty(batch, plan.in_channels), weight, plan)
    kept = triton_tables.tables(plan, torch.device("cpu")).forward.ready
    assert 0 < len(kept) <= 3
