"""Carries updates into MLflow: makes or finds each run once, writes each epoch once, ends the run last."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.tracking.backend import Store, connect
from balance_tune.studies.tracking.inputs import dataset_input
from balance_tune.studies.tracking.runs import ENDED, TAG, Row, RunKey, Update, metrics_of
from balance_tune.studies.tracking.uploads import upload, write

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from balance_tune.datasets.manifest import Manifest

PER_BATCH = 800  # metrics; with 100 parameters and 100 tags a batch of MLflow holds 1000 entries
PARAMS_PER_BATCH = 100
NOTE = "mlflow.note.content"  # Markdown that MLflow shows above a run or an experiment

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """A run that exists in MLflow: its id, what is known to be written, and the last epoch (None: not asked yet)."""

    id: str
    status: str
    artifacts: str  # the URI they are kept at
    state: str = ""
    metrics: set[str] = field(default_factory=set)
    params: set[str] = field(default_factory=set)
    last_epoch: int | None = 0

    def holds(self, update: Update) -> bool:
        """Whether this run ended as `update` says, with all its results."""
        results = {name for row in update.summary for name in row.metrics}
        same = self.state == update.tags.get(TAG + "state", self.state)
        return self.status in ENDED and same and results <= self.metrics


class Delivery:
    """One study's runs in one store. Lives in the writer's process; every method may raise whatever MLflow raises.

    All of it may be repeated after an exception or a crash: runs are found by our own tags, epochs that are there are
    left out, and MLflow itself drops a metric with the same time, step and value.
    """

    def __init__(
        self, store: Store, study: str, study_id: str, manifests: Mapping[str, Manifest] | None = None
    ) -> None:
        self.store, self.study, self.study_id = store, study, study_id
        self._manifests = manifests or {}
        self.experiment_id = ""
        self.runs: dict[RunKey, Run] = {}
        self._client: MlflowClient | None = None
        self._doubtful = False  # a creation was not answered, or by an error: the run may exist all the same

    @property
    def client(self) -> MlflowClient:
        if self._client is None:
            raise RuntimeError("open() comes first")
        return self._client

    def open(self) -> None:
        """Connect, make or find the experiment, and learn which of the study's runs exist."""
        self._client = connect(self.store)
        self.experiment_id = self._experiment()
        self._find()

    def send(self, update: Update) -> None:
        """Write one update whole."""
        run = self.runs.get(update.key)
        if update.backfill and run is not None and run.holds(update):
            return
        made = run is None and self._create(update.key, update)
        run = self.runs[update.key]
        rows = self._fresh(run, told_in(update.history, update.at) if update.history else update.rows)
        params = {name: value for name, value in update.params.items() if name not in run.params}  # MLflow: write once
        for source, name in update.files:  # before the metrics, by which a run counts as told
            upload(self._artifacts(run), Path(source), name)
        if update.documents:
            write(self._artifacts(run), update.documents)
        if update.inputs:
            found = [dataset_input(self._manifests[name]) for name in update.inputs if name in self._manifests]
            self.client.log_inputs(run.id, datasets=found)
        self._log(run, params, {} if made else update.tags, rows, update.summary)
        self._describe(update)
        self._set_status(run, update)

    def _artifacts(self, run: Run) -> ArtifactRepository:
        """Return the store of a run's artifacts; the client would ask for the run before every file."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(run.artifacts, tracking_uri=self.store.uri)

    def _describe(self, update: Update) -> None:
        """Put the study's note on the page of its experiment too, which is what opens first."""
        if update.key == RunKey() and NOTE in update.tags:
            self.client.set_experiment_tag(self.experiment_id, NOTE, update.tags[NOTE])

    def run_id(self, key: RunKey) -> str:
        """Return the id of a run, making it (and its parents) when there is none yet."""
        if key not in self.runs:
            self._create(key, None)
        return self.runs[key].id

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.study)
        if found is None:
            home = self.store.artifacts and f"{self.store.artifacts}/{self.study_id}"
            tags = {"mlflow.experimentKind": "custom_model_development", TAG + "kind": "study"}
            try:
                return str(self.client.create_experiment(self.study, artifact_location=home, tags=tags))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(self.study)  # another study of that name was faster
        if found is None:
            raise RuntimeError(f"MLflow neither finds nor creates the experiment `{self.study}`")
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _find(self) -> None:
        """Learn every run of this study that MLflow has."""
        self.runs, token = {}, None
        while True:
            wanted = f"tags.`{TAG}study_id` = '{self.study_id}'"
            page = self.client.search_runs([self.experiment_id], wanted, max_results=1000, page_token=token)
            for found in page:
                tags, metrics = found.data.tags, found.data.metrics
                self.runs[RunKey.of_tags(tags)] = Run(
                    found.info.run_id,
                    found.info.status,
                    found.info.artifact_uri,
                    state=tags.get(TAG + "state", ""),
                    metrics=set(metrics),
                    params=set(found.data.params),
                    last_epoch=None if metrics else 0,
                )
            token = page.token
            if not token:
                self._doubtful = False
                return

    def _create(self, key: RunKey, update: Update | None) -> bool:
        """Make a run, and those it hangs on; False where it turns out to exist."""
        parent = {"mlflow.parentRunId": self.run_id(key.parent)} if key.parent is not None else {}
        if self._doubtful:
            self._find()
        if key in self.runs:
            return False
        own = {TAG + "study": self.study, TAG + "study_id": self.study_id}
        tags = key.tags() | own | parent | (update.tags if update else {})
        self._doubtful = True
        made = self.client.create_run(
            self.experiment_id, start_time=update.at if update else None, tags=tags, run_name=key.name(self.study)
        )
        self._doubtful = False
        self.runs[key] = Run(made.info.run_id, "RUNNING", made.info.artifact_uri, state=tags.get(TAG + "state", ""))
        return True

    def _fresh(self, run: Run, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of epochs that the run does not have, each epoch once."""
        if not rows:
            return []
        if run.last_epoch is None:
            name = next((n for n in rows[0].metrics if n in run.metrics), "")
            history = self.client.get_metric_history(run.id, name) if name else []
            run.last_epoch = max((metric.step for metric in history), default=0)
        fresh, last = [], run.last_epoch
        for row in rows:
            if row.step > last:
                fresh.append(row)
                last = row.step
        return fresh

    def _log(
        self, run: Run, params: dict[str, str], tags: dict[str, str], rows: list[Row], summary: Sequence[Row]
    ) -> None:
        from mlflow.entities import Param, RunTag

        named = [Param(name, value) for name, value in params.items()]
        marked = [RunTag(name, value) for name, value in tags.items()]
        while len(named) > PARAMS_PER_BATCH:
            self.client.log_batch(run.id, params=named[:PARAMS_PER_BATCH])
            named = named[PARAMS_PER_BATCH:]
        *first, last = list(_batches([*rows, *summary])) or [[]]
        for metrics in first:
            self.client.log_batch(run.id, metrics=metrics)
        if last or named or marked:
            self.client.log_batch(run.id, metrics=last, params=named, tags=marked)
        if rows:
            run.last_epoch = rows[-1].step
        run.params |= params.keys()
        run.metrics |= {name for row in [*rows, *summary] for name in row.metrics}
        run.state = tags.get(TAG + "state", run.state)

    def _set_status(self, run: Run, update: Update) -> None:
        if update.status in ENDED:
            self.client.set_terminated(run.id, update.status, update.until or update.at)
        elif update.status and update.status != run.status:
            self.client.update_run(run.id, status=update.status)
        run.status = update.status or run.status


def _batches(rows: Sequence[Row]) -> Iterator[list[Metric]]:
    """Yield metrics in lists that MLflow takes at once; an epoch is never torn apart unless it alone is too long."""
    from mlflow.entities import Metric

    batch: list[Metric] = []
    for row in rows:
        metrics = [Metric(name, value, row.at, row.step) for name, value in row.metrics.items()]
        if batch and len(batch) + len(metrics) > PER_BATCH:
            yield batch
            batch = []
        batch += metrics
        while len(batch) > PER_BATCH:
            yield batch[:PER_BATCH]
            batch = batch[PER_BATCH:]
    if batch:
        yield batch


def told_in(history: Path | str, at: int) -> list[Row]:
    """Return the epochs in a trial's history file, as far as it can be read; a missing file holds none."""
    rows: list[Row] = []
    lines = durable.json_lines(Path(history))
    try:
        rows.extend(Row(int(result["epoch"]), at, metrics_of(result)) for result in lines)
    except UserError as error:
        logger.warning("MLflow gets only %d epochs of a trial: %s", len(rows), error)
    return rows


OTHERS = ("mlflow.", "sqlalchemy.", "urllib3.", "botocore.", "boto3.", "google.", "azure.")  # artifacts' stores too


def is_refusal(error: Exception) -> bool:
    """Whether asking again is of no use: MLflow understood and said no, or the fault is in the entry or in us."""
    outside = isinstance(error, OSError) or type(error).__module__.startswith(OTHERS)
    return not outside or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"
