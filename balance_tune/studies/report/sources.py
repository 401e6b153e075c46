"""Everything a report is made from, read once from a study folder: rows, records, histories, verdicts, manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies import strict_yaml
from balance_tune.studies.confirm import Rule, confirmed, winner
from balance_tune.studies.leaderboard import Row, rows_of
from balance_tune.studies.records import TrialRecord, read_records

ABOUT = "about.json"  # what the engine noted of the run: command, versions, code, device, started, extensions


@dataclass
class Sources:
    """A study as the report sees it; `manifests` and `about` are empty where the files are not there (any more)."""

    folder: Path
    config: Mapping[str, Any]
    records: Sequence[TrialRecord]
    rows: Sequence[Row]
    verdicts: Sequence[Mapping[str, Any]]
    manifests: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]
    _histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        return Rule.of(self.config)

    def arm(self, row: Row) -> list[TrialRecord]:
        """Return the trials of a row's arm."""
        return [r for r in self.records if r.arm == row["arm"]]

    def shown(self, row: Row) -> list[TrialRecord]:
        """Return the trials that show how an arm's chosen point trains: its confirmation, else the best of the search."""
        own = self.arm(row)
        point = winner(own, self.rule)
        runs = [r for r in confirmed(own, self.rule, point) if r.state == "complete"] if point else []
        if runs:
            return runs
        complete = [r for r in own if r.phase == "search" and r.state == "complete" and r.value is not None]
        return sorted(complete, key=lambda r: -self.rule.better(r.value or 0.0))[:1]

    def history(self, record: TrialRecord) -> list[dict[str, Any]]:
        """Return a trial's metrics, one mapping an epoch; where its file is gone, the curve that the storage keeps."""
        place = str(record.attrs.get("folder", ""))
        path = self.folder / place / "history.jsonl"
        if not place or not path.is_file():
            return [{"epoch": epoch, self.rule.objective: value} for epoch, value in record.curve.items()]
        if place not in self._histories:
            self._histories[place] = read_lines(path)
        return self._histories[place]


def gather(study_folder: Path | str) -> Sources:
    """Read a study folder.

    Raises:
        UserError: there is no study in it, or one of its files cannot be read.
    """
    folder = Path(study_folder)
    config = strict_yaml.read(folder / "study.yaml") if (folder / "study.yaml").is_file() else {}
    storage = str(config.get("storage") or "")
    records = read_records(storage if "://" in storage else folder)
    ledger = folder / "ledger.jsonl"
    return Sources(
        folder=folder,
        config=config,
        records=records,
        rows=rows_of(records, config, folder),
        verdicts=read_lines(ledger) if ledger.is_file() else [],
        manifests={name: found for name in _datasets(records) if (found := _manifest(folder, name))},
        about=_json(folder / ABOUT) if (folder / ABOUT).is_file() else {},
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a last line that a dying process left unfinished is not one of them."""
    lines = path.read_text("utf-8").splitlines()
    found: list[dict[str, Any]] = []
    for i, line in enumerate(lines):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if i < len(lines) - 1:
                raise UserError(f"every line of `{path}` must be JSON, but line {i + 1} is not: {error}.") from error
    return found


def _datasets(records: Sequence[TrialRecord]) -> list[str]:
    return list(dict.fromkeys(r.dataset for r in records))


def _manifest(folder: Path, dataset: str) -> dict[str, Any]:
    """Return the manifest kept with the study, or else the newest of the dataset's stores below the root."""
    kept = folder / "manifests" / f"{dataset}.json"
    stores = sorted((folder.parent / "data").glob(f"{dataset}-*/manifest.json"), key=lambda p: p.stat().st_mtime)
    path = kept if kept.is_file() else stores[-1] if stores else None
    return _json(path) if path else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"`{path}` must be JSON, but: {error}.") from error
    return found
