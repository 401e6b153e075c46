"""The pruning log: every decision of early stopping, in order. A trial is PRUNED if and only if it holds a stop."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from balance_tune.errors import UserError
from balance_tune.kinds import misfit
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.files import PRUNING_LOG
from balance_tune.studies.storage.pruning_table import PruningTable, restore
from balance_tune.studies.storage.study_folder import StudyFolder


@dataclass(frozen=True)
class Decision:
    """What early stopping decided about one trial at one epoch.

    Attributes:
        number: the trial's number in its arm.
        epoch: finished epochs at which the value was reported.
        value: the objective at exactly that epoch.
        threshold: the worst value that is not pruned; None where there was nothing to compare with.
        rank: 1 for the best of the values at this epoch so far, the trial's own included.
        of: how many values there were.
        stop: whether the trial is stopped.
    """

    number: int
    epoch: int
    value: float
    threshold: float | None
    rank: int
    of: int
    stop: bool


class PruningLog:
    """Decisions by arm, in memory and in a JSON-lines file; each is on disk before it takes effect.

    With a `table` each is written there first, and the file is a copy of it.
    """

    def __init__(self, path: Path, table: PruningTable | None = None) -> None:
        self.path, self._table = path, table
        self._file: IO[bytes] | None = None
        self._decisions: dict[str, list[Decision]] = {}
        self._stopped: dict[tuple[str, int], Decision] = {}
        durable.cut_torn_line(path)
        for line in durable.json_lines(path):
            decision = _decision(path, line)
            self._remember(line["arm"], decision)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_table": None}

    def of_arm(self, arm: str) -> tuple[Decision, ...]:
        """Return the arm's decisions in the order in which they were given."""
        return tuple(self._decisions.get(arm, ()))

    def stop_of(self, arm: str, number: int) -> Decision | None:
        """Return the decision that stopped a trial, or None."""
        return self._stopped.get((arm, number))

    def append(self, arm: str, decision: Decision) -> None:
        """Write a decision, durably."""
        line = json.dumps({"arm": arm, **_line(decision)})
        if self._table is not None:
            self._table.append(line)
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        durable.append(self._file, line + "\n")
        self._remember(arm, decision)

    def close(self) -> None:
        """Close file and table."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._table is not None:
            self._table.close()

    def _remember(self, arm: str, decision: Decision) -> None:
        self._decisions.setdefault(arm, []).append(decision)
        if decision.stop:
            self._stopped[arm, decision.number] = decision


def pruning_log_of(folder: StudyFolder) -> PruningLog:
    """Return the pruning log of the study in `folder`, whose database is known by now."""
    table = restore(folder)  # first: it writes the file
    return PruningLog(folder.path / PRUNING_LOG, table)


def _line(decision: Decision) -> dict[str, Any]:
    line = dataclasses.asdict(decision)
    line["decision"] = "stop" if line.pop("stop") else "go"
    return line


def _decision(path: Path, line: dict[str, Any]) -> Decision:
    try:
        fields = {field.name: line[field.name] for field in dataclasses.fields(Decision) if field.name != "stop"}
        decision = Decision(**fields, stop=line["decision"] == "stop")
        wrong = misfit(decision, Decision) or misfit(line["arm"], str, "its arm")
    except KeyError as error:
        wrong = f"{error} is missing"
    if wrong is not None:
        raise UserError(
            f"every line of {path} must be a decision, but of one {wrong}; put a copy of the file back, or start "
            "another study under another `name`."
        )
    return decision
