"""Reads the inputs of a report from a study folder: rows, trials, histories, pruning decisions, manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.selection import Rule, confirmed, winner
from balance_tune.studies.results.arm_results import arms_by_table
from balance_tune.studies.results.leaderboard import LeaderboardRow, rows_of
from balance_tune.studies.results.robustness import Robustness, robustness_of
from balance_tune.studies.results.summary import Summary, summarise
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.records import TrialRecord, read_records
from balance_tune.tasks import BY_MODALITY

BEGUN = "study.json"  # what the study was begun with: code, packages, data, and how it was extended since


TRIALS_DRAWN, FEWEST_DRAWN = 2000, 20  # search trials that the charts of one page draw: in all, and of an arm at least


@dataclass
class Sources:
    """The inputs of a report; `manifests` and `begun` are empty where the files are not there (any more)."""

    folder: Path
    config: Mapping[str, Any]
    records: Sequence[TrialRecord]
    rows: Sequence[LeaderboardRow]
    decisions: Sequence[Mapping[str, Any]]
    manifests: Mapping[str, Mapping[str, Any]]
    begun: Mapping[str, Any]
    _histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """The study's selection rule."""
        return Rule.of(self.config)

    def arm(self, row: LeaderboardRow) -> list[TrialRecord]:
        """Return the trials of a row's arm."""
        return [r for r in self.records if r.arm == row.arm]

    @property
    def most_drawn(self) -> int:
        """Search trials of an arm that charts draw, so that a page of many arms stays small."""
        return max(FEWEST_DRAWN, TRIALS_DRAWN // max(1, len(self.rows)))

    def search_trials(self, row: LeaderboardRow) -> list[TrialRecord]:
        """Return an arm's search trials that charts draw: all, or the default and the best `most_drawn` but one."""
        own = [r for r in self.arm(row) if r.phase == "search"]
        if len(own) <= self.most_drawn:
            return own

        def worth(r: TrialRecord) -> tuple[bool, bool, float]:
            best = self.reached(r)
            gain = float("-inf") if best is None else self.rule.objective.gain(best)
            return bool(r.attrs.get("default")), r.state == "complete", gain

        keys = {(r.replicate, r.number) for r in sorted(own, key=worth, reverse=True)[: self.most_drawn]}
        return [r for r in own if (r.replicate, r.number) in keys]

    def reached(self, record: TrialRecord) -> float | None:
        """Return the value of a complete trial, or the best value so far of another."""
        return record.value if record.state == "complete" else self.rule.objective.best(list(record.curve.values()))

    def shown(self, row: LeaderboardRow) -> list[TrialRecord]:
        """Return the trials that show how an arm's chosen point trains: the confirmed ones, else its best."""
        own = self.arm(row)
        runs: list[TrialRecord] = []
        for replicate in sorted({r.replicate for r in own}):
            cell, rule = [r for r in own if r.replicate == replicate], self.rule.at(row.arm, replicate)
            point = winner(cell, rule)
            runs += [r for r in confirmed(cell, rule, point) if r.state == "complete"] if point else []
        if runs:
            return runs
        complete = [r for r in own if r.phase == "search" and r.state == "complete" and r.value is not None]
        best = self.rule.objective.best_of(complete, lambda r: r.value or 0.0)
        return [] if best is None else [best]

    def modalities(self, rows: Sequence[LeaderboardRow]) -> list[str]:
        """Return the modalities of a dataset's rows that validation scores on their own, in the dataset's order."""
        manifest = self.manifests.get(rows[0].dataset, {})
        named = list((manifest.get("identity") or {}).get("modalities") or {})
        with_metrics = {
            metric.rpartition("/")[2]
            for r in self.records
            if r.dataset == rows[0].dataset
            for metric in (r.attrs.get("metrics") or {})
            if metric.startswith(tuple(f"val/{name}/" for name in BY_MODALITY.values()))
        }
        return [m for m in named if m in with_metrics] + sorted(with_metrics - set(named))

    @cached_property
    def summary(self) -> Summary | None:
        """The sealed results over all datasets, without diagnostic arms; None where there is too little."""
        own = {row.arm for row in self.rows if row.protocol == "sealed" and not row.diagnostic}
        if len({row.dataset for row in self.rows}) < 2:
            return None
        tables = arms_by_table(self.records, self.config, self.folder)
        arms = {
            dataset: [arm for arm in table if f"{dataset}/{arm.method}" in own]
            for (protocol, dataset), table in tables.items()
            if protocol == "sealed"
        }
        return summarise({dataset: table for dataset, table in arms.items() if table})

    def robustness(self, row: LeaderboardRow) -> list[Robustness]:
        """Return the scores of a row's arm with missing modalities; nothing if the study does not measure them."""
        return robustness_of(self.arm(row), self.rule, row.protocol, self.folder)

    def history(self, record: TrialRecord) -> list[dict[str, Any]]:
        """Return a trial's metrics, one mapping per epoch; if its file is missing, the curve in the storage."""
        place = str(record.attrs.get("folder", ""))
        path = self.folder / place / "history.jsonl"
        if not place or not path.is_file():  # deleted to save space, say
            return [{"epoch": epoch, self.rule.objective: value} for epoch, value in record.curve.items()]
        if place not in self._histories:
            self._histories[place] = list(durable.json_lines(path))
        return self._histories[place]


def gather(study_folder: Path | str) -> Sources:
    """Read a study folder.

    Raises:
        UserError: there is no study in it, or one of its files cannot be read.
    """
    folder = Path(study_folder)
    config = strict_yaml.read(folder / "study.yaml") if (folder / "study.yaml").is_file() else {}
    records = read_records(folder)
    begun = _json(folder / BEGUN) if (folder / BEGUN).is_file() else {}
    hashes = {name: str(noted.get("data")) for name, noted in (begun.get("data") or {}).items()}
    return Sources(
        folder=folder,
        config=config,
        records=records,
        rows=rows_of(records, config, folder),
        decisions=list(durable.json_lines(folder / "ledger.jsonl")),
        manifests={name: m for name in _datasets(records) if (m := _manifest(folder, name, hashes.get(name)))},
        begun=begun,
    )


def _datasets(records: Sequence[TrialRecord]) -> list[str]:
    return list(dict.fromkeys(r.dataset for r in records))


def _manifest(folder: Path, dataset: str, data_hash: str | None) -> dict[str, Any]:
    """Return the manifest of the store the study was trained on, if the store is still below the root."""
    manifests = [_json(path) for path in [folder / "data" / f"{dataset}.json"] if path.is_file()]
    manifests += [_json(path) for path in sorted((folder.parent / "data").glob(f"{dataset}-*/manifest.json"))]
    matching = [m for m in manifests if (m.get("identity") or {}).get("dataset") == dataset]
    return next((m for m in matching if data_hash in (None, m.get("data_hash"))), {})


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"`{path}` must be JSON, but: {error}.") from error
    return content
