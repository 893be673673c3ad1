"""What to measure in the first ten minutes on a GPU, in order of what would be wrong first.

1. the tests of the Triton kernels, with TF32 forbidden; of the tile sizes only the first is
   compiled, but by the test of all of them, as a trial for each case would take the ten minutes
2. capture into a CUDA graph by a process that has launched nothing before
3. error and bias of TF32 products, against cuBLAS's
4. a training with each step as one CUDA graph, against one by ordinary steps: bits, and seconds
5. a training step of ``mlp`` and of ``resnet34`` against the complete graph, and the peak of memory
6. every product against dense, masked and gather, and against ``torch._grouped_mm`` where it can,
   as CUDA graphs and eagerly, with the seconds of the first call, in which tiles are chosen

Every line is printed when it is known, and the receipt is written after each, so that a run that is
cut off has measured what it printed. ``--smoke`` runs the same lines on the CPU, where the Triton
kernels are interpreted, on small sizes: a check of this script, not a measurement.

    python experiments/benchmarks/gpu_ten_minutes.py --out experiments/results/gpu
    python experiments/benchmarks/gpu_ten_minutes.py --smoke --out smoke
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from gpu_rounds import captured, milliseconds
from torch import Tensor, nn

from mpnn_arch import graphs, models
from mpnn_arch.diagnostics.timing import machine
from mpnn_arch.io.files import write_text
from mpnn_arch.kernels import gather, masked, triton
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.training import Trainer, TrainingConfig, load_dataset

BEGIN = time.monotonic()
SMOKE = "--smoke" in sys.argv
DEVICE = "cpu" if SMOKE else "cuda"
NODES = 8 if SMOKE else 64
# (density, channels): ragged shares, shares of 24 and 32, and two denser graphs.
ROUNDS = [(0.14, 1457), (0.14, 1536), (0.14, 2048), (0.42, 829), (0.96, 520)]
if SMOKE:
    ROUNDS = [(0.5, 27)]
BATCHES = (5,) if SMOKE else (128, 1024, 4096)


class Receipt:
    """Rows printed as they come, and written whole after each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, []
        folder.mkdir(parents=True, exist_ok=True)
        about = machine(DEVICE) | {"smoke": str(SMOKE)}
        write_text(folder / "machine.txt", "".join(f"{k}: {v}\n" for k, v in about.items()))

    def add(self, what: str, case: str, name: str, value: object, unit: str) -> None:
        row = {"what": what, "case": case, "name": name, "value": value, "unit": unit}
        self.rows.append(row)
        print(f"[{time.monotonic() - BEGIN:5.0f} s]", *row.values(), sep="\t", flush=True)
        lines = [list(row), *(list(row.values()) for row in self.rows)]
        with (self.folder / "gpu.csv.part").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        (self.folder / "gpu.csv.part").replace(self.folder / "gpu.csv")


@contextmanager
def noted(receipt: Receipt, what: str, case: str) -> Iterator[None]:
    """A failure is a row, and the next measurement goes on."""
    try:
        yield
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[-1][:200]
        receipt.add(what, case, "failed", f"{type(error).__name__}: {line}", "")


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def eager(run: Callable[[], object], calls: int = 3 if SMOKE else 100) -> float:
    """Microseconds a call, launched one by one: median of five."""
    run()
    taken = []
    for _ in range(5):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        taken.append((time.perf_counter() - start) / calls * 1e6)
    return statistics.median(taken)


def replayed(run: Callable[[], object], calls: int = 50) -> float:
    """Microseconds a call on the device alone: a CUDA graph of many calls, median of nine."""

    def many() -> None:
        for _ in range(calls):
            run()

    replay = captured(many)
    return statistics.median(milliseconds(replay, 1) / calls * 1e3 for _ in range(9))


def run_tests(receipt: Receipt, name: str, seconds: float) -> None:
    # Named as they end, so that a run that is cut off says which failed.
    options = ["-vv", "-p", "no:cacheprovider", "--maxfail=40", "tests/kernels/test_triton.py"]
    options += ["-k", "linear_in_every_dtype"] if SMOKE else []
    before = "torch.use_deterministic_algorithms(True)"  # no trials
    code = f"import sys, torch, pytest\n{before}\nsys.exit(pytest.main({options!r}))"
    said, cut_off = output([sys.executable, "-c", code], seconds)
    lines = said.splitlines() or [""]
    ended = sum(" PASSED " in line for line in lines)
    last = f"cut off after {seconds:.0f} s, {ended} passed" if cut_off else lines[-1]
    receipt.add("tests", name, "pytest", last[-200:], "")
    for line in lines:
        if " FAILED " in line if cut_off else line.startswith("FAILED "):
            receipt.add("tests", name, "failed", line[:200], "")


def output(command: list[str], seconds: float) -> tuple[str, bool]:
    """What a process printed, and whether it was ended because it took longer."""
    with tempfile.TemporaryFile("w+") as file:
        try:
            subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)
            cut_off = False
        except subprocess.TimeoutExpired:
            cut_off = True
        file.seek(0)
        return file.read().strip(), cut_off


COLD = """
import torch
from mpnn_arch.kernels import triton
from mpnn_arch.kernels.plan import make_plan
plan = make_plan(torch.tensor([[0, 1], [0, 1]]), [3, 4], [3, 4])
x = torch.randn(8, 7, device="cuda")
weight = torch.randn(plan.num_weights, device="cuda")
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    y = triton.linear_forward(x, weight, plan)
graph.replay()
torch.cuda.synchronize()
torch.testing.assert_close(y, triton.linear_forward(x, weight, plan))
print("captured, replayed, equal")
"""


def cold_capture(receipt: Receipt) -> None:
    said, cut_off = output([sys.executable, "-c", COLD], 60)
    last = "cut off after 60 s" if cut_off else (said.splitlines() or [""])[-1]
    receipt.add("capture", "no launch before", "process", last[:200], "")


def float32_products(receipt: Receipt) -> None:
    n, width, batch = NODES, 8 * NODES, 64 if SMOKE else 1024
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, width, generator=generator).to(DEVICE)
    weight = torch.rand(width, width, generator=generator).to(DEVICE)
    plan = make_plan(graphs.complete(n).edge_index, [8] * n, [8] * n)
    exact = x.double() @ weight.double().T
    for precision in ("ieee", "tf32"):
        torch.backends.cuda.matmul.fp32_precision = precision
        products = {
            "dense": x @ weight.T,
            "triton": triton.linear_forward(x, weight.flatten(), plan),
        }
        for name, y in products.items():
            error = (y.double() - exact) / exact
            receipt.add("error", precision, f"{name} rms", f"{error.pow(2).mean().sqrt():.2e}", "")
            receipt.add("error", precision, f"{name} bias", f"{error.mean():+.2e}", "")


def grouped(x: Tensor, weight: Tensor, plan: RoundPlan) -> Callable[[], object] | None:
    """One product a node by ``torch._grouped_mm``: bfloat16, shares and fan-ins of one size."""
    shares, widths = plan.out_sizes.unique(), plan.fan_in.unique()
    if x.dtype != torch.bfloat16 or len(shares) != 1 or len(widths) != 1 or SMOKE:
        return None
    n, share, fan_in = plan.num_nodes, int(shares), int(widths)
    channels = gather.walks(plan.to(x.device))[0].channels  # (N, F)
    blocks = weight.view(n, share, fan_in).transpose(1, 2)
    return lambda: torch._grouped_mm(x[:, channels].transpose(0, 1).contiguous(), blocks)


def product_runs(
    plan: RoundPlan, batch: int, dtype: torch.dtype
) -> Iterator[tuple[str, Callable[[], object]]]:
    """The three products of a round on every backend, and of the dense layer of equal cost."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device=DEVICE, dtype=dtype)

    side = max(16, round(plan.num_weights**0.5 / 16) * 16)
    narrow, square = draw(batch, side), 0.05 * draw(side, side)
    yield "dense forward", lambda: narrow @ square.T
    yield "dense dX", lambda: narrow @ square
    yield "dense dW", lambda: narrow.T @ narrow

    weight = 0.05 * draw(plan.num_weights)
    x, grad = draw(batch, plan.in_channels), draw(batch, plan.out_channels)
    run = grouped(x, weight, plan)
    if run is not None:
        yield "grouped forward", run
    for name, b in (("triton", triton), ("masked", masked), ("gather", gather)):
        yield f"{name} forward", functools.partial(b.linear_forward, x, weight, plan)
        yield f"{name} dX", functools.partial(b.linear_grad_input, grad, weight, plan)
        yield f"{name} dW", functools.partial(b.linear_grad_weight, grad, x, plan)


def products(receipt: Receipt, deadline: float) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    dtypes = {"tf32": torch.float32, "bf16": torch.bfloat16}
    for (density, width), precision, batch in itertools.product(ROUNDS, dtypes, BATCHES):
        graph = graphs.ws_flex(NODES, NODES * density, 0.1, seed=0)
        shares = [width // NODES + (i < width % NODES) for i in range(NODES)]
        plan = make_plan(graph.edge_index, shares, shares).to(DEVICE)
        case = f"{precision} density {density} width {width} batch {batch}"
        for name, run in product_runs(plan, batch, dtypes[precision]):
            if time.monotonic() - BEGIN > deadline:
                return
            with noted(receipt, "product", f"{case} {name}"):
                start = time.perf_counter()
                run()
                wait()
                first = time.perf_counter() - start
                receipt.add("product", case, f"{name}, first call", f"{first:.3f}", "s")
                receipt.add("product", case, f"{name}, eager", f"{eager(run):.1f}", "us")
                if DEVICE == "cuda":
                    receipt.add("product", case, f"{name}, graph", f"{replayed(run):.1f}", "us")


def networks(receipt: Receipt) -> None:
    cases: list[tuple[str, int, int, dict[str, Any]]] = [
        ("mlp", 128, 32, {}),
        ("mlp", 4096, 32, {}),
    ]
    cases += [("resnet34", 64, 224, {})]
    if SMOKE:
        cases = [("mlp", 4, 8, {"image_size": 8, "hidden_features": 16})]
    for model, batch, size, options in cases:
        for spec in (f"complete:{NODES}", "ring:8,2" if SMOKE else "ws_flex:64,9,0.1,0"):
            (graph,) = graphs.parse(spec)
            with noted(receipt, "step", f"{model} {spec}"):
                network = models.build(model, graph, **options).to(DEVICE).train()
                x = torch.randn(batch, 3, size, size, device=DEVICE)
                labels = torch.zeros(batch, dtype=torch.long, device=DEVICE)
                optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

                def step(network=network, x=x, labels=labels, optimiser=optimiser) -> None:
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(network(x), labels).backward()
                    optimiser.step()

                case = f"{model} batch {batch}"
                if DEVICE == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                receipt.add("step", case, spec, f"{eager(step, 3 if SMOKE else 20):.0f}", "us")
                if DEVICE == "cuda":
                    peak = torch.cuda.max_memory_allocated() / 2**20
                    receipt.add("step", case, f"{spec}, memory", f"{peak:.0f}", "MiB")


def training(receipt: Receipt) -> None:
    """The same training by ordinary steps and by replayed ones: the weights should be equal."""
    data = load_dataset("digits").subset(1024, 100)
    graph = graphs.ring(8, 2) if SMOKE else graphs.ws_flex(NODES, 9, 0.1, seed=0)
    recipe = TrainingConfig(epochs=5, batch_size=128, optimizer="fused", precision="float32")
    trained = {}
    for name, graphed in (("ordinary steps", False), ("CUDA graphs", not SMOKE)):
        torch.manual_seed(0)
        model = models.build("mlp", graph, in_features=64, hidden_features=16 if SMOKE else 512)
        trainer = Trainer(
            model,
            data,
            recipe,
            generator=torch.Generator().manual_seed(0),
            device=DEVICE,
            cuda_graphs=graphed,
        )
        seconds = [trainer.train_epoch().seconds for _ in range(recipe.epochs)]
        receipt.add("training", "mlp, an epoch", name, f"{statistics.median(seconds):.4f}", "s")
        for note in trainer.notes:
            receipt.add("training", "mlp", f"{name}, note", note, "")
        trained[name] = torch.cat([p.detach().flatten() for p in model.parameters()])
    ordinary, replayed_ones = trained.values()
    apart = float((ordinary - replayed_ones).abs().max())
    receipt.add("training", "mlp", "largest difference of a weight", f"{apart:.3g}", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the receipt")
    parser.add_argument("--seconds", type=float, default=600, help="stop measuring after this long")
    parser.add_argument("--smoke", action="store_true", help="small, on the CPU, interpreted")
    args = parser.parse_args()
    if not SMOKE and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device; run this on a machine with a GPU, or with --smoke")
    receipt = Receipt(args.out)
    with noted(receipt, "tests", "IEEE"):
        run_tests(receipt, "IEEE", 180)
    if not SMOKE:
        with noted(receipt, "capture", "no launch before"):
            cold_capture(receipt)
    with noted(receipt, "error", "float32"):
        float32_products(receipt)
    with noted(receipt, "training", "mlp"):
        training(receipt)
    with noted(receipt, "step", "networks"):
        networks(receipt)
    with noted(receipt, "product", "all"):
        products(receipt, args.seconds)
    print(f"written: {args.out / 'gpu.csv'}")


if __name__ == "__main__":
    main()
