"""The schema of study files, with defaults and checks; a mistake is one line."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    field_validator,
    model_validator,
)

from balance_tune.datasets.address import holds_secret
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.config.changes import Changes, changes_between
from balance_tune.studies.config.missing import Missing
from balance_tune.studies.config.study_method import BASELINE, StudyMethod, check_together
from balance_tune.studies.wording import did_you_mean, shown
from balance_tune.tasks import OBJECTIVES

MAX_REPLICATES, MAX_TRIALS_REPLICATED = 100, 5_000  # what seeds are set aside for
RESERVED_ARMS = ("placebo", "joint_matched")  # the arms that `placebo` and `baselines` add
RESERVED = ("data", "mlartifacts", "mlflow.db", "unsealed.jsonl")  # what else lies in a root
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME_RULE = "must be letters, digits, `.`, `_` and `-`, start with a letter or digit, and have at most 100 of them"

Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Strict(False), Field(min_length=1, max_length=1000)]
Hours = Annotated[float, Field(gt=0, le=1e6)]


class _Section(BaseModel):
    """A section of the study file; a key without a value (`limit:`) means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_means_the_default(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


class Model(_Section):
    """The model. Encoders come from the dataset unless they are named here, per modality.

    An encoder is a registered name, or `package.module:Name`, or a mapping of `name` and keyword arguments for it; a
    mapping without `name` sets arguments of the dataset's own encoder. `name` is a whole model of the user's, as
    `package.module:Name`: what takes the modalities' shapes, the number of answers and `settings`, and returns a
    `MultimodalModel`; it has its own encoders and fusion.
    """

    name: Name | None = None
    settings: dict[str, Any] = {}

    fusion: Name = "concat"
    fusion_settings: dict[str, Any] = {}
    encoders: dict[str, dict[str, Any]] = {}

    @field_validator("encoders", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {m: {"name": e} if isinstance(e, str) else e for m, e in value.items() if e is not None}

    @model_validator(mode="after")
    def _whole_or_made(self) -> Model:
        if self.name is None and self.settings:
            raise ValueError("`model.settings` must go with `model.name`, but there is no name.")
        if self.name is not None and ":" not in self.name:
            raise ValueError(f"`model.name` must be `package.module:Name`, but got {shown(self.name)}.")
        if self.name is not None and (self.encoders or self.fusion_settings or self.fusion != "concat"):
            raise ValueError(
                f"a whole model has its own encoders and fusion, so with `model.name` {shown(self.name)} there must be "
                "no `model.encoders`, `model.fusion` or `model.fusion_settings`."
            )
        return self

    @field_validator("encoders")
    @classmethod
    def _names_are_text(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for modality, encoder in value.items():
            name = encoder.get("name", "")
            if not isinstance(name, str):
                raise ValueError(f"`model.encoders.{modality}.name` must be text, but got {shown(name)}.")
        return value


class EarlyStopping(_Section):
    """When a trial is pruned: by rung (`asha`), below the running median (`median`), never (`none`), or by a rule of
    the user's as `package.module:Name`, whose own arguments are `settings`.

    `grace` is the first epoch at which anything is judged; asha's rungs lie at grace, grace * reduction, ...
    """

    kind: Name = "asha"
    reduction: int = Field(default=3, ge=2, le=100)
    grace: int = Field(default=3, ge=1, le=100_000)
    settings: dict[str, Any] = {}


class Search(_Section):
    """The budget of each arm in each replicate (trials or device-seconds, the same for all) and how it is spent.

    So many trials of an arm in a replicate run in `parallel`: what is proposed and what is pruned depends on the trials
    of earlier batches alone, never on which of a batch ends first.
    """

    trials: int | None = Field(default=None, ge=1, le=100_000)
    device_seconds: float | None = Field(default=None, gt=0, le=1e10)
    sampler: Literal["gp", "tpe", "random", "cmaes", "qmc"] = "gp"
    parallel: int = Field(default=1, ge=1, le=1000)
    space: dict[str, dict[str, Any]] = {}
    early_stopping: EarlyStopping = EarlyStopping()
    warm_start: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_budget(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        trials, seconds = data.get("trials"), data.get("device_seconds")
        if trials is not None and seconds is not None:
            raise ValueError(
                "an arm's budget must be `search.trials` or `search.device_seconds`, but both are given: "
                f"{shown(trials)} and {shown(seconds)}."
            )
        return {**data, "trials": 20} if trials is None and seconds is None else data

    @field_validator("space", mode="before")
    @classmethod
    def _nothing_searched_otherwise(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    @field_validator("early_stopping", mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("warm_start")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        return None if value is None else study_name(value, "search.warm_start")


class Select(_Section):
    """How many of an arm's best points are compared, beside its default, on how many fresh seeds, by validation.

    All points are trained on the first seed, and the better half of those left on each further one; the default is on
    all seeds. The default stays unless the best point is ahead of it by more than `margin` standard errors of their
    difference. Without seeds the best point of the search wins.
    """

    points: int = Field(default=4, ge=1, le=1000)
    seeds: int = Field(default=2, ge=0, le=1000)
    margin: float = Field(default=1.0, ge=0, le=100)


class Confirm(_Section):
    """On how many common seeds an arm's winner is confirmed, and on how many of them its default, in each replicate.

    With several replicates the default of `seeds` is 2.
    """

    seeds: int = Field(default=10, ge=1, le=1000)
    default_seeds: int = Field(default=5, ge=0, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _at_most_all(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("default_seeds") is None and type(data.get("seeds")) is int:
            return {**data, "default_seeds": max(0, min(5, data["seeds"]))}
        return data

    @model_validator(mode="after")
    def _defaults_use_the_same_seeds(self) -> Confirm:
        if self.default_seeds > self.seeds:
            raise ValueError(
                "`confirm.default_seeds <= confirm.seeds` must hold, but got "
                f"(default_seeds={self.default_seeds}, seeds={self.seeds})."
            )
        return self


def _gpus(value: Any, where: str) -> Any:
    if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1000):
        return value if value == "auto" else float(value)
    raise ValueError(f"`{where}` must be `auto` or a number from 0 to 1000, but got {shown(value)}.")


class Baselines(_Section):
    """Further baselines. `compute_matched` adds `joint_matched`: joint training as long as the costliest arm takes.

    `true` measures the factor before the first trial and records it; a mapping of datasets to factors sets it.
    """

    compute_matched: bool | dict[str, Annotated[float, Field(ge=1, le=1000)]] = False


class DatasetResources(_Section):
    """Resources of a trial on one dataset, where they differ from those of the others."""

    cpus_per_trial: int | None = Field(default=None, ge=1, le=10_000)
    gpus_per_trial: float | Literal["auto"] | None = None

    @field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _auto_or_number(cls, value: Any) -> Any:
        return _gpus(value, "resources.datasets.*.gpus_per_trial")


class Resources(_Section):
    """What one trial may use. `auto` gives it no GPU where there is none, else a share of one.

    `datasets` maps a dataset to what its trials use instead. The study ends after `wait_minutes` in which no trial got
    its resources; it can be resumed.
    """

    workers: int = Field(default=1, ge=1, le=10_000)
    cpus_per_trial: int = Field(default=1, ge=1, le=10_000)
    gpus_per_trial: float | Literal["auto"] = "auto"
    max_concurrent: int | None = Field(default=None, ge=1, le=100_000)
    wait_minutes: float = Field(default=30.0, gt=0, le=1e6)
    datasets: dict[str, DatasetResources] = {}

    @field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _auto_or_number(cls, value: Any) -> Any:
        return _gpus(value, "resources.gpus_per_trial")

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        """Refuse two workers on one device, as NCCL does, and one and a half devices, as Ray does."""
        own = {f"resources.datasets.{name}.gpus_per_trial": r.gpus_per_trial for name, r in self.datasets.items()}
        for where, gpus in {"resources.gpus_per_trial": self.gpus_per_trial, **own}.items():
            if gpus is None or gpus == "auto" or gpus == int(gpus):
                continue
            if self.workers > 1:
                raise ValueError(
                    f"each of several workers needs a GPU of its own, but got `resources.workers: {self.workers}` with "
                    f"`{where}: {gpus:g}`; set that to 1, or workers to 1."
                )
            if gpus > 1:
                raise ValueError(f"`{where}` must be whole where it is above 1, but got {gpus:g}.")
        return self

    def of(self, dataset: str) -> Resources:
        """Return what a trial on this dataset may use."""
        own = self.datasets.get(dataset, DatasetResources()).model_dump(exclude_none=True)
        return self.model_copy(update={**own, "datasets": {}})


class Limit(_Section):
    """Limits after which the whole study ends cleanly, with the results so far."""

    hours: Hours | None = None
    device_hours: Hours | None = None


class Data(_Section):
    """Where prepared stores lie, by dataset: a folder or a URI; else they are looked for below the root.

    `residency` is where data lies while a trial trains: on the device, in memory, in the mapped files, or by its size.
    """

    stores: dict[str, str] = {}
    residency: Literal["auto", "device", "memory", "mapped"] = "auto"

    @field_validator("stores")
    @classmethod
    def _no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name, address in value.items():
            _refuse_secret(f"data.stores.{name}", address, "leave it to the environment or to the machine's role")
        return value


class Mlflow(_Section):
    """Where runs are recorded; without an address, in sqlite below the root (or where MLFLOW_TRACKING_URI says)."""

    tracking_uri: str | None = None

    @field_validator("tracking_uri")
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        if value is not None:
            what = "put the address into the environment as MLFLOW_TRACKING_URI"
            _refuse_secret("mlflow.tracking_uri", value, what, user=value.startswith("http"))  # a database's is none
        return value


def _refuse_secret(setting: str, address: str, remedy: str, *, user: bool = True) -> None:
    """Raise a `ValueError`, which does not repeat it, where an address holds a secret."""
    try:
        secret = "://" in address and holds_secret(address, user=user)
    except ValueError as error:
        raise ValueError(f"`{setting}` must be an address, but {error}.") from None
    if secret:
        raise ValueError(
            f"`{setting}` must not hold a password, key or token, because study files are copied into reports; "
            f"{remedy}."
        )


class StudyConfig(_Section):
    """One study, complete: every setting of it with its default. Two equal configs make the same study."""

    name: str
    datasets: Names
    methods: Annotated[tuple[StudyMethod, ...], Strict(False), Field(min_length=1, max_length=1000)]
    model: Model = Model()
    training: dict[str, Any] = {}
    augment: dict[str, dict[str, Any]] = {}  # by modality, instead of the dataset's declaration; {}: none
    replicates: int = Field(default=1, ge=1, le=MAX_REPLICATES)  # independent repetitions: split, search, seeds
    splits: Literal["redrawn", "fixed"] = "redrawn"  # whether each replicate draws train, monitor and val anew
    placebo: bool = False  # whether a second joint arm shows what the study finds where there is nothing
    baselines: Baselines = Baselines()
    missing: Missing = Missing()
    search: Search = Search(trials=20)
    select: Select = Select()
    confirm: Confirm = Confirm()
    resources: Resources = Resources()
    data: Data = Data()
    runner: Literal["auto", "warm", "isolated"] = "auto"
    checkpoints: Literal["all", "confirmed", "best"] = "confirmed"  # what stays once an arm is decided
    objective: str = "val/accuracy"
    equivalence: float | None = Field(default=None, gt=0, le=1e6)  # points of a share, else the metric's unit
    protocol: Literal["sealed", "paper"] = "sealed"
    limit: Limit = Limit()
    price_per_device_hour: float | None = Field(default=None, ge=0, le=1e9)
    seed: int = Field(default=0, ge=0, lt=2**32)
    mlflow: Mlflow = Mlflow()

    @model_validator(mode="before")
    @classmethod
    def _few_seeds_in_many_replicates(cls, data: Any) -> Any:
        if not isinstance(data, dict) or type(data.get("replicates")) is not int or data["replicates"] < 2:
            return data
        confirm = data.get("confirm") or {}
        if isinstance(confirm, dict) and confirm.get("seeds") is None:
            return {**data, "confirm": {**confirm, "seeds": 2}}
        return data

    @field_validator("name")
    @classmethod
    def _file_name(cls, value: str) -> str:
        return study_name(value, "name")

    @field_validator("objective")
    @classmethod
    def _of_some_task(cls, value: str) -> str:
        if value not in OBJECTIVES:
            raise ValueError(f"`objective` must be one of {', '.join(OBJECTIVES)}, but got {shown(value)}.")
        return value

    @field_validator("datasets")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for i, name in enumerate(value):
            if name in value[:i]:
                raise ValueError(f"a dataset must be named once, but {shown(name)} is named twice.")
        return value

    @field_validator("methods")
    @classmethod
    def _with_baseline(cls, value: tuple[StudyMethod, ...]) -> tuple[StudyMethod, ...]:
        baseline = StudyMethod(name=BASELINE, method=BASELINE)
        entries = value if baseline in value else (baseline, *value)
        check_together(entries)
        return entries

    @model_validator(mode="after")
    def _together(self) -> StudyConfig:
        if self.runner == "warm" and self.resources.workers > 1:
            raise ValueError(
                "`runner: warm` must have one worker per trial, but got "
                f"(workers={self.resources.workers}); leave `runner` at `auto`."
            )
        if self.replicates == 1 and self.confirm.seeds < 2:
            raise ValueError(
                "`confirm.seeds >= 2` must hold with one replicate, but got "
                f"(seeds={self.confirm.seeds}, replicates=1); give more seeds, or `replicates: 5`."
            )
        if self.replicates > 1 and self.protocol == "paper":
            raise ValueError(
                "`protocol: paper` must have one replicate, because its test part decides, but got "
                f"(replicates={self.replicates})."
            )
        if (self.replicates > 1 or self.placebo) and (self.search.trials or 0) > MAX_TRIALS_REPLICATED:
            raise ValueError(
                f"`search.trials <= {MAX_TRIALS_REPLICATED}` must hold with replicates or a placebo, but got "
                f"(trials={self.search.trials}, replicates={self.replicates}, placebo={self.placebo})."
            )
        for entry in self.methods:
            if entry.name in RESERVED_ARMS:
                raise ValueError(f"an arm must not be called {shown(entry.name)}, which is the name of a baseline.")
        for name in self.resources.datasets:
            if name not in self.datasets:
                raise ValueError(
                    f"`resources.datasets` must name datasets of the study, but got {shown(name)}."
                    f"{did_you_mean(name, self.datasets)}"
                )
        if self.search.warm_start == self.name:
            raise ValueError(f"`search.warm_start` must name another study, but got {shown(self.name)} itself.")
        return self

    @property
    def hash(self) -> str:
        """12 hex digits of every setting."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        """Return all settings as plain data, defaults written out; `load_config` reads it back as an equal study."""
        settings = self.model_dump(mode="json")
        for later in ("augment", "missing"):  # a study without them has the hash of versions that did not know them
            if getattr(self, later) == type(self).model_fields[later].default:
                del settings[later]
        return settings

    def as_yaml(self) -> str:
        """Return the study as the text of a study file."""
        return strict_yaml.dump(self.as_dict())

    def changes(self, old: StudyConfig) -> Changes:
        """Return the differences to the study as it was begun: extensions, and changes that are refused.

        Args:
            old: the study as it was begun.
        """
        return changes_between(old.as_dict(), self.as_dict())


def study_name(value: str, where: str) -> str:
    """Return a study's name if it is safe as a file name; else ValueError with a sentence that names `where`."""
    if not _NAME.fullmatch(value):
        raise ValueError(f"`{where}` {_NAME_RULE}, but got {shown(value)}.")
    if value.lower() in RESERVED:
        raise ValueError(f"`{where}` must not be one of {', '.join(RESERVED)}, but got {shown(value)}.")
    return value
