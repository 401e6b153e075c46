"""`balance-tune plan`: readable, and the same as JSON."""

import json
from pathlib import Path

import pytest

from balance_tune.cli import main

QUICKSTART = str(Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balance_tune.studies.monitor.timing._measure", lambda config, arm, root: 0.1)
    monkeypatch.setattr("balance_tune.studies.monitor.plan.this_machine", lambda: (2, 0))
    monkeypatch.delenv("BALANCE_TUNE_REACH", raising=False)


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["plan", QUICKSTART, *argv]) == 0
    return capsys.readouterr().out


def test_the_quickstarts_trials_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(planned(capsys, "--root", str(tmp_path), "-f", "json"))
    assert (found["trials"]["search"], found["trials"]["select"]) == (300, 120)
    assert (found["trials"]["confirm_least"], found["trials"]["confirm"]) == (60, 120), "fewer where a default wins"
    assert (found["trials"]["total_least"], found["trials"]["total"]) == (480, 540)
    assert found["epochs"]["most"] == 540 * 20
    assert len(found["arms"]) == 12
    assert (found["slots"], found["fills"]) == (2, 60)


def test_text_says_arms_rungs_times_and_money(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, "--root", str(tmp_path), "price_per_device_hour=3")
    assert "12 arms from 2 datasets and 5 methods in 5 replicates" in text
    assert "av_digits/ogm_ge" in text
    assert "search 300 (5 per arm and replicate), select 120, confirm 60 to 120: 480 to 540 in all" in text
    assert "2 trials on 2 CPUs of this machine; the study can fill 60" in text
    assert "0.1 s (av_digits)" in text
    for title in ("wall time", "device-hours", "price"):
        assert any(line.startswith(title) and "about" in line for line in text.splitlines())


def test_nothing_is_written_without_a_measurement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, "--root", str(tmp_path / "none"), "--no-measure")
    assert "not measured" in text
    assert "wall time" not in text
    assert not (tmp_path / "none").exists()


def test_the_size_of_a_cluster_can_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCE_TUNE_REACH", '{"CPU": 64, "GPU": 8}')
    text = planned(capsys, "--root", str(tmp_path))
    assert "32 trials on 64 CPUs and 8 GPUs of the cluster that BALANCE_TUNE_REACH tells" in text
    assert "The time of an epoch is this machine's" in text
    monkeypatch.setenv("BALANCE_TUNE_REACH", "64")
    assert main(["plan", QUICKSTART, "--root", str(tmp_path)]) == 2
    assert "must look like" in capsys.readouterr().err
