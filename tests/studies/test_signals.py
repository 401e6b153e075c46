"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import pytest

from balance_tune.studies import signals
from balance_tune.studies.signals import Interruption, sigterm_as_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_insists(number: int) -> None:
    said: list[str] = []
    with Interruption(said.append) as stop, stop.patient():
        os.kill(os.getpid(), number)
        assert stop.requested
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_where_nobody_looks_the_first_signal_insists() -> None:
    with Interruption(print) as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested


def test_a_stop_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 0.0)
    left: list[int] = []
    gone = threading.Event()

    def leave(status: int) -> None:
        left.append(status)
        gone.set()

    stop = Interruption(lambda text: None, leave)
    with stop, stop.patient():
        os.kill(os.getpid(), signal.SIGTERM)
        assert gone.wait(timeout=60)
    assert left == [130]


def test_a_stop_that_has_settled_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 3600.0)
    left: list[int] = []
    stop = Interruption(lambda text: None, left.append)
    with stop, stop.patient():
        os.kill(os.getpid(), signal.SIGTERM)
        timer = stop._timer
        assert timer is not None
        assert timer.is_alive()
        stop.cancel_timeout()
        timer.join()
    assert left == []


def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interruption(print) as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a library would
        stop.install()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_that_a_library_swallows_is_given_again_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    class Swallowing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with Interruption(print) as stop:
        Swallowing()
        assert not stop.requested, "it came through at once: nothing was swallowed"
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(60)
        assert stop.requested
    assert capsys.readouterr() == ("", "")


def test_other_exceptions_that_nobody_can_catch_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("of its own")

    told = list[str]()

    def hook(unraisable: Any) -> None:
        told.append(str(unraisable.exc_value))

    monkeypatch.setattr("sys.unraisablehook", hook)
    with Interruption(print):
        Failing()
    assert told == ["of its own"]
    assert sys.unraisablehook is hook


def test_sigterm_is_heard_as_ctrl_c_and_the_handler_is_put_back() -> None:
    before, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == (before, hook)


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, SystemExit])
def test_what_is_swallowed_is_heard_again(stopped: type[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    class Swallowing:
        def __del__(self) -> None:
            raise stopped

    def swallow_and_wait() -> None:
        Swallowing()
        threading.Event().wait(60)

    with sigterm_as_interrupt(), pytest.raises(KeyboardInterrupt):
        swallow_and_wait()
    assert capsys.readouterr() == ("", "")


def test_another_thread_has_no_signals_to_hear() -> None:
    before: list[Any] = []

    def work() -> None:
        with sigterm_as_interrupt():
            before.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert before == [signal.getsignal(signal.SIGTERM)]
