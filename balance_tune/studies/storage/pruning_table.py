"""The pruning log of a study in an object store, which takes no appends: one database row per decision."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, Text, create_engine, delete, insert, select

from balance_tune.studies.storage import durable
from balance_tune.studies.storage.database import place_of, shown
from balance_tune.studies.storage.db_retry import waiting_for

LINES = Table(
    "balance_tune_ledger",
    MetaData(),
    Column("study", String(200), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("line", Text, nullable=False),
)


class PruningTable:
    """The lines of one study's pruning log, in order.

    Of two drivers that both believe they hold the study, the second to write a position fails: no decision of a driver
    that was followed is mixed in with those of the one that followed it.
    """

    def __init__(self, url: str, study: str) -> None:
        self._engine = create_engine(url, pool_pre_ping=True)
        waiting_for(self._engine, shown(url))
        self._study, self._next = study, 0
        LINES.create(self._engine, checkfirst=True)

    def lines(self) -> list[str]:
        """Return all lines; the next one is appended after them."""
        wanted = select(LINES.c.line).where(LINES.c.study == self._study).order_by(LINES.c.position)
        with self._engine.connect() as connection:
            found = [str(line) for line in connection.execute(wanted).scalars()]
        self._next = len(found)
        return found

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
        self._engine.dispose()


def table_of(folder: Path) -> PruningTable | None:
    """Return the table of the study whose folder stands for one in an object store, once it has its database."""
    found = place_of(folder)
    return None if found is None else PruningTable(*found)


def restore(folder: Path) -> PruningTable | None:
    """Write the pruning log that the database has into the folder, where all that read it look; return its table."""
    table = table_of(folder)
    lines = [] if table is None else table.lines()
    durable.write(folder / "ledger.jsonl", "".join(line + "\n" for line in lines))
    return table
