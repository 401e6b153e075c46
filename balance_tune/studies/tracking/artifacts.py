"""Which files of a study are stored in MLflow, and under which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from balance_tune.studies import mirror
from balance_tune.studies.confirm import point_key
from balance_tune.studies.records import TrialRecord, lower_is_better

CHECKPOINT = ("best.safetensors", "best.json", "history.jsonl")
FOLDER = "checkpoint"  # in the artifacts of an arm's run
LEADERBOARD = ("leaderboard.json", "leaderboard.csv", "leaderboard.md")


def study_files(study_folder: Path, report_folder: Path) -> list[tuple[str, str]]:
    """Return (file, name in the artifacts) of what describes the whole study, of those that exist."""
    files = [(study_folder / "study.yaml", "study.yaml"), (report_folder / "index.html", "report.html")]
    files += [(report_folder / name, name) for name in LEADERBOARD]
    return [(str(path), name) for path, name in files if path.is_file()]


def checkpoint_files(trial_folder: Path) -> list[tuple[str, str]]:
    """Return (file, name in the artifacts) of a trial's best epoch: weights, card, learning curves."""
    bring_weights(trial_folder)
    return [(str(trial_folder / f), f"{FOLDER}/{f}") for f in CHECKPOINT if (trial_folder / f).is_file()]


def bring_weights(trial_folder: Path) -> bool:
    """Return whether a trial's best weights are there, with their card; brought here now if they are in a store."""
    mirror.fetch(trial_folder, CHECKPOINT.__contains__)
    return (trial_folder / CHECKPOINT[0]).is_file()


def best_trial(records: Sequence[TrialRecord], row: Mapping[str, Any]) -> TrialRecord | None:
    """Return the trial whose checkpoint stands for an arm: of the chosen point, the seed that is best by validation.

    Confirmation trials come first, then selection, then the search, as far as the study has got.
    """
    own = [r for r in records if r.arm == row["arm"] and r.state == "complete" and r.value is not None]
    if row["params"] is not None:
        chosen = point_key(row["params"])
        own = [r for r in own if (r.attrs.get("point") or point_key(r.params)) == chosen] or own
    for phase in ("confirm", "select", "search"):
        found = [r for r in own if r.phase == phase]
        if found:
            pick = min if lower_is_better(row["objective"]) else max
            return pick(found, key=lambda r: r.value if r.value is not None else 0.0)
    return None
