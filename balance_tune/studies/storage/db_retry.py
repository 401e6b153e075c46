"""Retries connections to a database that stopped answering, up to a limit after which the study ends cleanly."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from balance_tune.timeouts import seconds

if TYPE_CHECKING:
    from sqlalchemy import Engine

PATIENCE = seconds("BALANCE_TUNE_OUTAGE_S")
"""Seconds for which a database that does not answer is waited for."""

LONGEST = 10.0  # seconds between two attempts
AWAY = (StorageInternalError, SQLAlchemyError)  # what is raised where it did not answer, or failed within a statement
logger = logging.getLogger(__name__)


def waiting_for(engine: Engine, shown: str, *, patience: float = PATIENCE) -> None:
    """Make every new connection of `engine` wait, up to `patience` seconds, until the database answers.

    With `pool_pre_ping` a connection that died is replaced before a statement is sent on it, so that nothing is
    sent twice. `shown` is the address without its password, for the log.
    """

    def connect(dialect: Any, record: Any, args: list[Any], options: dict[str, Any]) -> Any:
        began, pause = time.monotonic(), 0.1
        while True:
            try:
                return dialect.connect(*args, **options)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() - began + pause > patience:
                    raise
                if pause == 0.1:
                    logger.warning("%s does not answer; the study waits for it up to %.0f s.", shown, patience)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)

    event.listen(engine, "do_connect", connect)
