"""Collects the facts about this machine and every node of the cluster, and runs all checks on them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.errors import UserError
from balance_tune.studies.cluster.ray_address import check_ray_address
from balance_tune.studies.cluster.upload import LIMIT, parcel_of
from balance_tune.studies.doctor import nodes, surroundings
from balance_tune.studies.doctor.finding import Finding, fail, ok
from balance_tune.studies.doctor.probe import probe, versions_here
from balance_tune.studies.private_apis import local_clusters
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.wording import one_line

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.tracking.backend import Store


def examine(root: StudyFolder, config: StudyConfig | None = None, folder: Path | None = None) -> Iterator[Finding]:
    """Yield one finding per check: first the checks that need no Ray, then those of the cluster.

    `root` is the studies' root, `config` a study that is to fit, `folder` what a job would send.
    """
    from balance_tune.studies.tracking.backend import store_of

    wrong = ""
    try:
        check_ray_address()
    except UserError as error:
        wrong = str(error)
    address = os.environ.get("RAY_ADDRESS")
    others = _other_rays(address)
    if others is not None:
        yield surroundings.instances(others, address)
    yield surroundings.token(os.environ, address, Path.home())
    try:
        yield ask(store_of(root, config.mlflow.tracking_uri if config else None))
    except UserError as error:
        yield fail("mlflow", str(error), "set MLFLOW_TRACKING_URI")
    yield from _database(root)
    parcel = parcel_of(folder or Path.cwd())
    yield surroundings.working_dir(str(parcel.folder), parcel.size, parcel.largest, LIMIT)
    if wrong:
        rule, _, remedy = wrong.rstrip(".").rpartition("; ")
        yield fail("ray", rule, remedy)
    else:
        yield from _cluster(root, config)


def _database(root: StudyFolder) -> Iterator[Finding]:
    """Connect to the database of Optuna's trials, if one is configured; its tables are made if they are missing."""
    from balance_tune.studies.storage.database import URL, connect, shared_database, shown

    url = os.environ.get(URL, "")
    try:
        if root.store is not None:
            url = shared_database(root)
        if url:
            connect(url)
            yield ok("database", f"{shown(url)} answers")
    except UserError as error:
        rule, _, remedy = str(error).rstrip(".").partition("; ")
        yield fail("database", rule, remedy or "set BALANCE_TUNE_STORAGE to PostgreSQL's address")


def _cluster(root: StudyFolder, config: StudyConfig | None) -> Iterator[Finding]:
    from balance_tune.studies.cluster.ray_cluster import ray_for, study_resources
    from balance_tune.studies.config.schema import Resources

    with ExitStack() as running:
        try:
            cluster = running.enter_context(ray_for(config.resources if config else Resources()))
        except Exception as error:  # whatever Ray raises where it does not start or answer
            reason = one_line(str(error))[:200]
            yield fail("ray", f"Ray does not answer ({reason})", "see `ray status`, or unset RAY_ADDRESS")
            return
        views = probe(root)
        yield nodes.answers(views)
        groups = 0
        if config is not None:
            try:
                trial, _ = study_resources(config, cluster)
                groups = trial.slots if trial.workers > 1 else 0
                yield ok("fit", f"{trial.slots} trials at a time")
            except UserError as error:
                yield fail("fit", str(error).rstrip("."), "see `resources` in docs/operating.md")
        there = [n for n in views if not n.error]
        if there:
            yield nodes.devices(there)
            yield nodes.versions(versions_here(), there)
            yield nodes.storage(root.display_uri(), there)
            yield nodes.disk(there)
            yield nodes.shared_memory(there)
            yield nodes.clocks(there)
            yield nodes.memory(there, groups)


def ask(store: Store) -> Finding:
    """Send MLflow a request as a study would; connect to a database without changing it."""
    if store.file is not None:
        return ok("mlflow", f"{store.shown}, a file")
    if not store.served:
        return _ask_database(store)
    from balance_tune.studies.tracking.backend import connect

    try:
        connect(store).search_experiments(max_results=1)
    except Exception as error:  # MLflow's own, and whatever the network raises
        reason = one_line(str(error))
        status = re.search(r"error code (\d{3})", reason)
        return surroundings.mlflow(store.shown, int(status[1]) if status else None, reason[-160:])
    return surroundings.mlflow(store.shown, 200, "")


def _ask_database(store: Store) -> Finding:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(store.uri)
        with engine.connect() as connection:
            connection.execute(text("select 1"))
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        return surroundings.mlflow(store.shown, None, one_line(str(error).splitlines()[0]))
    return surroundings.mlflow(store.shown, 200, "")


def _other_rays(address: str | None) -> list[str] | None:
    """Return the addresses of other Rays on this host than the one at `address` and the one of this process.

    None where Ray's private function is gone.
    """
    import ray

    clusters = local_clusters()
    own = {address, ray.get_runtime_context().gcs_address if ray.is_initialized() else None}
    return None if clusters is None else sorted(clusters - own)
