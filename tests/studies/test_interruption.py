"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal

import pytest

from balance_tune.studies.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_insists(number: int) -> None:
    said: list[str] = []
    with Interruption(said.append) as interruption, interruption.patient():
        os.kill(os.getpid(), number)
        assert interruption.requested
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_where_nobody_looks_the_first_signal_insists() -> None:
    with Interruption(print) as interruption:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested


def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interruption(print) as interruption:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a library would
        interruption.install()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
