"""Print what the roofline predicts for a GPU. A model: nothing here was measured on a GPU.

The same model selects the backend where nothing can be timed. It is made of published peaks and
bandwidths of an A100 and an H100, and of assumptions, which are printed first. Predicted are the
microseconds of one round's forward product and both gradients on triton, masked and gather; "dense"
is a dense layer of about equal cost, whose width (a multiple of 16) is the column before. The last
column names the least of those that the rule considers: gather takes larger kernels node by node,
and is left out there.

"bound" is a round's time over the dense layer's if both computed exactly their products at the peak
and moved every number once, in one kernel a product. No kernel of a single product comes nearer to
such a dense layer. Where activations limit both, at large batches, it is the ratio of their widths
(three rounds 1,457 wide after an input of 512 cost as much as three dense layers 512 wide: 2.85).
It is smaller where the dense layer is limited by its products.

    python experiments/benchmarks/roofline.py                      # launches by the host
    python experiments/benchmarks/roofline.py --captured           # replayed as CUDA graphs
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator

import torch

from mpnn_arch import graphs
from mpnn_arch.kernels.backends import get
from mpnn_arch.kernels.dispatch import machines
from mpnn_arch.kernels.dispatch.choice import predicted_seconds
from mpnn_arch.kernels.dispatch.roofline import (
    Kernel,
    Machine,
    RoundSizes,
    dense_products,
    predicted,
)
from mpnn_arch.kernels.plan import RoundPlan, make_plan

NODES = 64
BACKENDS = ("triton", "masked", "gather")
NUMBERS = {"tf32": (torch.float32, True), "bf16": (torch.bfloat16, False)}
# (density, width)
MLP = [(0.14, 1457), (0.14, 1536), (0.14, 2048), (0.42, 829), (0.96, 520)]
BATCHES = (128, 1024, 4096)
# (width, side of the maps, the dense network's width): 3 x 3 kernels in the stages of ResNet-34.
STAGES, STAGE_DENSITY, STAGE_BATCH = [(163, 56, 64), (326, 28, 128), (656, 14, 256)], 0.14, 128
STAGES += [(1312, 7, 512)]


def plan_of(density: float, width: int) -> RoundPlan:
    graph = graphs.ws_flex(NODES, NODES * density - 1, 0.1, seed=0)  # and a self-loop
    shares = [width // NODES + (i < width % NODES) for i in range(NODES)]
    return make_plan(graph.edge_index, shares, shares)


def dense_sizes(sizes: RoundSizes, width: int) -> RoundSizes:
    """Of the dense layer of this width, as a graph of one node."""
    return dataclasses.replace(
        sizes,
        nodes=1,
        in_channels=width,
        out_channels=width,
        weights=width**2,
        largest_in=width,
        largest_out=width,
    )


def ideal(sizes: RoundSizes, machine: Machine) -> float:
    """Seconds of the three products at the peak, each number moved once."""
    moved = sizes.x_bytes + sizes.y_bytes + sizes.weight_bytes
    limit = dataclasses.replace(machine, launch=0.0, pause=0.0, efficiency={"ideal": 1.0})
    product = Kernel(products=sizes.products, bytes=moved, tile="ideal")
    return predicted([product] * 3, limit, sizes.mode)


def cases(numbers: str) -> Iterator[tuple[str, RoundSizes, int]]:
    """Name, sizes and the width of the dense layer of equal cost."""
    dtype, tf32 = NUMBERS[numbers]
    for density, width in MLP:
        plan = plan_of(density, width)
        dense = 16 * round(plan.num_weights**0.5 / 16)
        for batch in BATCHES:
            sizes = RoundSizes.of(plan, dtype, tf32=tf32, samples=batch)
            yield f"mlp {width}, density {density}, batch {batch}", sizes, dense
    for stage, (width, side, dense) in enumerate(STAGES, 1):
        sizes = RoundSizes.of(
            plan_of(STAGE_DENSITY, width),
            dtype,
            tf32=tf32,
            samples=STAGE_BATCH,
            taps=9,
            in_pixels=side**2,
            out_pixels=side**2,
        )
        yield f"resnet34 stage {stage}, {width} at {side} x {side}", sizes, dense


def assumptions(machine: Machine) -> Iterator[str]:
    def rounded(value: float, unit: float) -> str:
        return f"{value / unit:.4g}"

    peaks = ", ".join(f"{mode} {rounded(p, 1e12)}" for mode, p in machine.peak.items())
    tiles = ", ".join(f"{tile} {share}" for tile, share in machine.efficiency.items())
    yield f"{machine.name}"
    yield f"  specified: peak in TFLOP/s: {peaks}"
    yield f"  specified: memory {rounded(machine.bandwidth, 1e12)} TB/s"
    yield f"  specified: {machine.processors} multiprocessors"
    yield f"  assumed: shared cache {rounded(machine.cache_bandwidth, 1e12)} TB/s"
    yield f"  assumed: share of the peak by inner tile: {tiles}"
    yield f"  assumed: times {machine.ragged} where rows do not begin at multiples of 16 bytes"
    yield f"  assumed: host {rounded(machine.launch, 1e-6)} us for an operation of torch"
    yield f"  assumed: {rounded(machine.pause, 1e-6)} us on the device between two kernels"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--captured", action="store_true", help="as CUDA graphs: launches cost the host nothing"
    )
    captured = parser.parse_args().captured
    print("A model: no figure below was measured on a GPU.")
    print("Specified: NVIDIA's A100 data sheet, A100 and H100 white papers (SXM, dense peaks).\n")
    for machine in (machines.A100, machines.H100):
        used = dataclasses.replace(machine, launch=0.0) if captured else machine
        print(*assumptions(used), sep="\n")
        for numbers in NUMBERS:
            print(f"\n{machine.name}, {numbers}, us of forward and backward")
            titles = (*BACKENDS, "width", "dense", "bound")
            print(f"{'round':<38}", *(f"{title:>9}" for title in titles), "    least")
            for name, sizes, width in cases(numbers):
                layer = dense_sizes(sizes, width)
                seconds = {b: predicted_seconds(b, sizes, used) for b in BACKENDS}
                dense = predicted(dense_products(layer, used), used, sizes.mode)
                bound = ideal(sizes, machine) / ideal(layer, machine)
                kernel = (3, 3) if sizes.is_convolution else ()
                considered = [b for b in BACKENDS if get(b).worth_timing("cuda", kernel)]
                times = [f"{1e6 * value:9.0f}" for value in seconds.values()]
                line = [*times, f"{width:9}", f"{1e6 * dense:9.0f}", f"{bound:9.2f}"]
                print(f"{name:<38}", *line, f"    {min(considered, key=seconds.__getitem__)}")
        print()


if __name__ == "__main__":
    main()
