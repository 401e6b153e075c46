"""Writes the winner of a dataset into a folder: its model, its card, and a study file that runs it alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.evaluation.retrain import store_for
from balance_tune.studies.protocol.selection import best_trial
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.artifacts import bring_weights
from balance_tune.studies.tracking.backend import quiet_environment
from balance_tune.studies.tracking.champions import card, contender


def export_best(study_folder: StudyFolder, row: LeaderboardRow, study: Mapping[str, Any], target: Path) -> Path:
    """Write `target`/<dataset>/: model (an MLflow model, no server needed), README.md, study.yaml; return that folder.

    Raises:
        UserError: it exists already or cannot be written, or the arm has no checkpoint.
    """
    folder = target / row.dataset
    if folder.exists():
        raise UserError(f"an export must not overwrite, but {folder} exists; name another folder with --export.")
    best = best_trial(read_records(study_folder.path), row.arm, row.params, row.objective)
    place = study_folder / str(best.attrs.get("folder", "")) if best is not None else None
    if best is None or place is None or not bring_weights(place):
        raise UserError(f"{row.arm} must have a checkpoint to be exported, but has none (any more).")
    _, manifest = store_for(study_folder.parent, row.dataset, study_folder.name)
    quiet_environment()
    from mlflow.models import Model

    from balance_tune.studies.tracking.models import packed

    unfinished = folder.with_name(f".{folder.name}.writing")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of an export that was killed
        unfinished.mkdir(parents=True)
        with packed(Model(), place.path, manifest) as package:
            shutil.copytree(package, unfinished / "model")
        title = f"{row.arm} of study {study_folder.name}"
        augment = stored_config(study_folder.path).augment
        (unfinished / "README.md").write_text(f"# {title}\n\n{card(contender(row, best, manifest, augment), manifest)}")
        (unfinished / "study.yaml").write_text(strict_yaml.dump(study))
        durable.adopt(unfinished, folder)
    except OSError as error:
        raise UserError(f"an export must be writable, but {folder}: {error.strerror}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
