"""Study folders written by hand, as driver and trials write them, for tests of what MLflow gets of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from balance_tune.datasets.base import Modality
from balance_tune.datasets.manifest import Identity, Manifest, Shard, data_hash
from balance_tune.datasets.splits import PARTS, SplitRecipe
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.storage import trial_file
from balance_tune.studies.storage.records import CONFIRM, Phase, TrialRecord, read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage

SHARDS: dict[str, tuple[Shard, ...]] = dict.fromkeys(PARTS, ())
MANIFEST = Manifest(
    Identity(
        "av_digits", 1, "classes", ("no", "yes"), {"audio": Modality((3,), "mlp")},
        SplitRecipe("stratified", train=0.4, monitor=0.2, val=0.2, test=0.2), (),
    ),
    counts={"train": {"no": 2, "yes": 3}}, groups={}, statistics={}, ranges={}, shards=SHARDS, split_hash="5p1it",
    data_hash=data_hash(SHARDS), licence="", source="", limits=(), recipe={},
)  # fmt: skip
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
LR = {"training.lr": FloatDistribution(0.0001, 100.0, log=True)}


def epoch(number: int, **more: Any) -> dict[str, Any]:
    """Return what a trial writes of an epoch into its history."""
    return {
        "epoch": number, "val/accuracy": 0.5 + number / 100, "val/accuracy/audio": 0.4, "val/gap": 0.05,
        "train/loss": 2.0 / number, "modulation/k/audio": 0.9, "time/epoch_s": 0.1, "device_seconds": 0.1 * number,
        "best_epoch": number, **more,
    }  # fmt: skip


class WrittenTrial:
    """A trial in a `WrittenStudy`."""

    def __init__(self, study: WrittenStudy, arm: str, phase: Phase, number: int, trial_id: int, folder: Path) -> None:
        self.study, self.arm, self.phase, self.number = study, arm, phase, number
        self.folder, self._id, self.epochs = folder, trial_id, 0

    def train(self, epochs: int, *, reported: int | None = None, **more: Any) -> WrittenTrial:
        """Write so many further epochs; the driver has heard of the first `reported` (default: of all)."""
        with (self.folder / "history.jsonl").open("a") as history:
            for number in range(self.epochs + 1, self.epochs + epochs + 1):
                history.write(json.dumps(epoch(number, **more)) + "\n")
                if reported is None or number <= reported:
                    self.report(number)
        self.epochs += epochs
        return self

    def report(self, number: int) -> None:
        self.study.storage.set_trial_intermediate_value(self._id, number, 0.5 + number / 100)

    def set(self, **attrs: Any) -> None:
        for name, value in attrs.items():
            self.study.storage.set_trial_user_attr(self._id, name, value)

    def end(self, state: str = "complete", epochs: int | None = None, **attrs: Any) -> WrittenTrial:
        """End the trial as the queue does."""
        last = self.epochs if epochs is None else epochs
        best = {"best_epoch": last, "metrics": {"val/accuracy": 0.5 + last / 100}} if last else {}
        self.set(epochs=last, device_seconds=0.1 * last, **best, **attrs)
        values = None if state == "failed" else [0.5 + last / 100]
        self.study.storage.set_trial_state_values(self._id, STATES[state], values)
        return self

    def seal(self, **metrics: Any) -> WrittenTrial:
        (self.folder / "test.json").write_text(json.dumps(metrics))
        return self


class WrittenStudy:
    """A study of two arms on one dataset; `again` is the same folder as another driver finds it."""

    def __init__(self, root: Path, name: str, **config: Any) -> None:
        self.folder = root / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.configure(**config)
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / "av_digits.json").write_text(MANIFEST.to_json())
        self.storage = open_storage(StudyFolder(self.folder))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        for arm in ("av_digits/joint", "av_digits/mlb"):
            for study in (arm, arm + CONFIRM):
                optuna.create_study(study_name=study, storage=self.storage, direction="maximize", load_if_exists=True)

    def configure(self, **config: Any) -> None:
        """Write the study file."""
        full = {"name": self.folder.name, "datasets": ["av_digits"], "methods": ["joint", "mlb"], **config}
        (self.folder / "study.yaml").write_text(read_config(full).as_yaml())

    def begin(
        self, number: int, phase: Phase = "search", arm: str = "av_digits/mlb", attrs: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> WrittenTrial:  # fmt: skip
        """Begin a trial as the queue does; `config` changes its configuration, None writes none."""
        dataset, _, method = arm.partition("/")
        place = f"trials/{arm}/{phase}-{number:04d}"
        study = optuna.load_study(study_name=arm if phase == "search" else arm + CONFIRM, storage=self.storage)
        given = {"phase": phase, "seed": 7, "default": False, "folder": place, "device": "cpu", **(attrs or {})}
        params = {"training.lr": 0.1 + number}
        study.add_trial(
            create_trial(state=TrialState.RUNNING, params=params, distributions=LR, user_attrs=given)
        )  # fmt: skip
        trial_id = study.get_trials(deepcopy=False)[-1]._trial_id
        assert study.get_trials(deepcopy=False)[-1].number == number
        (self.folder / place).mkdir(parents=True)
        trial = {
            "arm": arm, "dataset": dataset, "method": method, "variant": None, "phase": phase, "number": number,
            "seed": 7, "training": {"lr": 0.1 + number, "epochs": 20}, "model": {"fusion": "concat", "encoders": {}},
            "modulation": {"start": 0.0}, "workers": 1, **config,
        }  # fmt: skip
        trial_file.write(StudyFolder(self.folder / place), trial)
        return WrittenTrial(self, arm, phase, number, trial_id, self.folder / place)

    @property
    def records(self) -> list[TrialRecord]:
        return read_records(self.folder)


def runs_of(client: Any, name: str) -> dict[str, Any]:
    """Return a study's runs by name; a duplicate fails the test."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return {}
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    counts = Counter(run.info.run_name for run in runs)
    assert max(counts.values(), default=0) <= 1, counts
    return {run.info.run_name: run for run in runs}


def tag(run: Any, name: str) -> str | None:
    value: str | None = run.data.tags.get("balance_tune." + name)
    return value


def steps(client: Any, run: Any, metric: str = "val/accuracy") -> list[int]:
    """Return the steps of a metric in the order of the store; one that is there twice is twice in it."""
    return [m.step for m in client.get_metric_history(run.info.run_id, metric)]


def points(client: Any, name: str) -> Sequence[tuple[Any, ...]]:
    """Return every metric point of a study, sorted; with its time, but for the results of the whole study."""
    return sorted(
        (run_name, metric, m.step, 0 if metric.startswith("leaderboard/") else m.timestamp, m.value)
        for run_name, run in runs_of(client, name).items()
        for metric in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, metric)
    )
