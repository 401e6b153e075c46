"""A study's trials in a database that many studies share, instead of a journal file: each sees its own alone."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Container, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from balance_tune.errors import UserError
from balance_tune.studies.storage.db_retry import waiting_for
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.wording import one_line

URL = "BALANCE_TUNE_STORAGE"  # such as postgresql://user:password@host/name; from the environment, for the password
BETWEEN = "::"


def database_of(folder: Path) -> BaseStorage | None:
    """Return the database that holds the trials of the study in `folder`; None where a journal does.

    Raises:
        UserError: a database does, but BALANCE_TUNE_STORAGE names none or another, or it does not answer.
    """
    found = place_of(folder)
    return None if found is None else Shared(connect(found[0]), found[1])


def place_of(folder: Path) -> tuple[str, str] | None:
    """Return the URL of the database that holds a study's trials, and under which names; None where a journal does.

    Raises:
        UserError: a database does, but BALANCE_TUNE_STORAGE names none or another.
    """
    if not (folder / DATABASE).is_file():
        return None
    told, names = _known(folder)
    url = os.environ.get(URL, "")
    if shown(url) != told:
        raise UserError(
            f"the trials of `{folder.name}` are in {told}, but {URL} {f'is {shown(url)}' if url else 'is not set'}; "
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
    storage = connect(url)
    names = f"{folder.name}-{secrets.token_hex(4)}"  # two people may give one name
    folder.write_json(DATABASE, {"database": shown(url), "names": names})
    return Shared(storage, names)


def _known(folder: Path) -> tuple[str, str]:
    """Return which database a study is in, and under which names."""
    marker = folder / DATABASE
    try:
        known = json.loads(marker.read_text())
        return str(known["database"]), str(known["names"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{marker} must be JSON that names a database, but it is damaged; put a copy back.") from error


def connect(url: str) -> BaseStorage:
    """Return the storage at a database's URL, its tables made where they are missing.

    Raises:
        UserError: it does not answer, or holds the tables of something else; the password is not told.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
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


class Shared(BaseStorage):
    """A storage in which only the studies of one namespace are seen, by their names without it."""

    def __init__(self, inner: BaseStorage, names: str) -> None:
        self._inner, self._prefix = inner, names + BETWEEN

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._inner.create_new_study(directions, self._prefix + str(study_name))

    def delete_study(self, study_id: int) -> None:
        self._inner.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._inner.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._inner.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._inner.get_study_id_from_name(self._prefix + study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._inner.get_study_name_from_id(study_id).removeprefix(self._prefix)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._inner.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._inner.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._inner.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        every = self._inner.get_all_studies()
        own = [copy(study) for study in every if study.study_name.startswith(self._prefix)]
        for study in own:
            study.study_name = study.study_name.removeprefix(self._prefix)
        return own

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self._inner.create_new_trial(study_id, template_trial)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._inner.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._inner.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        return self._inner.set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._inner.set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._inner.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._inner.set_trial_system_attr(trial_id, key, value)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._inner.get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._inner.get_all_trials(study_id, deepcopy, states)

    def remove_session(self) -> None:
        self._inner.remove_session()
