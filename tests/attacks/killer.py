"""Run ``mpnn-arch`` in a child process, and kill it: at a time, or at a numbered system call.

It runs in a process of its own, which imports the library once and forks every child from it: a
child starts in milliseconds, and the kills fall into the training rather than into imports. Each
line on standard input is a JSON object with ``arguments`` and one of ``seconds``, ``call`` (the
number of the call to the file system, from 0) and neither; each line on standard output is the
child's exit code, negative if it was killed, and its number of calls.
"""

import json
import os
import signal
import sys
import time
from typing import Any

CALLS = ("mkdir", "open", "fsync", "replace", "rename", "unlink", "rmdir", "ftruncate")


def count_calls(kill_at: int | None) -> list[int]:
    """Count calls that change files, and kill this process before number ``kill_at``."""
    count = [0]

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    return count


def child(order: dict[str, Any], report: int) -> None:
    from mpnn_arch import cli

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if not order.get("show"):
        os.dup2(null, 2)
    count = count_calls(order.get("call"))
    code: Any = 0
    try:
        cli.main(order["arguments"])
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        code = 70
    os.write(report, str(count[0]).encode())
    os._exit(code)


def run(order: dict[str, Any]) -> tuple[int, int]:
    reading, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(order, report)
    os.close(report)
    if order.get("seconds") is not None:
        until = time.monotonic() + order["seconds"]
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while time.monotonic() < until and os.waitid(os.P_PID, pid, ended) is None:
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    calls = os.read(reading, 100)
    os.close(reading)
    return os.waitstatus_to_exitcode(status), int(calls or 0)


def main() -> None:
    # What a child would otherwise import; nothing here starts a thread.
    import sklearn.datasets  # noqa: F401

    import mpnn_arch.cli.asked
    import mpnn_arch.cli.train
    import mpnn_arch.io.figures
    import mpnn_arch.studies.in_process
    import mpnn_arch.studies.run_products  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
