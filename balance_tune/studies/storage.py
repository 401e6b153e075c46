"""The study's memory: Optuna's storage, a journal file in the study folder or a database, opened for writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from balance_tune.errors import UserError
from balance_tune.studies import durable
from balance_tune.studies.records import JOURNAL
from balance_tune.studies.wording import one_line

LASTING = (4, 6)  # Optuna's journal operations "create trial" and "set state": after these, everything is on disk


class JournalFile(JournalFileBackend):
    """Optuna's journal file, for one writer: fsync where a trial begins or ends, not at every value between.

    A process that dies loses nothing by that, since the lines have left it; only a machine that dies may lose the curve
    of a running trial, which its next run repeats. A write that fails half-way (disk full) is taken back.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with Path(self._file_path).open("ab", buffering=0) as file:
            durable.append(file, text, sync=any(log["op_code"] in LASTING for log in logs))


def open_storage(folder: Path, url: str | None = None) -> BaseStorage:
    """Return the storage at `url`, or the journal in `folder`; the caller holds the study's lock.

    Raises:
        UserError: the journal is damaged, or the database does not answer.
    """
    if url:
        return _database(url)
    path = folder / JOURNAL
    durable.cut_torn_line(path)
    try:
        return JournalStorage(JournalFile(str(path)))
    except (ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"the journal of a study must be readable, but `{path}` is damaged ({one_line(str(error))}); "
            "put a copy of it back, or start another study under another name."
        ) from error


def export(source: BaseStorage, path: Path) -> None:
    """Copy every study of `source` into a new sqlite file at `path`, which every Optuna tool reads."""
    import optuna

    if path.exists():
        raise UserError(f"an export must not overwrite, but `{path}` exists; name another file.")
    target = _database(f"sqlite:///{path}")
    for frozen in sorted(source.get_all_studies(), key=lambda s: s._study_id):
        name = frozen.study_name
        made = optuna.create_study(study_name=name, storage=target, directions=frozen.directions)
        for key, value in frozen.user_attrs.items():
            made.set_user_attr(key, value)
        trials = sorted(source.get_all_trials(frozen._study_id, deepcopy=False), key=lambda t: t.number)
        made.add_trials(trials)


def _database(url: str) -> RDBStorage:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        try:
            shown = make_url(url).set(query={}).render_as_string(hide_password=True)
        except (SQLAlchemyError, ValueError):
            shown = "the given address"
        raise UserError(
            f"Optuna's database must answer, but {shown} does not ({one_line(str(error).splitlines()[0])})."
        ) from error
