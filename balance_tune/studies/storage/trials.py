"""Opens Optuna's storage of a study for writing: a journal file in the study folder, or a database."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from balance_tune.errors import UserError
from balance_tune.studies.private_apis import is_lasting
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.database import begin, connect, database_of
from balance_tune.studies.storage.files import DAMAGE, JOURNAL, damaged
from balance_tune.studies.storage.records import studies_of
from balance_tune.studies.storage.study_folder import StudyFolder


class JournalFile(JournalFileBackend):
    """Optuna's journal file, for one writer: fsync where a trial begins or ends, not at every value between.

    If the process dies, nothing is lost. If the machine dies, the curve of a running trial may be lost; its next run
    repeats the epochs. A write that fails half-way (disk full) is undone.

    Optuna reads the end of its journal before and after every operation. This process is the only writer, so new
    entries are served from memory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._read = -1  # number of lines read so far; -1: none, all are read from the file
        self._fresh: list[dict[str, Any]] = []  # appended and not read yet
        self._held: list[dict[str, Any]] | None = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._held is not None:
            self._held += logs
            return
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        with self._path.open("ab", buffering=0) as file:
            durable.append(file, "".join(lines), sync=any(is_lasting(log["op_code"]) for log in logs))
        self._fresh += map(json.loads, lines)  # as the file would give them back

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        if log_number_from == self._read:
            logs, self._fresh = self._fresh, []
        else:
            logs, self._fresh = list(super().read_logs(log_number_from)), []
        self._read = log_number_from + len(logs)
        yield from logs

    @contextmanager
    def together(self) -> Iterator[None]:
        """Collect the entries of the block and write them in one piece at its end; until then they are not readable."""
        if self._held is not None:  # the outer block writes them
            yield
            return
        self._held = []
        try:
            yield
        finally:
            pending, self._held = self._held, None
            if pending:
                self.append_logs(pending)


class Journal(JournalStorage):
    """Optuna's storage in a journal file that this process alone writes."""

    def __init__(self, file: JournalFile) -> None:
        self.file = file
        super().__init__(file)


def together(storage: BaseStorage) -> AbstractContextManager[None]:
    """Return a context whose changes of trials are one write to a journal; a database gets each change at once."""
    return storage.file.together() if isinstance(storage, Journal) else nullcontext()


def set_attrs(storage: BaseStorage, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Set attributes of a trial: in a journal all in one write."""
    with together(storage):
        for name, value in attrs.items():
            storage.set_trial_user_attr(trial_id, name, value)


def open_storage(folder: StudyFolder) -> BaseStorage:
    """Return the storage of the study in `folder`; the caller holds the study's lock.

    A study that has begun stays where it is: in its journal, or in the database that its folder names. A new one begins
    in the database at BALANCE_TUNE_STORAGE, if that is set.

    Raises:
        UserError: the journal is damaged, or the database does not answer.
    """
    path = folder.path / JOURNAL
    if not path.exists():
        database = database_of(folder.path) or begin(folder)
        if database is not None:
            return database
    durable.cut_torn_line(path)
    try:
        return Journal(JournalFile(path))
    except DAMAGE as error:
        raise damaged(path, error) from error


def export(source: BaseStorage, path: Path) -> None:
    """Copy every study of `source` into a new sqlite file at `path`, which every Optuna tool reads."""
    import optuna

    if path.exists():
        raise UserError(f"an export must not overwrite, but `{path}` exists; name another file.")
    target = connect(f"sqlite:///{path}")
    for study_id, frozen in studies_of(source):
        name = frozen.study_name
        study = optuna.create_study(study_name=name, storage=target, directions=frozen.directions)
        for key, value in frozen.user_attrs.items():
            study.set_user_attr(key, value)
        trials = sorted(source.get_all_trials(study_id, deepcopy=False), key=lambda t: t.number)
        study.add_trials(trials)
