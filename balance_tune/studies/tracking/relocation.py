"""Lets MLflow's artifact paths follow a root that was moved or copied.

MLflow keeps the absolute place of every artifact in its database. The database of a root is `mlflow.db` in it, and the
artifacts are in `mlartifacts/` beside it. After a move or a copy the recorded places are those of another folder: files
are not found, or are written into the original.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from balance_tune.studies.storage.exclusive import is_running
from balance_tune.studies.storage.study_folder import StudyFolder

COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Columns of MLflow's tables that hold the place of an artifact."""
WAIT = 30.0  # seconds for another process that writes to the database

logger = logging.getLogger(__name__)


def follow_root(file: Path, artifacts: str | None, running: str | None = None) -> int:
    """Set the places of artifacts in a root's own database to where the root is now.

    Nothing is changed while another study of the root runs: its driver sees the root at the recorded place.

    Args:
        file: MLflow's sqlite database. Nothing is done unless it lies beside the artifacts, as that of a root does.
        artifacts: URI of the folder of all artifacts.
        running: name of the study whose driver asks.

    Returns:
        The number of places that were changed.
    """
    if artifacts is None or not _is_of_root(file, artifacts):
        return 0
    with closing(sqlite3.connect(file, timeout=WAIT)) as database:
        before = _former_places(database, artifacts)
        if not before or not _is_current(database):
            return 0
        root = StudyFolder(file.parent)
        busy = [name for name in root.studies() if name != running and is_running(root / name)]
        if busy:
            logger.warning(
                "The artifacts in %s are recorded at %s; they stay so while %s runs.", file, before[0], busy[0]
            )
            return 0
        try:
            with database:  # all places or none
                return sum(_move(database, place, artifacts) for place in before)
        except sqlite3.OperationalError as error:
            logger.warning("The artifacts in %s are recorded at %s, and that stays so: %s.", file, before[0], error)
            return 0


def recorded_elsewhere(file: Path, artifacts: str | None) -> str | None:
    """Return a former place of the artifacts in a root's own database; None where all are where the root is.

    The store of another version of MLflow is not judged: opening it raises later.

    Args:
        file: MLflow's sqlite database.
        artifacts: URI of the folder of all artifacts.
    """
    if artifacts is None or not _is_of_root(file, artifacts):
        return None
    with closing(sqlite3.connect(file, timeout=WAIT)) as database:
        places = _former_places(database, artifacts)
        return places[0] if places and _is_current(database) else None


def _is_of_root(file: Path, artifacts: str) -> bool:
    """Return whether a database lies beside the artifacts; its address may be relative."""
    return file.is_file() and artifacts == (file.resolve().parent / "mlartifacts").as_uri()


def _former_places(database: sqlite3.Connection, now: str) -> list[str]:
    """Return the folders `mlartifacts` other than the present one that studies of this root were written to."""
    try:
        rows = database.execute("SELECT artifact_location FROM experiments").fetchall()
    except sqlite3.DatabaseError:  # no store of MLflow, or a damaged one: opening it raises later
        return []
    places = {str(row[0]).rpartition("/")[0] for row in rows}
    return sorted(place for place in places if place != now and Path(place).name == "mlartifacts")


def _is_current(database: sqlite3.Connection) -> bool:
    """Return whether the tables are those of the installed MLflow; the store of another version stays as it is."""
    from alembic.script import ScriptDirectory

    folder = find_spec("mlflow")
    if folder is None or folder.origin is None:
        return False
    head = ScriptDirectory(str(Path(folder.origin).parent / "store" / "db_migrations")).get_current_head()
    return bool(database.execute("SELECT 1 FROM alembic_version WHERE version_num = ?", (head,)).fetchone())


def _move(database: sqlite3.Connection, before: str, now: str) -> int:
    count = 0
    for table, columns in COLUMNS.items():
        for column in columns:
            start = f"{before}/"
            count += database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (f"{now}/", len(start) + 1, len(start), start),
            ).rowcount
    return count
