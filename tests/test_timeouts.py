"""Times in the environment: what is no number of seconds is one line, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune import timeouts
from balance_tune.cli import main
from balance_tune.errors import UserError
from balance_tune.studies.engine import run_study


@pytest.mark.parametrize("name", timeouts.DEFAULTS)
@pytest.mark.parametrize("value", ["10s", "-1", "nan", "inf", "ten"])
def test_what_is_no_time_is_told_and_never_a_trials_fault(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["fusions"]) == 2
    told = capsys.readouterr().err
    assert told == f"balance-tune: {name} must be a number of seconds of at least 0, but is `{value}`.\n"
    assert timeouts.seconds(name) == timeouts.DEFAULTS[name]


@pytest.mark.parametrize(("value", "expected"), [("", 10.0), ("0", 0.0), ("2.5", 2.5), ("1e9", 1e9)])
def test_a_time_is_what_it_is_set_to(monkeypatch: pytest.MonkeyPatch, value: str, expected: float) -> None:
    monkeypatch.setenv("BALANCE_TUNE_SAVE_EVERY_S", value)
    assert timeouts.seconds("BALANCE_TUNE_SAVE_EVERY_S") == expected
    timeouts.check()


def test_a_study_begun_from_python_is_told_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BALANCE_TUNE_SILENCE_S", "half an hour")
    with pytest.raises(UserError, match="BALANCE_TUNE_SILENCE_S must be a number of seconds"):
        run_study({"name": "s", "datasets": ["watch"], "methods": ["joint"]}, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
