"""Trials in a database that several studies share."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

from balance_tune.errors import UserError
from balance_tune.studies.deletion import forget
from balance_tune.studies.storage.database import URL, connect, database_of
from balance_tune.studies.storage.db_retry import AWAY, waiting_for
from balance_tune.studies.storage.files import DATABASE, JOURNAL
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import export, open_storage
from tests.studies.postgres import binaries, server
from tests.studies.toy import ToyStudy, toy_config

SMALL: dict[str, Any] = {"datasets": ["d1"], "methods": ["joint"]}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    made = f"sqlite:///{tmp_path / 'shared.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    monkeypatch.setenv(URL, made)
    return str(made)


def told(source: Any) -> list[tuple[Any, ...]]:
    return [(r.arm, r.phase, r.number, r.state, dict(r.params), r.value, dict(r.curve)) for r in read_records(source)]


def test_a_study_in_a_database_is_the_one_in_a_journal_interrupted_or_not(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ToyStudy(tmp_path / "there", toy_config(**SMALL))
    for _ in range(3):
        there.play(11)
        there.reopen()
    there.play()
    assert there.queue.is_finished()
    assert not (tmp_path / "there" / JOURNAL).exists()
    assert "secret" not in (tmp_path / "there" / DATABASE).read_text()
    monkeypatch.delenv(URL)
    here = ToyStudy(tmp_path / "here", toy_config(**SMALL))
    here.play()
    monkeypatch.setenv(URL, url)
    assert told(tmp_path / "there") == told(tmp_path / "here")


def test_studies_of_one_name_do_not_see_each_other(url: str, tmp_path: Path) -> None:
    mine, yours = (ToyStudy(tmp_path / who / "s", toy_config(**SMALL)) for who in ("me", "you"))
    mine.play(20)
    assert [r for r in read_records(tmp_path / "you" / "s") if r.state == "complete"] == []
    yours.play()
    assert len(read_records(tmp_path / "me" / "s")) < len(read_records(tmp_path / "you" / "s"))
    forget(StudyFolder(tmp_path / "you" / "s"))
    assert read_records(tmp_path / "you" / "s") == []
    assert read_records(tmp_path / "me" / "s")
    assert len(connect(url).get_all_studies()) >= 2


def test_an_export_of_a_database_has_the_plain_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, f"sqlite:///{tmp_path / 'shared.db'}")
    ToyStudy(tmp_path / "s", toy_config(**SMALL)).play()
    export(open_storage(StudyFolder(tmp_path / "s")), tmp_path / "out.sqlite3")
    assert told(f"sqlite:///{tmp_path / 'out.sqlite3'}") == told(tmp_path / "s")


def test_a_study_that_has_a_journal_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = ToyStudy(tmp_path / "s", toy_config(**SMALL))
    study.play(5)
    monkeypatch.setenv(URL, f"sqlite:///{tmp_path / 'shared.db'}")
    study.reopen()
    study.play()
    assert database_of(tmp_path / "s") is None
    assert not (tmp_path / "shared.db").exists()


@pytest.mark.parametrize("other", ["", "sqlite:///elsewhere.db", "postgresql://me:secret@db/x"])
def test_without_the_right_address_a_study_in_a_database_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setenv(URL, f"sqlite:///{tmp_path / 'shared.db'}")
    ToyStudy(tmp_path / "s", toy_config(**SMALL)).play(2)
    monkeypatch.setenv(URL, other)
    with pytest.raises(UserError, match="the trials of `s` are in sqlite") as caught:
        read_records(tmp_path / "s")
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match=URL):
        open_storage(StudyFolder(tmp_path / "s"))


def test_a_database_that_does_not_answer_is_one_line_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, "postgresql://me:secret@127.0.0.1:1/x")
    with pytest.raises(UserError, match="must answer") as caught:
        open_storage(StudyFolder(tmp_path))
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / DATABASE).exists()


def test_a_database_that_crashed_and_is_back_answers_as_if_nothing_had_been() -> None:
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with server(programs) as database:
        storage = connect(database.url)
        study = optuna.create_study(storage=storage)
        for number in range(6):
            assert study.ask().number == number
            database.stop()
            back = threading.Timer(0.2, database.start)
            back.start()
            assert len(study.get_trials(deepcopy=False)) == number + 1
            back.join()


def test_a_database_that_stays_away_fails_after_a_while() -> None:
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with server(programs) as database:
        engine = create_engine(database.url, pool_pre_ping=True)
        waiting_for(engine, "it", patience=0.3)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
        database.stop()
        with pytest.raises(AWAY), engine.connect():
            pass
        database.start()
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_database_of_mlflows_is_told_in_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    MlflowClient(tracking_uri=url).search_experiments(max_results=1)
    with pytest.raises(UserError, match="must have a database of its own") as caught:
        connect(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("password", ["p@ss:s3cr3t", "s3cr3t/pw", "a:s3cr3t"])
def test_an_address_that_cannot_be_read_tells_no_part_of_its_password(password: str) -> None:
    with pytest.raises(UserError) as caught:
        connect(f"postgresql+psycopg://user:{password}@127.0.0.1:1/db")
    assert "s3cr3t" not in str(caught.value)
