"""What a running study shows: lines, JSON events, or a live table."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balance_tune.studies.monitor import progress
from balance_tune.studies.monitor.estimate import outlook
from balance_tune.studies.monitor.progress import JsonLines, LiveTable, PlainLines, picture, progress_of
from balance_tune.studies.protocol.keys import TrialKey
from tests.studies.monitor.test_estimate import study_of


def test_plain_lines_say_how_each_trial_ended() -> None:
    stream = io.StringIO()
    shown = PlainLines(stream)
    shown.trial_ended(TrialKey("d/a", "search", 3), "failed", {"reason": "train/loss is nan in epoch 2", "epochs": 1})
    shown.trial_ended(TrialKey("d/a", "confirm", 1), "complete", {"epochs": 9})
    first, second = stream.getvalue().splitlines()
    assert first == "d/a search 3: FAILED after 1 epoch: train/loss is nan in epoch 2"
    assert second.startswith("d/a confirm 1: completed after 9 epochs")


@pytest.mark.parametrize("display", [PlainLines, JsonLines])
def test_what_is_awaited_at_the_end_is_a_line_now_and_then(display: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    stream = io.StringIO()
    shown = display(stream)
    for left in range(40):
        shown.show_wait(f"writing to MLflow: {left} runs left")
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= 10
    assert all("runs left" in line for line in lines)


def test_in_a_terminal_what_is_awaited_is_one_line_that_is_gone_in_the_end() -> None:
    stream = io.StringIO()
    shown = LiveTable(stream)
    shown.close()
    for left in (2, 1):
        shown.show_wait(f"writing to MLflow: {left} runs left")
    shown.close()
    assert stream.getvalue().count("\n") <= 2


def test_every_json_line_is_an_event(tmp_path: Path) -> None:
    stream = io.StringIO()
    shown = JsonLines(stream)
    study = study_of(tmp_path)
    shown.message("hello")
    shown.trial_ended(TrialKey("d/a", "search", 3), "pruned", {"epochs": 3, "device_seconds": 1.5})
    shown.show(outlook(study.queue), None)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [e["event"] for e in events] == ["message", "trial", "progress"]
    assert events[1] == {
        "event": "trial", "arm": "d/a", "phase": "search", "number": 3, "replicate": 0, "state": "pruned",
        "epochs": 3, "device_seconds": 1.5,
    }  # fmt: skip


def test_elsewhere_than_in_a_terminal_lines_are_plain(tmp_path: Path) -> None:
    assert isinstance(progress_of("auto", io.StringIO()), PlainLines)


def test_the_live_picture_has_a_row_an_arm_and_one_for_all(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.play(30)
    assert picture(outlook(study.queue), 75.0).row_count == 3
