"""A round in a process of its own, started by ``spawn``, with its weights in shared memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import torch
from torch import multiprocessing, nn
from mpnn_arch import RelationalConv2d, RelationalLinear


def child(jobs):
    with torch.no_grad():
        for model, x, out, _ in jobs:
            out.copy_(model(x))
            for parameter in model.parameters():
                parameter.fill_(1)


if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    vectors, maps = torch.randn(5, 16), torch.randn(2, 16, 5, 5)
    jobs = []
    for layer, x in (
        (nn.Linear(16, 24), vectors),
        (RelationalLinear("ws_flex:8,4,0.2,0", 16, 24), vectors),
        (RelationalLinear("ring:8,2", 16, 24, aggr="max", norm="batch"), vectors),
        (RelationalConv2d("ring:8,2", 16, 24, 3, padding=1), maps),
    ):
        model = nn.Sequential(layer).eval()
        expected = model(x).detach()
        model.share_memory()
        jobs.append((model, x, torch.zeros_like(expected).share_memory_(), expected))
    process = spawn.Process(target=child, args=(jobs,))
    process.start()
    process.join()
    assert process.exitcode == 0
    for model, _, out, expected in jobs:
        torch.testing.assert_close(out, expected)
        assert all((parameter == 1).all() for parameter in model.parameters())
    print("same")
"""


def test_a_spawned_process_computes_the_same_and_shares_the_weights(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]
