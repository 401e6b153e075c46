"""The ledger: every verdict of early stopping, in order; a trial is PRUNED if and only if the ledger holds a stop."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from balance_tune.errors import UserError
from balance_tune.kinds import misfit
from balance_tune.studies.storage import durable, object_store
from balance_tune.studies.storage.pruning_table import LedgerTable, restore


@dataclass(frozen=True)
class Verdict:
    """What early stopping decided about one trial at one epoch.

    Attributes:
        number: the trial's number in its arm.
        epoch: finished epochs at which the value was reported.
        value: the objective at exactly that epoch.
        threshold: the worst value that goes on; None when there was nothing to compare with.
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


class Ledger:
    """Verdicts by arm, kept in memory and appended to a JSON-lines file, each on disk before it takes effect.

    With a `table`, of which the file is a copy then, each is in that first.
    """

    def __init__(self, path: Path, table: LedgerTable | None = None) -> None:
        self.path, self._table = path, table
        self._file: IO[bytes] | None = None
        self._verdicts: dict[str, list[Verdict]] = {}
        self._stopped: dict[tuple[str, int], Verdict] = {}
        durable.cut_torn_line(path)
        for line in durable.json_lines(path):
            verdict = _verdict(path, line)
            self._remember(line["arm"], verdict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_table": None}

    def of_arm(self, arm: str) -> tuple[Verdict, ...]:
        """Return the arm's verdicts in the order in which they were given."""
        return tuple(self._verdicts.get(arm, ()))

    def stop_of(self, arm: str, number: int) -> Verdict | None:
        """Return the verdict that stopped a trial, or None."""
        return self._stopped.get((arm, number))

    def append(self, arm: str, verdict: Verdict) -> None:
        line = json.dumps({"arm": arm, **_line(verdict)})
        if self._table is not None:
            self._table.append(line)
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        durable.append(self._file, line + "\n")
        self._remember(arm, verdict)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._table is not None:
            self._table.close()

    def _remember(self, arm: str, verdict: Verdict) -> None:
        self._verdicts.setdefault(arm, []).append(verdict)
        if verdict.stop:
            self._stopped[arm, verdict.number] = verdict


def ledger_of(folder: Path) -> Ledger:
    """Return the ledger of the study in `folder`, whose database is known by now."""
    if object_store.mirror_of(folder) is None:
        return Ledger(folder / "ledger.jsonl")
    table = restore(folder)
    return Ledger(folder / "ledger.jsonl", table)


def _line(verdict: Verdict) -> dict[str, Any]:
    line = dataclasses.asdict(verdict)
    line["decision"] = "stop" if line.pop("stop") else "go"
    return line


def _verdict(path: Path, line: dict[str, Any]) -> Verdict:
    try:
        fields = {field.name: line[field.name] for field in dataclasses.fields(Verdict) if field.name != "stop"}
        made = Verdict(**fields, stop=line["decision"] == "stop")
        wrong = misfit(made, Verdict) or misfit(line["arm"], str, "its arm")
    except KeyError as error:
        wrong = f"{error} is missing"
    if wrong is not None:
        raise UserError(
            f"every line of {path} must be a verdict, but of one {wrong}; put a copy of the file back, or start "
            "another study under another `name`."
        )
    return made
