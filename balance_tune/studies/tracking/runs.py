"""What one MLflow run of a study is called, how it is found again, and what is written to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from balance_tune.studies.protocol.reporting import METRIC_PREFIXES

TAG = "balance_tune."
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING"}
ENDED = frozenset({"FINISHED", "KILLED", "FAILED"})
NUMBERS = (int, float)
MAX_TAG, MAX_PARAM, MAX_KEY = 8000, 6000, 250  # characters; MLflow cuts longer values without an error


@dataclass(frozen=True)
class RunKey:
    """A run's place in the study: `RunKey()` is the study, with `arm` an arm, with `phase` and `number` one trial."""

    arm: str = ""
    phase: str = ""
    number: int = -1

    @property
    def kind(self) -> str:
        return "trial" if self.phase else "arm" if self.arm else "study"

    @property
    def parent(self) -> RunKey | None:
        return RunKey(self.arm) if self.phase else RunKey() if self.arm else None

    def name(self, study: str) -> str:
        """Return what a reader of the run table sees, like `av_digits / mlb / 007` or `... / confirm 003`."""
        if not self.arm:
            return study
        number = f"{self.number:03d}" if self.phase == "search" else f"{self.phase} {self.number:03d}"
        return " / ".join([*self.arm.split("/"), *([number] if self.phase else [])])

    def tags(self) -> dict[str, str]:
        """Return the tags by which this run is found again in its study."""
        found = {TAG + "kind": self.kind}
        if self.arm:
            found[TAG + "arm"] = self.arm
        if self.phase:
            found |= {TAG + "phase": self.phase, TAG + "number": str(self.number)}
        return found

    @staticmethod
    def of_tags(tags: Mapping[str, str]) -> RunKey:
        return RunKey(tags.get(TAG + "arm", ""), tags.get(TAG + "phase", ""), int(tags.get(TAG + "number", -1)))


@dataclass(frozen=True)
class Row:
    """The metrics of one step (an epoch, counted from 1), with the time they were reported in milliseconds."""

    step: int
    at: int
    metrics: dict[str, float]

    def to_json(self) -> list[Any]:
        return [self.step, self.at, self.metrics]


@dataclass
class Update:
    """What is to be written to one run; later values of a tag win, rows follow each other.

    `rows` are epochs, of which a run takes each once, the first that comes; `summary` holds results, the newest counts.
    `history` names a file with a JSON line of metrics an epoch, to be sent instead of `rows`. An update with `backfill`
    is left out when the run has ended already.
    """

    key: RunKey
    at: int  # milliseconds; of the first of merged updates
    until: int = 0  # milliseconds; of the last
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    summary: list[Row] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)  # (local file, name in the run's artifacts)
    documents: dict[str, str] = field(default_factory=dict)  # name in the run's artifacts -> text
    inputs: list[str] = field(default_factory=list)  # datasets that went into the run
    status: str = ""
    history: str = ""
    backfill: bool = False

    def merge(self, later: Update) -> None:
        self.until = later.at
        self.tags |= later.tags
        self.params |= later.params
        self.rows += later.rows
        self.summary += later.summary
        self.files += later.files
        self.documents |= later.documents
        self.inputs = list(dict.fromkeys([*self.inputs, *later.inputs]))
        self.status = later.status or self.status
        self.history = later.history or self.history
        self.backfill = self.backfill and later.backfill

    def to_json(self) -> dict[str, Any]:
        full = {
            "run": [self.key.arm, self.key.phase, self.key.number],
            "at": self.at,
            "tags": self.tags,
            "params": self.params,
            "rows": [row.to_json() for row in self.rows],
            "summary": [row.to_json() for row in self.summary],
            "files": self.files,
            "documents": self.documents,
            "inputs": self.inputs,
            "status": self.status,
            "history": self.history,
            "backfill": self.backfill,
        }
        return {name: value for name, value in full.items() if value or name == "at"}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Update:
        arm, phase, number = entry["run"]
        return Update(
            RunKey(arm, phase, number),
            entry["at"],
            until=entry["at"],
            tags=entry.get("tags", {}),
            params=entry.get("params", {}),
            rows=[Row(*row) for row in entry.get("rows", ())],
            summary=[Row(*row) for row in entry.get("summary", ())],
            files=[(source, name) for source, name in entry.get("files", ())],
            documents=entry.get("documents", {}),
            inputs=entry.get("inputs", []),
            status=entry.get("status", ""),
            history=entry.get("history", ""),
            backfill=entry.get("backfill", False),
        )


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a reported result is a metric of ours: named `family/...`, and a number."""
    return {
        metric_name(name): float(value)
        for name, value in result.items()
        if name.startswith(METRIC_PREFIXES) and isinstance(value, NUMBERS) and not isinstance(value, bool)
    }


@cache
def metric_name(name: str) -> str:
    """Return a metric's name as MLflow takes it; a method may log under any name, and none may cost the others."""
    allowed = re.sub(r"[^/\w.\- ]", "_", name)[:MAX_KEY]
    return "/".join(part.replace(".", "_") if set(part) == {"."} else part for part in allowed.split("/") if part)


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield `("training.lr", "0.1")` for every leaf of a nested configuration."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flatten(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)


def params_of(trial: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a trial's run, from the trial's configuration."""
    named = ("training", "model", "modulation", "seed", "workers")
    return dict(flatten({name: trial[name] for name in named if name in trial}))


def params_of_study(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of the study's run; what MLflow would cut stands whole in the study.yaml beside them."""
    given = ((name, value) for name, value in flatten(settings) if value != "null")
    return {name: value for name, value in given if len(value) <= MAX_PARAM and metric_name(name) == name}


def cut(text: str, limit: int = MAX_TAG) -> str:
    """Return `text`, shortened visibly where MLflow could not keep it whole (reports and reasons, never settings)."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
