"""How long a ledger of 20,000 made-up trials x 200 epochs takes to open, append, show and export.

    python experiments/benchmarks/ledger.py --out /tmp/ledger            # some minutes, 1 GB
    python experiments/benchmarks/ledger.py --trials 200 --epochs 20     # seconds
    python experiments/benchmarks/ledger.py --workers 1000               # one writer, no training

Nothing is trained: the numbers are drawn from a seed. What is timed is what a driver, `mpnn-arch
status` and `mpnn-arch export` do.
"""

from __future__ import annotations

import argparse
import random
import resource
import socket
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mpnn_arch.graphs import parse_one
from mpnn_arch.studies.export import export
from mpnn_arch.studies.interrupts import Interrupts
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.local_pool import LocalPool
from mpnn_arch.studies.recording import Recorder, RunSettings
from mpnn_arch.studies.runner import Driver
from mpnn_arch.studies.tasks import decode, encode
from mpnn_arch.studies.trial import Trial
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training.config import TrainingConfig

ABOUT = {
    "machine": {"host": "nowhere", "processor": "none"},
    "threads": 1,
    "choices": {f"rounds.{i}": {"float32 cpu 128": "cpu"} for i in range(3)},
    "widths": [1263],
    "parameters": 1_201_724,
    "multiply_adds": 1_193_112,
}
SEEDS = 5


def metrics(epoch: int, generator: random.Random) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "learning_rate": 0.1 / epoch,
        "train_loss": generator.random(),
        "train_error": 100 * generator.random(),
        "test_loss": generator.random(),
        "test_error": 100 * generator.random(),
        "seconds": generator.random(),
    }


def make_trials(count: int, epochs: int) -> tuple[list[Trial], dict[str, Any]]:
    """Five seeds of every graph, as in the paper's sweep."""
    graphs = {
        f"ws_flex:64,{8 + place / 1000},0.15,{place}": None for place in range(-(-count // SEEDS))
    }
    made = {name: parse_one(name) for name in graphs}
    trials = [
        Trial(
            model="mlp",
            graph=name,
            graph_hash=graph.content_hash,
            dataset="cifar10",
            data_hash="0" * 64,
            recipe=TrainingConfig(epochs=epochs),
            seed=seed,
        )
        for seed in range(SEEDS)
        for name, graph in made.items()
    ]
    return trials[:count], made


def timed(what: str, action: Callable[[], Any]) -> Any:
    start, cpu = time.perf_counter(), time.process_time()
    result = action()
    wall, busy = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what}: {wall:.3f} s, {busy:.3f} s of CPU", flush=True)
    return result


def append_times(paths: list[Path], repeats: int = 100) -> list[float]:
    """Median seconds of one epoch in a transaction of its own, on the disk when it returns.

    The ledgers are taken in turn, so that a busy moment strikes all alike.
    """
    generator = random.Random(1)
    with ExitStack() as stack:
        ledgers = [stack.enter_context(LedgerWriter(path)) for path in paths]
        rows = []
        times: list[list[float]] = [[] for _ in paths]
        for ledger in ledgers:
            with ledger.transaction():
                (row,) = ledger.lease("benchmark")
                ledger.started(row["id"], row["lease"], ABOUT)
                rows.append(row)
        for epoch in range(1, min(repeats, rows[0]["epochs"]) + 1):
            found = metrics(epoch, generator)
            for ledger, row, taken in zip(ledgers, rows, times, strict=True):
                start = time.perf_counter()
                with ledger.transaction():
                    ledger.record_epoch(row["id"], row["lease"], found, wall=1.0)
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def measure_size(folder: Path, count: int, epochs: int) -> None:
    path = folder / "ledger.sqlite"
    trials, graphs = timed(f"{count} trials and graphs made", lambda: make_trials(count, epochs))

    def queue() -> None:
        with LedgerWriter.create(path) as ledger, ledger.transaction():
            ledger.add_trials(trials, graphs)

    timed("queued, in one transaction", queue)
    generator = random.Random(0)

    def fill() -> None:
        """Through the writer's own functions, 100 trials a transaction."""
        with LedgerWriter(path) as ledger:
            # What is measured last stays queued.
            for _ in range(0, count - 100, 100):
                with ledger.transaction():
                    for _ in range(100):
                        (row,) = ledger.lease("benchmark")
                        ledger.started(row["id"], row["lease"], ABOUT)
                        for epoch in range(row["epochs_done"] + 1, epochs + 1):
                            ledger.record_epoch(
                                row["id"], row["lease"], metrics(epoch, generator), wall=1.0
                            )
                        ledger.finish(row["id"], row["lease"])

    timed(f"{(count - 100) * epochs:,} epochs recorded, 100 trials a transaction", fill)
    # A small one before and after the large one: whoever comes second waits for the disk.
    small = [folder / "before.sqlite", folder / "after.sqlite"]
    for one in small:
        with LedgerWriter.create(one) as ledger, ledger.transaction():
            ledger.add_trials(trials[:1], graphs)
    times = append_times([small[0], path, small[1]])
    for what, seconds in zip(("a small", "the large", "a small"), times, strict=True):
        print(f"an epoch appended to {what} ledger: {1e3 * seconds:.2f} ms")
    print(f"size: {path.stat().st_size / 1e6:.0f} MB")

    def show() -> Any:
        with Ledger(path) as ledger:
            return ledger.counts()

    print(timed("opened and counted, as status does", show))
    with Ledger(path) as ledger:
        for name, every in (("last.csv", False), ("all.csv", True), ("all.parquet", True)):
            to = folder / name
            rows = timed(f"exported {name}", lambda: export(ledger, to, all_epochs=every))  # noqa: B023
            print(f"  {rows:,} rows, {to.stat().st_size / 1e6:.1f} MB")


class MadeUpWorkers:
    """Threads in place of worker processes; they die, repeat themselves and are late.

    Their clocks differ: the seconds they report are arbitrary. What a worker that died had not sent
    yet arrives later, through another one's channel and under the old lease.
    """

    def __init__(self) -> None:
        self._late: deque[bytes] = deque()

    def start(self) -> Connection:
        ours, theirs = socket.socketpair()
        channel = Connection(theirs.detach())
        threading.Thread(target=self._work, args=(channel,), daemon=True).start()
        return Connection(ours.detach())

    def ending(self, process: int | None) -> str:
        return "preempted"

    def _work(self, channel: Connection) -> None:
        with channel:
            try:
                channel.send_bytes(encode({"is": "hello", "process": 1 << 30}))
                while True:
                    message = decode(channel.recv_bytes())
                    if message["do"] == "stop" or not self._play(
                        channel, message["job"]["tasks"][0]
                    ):
                        return
            except (EOFError, OSError):
                return

    def _play(self, channel: Connection, task: dict[str, Any]) -> bool:
        generator = random.Random(f"{task['hash']} {task['lease']}")
        same = random.Random(task["hash"])
        dies = generator.random() < 0.02
        about = {"id": task["id"], "lease": task["lease"]}
        channel.send_bytes(encode({**about, "is": "started", **ABOUT}))
        skew = generator.uniform(-1e6, 1e6)
        gone = False
        epochs = task["trial"]["recipe"]["epochs"]
        for epoch in range(1, epochs + 1):
            found = metrics(epoch, same)  # the same whoever trains it
            if epoch <= task["epochs_known"] - generator.randrange(2):
                continue
            gone = gone or (dies and epoch > epochs // 2)
            found["seconds"] += skew
            event = encode({**about, "is": "epoch", "metrics": found, "wall": 1.0, "choices": None})
            if gone:
                self._late.append(event)
                continue
            for _ in range(1 + (generator.random() < 0.05)):
                channel.send_bytes(event)
            with suppress(IndexError):
                channel.send_bytes(self._late.popleft())
        if gone:
            return False
        channel.send_bytes(encode({**about, "is": "done"}))
        return True


def measure_workers(folder: Path, workers: int, count: int, epochs: int) -> None:
    path = folder / "ledger.sqlite"
    trials, graphs = make_trials(count, epochs)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * workers + 256), most))
    threading.stack_size(256 * 1024)
    for name in ("checkpoints", "weights"):
        (folder / name).mkdir()
    with LedgerWriter.create(path) as ledger:
        with ledger.transaction():
            ledger.add_trials(trials, graphs)
        events = 0

        def watch(event: dict[str, Any]) -> None:
            nonlocal events
            events += 1

        shown, over = 0, threading.Event()

        def show() -> None:
            nonlocal shown
            while not over.wait(0.2):
                with Ledger(path) as reader:
                    reader.counts()
                shown += 1

        threading.Thread(target=show, daemon=True).start()
        settings = RunSettings(workers=workers, threads=1)
        start = time.perf_counter()
        recorder = Recorder(folder, ledger, settings)
        pool = LocalPool(MadeUpWorkers(), workers)
        Driver(recorder, watch=watch, pool=pool).run(Interrupts())
        seconds = time.perf_counter() - start
        over.set()
        counts = ledger.counts()
        late = ledger.late_epochs()
        (killed,) = ledger.query("SELECT count(*) AS n FROM attempt WHERE outcome = 'killed'")
    print(
        f"{workers} made-up workers, {count} trials x {epochs} epochs: {events:,} events recorded "
        f"in {seconds:.1f} s, {events / seconds:,.0f} a second; {counts.done} done, "
        f"{counts.failed} failed, {killed['n']} workers lost, {len(late)} late results set aside, "
        f"{sum(one['agrees'] is True for one in late)} of them equal to the accepted ones; shown "
        f"{shown} times meanwhile"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--workers", type=int, help="Measure so many made-up workers instead.")
    parser.add_argument("--out", type=Path, help="An empty folder; by default a temporary one.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if asked.workers is None:
            measure_size(folder, asked.trials, asked.epochs)
        else:
            measure_workers(folder, asked.workers, asked.trials, asked.epochs)


if __name__ == "__main__":
    main()
