"""The pruning log of a study in an object store, which takes no appends: one database row per decision."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table, Text, create_engine, delete, insert, select

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.database import connect_arguments, place_of, shown
from balance_tune.studies.storage.db_retry import waiting_for
from balance_tune.studies.storage.files import DATABASE, PRUNING_LOG
from balance_tune.studies.storage.object_store import StoreUnavailable
from balance_tune.studies.storage.study_folder import StudyFolder

LINES = Table(
    "balance_tune_ledger",
    MetaData(),
    Column("study", String(200), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("line", Text, nullable=False),
)


class PruningTable:
    """The lines of one study's pruning log, in order.

    Where two drivers both believe that they hold the study, the second to write a position fails, so decisions of two
    drivers are never mixed.
    """

    def __init__(self, url: str, study: str) -> None:
        self._engine = create_engine(url, pool_pre_ping=True, connect_args=connect_arguments(url))
        waiting_for(self._engine, shown(url))
        self._study, self._next = study, 0
        LINES.create(self._engine, checkfirst=True)

    def lines(self) -> list[str]:
        """Return all lines; the next one is appended after them."""
        query = select(LINES.c.line).where(LINES.c.study == self._study).order_by(LINES.c.position)
        with self._engine.connect() as connection:
            lines = [str(line) for line in connection.execute(query).scalars()]
        self._next = len(lines)
        return lines

    def append(self, line: str) -> None:
        """Add a line; it is in the database when this returns."""
        row = {"study": self._study, "position": self._next, "line": line}
        with self._engine.begin() as connection:
            connection.execute(insert(LINES).values(**row))
        self._next += 1

    def clear(self) -> None:
        """Remove every line."""
        with self._engine.begin() as connection:
            connection.execute(delete(LINES).where(LINES.c.study == self._study))

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()


def table_of(folder: StudyFolder) -> PruningTable | None:
    """Return the table of a study in an object store that has its database; None elsewhere, where a file is used."""
    place = None if folder.store is None else place_of(folder.path)
    return None if place is None else PruningTable(*place)


def restore(folder: StudyFolder) -> PruningTable | None:
    """Return the table of a study in an object store, after copying its lines into the file that readers read."""
    table = table_of(folder)
    if folder.store is not None:
        lines = [] if table is None else table.lines()
        durable.write(folder.path / PRUNING_LOG, "".join(line + "\n" for line in lines))
    return table


def download_study(folder: StudyFolder) -> None:
    """Download the files and the pruning log of a study in an object store, without weights.

    Raises:
        UserError: the store does not answer, or the database is not named.
    """
    try:
        folder.download()
    except StoreUnavailable as error:
        raise UserError(f"a study must be readable, but {error}.") from error
    if (folder.path / DATABASE).is_file():
        table = restore(folder)
        if table is not None:
            table.close()
