"""What to measure in the first ten minutes on a GPU, in order of what would be wrong first.

1. tests: those of the Triton kernels, with TF32 forbidden; of the tile sizes only the first is
   compiled, but by the test of all of them, as a trial for each case would take the ten minutes
2. capture: into a CUDA graph by a process that has launched nothing before
3. error: and bias of TF32 products, against cuBLAS's
4. training: with each step as one CUDA graph, against one by ordinary steps: bits, and seconds
5. steps: of a training of ``mlp`` against the complete graph, and the peak of memory
6. products: every one against dense, masked and gather, and against ``torch._grouped_mm`` where it
   can, as CUDA graphs and eagerly, with the seconds of the first call, in which tiles are chosen
7. resnet: as 5, of ``resnet34``

Each part is a process of its own with a limit of its time, as an illegal address in one kernel
would fail every later call of its process. While the tests run, so many processes as there are
processors compile the kernels of what follows into Triton's cache: one by one, that alone would
take the ten minutes. Every line is printed when it is known, and the receipt is written after each,
so that a run that is cut off has measured what it printed. ``--part`` measures one part again, into
the same receipt. ``--smoke`` runs the same lines on the CPU, where the Triton
kernels are interpreted, on small sizes: a check of this script, not a measurement.

    python experiments/benchmarks/gpu_ten_minutes.py --out experiments/results/gpu
    python experiments/benchmarks/gpu_ten_minutes.py --smoke --out smoke
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from gpu_rounds import captured, milliseconds
from torch import Tensor, nn

from mpnn_arch import RelationalGraph, graphs, models
from mpnn_arch.diagnostics.timing import machine
from mpnn_arch.io.files import write_text
from mpnn_arch.kernels import gather, masked, triton
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.rounds import export_choices
from mpnn_arch.training import Trainer, TrainingConfig, load_dataset

BEGIN = time.time()
ROOT = Path(__file__).resolve().parents[2]
SMOKE = "--smoke" in sys.argv
DEVICE = "cpu" if SMOKE else "cuda"
NODES = 8 if SMOKE else 64
# (density, channels): ragged shares, shares of 24 and 32, and two denser graphs.
ROUNDS = [(0.14, 1457), (0.14, 1536), (0.14, 2048), (0.42, 829), (0.96, 520)]
REGULAR = 2048  # on a ring, whose nodes have one fan-in, as a grouped product needs
# The stages of `resnet34`: channels, side of the maps.
STAGES = [(163, 56), (326, 28), (656, 14), (1312, 7)]
if SMOKE:
    ROUNDS = [(0.5, 27)]
BATCHES = (5,) if SMOKE else (128, 1024, 4096)


class Receipt:
    """Rows printed as they come, and written whole after each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, []
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "gpu.csv").exists():  # of the parts before
            with (folder / "gpu.csv").open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def begin(self) -> None:
        """Forget the rows of earlier runs; note the machine."""
        self.rows = []
        (self.folder / "gpu.csv").unlink(missing_ok=True)
        about = machine(DEVICE) | {"smoke": str(SMOKE)}
        write_text(self.folder / "machine.txt", "".join(f"{k}: {v}\n" for k, v in about.items()))

    def add(self, what: str, case: str, name: str, value: object, unit: str) -> None:
        row = {"what": what, "case": case, "name": name, "value": value, "unit": unit}
        self.rows.append(row)
        print(f"[{time.time() - BEGIN:5.0f} s]", *row.values(), sep="\t", flush=True)
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


def eager(run: Callable[[], object], most: int = 3 if SMOKE else 100) -> float:
    """Microseconds a call, launched one by one: median of five turns of some 15 ms."""
    run()

    def turn(calls: int) -> float:
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        return (time.perf_counter() - start) / calls

    calls = min(most, max(2, int(0.015 / turn(2))))
    return statistics.median(turn(calls) for _ in range(5)) * 1e6


def replayed(run: Callable[[], object], each: float) -> float:
    """Microseconds a call on the device alone: a CUDA graph of calls, median of nine.

    ``each``: microseconds of an eager call; a graph has some 10 ms of calls.
    """
    calls = min(50, max(2, int(10_000 / each)))

    def many() -> None:
        for _ in range(calls):
            run()

    replay = captured(many)
    return statistics.median(milliseconds(replay, 1) / calls * 1e3 for _ in range(9))


# Every `parts`-th test, from the `part`-th on.
TESTS = """
import sys, torch, pytest
torch.use_deterministic_algorithms(True)  # no trials
part, parts, *options = sys.argv[1:]
class Part:
    def pytest_collection_modifyitems(self, items):
        items[:] = items[int(part) :: int(parts)]
sys.exit(pytest.main(options, plugins=[Part()]))
"""

# Named as they end, so that a run that is cut off says which failed. Those that need a device are
# marked so; the file also runs itself through the interpreter, which takes minutes.
OPTIONS = ["-vv", "-p", "no:cacheprovider", "-m", "gpu", "--maxfail=40"]


def run_tests(receipt: Receipt, seconds: float, parts: int) -> None:
    options = [*OPTIONS, *(["-k", "linear_in_every_dtype"] if SMOKE else [])]
    command = [sys.executable, "-c", TESTS]
    tests = str(ROOT / "tests/kernels/test_triton.py")
    with ThreadPoolExecutor(parts) as pool:
        runs = [
            pool.submit(output, [*command, str(i), str(parts), *options, tests], seconds)
            for i in range(parts)
        ]
    said = "\n".join(run.result()[0] for run in runs)
    ended = {word: len(re.findall(rf" {word} +\[", said)) for word in ("PASSED", "FAILED")}
    cut = sum(run.result()[1] for run in runs)
    receipt.add("tests", "IEEE", "passed", ended["PASSED"], "")
    receipt.add("tests", "IEEE", "failed", ended["FAILED"], "")
    receipt.add("tests", "IEEE", f"processes cut off after {seconds:.0f} s", cut, "")
    if not ended["PASSED"]:
        receipt.add("tests", "IEEE", "said", (said.splitlines() or [""])[-1][:200], "")
    for line in said.splitlines():
        if " FAILED " in line or line.startswith("E  "):
            receipt.add("tests", "IEEE", "failed", line[:200], "")


def output(command: list[str], seconds: float) -> tuple[str, bool]:
    """What a process printed, and whether it was ended because it took longer."""
    with tempfile.TemporaryFile("w+") as file:
        try:
            subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds, cwd=ROOT
            )
            cut_off = False
        except subprocess.TimeoutExpired:
            cut_off = True
        file.seek(0)
        return file.read().strip(), cut_off


def compile_ahead(arch: int, dtype: str, case: tuple[Any, ...]) -> int:
    """Compile every tile size of a case into Triton's cache; the number of kernels."""
    import gpu_builds

    with mock.patch.object(gpu_builds, "describe", return_value={}):
        return len(gpu_builds.build(arch, dtype, {"case": gpu_builds.Case(*case)}, every=True))


def start_builds(pool: ProcessPoolExecutor) -> list[Future[int]]:
    """Compile the kernels of the products and networks, in the order in which they are measured."""
    major, minor = torch.cuda.get_device_capability()
    batch = max(BATCHES)
    cases: list[tuple[str, tuple[Any, ...]]] = [("fp32", (0.14, 512, 128)), ("tf32", (1, 512, 128))]
    cases += [("fp32", (1, 512, 1024)), ("tf32", (0.14, 512, 4096))]
    cases += [(dtype, (*case, batch)) for case in ROUNDS for dtype in ("tf32", "bf16")]
    for channels, side in STAGES:
        moves = [(3, 1), (3, 2), (1, 2)]
        cases += [("tf32", (0.14, channels, 64, side, *kernel)) for kernel in moves]
    return [pool.submit(compile_ahead, 10 * major + minor, *case) for case in cases]


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


def regular_graph() -> RelationalGraph:
    return graphs.ring(NODES, 8)


def products(receipt: Receipt) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    dtypes = {"tf32": torch.float32, "bf16": torch.bfloat16}
    for (density, width), precision, batch in itertools.product(ROUNDS, dtypes, BATCHES):
        graph = graphs.ws_flex(NODES, NODES * density, 0.1, seed=0)
        if width == REGULAR:
            graph = regular_graph()
        if density > 0.14 and batch == 1024:
            continue
        shares = [width // NODES + (i < width % NODES) for i in range(NODES)]
        plan = make_plan(graph.edge_index, shares, shares).to(DEVICE)
        case = f"{precision} density {density} width {width} batch {batch}"
        for name, run in product_runs(plan, batch, dtypes[precision]):
            with noted(receipt, "product", f"{case} {name}"):
                start = time.perf_counter()
                run()
                wait()
                first = time.perf_counter() - start
                receipt.add("product", case, f"{name}, first call", f"{first:.3f}", "s")
                each = eager(run)
                receipt.add("product", case, f"{name}, eager", f"{each:.1f}", "us")
                if DEVICE == "cuda":
                    on_device = replayed(run, each)
                    receipt.add("product", case, f"{name}, graph", f"{on_device:.1f}", "us")


def networks(receipt: Receipt, cases: list[tuple[str, int, int]]) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    options: dict[str, Any] = {"image_size": 8, "hidden_features": 16} if SMOKE else {}
    for model, batch, size in cases:
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
                start = time.perf_counter()
                step()  # in which backends are timed, with memory of their own
                wait()
                first = time.perf_counter() - start
                receipt.add("step", case, f"{spec}, first", f"{first:.1f}", "s")
                if DEVICE == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                receipt.add("step", case, spec, f"{eager(step):.0f}", "us")
                if DEVICE == "cuda":
                    peak = torch.cuda.max_memory_allocated() / 2**20
                    receipt.add("step", case, f"{spec}, memory", f"{peak:.0f}", "MiB")
                chosen = Counter(b for c in export_choices(network).values() for b in c.values())
                receipt.add("step", case, f"{spec}, backends", str(dict(chosen)), "")


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


MLP = [("mlp", 4, 8)] if SMOKE else [("mlp", 128, 32), ("mlp", 4096, 32)]
# Each with the most seconds that it may take.
PARTS: dict[str, tuple[Callable[[Receipt], None], float]] = {
    "capture": (cold_capture, 70),
    "error": (float32_products, 60),
    "training": (training, 90),
    "steps": (functools.partial(networks, cases=MLP), 90),
    "products": (products, 240),
    "resnet": (functools.partial(networks, cases=[("resnet34", 64, 224)]), 200),
}
if SMOKE:
    PARTS = {name: PARTS[name] for name in ("error", "training", "steps", "products")}


def run_part(receipt: Receipt, name: str) -> None:
    measure, _ = PARTS[name]
    with noted(receipt, name, "whole part"):
        measure(receipt)


def main() -> None:
    global BEGIN
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the receipt")
    parser.add_argument("--seconds", type=float, default=570, help="stop measuring after this long")
    parser.add_argument("--smoke", action="store_true", help="small, on the CPU, interpreted")
    parser.add_argument("--part", choices=PARTS, help="only this one, in this process")
    parser.add_argument("--begin", type=float, default=BEGIN, help=argparse.SUPPRESS)
    args = parser.parse_args()
    BEGIN = args.begin
    if not SMOKE and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device; run this on a machine with a GPU, or with --smoke")
    receipt = Receipt(args.out)
    if args.part:
        run_part(receipt, args.part)
        return
    receipt.begin()
    processors = len(os.sched_getaffinity(0))
    builders = ProcessPoolExecutor(max(1, processors - 1), multiprocessing.get_context("spawn"))
    builds = [] if SMOKE else start_builds(builders)
    with noted(receipt, "tests", "whole part"):
        run_tests(receipt, 120, 1 if SMOKE else max(1, min(8, processors // 2)))
    if builds:
        wait_for(builds, timeout=max(0.0, 180 - (time.time() - BEGIN)))
        ended = [build for build in builds if build.done()]
        kernels = sum(build.result() for build in ended if not build.exception())
        case = f"{len(ended)} of {len(builds)} cases"
        receipt.add("builds", case, "kernels", kernels, "")
        for build in ended:
            if build.exception():
                receipt.add("builds", case, "failed", repr(build.exception())[:200], "")
    builders.shutdown(wait=False, cancel_futures=True)
    for name, (_, most) in PARTS.items():
        left = args.seconds - (time.time() - BEGIN)
        if left < 15:
            Receipt(args.out).add(name, "whole part", "left out", "no time", "")
            continue
        command = [sys.executable, __file__, "--out", str(args.out), "--part", name]
        command += ["--begin", str(BEGIN), *(["--smoke"] if SMOKE else [])]
        try:
            done = subprocess.run(command, timeout=min(most, left))
        except subprocess.TimeoutExpired as cut_off:
            Receipt(args.out).add(name, "whole part", "cut off", f"{cut_off.timeout:.0f}", "s")
        else:
            if done.returncode:
                Receipt(args.out).add(name, "whole part", "exit status", done.returncode, "")
    print(f"written: {args.out / 'gpu.csv'}", flush=True)


if __name__ == "__main__":
    main()
