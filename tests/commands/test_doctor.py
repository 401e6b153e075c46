"""`balance-tune doctor`: what it prints and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balance_tune.cli import main
from balance_tune.studies import doctor
from balance_tune.studies.doctor import Finding

WELL = Finding("devices", "ok", "2 CPUs")
ILL = Finding("token", "fail", "none", "make one")


@pytest.mark.parametrize(("found", "status"), [([WELL], 0), ([WELL, ILL], 1), ([Finding("disk", "warn", "a", "b")], 0)])
def test_a_failure_is_status_1_and_every_check_a_line(
    found: list[Finding],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda root, config: iter(found))
    assert main(["doctor", "--root", str(tmp_path)]) == status
    assert capsys.readouterr().out.splitlines() == [str(f) for f in found]
    assert main(["doctor", "--root", str(tmp_path), "-f", "json"]) == status
    assert [f["check"] for f in json.loads(capsys.readouterr().out)] == [f.check for f in found]


def test_the_study_is_read_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text("name: s\ndatasets: [nothing]\nmethods: [joint]\n")
    assert main(["doctor", str(tmp_path / "s.yaml"), "--root", str(tmp_path)]) == 2
    assert "nothing" in capsys.readouterr().err
