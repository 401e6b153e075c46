"""One driver per study over several machines: a row in a database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from balance_tune.errors import UserError
from balance_tune.studies.storage.database_lock import EXPIRY, INTERVAL, RETRY, DatabaseLock, is_held
from tests.studies.tracking.servers import free_port

YEAR = 365 * 86400.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    return str(request.getfixturevalue("postgres"))


def age(url: str, seconds: float) -> None:
    """Let the last renewal of every row be `seconds` longer ago."""
    with create_engine(url).begin() as connection:
        connection.execute(text(f"UPDATE balance_tune_leases SET beat = beat - {seconds}"))


def killed(url: str) -> DatabaseLock:
    """Return a lock that is held, and that nobody renews."""
    return DatabaseLock(url, "s", interval=YEAR).__enter__()


def is_free(url: str) -> bool:
    try:
        with DatabaseLock(url, "s"):
            return True
    except UserError as error:
        if "is being run by process" not in str(error):
            raise
        return False


def test_a_second_driver_is_refused_and_told_who_the_first_is(url: str) -> None:
    with DatabaseLock(url, "s"):
        assert not is_free(url)
        assert is_held(url, "s")
        with DatabaseLock(url, "other"):
            pass
    assert not is_held(url, "s")
    assert is_free(url)


def test_a_driver_that_was_killed_is_followed_after_a_while(url: str) -> None:
    first = killed(url)
    age(url, EXPIRY - 10)
    assert not is_free(url)
    assert first.renew()  # it lives after all
    age(url, EXPIRY - 10)
    assert is_held(url, "s")
    assert not is_free(url)
    age(url, 20)
    assert not is_held(url, "s")
    with DatabaseLock(url, "s") as follower:
        assert not first.renew()
        assert follower.renew()
        first.__exit__(None, None, None)
        assert follower.renew()  # the first releases nothing that is no longer its own


def test_a_renewal_in_the_far_future_blocks_nobody(url: str) -> None:
    first = killed(url)
    age(url, -(EXPIRY - 10))
    assert is_held(url, "s")  # a clock that was set back by a minute
    assert not is_free(url)
    age(url, -YEAR)
    assert not is_held(url, "s")
    assert is_free(url)
    first.__exit__(None, None, None)


def test_the_clock_is_the_databases_so_that_machines_may_disagree(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = killed(url)
    monkeypatch.setattr("time.time", lambda: 12345.0)
    assert is_held(url, "s")
    assert not is_free(url)
    first.__exit__(None, None, None)


def test_a_driver_that_was_taken_over_stops(url: str) -> None:
    stopped = threading.Event()
    with DatabaseLock(url, "s", interval=0.01, on_lost=stopped.set) as first:
        first._token, token = "another driver's", first._token
        assert stopped.wait(30)
        first._token = token


def test_a_driver_whose_database_was_away_soon_looks_whether_its_row_is_still_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    lost: list[str] = []
    lock = DatabaseLock(f"sqlite:///{tmp_path / 'shared.db'}", "s", on_lost=lambda: lost.append("lost"))
    answers: list[bool | SQLAlchemyError] = [True, SQLAlchemyError("away"), SQLAlchemyError("away"), True, False]

    def renew() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, SQLAlchemyError):
            raise answer
        return answer

    monkeypatch.setattr(lock, "renew", renew)
    monkeypatch.setattr(lock._ended, "wait", pauses.append)
    lock._keep()
    assert pauses == [INTERVAL, INTERVAL, RETRY, RETRY, INTERVAL]
    assert lost == ["lost"]


@pytest.mark.parametrize("call", [is_held, lambda url, study: DatabaseLock(url, study).__enter__()])
def test_a_database_that_is_away_is_one_line_without_its_password(call: Callable[[str, str], object]) -> None:
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/there"
    with pytest.raises(UserError, match=r"must answer, but postgresql://me:\*\*\*@127.* does not .*refused") as caught:
        call(url, "s")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
