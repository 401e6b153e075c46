"""Processes that take turns: what is held stands still with all that it has started, and its time is not counted."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from benchmarks.turns import Side

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print("ready", flush=True)
child.wait()
"""


@pytest.fixture
def parent() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = psutil.Process(process.pid)
        try:
            yield tree
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):  # a test has killed them
                for each in (*tree.children(recursive=True), tree):
                    each.kill()


def works(process: psutil.Process) -> bool:
    """Whether the process gets any processor time, if it is waited for."""
    before, until = process.cpu_times().user, time.monotonic() + 5
    while time.monotonic() < until:
        if process.cpu_times().user > before:
            return True
        if process.status() == psutil.STATUS_STOPPED:
            return False
        time.sleep(0.02)
    return False


def test_a_side_stands_still_with_its_children_until_it_runs_and_again_when_it_is_held(parent: psutil.Process) -> None:
    (child,) = parent.children()
    with Side([parent.pid]) as side:
        assert not works(child)
        assert parent.status() == psutil.STATUS_STOPPED
        assert side.seconds == 0
        side.run()
        assert works(child)
        side.hold()
        assert not works(child)
        ran = side.seconds
        assert ran > 0
        side.hold()  # held already
        assert side.seconds == ran
        side.run()
        side.run()  # runs already
        side.hold()
        assert len(side.ran) == 2
    assert works(child), "a side that is left runs on"


def test_what_has_ended_meanwhile_is_no_matter(parent: psutil.Process) -> None:
    with Side([parent.pid]) as side:
        for process in (*parent.children(), parent):
            process.kill()
        parent.wait(5)
        side.run()
        side.hold()
