"""Names, keys and contents of a study's runs in MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.studies.protocol.reporting import METRIC_PREFIXES

if TYPE_CHECKING:
    from balance_tune.datasets.manifest import Manifest

TAG = "balance_tune."
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING"}
ENDED = frozenset({"FINISHED", "KILLED", "FAILED"})
NUMBERS = (int, float)
MAX_TAG, MAX_PARAM, MAX_KEY = 8000, 6000, 250  # characters; MLflow cuts longer values without an error


@dataclass(frozen=True)
class RunKey:
    """A run's place in the study.

    `RunKey()` is the study, with `arm` an arm, with `replicate` an arm in a replicate (counted from 1), with `phase`
    and `number` one trial. A trial of a study of one replicate has `replicate` 0 and hangs below its arm.
    """

    arm: str = ""
    phase: str = ""
    number: int = -1
    replicate: int = 0

    @property
    def kind(self) -> str:
        """The kind of the run: study, arm, replicate or trial."""
        return "trial" if self.phase else "replicate" if self.replicate else "arm" if self.arm else "study"

    @property
    def parent(self) -> RunKey | None:
        """The run it hangs below; None for the study's."""
        if self.phase and self.replicate:
            return RunKey(self.arm, replicate=self.replicate)
        return RunKey(self.arm) if self.phase or self.replicate else RunKey() if self.arm else None

    def name(self, study: str) -> str:
        """Return the name in the table of runs, like `007 / mlb / av_digits` or `#2 / mlb / av_digits` (a replicate).

        What differs between the runs of one parent comes first, because MLflow's tree cuts long names on the right.
        """
        if not self.arm:
            return study
        parts = [*([f"#{self.replicate}"] if self.replicate else []), *self.arm.split("/")[::-1]]
        if self.phase:
            parts = [f"{self.number:03d}" if self.phase == "search" else f"{self.number:03d} {self.phase}", *parts]
        return " / ".join(parts)

    def tags(self) -> dict[str, str]:
        """Return the tags by which this run is found again in its study."""
        tags = {TAG + "kind": self.kind}
        if self.arm:
            tags[TAG + "arm"] = self.arm
        if self.replicate:
            tags[TAG + "replicate"] = str(self.replicate)
        if self.phase:
            tags |= {TAG + "phase": self.phase, TAG + "number": str(self.number)}
        return tags

    @staticmethod
    def of_tags(tags: Mapping[str, str]) -> RunKey:
        """Return the key that `tags` wrote."""
        return RunKey(
            tags.get(TAG + "arm", ""),
            tags.get(TAG + "phase", ""),
            int(tags.get(TAG + "number", -1)),
            int(tags.get(TAG + "replicate", 0)),
        )


@dataclass(frozen=True)
class Row:
    """The metrics of one step (an epoch, counted from 1), with their time in milliseconds since 1970."""

    step: int
    at: int
    metrics: Mapping[str, float]


@dataclass
class Content:
    """The content of one run, as far as it is known; `Client.write` writes the parts that the run lacks.

    Attributes:
        key: which run.
        status: MLflow's status; empty leaves it as it is.
        started: when the run began, in milliseconds since 1970.
        ended: when it ended; None while it has not.
        tags: tags whose new value replaces the old one.
        birth_tags: tags that are written when the run is created, and never changed.
        params: parameters; one that the run has keeps its value.
        epochs: a row an epoch, ascending; those up to the run's last epoch are left out.
        results: further metrics; one whose latest value is the same is left out.
        files: (local file, name among the run's artifacts).
        documents: name among the run's artifacts -> text.
        datasets: manifests of the datasets that are its inputs.
    """

    key: RunKey
    status: str
    started: int
    ended: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    birth_tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    epochs: list[Row] = field(default_factory=list)
    results: list[Row] = field(default_factory=list)
    files: list[tuple[Path, str]] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)
    datasets: list[Manifest] = field(default_factory=list)


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a reported result: entries named `family/...` that are numbers."""
    return {
        metric_name(name): float(value)
        for name, value in result.items()
        if name.startswith(METRIC_PREFIXES) and isinstance(value, NUMBERS) and not isinstance(value, bool)
    }


@cache
def metric_name(name: str) -> str:
    """Return a metric's name with characters that MLflow takes; it refuses a whole batch for one wrong name."""
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
    sections = ("training", "model", "modulation", "seed", "workers")
    return dict(flatten({name: trial[name] for name in sections if name in trial}))


def params_of_study(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of the study's run; what MLflow would cut stands whole in the study.yaml beside them."""
    params = ((name, value) for name, value in flatten(settings) if value != "null")
    return {name: value for name, value in params if len(value) <= MAX_PARAM and metric_name(name) == name}


def truncate(text: str, limit: int = MAX_TAG) -> str:
    """Return `text`, shortened visibly where MLflow could not keep it whole (reports and reasons, never settings)."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
