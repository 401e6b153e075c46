"""The runs of one study in one MLflow store: finds or creates them, and writes what they lack."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from balance_tune.studies.tracking.backend import Store, connect
from balance_tune.studies.tracking.inputs import dataset_input
from balance_tune.studies.tracking.note import NOTE
from balance_tune.studies.tracking.runs import ENDED, TAG, Content, Row, RunKey

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

PER_BATCH = 800  # metrics; with 100 parameters and 100 tags a batch of MLflow holds 1000 entries
PARAMS_PER_BATCH = 100

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """What MLflow holds of a run; `last_epoch` is None until it has been asked for."""

    id: str
    status: str
    artifacts: str  # the URI they are kept at
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)  # the latest values
    datasets: set[str] = field(default_factory=set)
    last_epoch: int | None = 0


class Client:
    """Reads and writes one study's runs; every method may raise whatever MLflow raises.

    Every call may be repeated after an exception, and by another process after a crash: runs are found by our own tags,
    epochs that are there are left out, artifacts are overwritten, and the status of a run is written last.

    Attributes:
        tags: tags of the experiment.
        runs: the runs there are, as of `open` and of what was written since.
    """

    def __init__(self, store: Store, study: str, study_id: str, tags: Mapping[str, str] | None = None) -> None:
        self.store, self.study, self.study_id, self.tags = store, study, study_id, dict(tags or {})
        self.experiment_id = ""
        self.runs: dict[RunKey, Run] = {}
        self._mlflow: MlflowClient | None = None
        self._uncertain = False  # the creation of a run got no answer: the run may exist nevertheless

    @property
    def mlflow(self) -> MlflowClient:
        """MLflow's own client."""
        if self._mlflow is None:
            raise RuntimeError("open() comes first")
        return self._mlflow

    def open(self) -> None:
        """Connect, create or find the experiment, and learn which of the study's runs exist."""
        self._mlflow = connect(self.store)
        self.experiment_id = self._experiment()
        self._find()

    def write(self, content: Content) -> None:
        """Write what a run lacks; nothing is sent for a complete run."""
        run = self.runs.get(content.key)
        if run is None:
            run = self._create(content)
        for source, name in content.files:  # before the metrics and the status, by which a run counts as complete
            self._upload(run, source, name)
        if content.documents:
            self._write_documents(run, content)
        datasets = [m for m in content.datasets if m.dataset not in run.datasets]
        if datasets:
            self.mlflow.log_inputs(run.id, datasets=[dataset_input(m) for m in datasets])
            run.datasets |= {m.dataset for m in datasets}
        self._log(run, content)
        if content.key == RunKey() and NOTE in content.tags:  # the page of the experiment is what opens first
            self.mlflow.set_experiment_tag(self.experiment_id, NOTE, content.tags[NOTE])
        self._set_status(run, content)

    def key_of(self, arm: str, phase: str, number: int, replicate: int, replicates: int) -> RunKey:
        """Return the run of a trial; one from before a study of one replicate was extended stays where it is.

        Args:
            replicate: of the trial, counted from 0.
            replicates: of the study.
        """
        alone = RunKey(arm, phase, number)
        if replicates == 1 or (replicate == 0 and alone in self.runs):
            return alone
        return RunKey(arm, phase, number, replicate + 1)

    def run_id(self, key: RunKey) -> str:
        """Return the id of a run; it is created, with those above it, where it is missing."""
        if key not in self.runs:
            self._create(Content(key, "", 0))
        return self.runs[key].id

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self.mlflow.get_experiment_by_name(self.study)
        if experiment is None:
            location = self.store.artifacts and f"{self.store.artifacts}/{self.study_id}"
            tags = {"mlflow.experimentKind": "custom_model_development", TAG + "kind": "study", **self.tags}
            try:
                return str(self.mlflow.create_experiment(self.study, artifact_location=location, tags=tags))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = self.mlflow.get_experiment_by_name(self.study)  # a study of that name created it
        if experiment is None:
            raise RuntimeError(f"MLflow neither finds nor creates the experiment `{self.study}`")
        if experiment.lifecycle_stage == "deleted":
            self.mlflow.restore_experiment(experiment.experiment_id)
        for name, value in self.tags.items():
            if experiment.tags.get(name) != value:
                self.mlflow.set_experiment_tag(experiment.experiment_id, name, value)
        return str(experiment.experiment_id)

    def _find(self) -> None:
        """Learn every run of this study that MLflow has."""
        self.runs, token = {}, None
        while True:
            query = f"tags.`{TAG}study_id` = '{self.study_id}'"
            page = self.mlflow.search_runs([self.experiment_id], query, max_results=1000, page_token=token)
            for run in page:
                self.runs[RunKey.of_tags(run.data.tags)] = Run(
                    run.info.run_id,
                    run.info.status,
                    run.info.artifact_uri,
                    tags=dict(run.data.tags),
                    params=set(run.data.params),
                    metrics=dict(run.data.metrics),
                    datasets={i.dataset.name for i in run.inputs.dataset_inputs} if run.inputs else set(),
                    last_epoch=None if run.data.metrics else 0,
                )
            token = page.token
            if not token:
                self._uncertain = False
                return

    def _create(self, content: Content) -> Run:
        key = content.key
        parent = {"mlflow.parentRunId": self.run_id(key.parent)} if key.parent is not None else {}
        if self._uncertain:
            self._find()
            if key in self.runs:
                return self.runs[key]
        own = {TAG + "study": self.study, TAG + "study_id": self.study_id}
        tags = key.tags() | own | parent | content.birth_tags | content.tags
        self._uncertain = True
        info = self.mlflow.create_run(
            self.experiment_id, start_time=content.started or None, tags=tags, run_name=key.name(self.study)
        ).info
        self._uncertain = False
        self.runs[key] = Run(info.run_id, "RUNNING", info.artifact_uri, tags=tags)
        return self.runs[key]

    def _artifacts(self, run: Run) -> ArtifactRepository:
        """Return the store of a run's artifacts; MLflow's client would ask for the run before every file."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(run.artifacts, tracking_uri=self.store.uri)

    def _upload(self, run: Run, source: Path, name: str) -> None:
        """Store a file as `name` (a path below the run's artifacts)."""
        if not source.exists():
            logger.warning("MLflow gets no `%s`: %s is gone.", name, source)
            return
        target = PurePosixPath(name)
        folder = None if target.parent == PurePosixPath(".") else str(target.parent)
        if source.name == target.name:
            self._artifacts(run).log_artifact(str(source), folder)
            return
        with tempfile.TemporaryDirectory() as temporary:  # MLflow keeps the name of the local file
            self._artifacts(run).log_artifact(str(shutil.copy(source, Path(temporary) / target.name)), folder)

    def _write_documents(self, run: Run, content: Content) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            for name, text in content.documents.items():
                (Path(temporary) / name).write_text(text, encoding="utf-8")
            self._artifacts(run).log_artifacts(temporary)

    def _log(self, run: Run, content: Content) -> None:
        from mlflow.entities import Param, RunTag

        epochs = self._new_epochs(run, content.epochs)
        results = [
            Row(row.step, row.at, changed)
            for row in content.results
            if (changed := {name: v for name, v in row.metrics.items() if not _same(run.metrics.get(name), v)})
        ]
        new = {name: value for name, value in content.params.items() if name not in run.params}  # MLflow: write once
        tags = {name: value for name, value in content.tags.items() if run.tags.get(name) != value}
        params = [Param(name, value) for name, value in new.items()]
        while len(params) > PARAMS_PER_BATCH:
            self.mlflow.log_batch(run.id, params=params[:PARAMS_PER_BATCH])
            params = params[PARAMS_PER_BATCH:]
        *first, last = list(_batches([*epochs, *results])) or [[]]
        for metrics in first:
            self.mlflow.log_batch(run.id, metrics=metrics)
        if last or params or tags:
            run_tags = [RunTag(name, value) for name, value in tags.items()]
            self.mlflow.log_batch(run.id, metrics=last, params=params, tags=run_tags)
        if epochs:
            run.last_epoch = epochs[-1].step
        for row in [*epochs, *results]:
            run.metrics |= row.metrics
        run.params |= new.keys()
        run.tags |= tags

    def _new_epochs(self, run: Run, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of epochs that the run does not have, each epoch once."""
        if not rows:
            return []
        if run.last_epoch is None:
            name = next((n for n in rows[0].metrics if n in run.metrics), "")
            history = self.mlflow.get_metric_history(run.id, name) if name else []
            run.last_epoch = max((metric.step for metric in history), default=0)
        new, last = [], run.last_epoch
        for row in rows:
            if row.step > last:
                new.append(row)
                last = row.step
        return new

    def _set_status(self, run: Run, content: Content) -> None:
        if not content.status or content.status == run.status:
            return
        if content.status in ENDED:
            self.mlflow.set_terminated(run.id, content.status, content.ended)
        else:
            self.mlflow.update_run(run.id, status=content.status)
        run.status = content.status


def _same(old: float | None, new: float) -> bool:
    return old is not None and (old == new or (old != old and new != new))  # NaN is the same as NaN


def _batches(rows: Sequence[Row]) -> Iterator[list[Metric]]:
    """Yield metrics in lists that MLflow takes at once; an epoch is never split unless it alone is too long."""
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


LIBRARIES = ("mlflow.", "sqlalchemy.", "urllib3.", "botocore.", "boto3.", "google.", "azure.")  # artifact stores too


def is_refusal(error: Exception) -> bool:
    """Return whether a retry would fail too: MLflow refused the value, or the error is in the data or this package."""
    outside = isinstance(error, OSError) or type(error).__module__.startswith(LIBRARIES)
    return not outside or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"
