"""One driver per study over several machines: a row in the study's database, kept alive by a heartbeat.

The kernel's lock on the study's folder is enough on one machine; file systems that several machines share do not all
carry it from one to the other.
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

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    Float,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from balance_tune.errors import UserError
from balance_tune.studies.storage.database import connect_arguments
from balance_tune.studies.wording import one_line
from balance_tune.timeouts import seconds

BEAT = 15.0  # seconds between two heartbeats
PATIENCE = 90.0  # seconds without one after which a holder counts as dead
PAUSE = 2.0  # seconds between two attempts of a driver that waits for another one (BALANCE_TUNE_TAKEOVER_S)
LEASES = Table(
    "balance_tune_leases",
    MetaData(),
    Column("study", String(200), primary_key=True),
    Column("token", String(32), nullable=False),
    Column("holder", String(300), nullable=False),
    Column("beat", Float, nullable=False),  # seconds since 1970, by the holder's clock
)
logger = logging.getLogger(__name__)


def held(url: str, study: str) -> bool:
    """Return whether a driver that lives holds the row of a study.

    Raises:
        UserError: the database does not answer.
    """
    engine = create_engine(url, connect_args=connect_arguments(url))
    try:
        with _answering(engine):
            LEASES.create(engine, checkfirst=True)
            with engine.connect() as connection:
                beat = connection.execute(select(LEASES.c.beat).where(LEASES.c.study == study)).scalar()
    finally:
        engine.dispose()
    return beat is not None and abs(time.time() - beat) <= PATIENCE


@contextmanager
def _answering(engine: Engine) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = one_line(str(getattr(error, "orig", None) or error))[:120]
        where = engine.url.set(query={}).render_as_string(hide_password=True)
        raise UserError(f"the study's database must answer, but {where} does not ({reason}).") from error


def _stop_cleanly() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Lease:
    """Holds the row of a study in the database at `url` while the study runs; a context manager.

    A holder that was killed is followed after `PATIENCE` seconds. One that loses its row (the database was away so long
    that somebody else took over) calls `lost`, by default a clean stop of this process.

    Raises:
        UserError: another driver holds it, which the message names; or the database does not answer.
    """

    def __init__(
        self,
        url: str,
        study: str,
        *,
        beat: float = BEAT,
        clock: Callable[[], float] = time.time,
        lost: Callable[[], None] = _stop_cleanly,
    ) -> None:
        self._engine = create_engine(url, pool_pre_ping=True, connect_args=connect_arguments(url))
        self._study, self._beat, self._clock, self._lost = study, beat, clock, lost
        self._token = secrets.token_hex(16)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        with _answering(self._engine):
            LEASES.create(self._engine, checkfirst=True)
            deadline = time.monotonic() + seconds("BALANCE_TUNE_TAKEOVER_S")
            taken = self._take()
            while not taken and time.monotonic() < deadline:
                self._ended.wait(PAUSE)
                taken = self._take()
        if not taken:
            raise UserError(
                f"one study must have one driver, but this one is being run by {self._holder()}; wait for it or stop "
                f"it, then run again (a driver that was killed is followed after {PATIENCE:.0f} seconds)."
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
                connection.execute(delete(LEASES).where(self._mine()))
        except SQLAlchemyError as failure:  # it runs out by itself
            logger.warning("The lease of the study could not be given back: %s", type(failure).__name__)
        self._engine.dispose()

    def renew(self) -> bool:
        """Say that the holder lives; False where somebody else holds the row."""
        with self._engine.begin() as connection:
            done = connection.execute(update(LEASES).where(self._mine()).values(beat=self._clock()))
            return bool(done.rowcount)

    def _take(self) -> bool:
        now = self._clock()
        row = {"token": self._token, "holder": f"process {os.getpid()} on {platform.node()}", "beat": now}
        free = or_(LEASES.c.beat < now - PATIENCE, LEASES.c.beat > now + PATIENCE)  # the latter: a clock far off
        with self._engine.begin() as connection:
            taken = connection.execute(update(LEASES).where(LEASES.c.study == self._study, free).values(**row))
            if taken.rowcount:
                return True
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(LEASES).values(study=self._study, **row))
        except IntegrityError:
            return False
        return True

    def _holder(self) -> str:
        with self._engine.connect() as connection:
            found = connection.execute(select(LEASES.c.holder).where(LEASES.c.study == self._study)).scalar()
        return found or "another driver"

    def _mine(self) -> ColumnElement[bool]:
        return and_(LEASES.c.study == self._study, LEASES.c.token == self._token)

    def _keep(self) -> None:
        while not self._ended.wait(self._beat):
            try:
                if not self.renew():
                    logger.error("Another driver has taken the study over; this one stops.")
                    self._lost()
                    return
            except SQLAlchemyError as failure:
                logger.warning("The database does not answer the heartbeat: %s", type(failure).__name__)
