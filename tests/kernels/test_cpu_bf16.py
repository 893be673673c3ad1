"""Products of bfloat16 in pairs, by instructions for them or, without those, emulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from mpnn_arch.errors import InputError
from mpnn_arch.kernels import cpu, cpu_bf16, cpu_library
from mpnn_arch.kernels.masked import dense_weight
from mpnn_arch.kernels.plan import RoundPlan, make_plan

from .test_cpu_low_precision import GRAPHS, assert_rounded_once, draw, plan_of

kernels = cpu_library.load()
pytestmark = pytest.mark.skipif(
    isinstance(kernels, str) or kernels.bf16_products < 0,
    reason="no kernels for bfloat16 that this processor can run",
)
LOW = torch.bfloat16


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def products_of(plan: RoundPlan, batch: int) -> tuple[list[Tensor], list[Tensor]]:
    """All products of a round over vectors, and the same in float64."""
    x, weight, grad, bias = draw(
        LOW,
        (batch, plan.in_channels),
        (plan.num_weights,),
        (batch, plan.out_channels),
        (plan.out_channels,),
    )
    dense = dense_weight(weight.double(), plan)
    ours = [
        cpu_bf16.linear_forward(x, weight, plan, bias),
        cpu_bf16.linear_forward(x, weight, plan),
        cpu_bf16.linear_grad_input(grad, weight, plan),
        cpu_bf16.linear_grad_weight(grad, x, plan),
    ]
    exact = [
        F.linear(x.double(), dense, bias.double()),
        F.linear(x.double(), dense),
        grad.double() @ dense,
        (grad.double().T @ x.double())[plan.dense_mask],
    ]
    return ours, exact


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 37, 64, 129])
@pytest.mark.parametrize(("ins", "outs"), [(3, 2), (5, 18), (1, 1), (22, 23)])
def test_linear(name: str, ins: int, outs: int, batch: int) -> None:
    for ours, exact in zip(*products_of(plan_of(name, ins, outs), batch), strict=True):
        assert_rounded_once(ours, exact, LOW)


@pytest.mark.parametrize("ins", [2, 6, 24])
def test_shares_of_even_sizes_are_read_where_they_are(ins: int) -> None:
    plan = make_plan(GRAPHS["ring"].edge_index, [ins] * 16, [4] * 16)
    for ours, exact in zip(*products_of(plan, 50), strict=True):
        assert_rounded_once(ours, exact, LOW)


def test_the_sums_of_several_pieces_of_a_batch_are_rounded_after_the_last() -> None:
    plan = make_plan(GRAPHS["ring"].edge_index, [125] * 16, [9] * 16)
    ours, exact = products_of(plan, 601)
    assert_rounded_once(ours[3], exact[3], LOW)


@pytest.mark.parametrize("conv", [False, True])
def test_bits_do_not_depend_on_threads(conv: bool, threads: None) -> None:
    plan = plan_of("directed", 6, 5)
    x, grad, weight = draw(
        LOW,
        (70, plan.in_channels, *[5, 6] * conv),
        (70, plan.out_channels, *[5, 6] * conv),
        (plan.num_weights, *[3, 3] * conv),
    )
    moves = (1, 1), (1, 1), (1, 1)

    def products() -> list[Tensor]:
        if not conv:
            return [
                cpu_bf16.linear_forward(x, weight, plan),
                cpu_bf16.linear_grad_input(grad, weight, plan),
                cpu_bf16.linear_grad_weight(grad, x, plan),
            ]
        return [
            cpu_bf16.conv2d_forward(x, weight, plan, *moves),
            cpu_bf16.conv2d_grad_input(grad, weight, plan, x.shape, *moves),
            cpu_bf16.conv2d_grad_weight(grad, x, plan, (3, 3), *moves),
        ]

    torch.set_num_threads(1)
    alone = products()
    for count in (2, 3):
        torch.set_num_threads(count)
        assert all(map(torch.equal, alone, products()))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("size", [(7, 6), (8, 8), (16, 16), (1, 33)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [((1, 1), 1, 1), ((3, 3), 1, 1), ((3, 2), 2, 1), ((2, 3), 1, 2)],
)
def test_conv(
    name: str, size: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int
) -> None:
    plan = plan_of(name, 2, 3)
    padding = (kernel[0] // 2 * dilation, kernel[1] // 2 * dilation)
    moves = (stride, stride), padding, (dilation, dilation)
    x, weight, bias = draw(
        LOW, (5, plan.in_channels, *size), (plan.num_weights, *kernel), (plan.out_channels,)
    )
    dense = dense_weight(weight.double(), plan)
    y = F.conv2d(x.double(), dense, bias.double(), *moves)
    (grad,) = draw(LOW, tuple(y.shape))
    assert_rounded_once(cpu_bf16.conv2d_forward(x, weight, plan, *moves, bias), y, LOW)
    dx = conv_grad.conv2d_input(x.shape, dense, grad.double(), *moves)
    assert_rounded_once(cpu_bf16.conv2d_grad_input(grad, weight, plan, x.shape, *moves), dx, LOW)
    dw = conv_grad.conv2d_weight(x.double(), dense.shape, grad.double(), *moves)
    got = cpu_bf16.conv2d_grad_weight(grad, x, plan, kernel, *moves)
    assert_rounded_once(got, dw[plan.dense_mask], LOW)


def test_views_of_any_strides_and_addresses() -> None:
    plan = make_plan(GRAPHS["star"].edge_index, [4] * 16, [2] * 16)
    x, grad, weight = draw(LOW, (3 * 64, 20), (32, 20), (plan.num_weights + 1,))
    x, weight, grad = x.reshape(20, 192)[:, 5:69], weight[1:], grad.T.contiguous().T[:20]
    grad = torch.cat([grad, grad], 1)[:, 3:35]
    ours = [
        cpu_bf16.linear_forward(x, weight, plan),
        cpu_bf16.linear_grad_input(grad, weight, plan),
        cpu_bf16.linear_grad_weight(grad, x, plan),
    ]
    x, weight, grad = x.contiguous(), weight.clone(), grad.contiguous()
    assert torch.equal(ours[0], cpu_bf16.linear_forward(x, weight, plan))
    assert torch.equal(ours[1], cpu_bf16.linear_grad_input(grad, weight, plan))
    assert torch.equal(ours[2], cpu_bf16.linear_grad_weight(grad, x, plan))


@pytest.mark.parametrize("conv", [False, True])
def test_numbers_that_are_not_finite_stay_on_their_edges(conv: bool) -> None:
    """A padded pair multiplies no number of another node."""
    plan = make_plan(GRAPHS["ring"].edge_index, [3] * 16, [3] * 16)
    shape = [4, 4] if conv else []
    kernel = [1, 1] if conv else []
    x, weight = draw(LOW, (8, 48, *shape), (plan.num_weights, *kernel))
    product = cpu_bf16.conv2d_forward if conv else cpu_bf16.linear_forward
    moves = ((1, 1), (0, 0), (1, 1)) if conv else ()
    node_of_channel = torch.arange(48) // 3
    x[:, 5] = torch.inf  # of node 1
    reached = ~product(x, weight, plan, *moves).isfinite().transpose(0, 1).flatten(1).all(1)
    assert node_of_channel[reached].unique().tolist() == [0, 1, 2]
    x[:, 5] = 1
    weight[4] = torch.nan  # into node 0
    reached = product(x, weight, plan, *moves).isnan().transpose(0, 1).flatten(1).any(1)
    assert reached.sum() == 1
    assert reached[:3].any()


def test_the_backend_calls_them_where_the_processor_has_the_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of("complete", 5, 3)
    moves = (1, 1), (1, 1), (1, 1)
    x, weight, grad = draw(LOW, (9, plan.in_channels), (plan.num_weights,), (9, plan.out_channels))
    maps, taps = draw(LOW, (2, plan.in_channels, 5, 5), (plan.num_weights, 3, 3))
    (map_grad,) = draw(LOW, (2, plan.out_channels, 5, 5))
    called: list[str] = []

    def watch(name: str) -> None:
        product = getattr(cpu_bf16, name)

        def watched(*arguments: object) -> Tensor:
            called.append(name)
            return product(*arguments)  # type: ignore[no-any-return]

        monkeypatch.setattr(cpu_bf16, name, watched)

    names = [
        f"{kind}_{product}"
        for kind in ("linear", "conv2d")
        for product in ("forward", "grad_input", "grad_weight")
    ]
    for name in names:
        watch(name)

    def products() -> None:
        cpu.linear_forward(x, weight, plan)
        cpu.linear_grad_input(grad, weight, plan)
        cpu.linear_grad_weight(grad, x, plan)
        cpu.conv2d_forward(maps, taps, plan, *moves)
        cpu.conv2d_grad_input(map_grad, taps, plan, maps.shape, *moves)
        cpu.conv2d_grad_weight(map_grad, maps, plan, (3, 3), *moves)
        cpu.linear_grads(grad, x, weight, plan)

    for without in (0, -1):
        monkeypatch.setattr(kernels, "bf16_products", without)
        products()
        assert called == []
    monkeypatch.setattr(kernels, "bf16_products", cpu_bf16.NATIVE)
    products()
    assert called == [*names, "linear_grad_input", "linear_grad_weight"]
    called.clear()
    cpu.linear_forward(x.half(), weight.half(), plan)
    assert called == []


def test_other_dtypes_are_refused() -> None:
    plan = plan_of("ring", 2, 2)
    x, weight = torch.ones(2, plan.in_channels), torch.ones(plan.num_weights)
    for operands in ((x, weight), (x.bfloat16(), weight)):
        with pytest.raises(InputError, match=r"torch\.float32"):
            cpu_bf16.linear_forward(*operands, plan)


def test_a_batch_without_samples_or_pixels() -> None:
    plan = plan_of("ring", 2, 3)
    weight, taps = (torch.ones(plan.num_weights, *size, dtype=LOW) for size in ((), (3, 3)))
    x, grad = (
        torch.ones(0, plan.in_channels, dtype=LOW),
        torch.ones(0, plan.out_channels, dtype=LOW),
    )
    assert cpu_bf16.linear_forward(x, weight, plan).shape == grad.shape
    assert cpu_bf16.linear_grad_input(grad, weight, plan).shape == x.shape
    assert not cpu_bf16.linear_grad_weight(grad, x, plan).any()
    moves = (1, 1), (1, 1), (1, 1)
    maps, map_grad = (
        x[..., None, None].expand(0, -1, 4, 4),
        grad[..., None, None].expand(0, -1, 4, 4),
    )
    assert cpu_bf16.conv2d_forward(maps, taps, plan, *moves).shape == map_grad.shape
    assert not cpu_bf16.conv2d_grad_weight(map_grad, maps, plan, (3, 3), *moves).any()
