"""A study's trials in a database that many studies share, instead of a journal file: each sees its own alone."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection

from balance_tune.errors import UserError
from balance_tune.reachable import check_url
from balance_tune.studies.storage.db_retry import waiting_for
from balance_tune.studies.storage.files import DATABASE, JOURNAL
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.wording import one_line

if TYPE_CHECKING:
    from optuna.study._frozen import FrozenStudy  # for the type checker only

URL = "BALANCE_TUNE_STORAGE"  # as postgresql://user:password@host/name; not in a file, because it holds a password
BETWEEN = "::"
CONNECT = 10  # seconds for PostgreSQL to accept a connection; a hung server never does


def database_of(folder: Path) -> BaseStorage | None:
    """Return the database that holds the trials of the study in `folder`; None where a journal does.

    Raises:
        UserError: a database does, but BALANCE_TUNE_STORAGE names none or another, or it does not answer.
    """
    place = place_of(folder)
    return None if place is None else connect(*place)


def place_of(folder: Path) -> tuple[str, str] | None:
    """Return the URL of the database that holds a study's trials, and under which names; None where a journal does.

    Raises:
        UserError: a database does, but BALANCE_TUNE_STORAGE names none or another.
    """
    if not (folder / DATABASE).is_file():
        return None
    where, names = _address_and_names(folder)
    url = os.environ.get(URL, "")
    if shown(url) != where:
        raise UserError(
            f"the trials of `{folder.name}` are in {where}, but {URL} {f'is {shown(url)}' if url else 'is not set'}; "
            "set it to that address, with user and password."
        )
    return url, names


def shared_database(root: StudyFolder) -> str:
    """Return the URL of the database that studies in an object store keep trials, pruning log and lock in.

    Raises:
        UserError: BALANCE_TUNE_STORAGE names none that several machines can share.
    """
    url = os.environ.get(URL, "")
    if not url.startswith(("postgresql:", "postgresql+")):
        raise UserError(
            f"a root in an object store ({root.display_uri()}) must go with a PostgreSQL database for trials and lock, "
            f"but {URL} {f'is {shown(url)}' if url else 'is not set'}; set it to "
            "postgresql://USER:PASSWORD@HOST/NAME, here and on later runs."
        )
    return url


def begin(folder: StudyFolder) -> BaseStorage | None:
    """Begin a study in the database at BALANCE_TUNE_STORAGE; None where that is not set."""
    url = os.environ.get(URL)
    if not url:
        return None
    names = f"{folder.name}-{secrets.token_hex(4)}"  # two users may choose the same name
    storage = connect(url, names)
    folder.write_json(DATABASE, {"database": shown(url), "names": names})
    return storage


def _address_and_names(folder: Path) -> tuple[str, str]:
    """Return the address of a study's database and its namespace there."""
    marker = folder / DATABASE
    try:
        content = json.loads(marker.read_text())
        return str(content["database"]), str(content["names"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{marker} must be JSON that names a database, but it is damaged; put a copy back.") from error


def check_answers(folder: Path) -> None:
    """Check that the database answers in which a study keeps, or would keep, its trials.

    Raises:
        UserError: nothing answers at BALANCE_TUNE_STORAGE.
    """
    url = os.environ.get(URL, "")
    if url and ((folder / DATABASE).is_file() or not (folder / JOURNAL).is_file()):
        _check(url)


def _check(url: str) -> None:
    check_url(url, f"Optuna's database must answer, but {shown(url)} does not", f"start it, or correct {URL}")


def connect(url: str, names: str = "") -> BaseStorage:
    """Return the storage at a database's URL, its tables made where they are missing.

    Args:
        url: the database.
        names: the study whose Optuna studies alone are seen (see `place_of`); all are where it is "".

    Raises:
        UserError: it does not answer, or holds the tables of something else; the password is not shown.
    """
    from sqlalchemy.exc import SQLAlchemyError

    _check(url)
    try:
        storage = NamespacedStorage(url, names and names + BETWEEN)
        waiting_for(storage.engine, shown(url))
        return get_storage(storage)  # with Optuna's own cache
    except RuntimeError as error:  # what Optuna makes of another program's version table, as of another Optuna's
        raise UserError(
            f"Optuna must have a database of its own, but {shown(url)} holds tables of another program (MLflow's, say) "
            "or of another version of Optuna; make one for it, and set BALANCE_TUNE_STORAGE to that."
        ) from error
    except ValueError as error:  # its words may hold a part of the password
        raise UserError(
            f"Optuna's database must have an address as postgresql://USER:PASSWORD@HOST:PORT/NAME, but {shown(url)} "
            "cannot be read; write `@`, `:` and `/` in a password as %40, %3A and %2F."
        ) from error
    except (SQLAlchemyError, ImportError) as error:
        reason = one_line((str(error).splitlines() or ["no reason"])[0]).replace(url, shown(url))
        raise UserError(f"Optuna's database must answer, but {shown(url)} does not ({reason}).") from error


def connect_arguments(url: str) -> dict[str, Any]:
    """Return the driver's arguments that limit how long a connection may take."""
    return {"connect_timeout": CONNECT} if url.startswith(("postgresql:", "postgresql+psycopg")) else {}


def shown(url: str) -> str:
    """Return a database's address without password and query."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    if not url:
        return ""
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "the given address"


class NamespacedStorage(RDBStorage):
    """Optuna's storage in a database, in which only the studies of one namespace are seen, by their names without it.

    Args:
        url: the database.
        namespace: what the names of the studies begin with there; "" for every study.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self.namespace = namespace
        super().__init__(url, engine_kwargs={"pool_pre_ping": True, "connect_args": connect_arguments(url)})

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return super().create_new_study(directions, self.namespace + str(study_name))

    def get_study_id_from_name(self, study_name: str) -> int:
        full = study_name.startswith(self.namespace)  # where Optuna itself asks for the study that it has just created
        return super().get_study_id_from_name(study_name if full else self.namespace + study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return super().get_study_name_from_id(study_id).removeprefix(self.namespace)

    def get_all_studies(self) -> list[FrozenStudy]:
        studies = [study for study in super().get_all_studies() if study.study_name.startswith(self.namespace)]
        for study in studies:
            study.study_name = study.study_name.removeprefix(self.namespace)
        return studies
