"""How long 12 trials take through 2 workers, against 12 in turn.

    python experiments/benchmarks/workers.py --repeats 3

One thread each; the two are taken in turn, and the time of starting the processes counts. To be run
on a quiet machine: beside other load, two processes get twice the share of one, and the ratio of
wall times says nothing. So the load is printed, and the time that all programs kept the processors
busy (Linux): how much more of it the two workers take shows what they cost each other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.training.config import TrainingConfig


def seconds(config: StudyConfig, folder: Path, workers: int) -> tuple[float, float]:
    """Wall seconds, and those that the processors were busy."""
    study = Study.create(folder, config)
    start, before = time.perf_counter(), busy_seconds()
    counts = study.run(workers=workers, threads=1, device="cpu", population="off")
    assert counts.done == counts.trials
    return time.perf_counter() - start, busy_seconds() - before


def busy_seconds() -> float:
    """Of all processors together since the machine started; 0 without /proc.

    All programs', since a study's workers are not children of the process that runs it.
    """
    try:
        user, nice, system, _idle, _wait, irq, softirq, *_ = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        )
    except OSError:
        return 0.0
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    config = StudyConfig(
        model="mlp",
        dataset="mnist5k",
        graphs=("sample:64/52/0:6",),
        seeds=(0, 1),
        training=TrainingConfig(epochs=asked.epochs),
    )
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(asked.repeats):
            load = os.getloadavg()[0]
            alone, busy = seconds(config, Path(temporary) / f"{repeat}-1", 1)
            both, busy_both = seconds(config, Path(temporary) / f"{repeat}-2", 2)
            ratios.append(both / alone)
            more = busy_both / max(busy, 1e-9)
            print(
                f"in turn {alone:.1f} s ({busy:.1f} s of processors), two workers {both:.1f} s "
                f"({busy_both:.1f} s): {ratios[-1]:.2f}, of processors {more:.2f}; "
                f"load before {load:.1f} on {os.cpu_count()} cores",
                flush=True,
            )
    print(f"median ratio of wall times {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
