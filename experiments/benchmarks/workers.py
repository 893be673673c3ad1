"""How long 12 trials take through 2 workers, against 12 in turn.

    python experiments/benchmarks/workers.py --repeats 3

One thread each; the two are taken in turn, and the time of starting the processes counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.training.config import TrainingConfig


def seconds(config: StudyConfig, folder: Path, workers: int) -> float:
    study = Study.create(folder, config)
    start = time.perf_counter()
    study.run(workers=workers, threads=1, device="cpu")
    return time.perf_counter() - start


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
            alone = seconds(config, Path(temporary) / f"{repeat}-1", 1)
            both = seconds(config, Path(temporary) / f"{repeat}-2", 2)
            ratios.append(both / alone)
            print(f"in turn {alone:.1f} s, two workers {both:.1f} s: {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
