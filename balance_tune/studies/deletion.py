"""Removes a study: its folder, and its runs and artifacts in MLflow. Stores of datasets are shared, so they stay."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.protocol.provenance import CONFIG
from balance_tune.studies.storage.database import database_of
from balance_tune.studies.storage.exclusive import exclusive
from balance_tune.studies.storage.files import DATABASE
from balance_tune.studies.storage.pruning_table import table_of
from balance_tune.studies.storage.records import studies_of
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store, client_of_store, store_of
from balance_tune.studies.tracking.memory import IDENTITY, study_id
from balance_tune.studies.tracking.relocation import follow_root, recorded_elsewhere
from balance_tune.studies.tracking.runs import TAG
from balance_tune.studies.wording import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from balance_tune.studies.config.schema import StudyConfig

FOUND_BY = (CONFIG, DATABASE, IDENTITY)  # of a study in an object store: what a second attempt to remove it needs
BATCH = 1000  # runs named on one command line


def delete_study(folder: StudyFolder) -> list[str]:
    """Remove the study in `folder`; return messages for the user, one line each.

    MLflow comes first: if it does not answer, nothing has been removed yet.

    Raises:
        UserError: the study is running, or the address of its MLflow store is wrong.
    """
    with exclusive(folder):
        remarks = _forget(folder) if (folder.path / IDENTITY).is_file() else []
        folder.clear_store(keep=FOUND_BY)  # first: a later study of this name must not find trials of this one
        forget(folder)
        folder.clear_store()
        hidden = folder.path.with_name(f".{folder.name}.deleting")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.path.rename(hidden)  # renamed first: a half-removed study is never found under its name
    shutil.rmtree(hidden)
    return remarks


def _forget(folder: StudyFolder) -> list[str]:
    config, identity = stored_config(folder.path), study_id(folder)
    if config.name != folder.name:
        return [f"MLflow's runs stay: they are those of `{config.name}`, of which {folder.name} was a copy."]
    store = store_of(folder.parent, config.mlflow.tracking_uri)
    if store.file is not None:
        if not store.file.is_file():
            return []
        follow_root(store.file, store.artifacts, running=folder.name)
        elsewhere = recorded_elsewhere(store.file, store.artifacts)
        if elsewhere is not None:  # MLflow would delete the artifacts there: those of the root that was copied
            raise UserError(
                f"a study must be deleted where its artifacts are, but {store.file} records them at {elsewhere}; "
                "delete again when no other study of this root runs."
            )
    with client_of_store(store) as client:
        return _delete_runs(client, store, config, identity)


def _delete_runs(client: MlflowClient, store: Store, config: StudyConfig, study_id: str) -> list[str]:
    experiment = client.get_experiment_by_name(config.name)
    if experiment is None:
        return []
    local = not store.artifacts or store.artifacts.startswith("file:")
    for dataset in config.datasets:
        _unregister(client, f"{config.name}-{dataset}", study_id)
    ours = _runs(client, experiment.experiment_id, f"tags.`{TAG}study_id` = '{study_id}'")
    remarks = _empty(client, store, experiment.experiment_id, study_id, ours) if store.file is None or not local else []
    for run in ours:
        client.delete_run(run.info.run_id)
    alone = not _runs(client, experiment.experiment_id, "")
    if alone and experiment.lifecycle_stage == "active":
        client.delete_experiment(experiment.experiment_id)
    artifacts = local and store.artifacts and Path(unquote(urlsplit(store.artifacts).path)) / study_id
    if store.file is None:
        return [*remarks, f"The runs are marked as deleted in {store.shown}; `mlflow gc` there frees their rows."]
    remarks = _purge(store, experiment.experiment_id if alone else None, [run.info.run_id for run in ours])
    if artifacts:
        shutil.rmtree(artifacts, ignore_errors=True)
    return remarks


def _unregister(client: MlflowClient, model: str, study_id: str) -> None:
    """Delete the study's versions of a registered model, and the model when it has no others."""
    versions = client.search_model_versions(f"name='{model}'")
    ours = [v for v in versions if v.tags.get(f"{TAG}study_id") == study_id]
    for version in ours:
        client.delete_model_version(model, version.version)
    if ours and len(ours) == len(versions):
        client.delete_registered_model(model)


def _empty(client: MlflowClient, store: Store, experiment_id: str, study_id: str, runs: Sequence[Run]) -> list[str]:
    """Delete the artifacts of runs and models; in a shared store, MLflow's own tool would not do it at once."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    models = [m for m in client.search_logged_models([experiment_id]) if m.tags.get(f"{TAG}study_id") == study_id]
    left = 0
    for place in [run.info.artifact_uri for run in runs] + [model.artifact_location for model in models]:
        try:
            get_artifact_repository(place, tracking_uri=store.uri).delete_artifacts(None)
        except (MlflowException, OSError, NotImplementedError):  # a store that only its administrator may empty
            left += 1
    for model in models:
        client.delete_logged_model(model.model_id)
    return [f"The artifacts of {left} runs stay where {store.shown} keeps them: it deletes none."] if left else []


def _runs(client: MlflowClient, experiment_id: str, query: str) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], query, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _purge(store: Store, experiment_id: str | None, run_ids: list[str]) -> list[str]:
    """Remove what is marked as deleted, by MLflow's own tool; only for a file, whose address is no secret."""
    base = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", store.uri, "--tracking-uri", store.uri]
    if experiment_id is not None:
        commands = [[*base, "--experiment-ids", experiment_id]]
    else:
        commands = [[*base, "--run-ids", ",".join(run_ids[i : i + BATCH])] for i in range(0, len(run_ids), BATCH)]
    for command in commands:
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode != 0:
            last = one_line((process.stderr.strip().splitlines() or ["no reason given"])[-1])
            return [f"The runs are marked as deleted in {store.shown}, but `mlflow gc` did not free them: {last}"]
    return []


def forget(folder: StudyFolder) -> None:
    """Remove a study's trials from its database, and its pruning log, if they are in one."""
    storage = database_of(folder.path)
    if storage is not None:
        for study_id, _ in studies_of(storage):
            storage.delete_study(study_id)
    table = table_of(folder)
    if table is not None:
        table.clear()
        table.close()
