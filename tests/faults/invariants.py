"""What must hold after every fault, whatever it was."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.storage.records import TrialRecord, read_records
from balance_tune.studies.tracking.runs import TAG

MAY_DIFFER = ("seconds", "time/", "lost", "preempted", "repeated")  # between two runs of one study: time and losses


@dataclass(frozen=True)
class Outcome:
    """A finished study as its three witnesses tell it."""

    rows: list[dict[str, Any]]
    records: list[TrialRecord]
    tracked: Counter[tuple[str, str, str]]  # (arm, phase and number, state) of each run in MLflow

    @classmethod
    def of(cls, folder: Path) -> Outcome:
        rows = json.loads((folder / "report" / "leaderboard.json").read_text())
        return cls(rows["rows"] if isinstance(rows, dict) else rows, read_records(folder), tracked(folder))

    def told(self) -> list[tuple[Any, ...]]:
        """Return all that the storage knows but times."""
        return [
            (r.arm, r.phase, r.number, r.state, dict(r.params), r.seed, r.value, dict(r.curve), r.attrs.get("reason"))
            for r in self.records
        ]

    def leaderboard(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if not any(word in k for word in MAY_DIFFER)} for row in self.rows]


def lost_and_duplicated(found: Outcome, expected: Outcome, *, same: bool = True) -> tuple[int, int]:
    """Return how many finished trials are missing from a witness, and how many are there more than once.

    With `same` false the study may choose another point than `expected`, so that only its search trials are the same.
    """
    records = expected.records if same else [*found.records, *(r for r in expected.records if r.phase == "search")]
    wanted = {(r.arm, f"{r.phase} {r.number}") for r in records}
    stored = Counter((r.arm, f"{r.phase} {r.number}") for r in found.records if r.finished)
    mirrored: Counter[tuple[str, str]] = Counter()
    for (arm, number, _), count in found.tracked.items():
        mirrored[arm, number] += count
    lost = len(wanted - stored.keys()) + len(wanted - mirrored.keys())
    twice = sum(n - 1 for n in stored.values()) + sum(n - 1 for n in mirrored.values())
    return lost, twice


def tracked(folder: Path) -> Counter[tuple[str, str, str]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(folder.name)
    assert experiment is not None
    found: Counter[tuple[str, str, str]] = Counter()
    for run in client.search_runs([experiment.experiment_id], max_results=5000):
        tags = run.data.tags
        if TAG + "number" in tags:
            found[tags[TAG + "arm"], f"{tags[TAG + 'phase']} {tags[TAG + 'number']}", tags[TAG + "state"]] += 1
    return found


def check(folder: Path, expected: Outcome | None = None) -> Outcome:
    """Assert what holds for every finished study; with `expected`, that it is that study but for times."""
    found = Outcome.of(folder)
    states = Counter((r.arm, f"{r.phase} {r.number}", r.state) for r in found.records)
    assert all(r.finished for r in found.records)
    assert set(states.values()) == {1}, "a trial is in Optuna's storage once"
    assert found.tracked == states, "MLflow tells of the same trials in the same states"
    for row in found.rows:
        own = [r for r in found.records if r.arm == f"{row['dataset']}/{row['method']}" and r.phase == "search"]
        counts = Counter(r.state for r in own)
        assert (row["complete"], row["pruned"], row["failed"]) == (
            counts["complete"],
            counts["pruned"],
            counts["failed"],
        )
    search = Counter(r.arm for r in found.records if r.phase == "search")
    assert len(set(search.values())) == 1, "budgets are equal"
    seeds: dict[str, Counter[int]] = {}
    for r in found.records:
        if r.phase == "confirm":
            seeds.setdefault(r.arm, Counter())[r.seed or 0] += 1
    assert len({frozenset(s) for s in seeds.values()}) == 1, "confirmation seeds are common"
    pruning_log = PruningLog(folder / "ledger.jsonl")
    for r in found.records:
        assert (r.state == "pruned") == (pruning_log.stop_of(r.arm, r.number) is not None and r.phase == "search")
        assert r.state == "failed" or len(r.curve) == r.epochs, "every trial that ended has its whole curve"
    assert leftovers(folder) == []
    if expected is not None:
        assert lost_and_duplicated(found, expected) == (0, 0)
        assert [pair for pair in zip(found.told(), expected.told(), strict=True) if pair[0] != pair[1]] == []
        assert found.leaderboard() == expected.leaderboard()
    return found


def leftovers(folder: Path) -> list[str]:
    """Return temporary files, and files that are not whole under their final name."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and (path.name.endswith(".tmp") or path.name.startswith(".")):
            found.append(str(path.relative_to(folder)))
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                json.loads(line)
    return found
