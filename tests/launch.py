"""Several processes that find each other as those of torchrun do, without its start-up time."""

import os
import socket
import subprocess
import sys


def launch(count, *arguments, **environment):
    """Start `python arguments` so many times as ranks of one group; return the processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                **environment,
            },
        )
        for rank in range(count)
    ]


def run(count, *arguments, **environment):
    """Exit codes and outputs of all ranks."""
    processes = launch(count, *arguments, **environment)
    try:
        outputs = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs
