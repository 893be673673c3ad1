"""Runs `mpnn-arch` again and again in processes that need not import torch anew.

Reads a line of JSON with `arguments`, `environment` and `output`, forks a process that runs the
command line, and answers with its number at once and its exit status when it has ended. A study's
workers come from a fork too, instead of from a fresh interpreter; all else is as in real life.
"""

import json
import os
import signal
import socket
import sys

import rich.progress  # noqa: F401
import sklearn.datasets  # noqa: F401

from mpnn_arch import cli
from mpnn_arch.studies import local_pool, nursery, plan, replay, runner, worker  # noqa: F401
from mpnn_arch.training import recipes  # noqa: F401


class Forked:
    """A child process with the methods of `subprocess.Popen` that a nursery needs."""

    def __init__(self, process):
        self.process = process

    def wait(self, timeout=None):
        return os.waitpid(self.process, 0)[1]

    def kill(self):
        os.kill(self.process, 9)


def fork_nursery():
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process:
        theirs.close()
        return ours, Forked(process)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as in a fresh interpreter
        signal.signal(number, signal.SIG_DFL)
    descriptor = os.dup2(theirs.fileno(), 3, inheritable=False)
    os.closerange(4, 4096)  # the driver's lock and ledger above all
    nursery.serve(descriptor)
    os._exit(0)


def serve():
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if not process:
            run(asked)
        print(json.dumps(process), flush=True)
        _, status = os.waitpid(process, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def run(asked):
    code = 1
    try:
        os.environ.update(asked["environment"])
        sys.path[:0] = filter(None, os.environ.get("MODULES", "").split(os.pathsep))
        output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        nursery.launch_process = fork_nursery
        cli.main(asked["arguments"])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
