"""The study's interface to MLflow: called at the start and at the end of a study."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from balance_tune.registry import datasets
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import store_of
from balance_tune.studies.tracking.memory import Cache, fingerprint, study_id
from balance_tune.studies.tracking.relocation import follow_root
from balance_tune.studies.tracking.worker import Worker
from balance_tune.studies.tracking.worker_process import Status, WorkerConfig
from balance_tune.timeouts import seconds

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.storage.records import TrialRecord

FILE_PATIENCE = 5.0  # seconds for a database file that cannot be written: it does not come back as a server does
P = ParamSpec("P")
logger = logging.getLogger(__name__)


def harmless(method: Callable[Concatenate[Tracker, P], None]) -> Callable[Concatenate[Tracker, P], None]:
    """Log an exception of a tracker's method instead of raising it: tracking must not end the study."""

    def wrapped(tracker: Tracker, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(tracker, *args, **kwargs)
        except Exception:
            logger.exception("MLflow misses something (%s); the study goes on.", method.__name__)

    return functools.update_wrapper(wrapped, method)


class Tracker:
    """Has one study written to MLflow by a process of its own (see `Worker` and `Sync`).

    Args:
        config: the study.
        folder: its folder, with `study.yaml` in it.

    Raises:
        UserError: the address of the store cannot be one, or the id of the study in `mlflow.json` is damaged.
    """

    def __init__(self, config: StudyConfig, folder: StudyFolder | Path) -> None:
        self._folder, self._config = StudyFolder.of(folder), config
        self._store = store_of(self._folder.parent, config.mlflow.tracking_uri)
        self._worker: Worker | None = None
        study_id(self._folder)

    @property
    def worker_pid(self) -> int | None:
        """The process that writes to MLflow; None while there is none."""
        return self._worker.pid if self._worker else None

    @harmless
    def start(self) -> None:
        """Start the process because trials begin; it has a low priority while they run."""
        self._start(background=True)

    @harmless
    def trials_over(self) -> None:
        """Give the process a normal priority: no trial runs any more, and the driver will wait for it."""
        if self._worker is not None:
            self._worker.raise_priority()

    @harmless
    def finish(self, records: Iterable[TrialRecord], message: Callable[[str], None] = lambda text: None) -> None:
        """Wait until all is written, with leaderboard, report and registered models; `message` shows the progress.

        Returns at once where MLflow has all of it.
        """
        if self._worker is None:
            complete = Cache.of(self._folder.path, self._store.shown).complete
            is_missing = self._store.file is not None and not self._store.file.exists()
            if not is_missing and complete == fingerprint(records, self._folder.path):
                return
            self._start(background=False)
        self._end("complete", message)

    @harmless
    def interrupt(self, message: Callable[[str], None] = lambda text: None) -> None:
        """Record that the study stopped and may be resumed; does nothing if tracking has not been started."""
        if self._worker is not None:
            self._end("interrupted", message)

    def _start(self, *, background: bool) -> None:
        config = WorkerConfig(
            folder=str(self._folder.path),
            store=self._store,
            imports=tuple(modules_of(self._config.datasets)),
            location=self._folder.location,
        )
        patience = seconds("BALANCE_TUNE_OUTAGE_S")
        if self._store.file is not None:
            follow_root(self._store.file, self._store.artifacts, running=self._folder.name)
            patience = min(patience, FILE_PATIENCE)
        self._worker = Worker(config, patience, background=background)
        self._worker.start()

    def _end(self, state: str, message: Callable[[str], None]) -> None:
        worker, self._worker = self._worker, None
        assert worker is not None

        def on_progress(status: Status) -> None:
            if status.trouble:
                message(
                    f"MLflow at {self._store.shown} does not answer; waiting for it (Ctrl-C: the next run writes it)"
                )
            else:
                message(
                    f"writing to MLflow: {status.left} run{'s' if status.left > 1 else ''} left"
                    if status.left
                    else "writing to MLflow"
                )

        try:
            whole = worker.finish(state, on_progress)
        except KeyboardInterrupt:  # the user may end the wait
            whole = False
        if not whole:
            logger.warning(
                "MLflow at %s lacks some of the study; the next `balance-tune run` writes it.", self._store.shown
            )


def modules_of(names: Sequence[str]) -> list[str]:
    """Return the modules that define datasets which are known only because this process has imported them."""
    classes: Mapping[str, type] = datasets().classes()
    modules = [classes[name].__module__ for name in names if name in classes]
    return [module for module in modules if module.partition(".")[0] not in ("", "balance_tune", "__main__")]
