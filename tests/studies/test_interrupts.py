"""Signals that ask a study to stop."""

import os
import signal

import pytest

from mpnn_arch.studies.interrupts import STOPS, Interrupts


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_asks_and_its_handler_returns(number):
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with Interrupts() as interrupts:
            assert not interrupts.asked
            os.kill(os.getpid(), number)
            assert interrupts.asked
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_under_nohup_a_closed_terminal_asks_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.asked
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupts.asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
