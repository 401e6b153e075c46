"""Reads the epochs that a trial's `history.jsonl` has gained since the last look, while the trial writes it."""

from __future__ import annotations

import logging

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.files import HISTORY
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.runs import Row, metrics_of

logger = logging.getLogger(__name__)


class NewEpochs:
    """Follows one history file; a file that was replaced (a trial went on from an earlier state) is read anew.

    Args:
        folder: the trial's folder.
        started: when the trial began, in milliseconds since 1970. An epoch's time is that plus the device seconds the
            trial had spent by then, so it is the same whenever it is read.

    Attributes:
        last: the last epoch that was read.
    """

    def __init__(self, folder: StudyFolder, started: int) -> None:
        self._folder, self._started = folder, started
        self._file, self._offset = 0, 0  # inode, and bytes of it that were read
        self._damaged = False
        self.last = 0

    def read(self, until: int) -> list[Row]:
        """Return the rows up to epoch `until` that were not returned yet; later ones may still be cut off again."""
        rows: list[Row] = []
        if self.last >= until or self._damaged:
            return rows
        path = self._folder.download_file(HISTORY)
        if not path.is_file():
            return rows
        file = path.stat().st_ino
        if file != self._file:
            self._file, self._offset = file, 0
        try:
            for end, line in durable.json_lines_from(path, self._offset):
                epoch = int(line["epoch"])
                if epoch > until:
                    break
                self._offset = end
                if epoch > self.last:
                    at = self._started + int(1000 * float(line.get("device_seconds", 0.0)))
                    rows.append(Row(epoch, at, metrics_of(line)))
                    self.last = epoch
        except (UserError, KeyError, ValueError) as error:
            self._damaged = True
            logger.warning("MLflow gets only %d epochs of a trial: %s", self.last, error)
        return rows
