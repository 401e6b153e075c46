"""What is left of a study's checkpoints once its arms are decided, on disk and in MLflow alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.execution.retention import Keep, prune
from balance_tune.studies.protocol.selection import Rule
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.studies.storage.study_folder import StudyFolder

RULE = Rule(points=1, select_seeds=1, confirm_seeds=2, default_seeds=0)


def arm(folder: Path, *, tested: bool = True) -> list[TrialRecord]:
    """Return a decided arm of two search trials, a failed one, and two confirmed ones, all with checkpoints."""
    made = []
    told = [
        ("search", 0, 0, 0.5, 0.1), ("search", 1, 1, 0.7, 0.2), ("search", 2, 2, None, 0.3),
        ("select", 0, 1_000_000, 0.7, 0.2), ("select", 1, 1_000_000, 0.4, 0.1),
        ("confirm", 2, 2_000_000, 0.6, 0.2), ("confirm", 3, 2_000_001, 0.8, 0.2),
    ]  # fmt: skip
    for phase, number, seed, value, rate in told:
        place = f"trials/{phase}-{number}"
        (folder / place).mkdir(parents=True)
        for name in ("best.safetensors", "best.json", "history.jsonl", *(["test.json"] if tested else [])):
            (folder / place / name).write_text(name)
        state = "failed" if value is None else "complete"
        attrs = {"folder": place, "default": number == 0 and phase == "search"}
        made.append(
            TrialRecord("d/m", "d", "m", phase, number, state, {"training.lr": rate}, seed, value, attrs=attrs)  # type: ignore[arg-type]
        )
    return made


def left(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.rglob("best.safetensors")}


@pytest.mark.parametrize(
    ("keep", "staying"),
    [
        ("best", {"confirm-3"}),
        ("confirmed", {"confirm-2", "confirm-3"}),
        ("all", {"search-0", "search-1", "select-0", "select-1", "confirm-2", "confirm-3"}),
    ],
)
def test_what_stays_is_what_the_study_file_says(tmp_path: Path, keep: Keep, staying: set[str]) -> None:
    records = arm(tmp_path)
    prune(records, RULE, keep, StudyFolder(tmp_path))
    assert left(tmp_path) == staying
    assert prune(records, RULE, keep, StudyFolder(tmp_path)) == 0
    assert len(list(tmp_path.rglob("history.jsonl"))) == len(records)


def test_a_confirmed_checkpoint_waits_for_its_test(tmp_path: Path) -> None:
    prune(arm(tmp_path, tested=False), RULE, "best", StudyFolder(tmp_path))
    assert left(tmp_path) == {"confirm-2", "confirm-3"}


def test_an_arm_whose_confirmation_failed_keeps_its_best(tmp_path: Path) -> None:
    records = [r for r in arm(tmp_path) if r.phase != "confirm"]
    prune(records, RULE, "best", StudyFolder(tmp_path))
    assert "select-0" in left(tmp_path)
