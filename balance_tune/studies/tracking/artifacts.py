"""Which files of a study are stored in MLflow, and under which names."""

from __future__ import annotations

from pathlib import Path

from balance_tune.studies.storage.study_folder import StudyFolder

CHECKPOINT = ("best.safetensors", "best.json", "history.jsonl")
FOLDER = "checkpoint"  # in the artifacts of an arm's run
TABLES = ("leaderboard.json", "leaderboard.csv", "leaderboard.md", "robustness.csv")


def study_files(study_folder: Path, report_folder: Path | None) -> list[tuple[Path, str]]:
    """Return (file, name in the artifacts) of the existing files that describe the whole study."""
    files = [(study_folder / "study.yaml", "study.yaml")]
    if report_folder is not None:
        files.append((report_folder / "index.html", "report.html"))
        files += [(report_folder / name, name) for name in TABLES]
    return [(path, name) for path, name in files if path.is_file()]


def checkpoint_files(trial_folder: StudyFolder) -> list[tuple[Path, str]]:
    """Return (file, name in the artifacts) of a trial's best epoch: weights, card, learning curves."""
    bring_weights(trial_folder)
    path = trial_folder.path
    return [(path / f, f"{FOLDER}/{f}") for f in CHECKPOINT if (path / f).is_file()]


def bring_weights(trial_folder: StudyFolder) -> bool:
    """Return whether a trial's best weights and their card exist; they are downloaded if they are in a store."""
    trial_folder.download(CHECKPOINT.__contains__)
    return (trial_folder.path / CHECKPOINT[0]).is_file()
