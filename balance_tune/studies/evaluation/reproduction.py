"""Trains a recorded trial again and says how the curves compare: bit-identical, within a tolerance, or not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from balance_tune.errors import UserError
from balance_tune.kinds import misfit
from balance_tune.studies.evaluation.retrain import retrain, store_for
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.backend import Store, client_of_store, store_of
from balance_tune.studies.tracking.origin import code_version
from balance_tune.studies.tracking.runs import TAG, metrics_of
from balance_tune.studies.wording import one_line, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMPARED = ("val/", "train/", "modulation/")  # of a trial's metrics; times are never the same twice
NONE_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's answers to an id it does not know
Curves = Mapping[int, Mapping[str, float]]  # epoch -> metric -> value


@dataclass(frozen=True)
class Difference:
    """One value that is not what was recorded."""

    epoch: int
    metric: str
    recorded: float
    now: float

    @property
    def size(self) -> float:
        """|now - recorded|, relative where the recorded value is above 1."""
        size = abs(self.now - self.recorded) / max(1.0, abs(self.recorded))
        return size if math.isfinite(size) else math.inf


@dataclass(frozen=True)
class Comparison:
    """The result of a reproduction: `name` of the run, number of values, differences in results and circumstances."""

    name: str
    epochs: int
    values: int
    tolerance: float
    differences: list[Difference] = field(default_factory=list)
    circumstances: list[str] = field(default_factory=list)

    @property
    def largest(self) -> Difference | None:
        """The largest difference; None where there is none."""
        return max(self.differences, key=lambda d: d.size, default=None)

    @property
    def verdict(self) -> Literal["bit-identical", "within tolerance", "different"]:
        """How close the repeated trial is to the recorded one, in words."""
        if self.largest is None:
            return "bit-identical"
        return "within tolerance" if self.largest.size <= self.tolerance else "different"


def reproduce(run_id: str, root: StudyFolder, tolerance: float) -> Comparison:
    """Train the trial of an MLflow run again and compare every value of every epoch that was recorded.

    Raises:
        UserError: there is no such run, it is not a trial's, nothing of it was recorded, or the data is another.
    """
    from balance_tune.training.errors import Diverged

    mlflow = recorded_in(root)
    with client_of_store(mlflow) as client:
        name, trial = recorded_trial(client, run_id, mlflow)
        curves = recorded_curves(client, run_id)
    if not curves:
        raise UserError(f"a trial must have finished an epoch to be compared, but {shown(name)} has not.")
    store, _ = store_for(root, trial["dataset"], trial["study"], trial["data_hash"])
    try:
        rows, _ = retrain(trial, store, max(curves))
    except Diverged as error:
        raise UserError(f"{shown(name)} cannot be compared, because it now diverges: {error}.") from error
    now = {int(row["epoch"]): metrics_of(row) for row in rows}
    compared = {epoch: {m: v for m, v in values.items() if m.startswith(COMPARED)} for epoch, values in curves.items()}
    return Comparison(
        name,
        len(compared),
        sum(map(len, compared.values())),
        tolerance,
        list(differences(compared, now)),
        list(_circumstances(trial)),
    )


def recorded_in(root: StudyFolder) -> Store:
    """Return where the runs of a root are recorded."""
    store = store_of(root)
    if store.file is not None and not store.file.is_file():
        raise UserError(f"a run must be recorded to be found, but there is no {store.file}; is the --root right?")
    return store


def recorded_trial(client: MlflowClient, run_id: str, store: Store) -> tuple[str, dict[str, Any]]:
    """Return the name of a trial's run, and the configuration that was stored with it."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in NONE_THERE:
            raise
        raise UserError(
            one_line(f"a run must be recorded in {store.shown}, but there is no {shown(run_id)}.")
        ) from error
    name = str(run.info.run_name)
    if run.data.tags.get(f"{TAG}kind") != "trial":
        raise UserError(f"a run must be a trial's to be trained again, but {shown(name)} is not; pick one below it.")
    try:
        trial: dict[str, Any] = json.loads(Path(client.download_artifacts(run_id, "trial.json")).read_text())
        wrong = next((w for key in ("dataset", "study", "data_hash") if (w := misfit(trial[key], str, key))), None)
    except (MlflowException, OSError) as error:
        raise UserError(f"{shown(name)} must have its trial.json, but it was not stored with it.") from error
    except (ValueError, KeyError, TypeError) as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong is not None:
        raise UserError(one_line(f"the trial.json of {shown(name)} must be what a trial writes, but {wrong:.80}."))
    return name, trial


def recorded_curves(client: MlflowClient, run_id: str) -> Curves:
    """Return every value a run holds of every epoch."""
    curves: dict[int, dict[str, float]] = {}
    for name in client.get_run(run_id).data.metrics:
        if name.startswith(COMPARED):
            for metric in client.get_metric_history(run_id, name):
                curves.setdefault(metric.step, {})[name] = metric.value
    return curves


def differences(recorded: Curves, now: Curves) -> Iterator[Difference]:
    """Yield the values that differ, in the order of epochs; a value that is missing now counts as NaN."""
    for epoch in sorted(recorded):
        for name, value in recorded[epoch].items():
            other = now.get(epoch, {}).get(name, math.nan)
            same = other == value or (math.isnan(value) and name in now.get(epoch, {}) and math.isnan(other))
            if not same:
                yield Difference(epoch, name, value, other)


def _circumstances(trial: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between now and the recorded trial in code, versions and machine."""
    import torch

    if trial.get("code_version") != code_version():
        yield f"code {trial.get('code_version')}, now {code_version()}"
    for name, was in trial.get("versions", {}).items():
        try:
            now = version(name)
        except PackageNotFoundError:
            now = "absent"
        if now != was:
            yield f"{name} {was}, now {now}"
    if trial.get("gpus") and not torch.cuda.is_available():
        yield "it ran on a GPU, and here is none"
    if trial.get("workers", 1) > 1:
        yield f"it had {trial['workers']} workers, and was trained again by one"
