"""Who waits for the compiler at a terminal is told so; a log is not."""

import io
import sys
import time

import pytest

from mpnn_arch.kernels import cpu_library, notice, triton_launch
from mpnn_arch.kernels.notice import said_if_slow


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(notice, "_SAID", set())


@pytest.mark.parametrize(
    ("stream", "takes", "said"),
    [(Terminal, 0.3, "it compiles\n"), (Terminal, 0.0, ""), (io.StringIO, 0.3, "")],
)
def test_only_someone_who_waits_is_told(monkeypatch, stream, takes, said):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    written = stream()
    monkeypatch.setattr(sys, "stderr", written)
    with said_if_slow("it compiles", seconds=0.1):
        time.sleep(takes)
    assert written.getvalue() == said


def test_loading_the_kernels_tells(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    written = Terminal()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(cpu_library, "said_if_slow", lambda text: said_if_slow(text, seconds=0.05))
    monkeypatch.setattr(cpu_library, "Kernels", lambda: time.sleep(0.2))
    cpu_library.load.__wrapped__()
    assert "compiles its C++ kernels, once" in written.getvalue()


def test_tuning_many_layers_tells_once(monkeypatch):
    testing = pytest.importorskip("triton.testing", reason="Triton is not installed")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    written = Terminal()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(
        triton_launch, "said_if_slow", lambda text: said_if_slow(text, seconds=0.05)
    )
    monkeypatch.setattr(testing, "do_bench", lambda run, **_: time.sleep(0.2) or run())
    for _ in range(2):
        assert triton_launch._fastest(lambda config: config, [3, 2]) == 2
    assert written.getvalue().count("compiles and times its GPU kernels") == 1
