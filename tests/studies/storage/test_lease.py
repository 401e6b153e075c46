"""One driver per study over several machines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.storage.lease import PATIENCE, Lease, held
from tests.studies.tracking.servers import free_port


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    return str(request.getfixturevalue("postgres"))


def test_a_second_driver_is_refused_and_told_who_the_first_is(url: str) -> None:
    with Lease(url, "s"):
        with pytest.raises(UserError, match="being run by process"), Lease(url, "s"):
            pass
        with Lease(url, "other"):
            pass
    with Lease(url, "s"):
        pass


def test_a_driver_that_was_killed_is_followed_after_a_while(url: str) -> None:
    clock = Clock()
    killed = Lease(url, "s", clock=clock).__enter__()
    clock.now += PATIENCE - 1
    with pytest.raises(UserError), Lease(url, "s", clock=clock):
        pass
    assert killed.renew()  # it lives after all
    clock.now += PATIENCE - 1
    with pytest.raises(UserError), Lease(url, "s", clock=clock):
        pass
    clock.now += 2
    with Lease(url, "s", clock=clock) as follower:
        assert not killed.renew()
        assert follower.renew()
        killed.__exit__(None, None, None)
        assert follower.renew()  # the first gives back nothing that is no longer its own


def test_a_driver_that_was_taken_over_stops(url: str) -> None:
    clock, stopped = Clock(), threading.Event()
    with Lease(url, "s", clock=clock, beat=0.01, lost=stopped.set) as first:
        clock.now += 10 * PATIENCE
        first._token, token = "somebody else's", first._token
        assert stopped.wait(30)
        first._token = token


@pytest.mark.parametrize("asked", [held, lambda url, study: Lease(url, study).__enter__()])
def test_a_database_that_is_away_is_one_line_without_its_password(asked: Callable[[str, str], object]) -> None:
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/there"
    with pytest.raises(UserError, match=r"must answer, but postgresql://me:\*\*\*@127.* does not .*refused") as caught:
        asked(url, "s")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
