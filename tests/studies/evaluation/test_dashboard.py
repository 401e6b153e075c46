"""Optuna's own dashboard on a study."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from balance_tune.cli import main
from balance_tune.errors import UserError
from balance_tune.studies.evaluation import dashboard


def test_it_shows_every_arm_of_the_study_and_ends_with_ctrl_c(small_study: Path) -> None:
    command = [sys.executable, "-u", "-m", "balance_tune", "ui", "small", "--optuna", "--root", str(small_study.parent)]
    served = subprocess.Popen(
        command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"NO_PROXY": "*"},
    )  # fmt: skip
    try:
        assert served.stdout is not None
        line = served.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, line
        with urllib.request.urlopen(f"{found[0]}/api/studies", timeout=60) as answer:
            studies = json.load(answer)["study_summaries"]
        assert {s["study_name"] for s in studies} >= {"multiple_features/joint", "multiple_features/mlb"}
        served.send_signal(signal.SIGINT)
        assert served.wait(120) == 0
    finally:
        served.kill()
        served.communicate()


def test_where_it_is_not_installed_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install optuna-dashboard"):
        dashboard.dashboard(tmp_path, host="127.0.0.1", port=8080)


def test_it_needs_the_name_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--optuna", "--root", str(tmp_path)]) == 2
    assert "balance-tune ui STUDY --optuna" in capsys.readouterr().err
