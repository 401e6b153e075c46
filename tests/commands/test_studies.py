"""`studies` lists the shipped study files, `init` writes one to start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balance_tune.cli import main
from balance_tune.studies.config.shipped import shipped_studies


def test_every_shipped_study_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["study", "what", "it", "compares"]
    assert [line.split()[0] for line in lines] == list(shipped_studies())
    assert main(["studies", "-f", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["summary"]) for entry in told] == [tuple(line.split(maxsplit=1)) for line in lines]


def test_one_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies", "quickstart"]) == 0
    assert capsys.readouterr().out == shipped_studies()["quickstart"].read_text()
    assert main(["studies", "quikstart"]) == 2
    assert "Did you mean `quickstart`?" in capsys.readouterr().err


def test_init_writes_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    assert "Next: balance-tune plan mine.yaml" in capsys.readouterr().out
    text = (tmp_path / "mine.yaml").read_text()
    assert "\nname: mine\n" in text
    assert main(["plan", "mine.yaml", "--no-measure"]) == 0
    assert main(["init", "mine"]) == 2
    assert "`mine.yaml` does" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == text


@pytest.mark.parametrize("name", ["a/b", "../x", "", "data", "x" * 101])
def test_a_name_that_no_study_may_have_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", name]) == 2
    assert "`NAME` must" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
