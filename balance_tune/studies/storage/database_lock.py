"""A lock in a database, for drivers on several machines: one row a study, which its holder renews while it lives.

A row, and not PostgreSQL's advisory lock: that belongs to a connection, so an outage or a connection pooler drops it
while its holder works on, and a server notices a machine that was lost after hours only. All times are read from the
database's clock, so clocks of machines that differ do no harm.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from balance_tune.errors import UserError
from balance_tune.studies.storage.database import connect_arguments
from balance_tune.studies.wording import one_line
from balance_tune.timeouts import seconds

INTERVAL = 15.0  # seconds between two renewals
RETRY = 1.0  # seconds until the next where the database did not answer: another driver may hold the row by then
EXPIRY = 90.0  # seconds without a renewal after which a holder counts as dead
PAUSE = 2.0  # seconds between two attempts of a driver that waits for another one (BALANCE_TUNE_TAKEOVER_S)
LEASES = sa.Table(
    "balance_tune_leases",
    sa.MetaData(),
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("holder", sa.String(300), nullable=False),
    sa.Column("beat", sa.Float, nullable=False),  # last renewal, in seconds since 1970
)
logger = logging.getLogger(__name__)


def is_held(url: str, study: str) -> bool:
    """Return whether a driver that lives holds the row of a study.

    Raises:
        UserError: the database does not answer.
    """
    engine = sa.create_engine(url, connect_args=connect_arguments(url))
    try:
        with _one_line_errors(engine):
            LEASES.create(engine, checkfirst=True)
            with engine.connect() as connection:
                row = sa.select(LEASES.c.study).where(LEASES.c.study == study, ~_expired(engine))
                return connection.execute(row).first() is not None
    finally:
        engine.dispose()


class DatabaseLock:
    """Holds the row of a study while a block runs.

    The row of a holder that was killed is free after `EXPIRY` seconds. A holder whose row
    another driver took over (the database did not answer for long) calls `on_lost`, by default a clean stop.

    Args:
        url: the database.
        study: the study's key, unique in the database.
        interval: seconds between two renewals.

    Raises:
        UserError: another driver holds the row, which the message names; or the database does not answer.
    """

    def __init__(
        self, url: str, study: str, *, interval: float = INTERVAL, on_lost: Callable[[], None] | None = None
    ) -> None:
        self._engine = sa.create_engine(url, pool_pre_ping=True, connect_args=connect_arguments(url))
        self._study, self._interval, self._on_lost = study, interval, on_lost or _stop_cleanly
        self._token = secrets.token_hex(16)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="database-lock", daemon=True)

    def __enter__(self) -> DatabaseLock:
        with _one_line_errors(self._engine):
            LEASES.create(self._engine, checkfirst=True)
            deadline = time.monotonic() + seconds("BALANCE_TUNE_TAKEOVER_S")
            acquired = self._acquire()
            while not acquired and time.monotonic() < deadline:
                self._ended.wait(PAUSE)
                acquired = self._acquire()
            if not acquired:
                raise UserError(
                    f"one study must have one driver, but this one is being run by {self._holder()}; wait for it or "
                    f"stop it, then run again (the lock of a driver that was killed is free after {EXPIRY:.0f} s)."
                )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.delete(LEASES).where(self._is_mine()))
        except SQLAlchemyError as failure:  # it expires by itself
            logger.warning("The study's lock in the database could not be released: %s", type(failure).__name__)
        self._engine.dispose()

    def renew(self) -> bool:
        """Record that the holder lives; return False where another driver holds the row."""
        with self._engine.begin() as connection:
            rows = connection.execute(sa.update(LEASES).where(self._is_mine()).values(beat=_clock(self._engine)))
            return bool(rows.rowcount)

    def _acquire(self) -> bool:
        values: dict[str, Any] = {
            "token": self._token,
            "holder": f"process {os.getpid()} on {platform.node()}",
            "beat": _clock(self._engine),
        }
        with self._engine.begin() as connection:
            expired = sa.and_(LEASES.c.study == self._study, _expired(self._engine))
            if connection.execute(sa.update(LEASES).where(expired).values(**values)).rowcount:
                return True
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(LEASES).values(study=self._study, **values))
        except IntegrityError:
            return False
        return True

    def _holder(self) -> str:
        with self._engine.connect() as connection:
            holder = connection.execute(sa.select(LEASES.c.holder).where(LEASES.c.study == self._study)).scalar()
        return holder or "another driver"

    def _is_mine(self) -> sa.ColumnElement[bool]:
        return sa.and_(LEASES.c.study == self._study, LEASES.c.token == self._token)

    def _keep(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            pause = self._interval
            try:
                if not self.renew():
                    logger.error("Another driver has taken the study over; this one stops.")
                    self._on_lost()
                    return
            except SQLAlchemyError as failure:
                logger.warning("The study's lock in the database could not be renewed: %s", type(failure).__name__)
                pause = min(self._interval, RETRY)


def _clock(engine: sa.Engine) -> sa.ColumnElement[Any]:
    """Return the database's clock as an expression, in seconds since 1970; this machine's where it is not known how."""
    match engine.dialect.name:
        case "postgresql":
            return sa.extract("epoch", sa.func.clock_timestamp())
        case "sqlite":
            return (sa.func.julianday("now") - 2440587.5) * 86400.0
        case "mysql" | "mariadb":
            return sa.func.unix_timestamp(sa.func.now(6))
        case _:
            return sa.literal(time.time())


def _expired(engine: sa.Engine) -> sa.ColumnElement[bool]:
    """Return the condition that a row's holder is dead. A time far in the future is from a clock that was set back."""
    now = _clock(engine)
    return ~LEASES.c.beat.between(now - EXPIRY, now + EXPIRY)


@contextmanager
def _one_line_errors(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = one_line(str(getattr(error, "orig", None) or error))[:120]
        url = engine.url.set(query={}).render_as_string(hide_password=True)
        raise UserError(f"the study's database must answer, but {url} does not ({reason}).") from error


def _stop_cleanly() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
