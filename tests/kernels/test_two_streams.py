"""Gradients side by side in a CUDA graph, on streams that are not there."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from mpnn_arch import RelationalLinear, graphs
from mpnn_arch.kernels import product, two_streams
from mpnn_arch.kernels.two_streams import both


@pytest.fixture
def device(monkeypatch):
    """Records what is enqueued on which stream."""
    log = []
    now = ["main"]

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            log.append(f"{self.name} waits for {other.name}")

    @contextlib.contextmanager
    def stream(entered):
        before, now[0] = now[0], entered.name
        yield
        now[0] = before

    state = SimpleNamespace(log=log, now=now, capturing=True)
    two_streams._side_stream.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    yield state
    two_streams._side_stream.cache_clear()


def enqueue(device, name):
    def run():
        device.log.append(f"{name} on {device.now[0]}")
        return name

    return run


def test_a_branch_begins_and_ends_with_the_two(device):
    like = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0))
    assert both(enqueue(device, "dX"), enqueue(device, "dW"), like) == ("dX", "dW")
    assert device.log == [
        "side waits for main",
        "dW on side",
        "dX on main",
        "main waits for side",
    ]
    assert device.now == ["main"]


@pytest.mark.parametrize(("is_cuda", "capturing"), [(True, False), (False, True)])
def test_elsewhere_they_follow_each_other(device, is_cuda, capturing):
    device.capturing = capturing
    like = SimpleNamespace(is_cuda=is_cuda, device=torch.device("cuda", 0))
    assert both(enqueue(device, "dX"), enqueue(device, "dW"), like) == ("dX", "dW")
    assert device.log == ["dX on main", "dW on main"]


def test_a_backward_pass_computes_both_gradients_so(monkeypatch):
    called = []

    def recorded(first, second, like):
        called.append(like.shape)
        return first(), second()

    monkeypatch.setattr(product, "both", recorded)
    layer = RelationalLinear(graphs.ring(4, 2), 8, 8, backend="gather")
    x = torch.randn(3, 8, requires_grad=True)
    layer(x).sum().backward()
    assert called == [(3, 8)]
    matrix = layer.dense_weight().detach()
    torch.testing.assert_close(x.grad, matrix.sum(0).expand(3, 8))
    layer(x.detach()).sum().backward()  # no gradient for x
    assert len(called) == 1
