"""Deletes the checkpoints of an arm that are not needed any more once a replicate is decided."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from balance_tune.studies.protocol.selection import Rule, best_trial, winner
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.studies.storage.study_folder import StudyFolder

Keep = Literal["all", "confirmed", "best"]
WEIGHTS, SEALED = "best.safetensors", "test.json"


def folders_to_keep(records: Sequence[TrialRecord], rule: Rule, keep: Keep, folder: Path) -> set[Path]:
    """Return the trial folders of one arm in one decided replicate whose weights stay.

    Whatever `keep` says, the checkpoint that is logged for the arm stays, and so does a confirmed one until it has
    been evaluated on the test rows.
    """
    complete = [r for r in records if r.state == "complete" and r.attrs.get("folder")]
    point = winner(records, rule)
    best = best_trial(records, records[0].arm, point.params if point else None, rule.objective)
    return {
        folder / str(r.attrs["folder"])
        for r in complete
        if keep == "all"
        or r is best
        or (r.phase == "confirm" and (keep == "confirmed" or not (folder / str(r.attrs["folder"]) / SEALED).is_file()))
    }


def prune(records: Sequence[TrialRecord], rule: Rule, keep: Keep, folder: StudyFolder) -> int:
    """Delete the weights of one arm in one decided replicate that need not stay; return how many were."""
    to_keep = folders_to_keep(records, rule, keep, folder.path) if records else set()
    ended = [str(r.attrs["folder"]) for r in records if r.finished and r.attrs.get("folder")]
    names = [f"{name}/{WEIGHTS}" for name in ended if folder.path / name not in to_keep]
    weights = folder.existing(names) if names else []
    for name in weights:
        folder.remove(name)
    return len(weights)
