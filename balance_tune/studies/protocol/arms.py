"""The arms of a study (datasets x methods x variants), and the plain configuration of one trial of an arm."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from balance_tune.datasets.augmentation import overridden
from balance_tune.errors import UserError
from balance_tune.registry import datasets, encoders, fusions, import_path, modulations, named
from balance_tune.studies.config.schema import MAX_REPLICATES
from balance_tune.studies.config.study_method import BASELINE, StudyMethod
from balance_tune.studies.early_stopping.rules import rule_of
from balance_tune.studies.protocol.baselines import extra_entries
from balance_tune.studies.protocol.model_space import SECTION as MODEL
from balance_tune.studies.protocol.model_space import model_at, with_model
from balance_tune.studies.protocol.space import Parameter, Space, declared_method, space_of
from balance_tune.studies.wording import did_you_mean, one_line, shown
from balance_tune.tasks import check_objective
from balance_tune.tunable import Value

if TYPE_CHECKING:
    from balance_tune.datasets.base import Dataset
    from balance_tune.modulations.base import Modulation
    from balance_tune.studies.config.schema import Resources, StudyConfig
    from balance_tune.studies.storage.records import Phase


@dataclass(frozen=True)
class Arm:
    """One dataset with one method (and variant of it), and what is searched there.

    `method` is the registered name. `alias` is the arm's own name, where the study file gives it one.
    """

    dataset: str
    method: str
    variant: str | None
    space: Space
    alias: str | None = None

    @property
    def label(self) -> str:
        """What tables show: the arm's own name or its method's, with the variant, as "unimodal-audio"."""
        name = self.alias or self.method
        return f"{name}-{self.variant}" if self.variant else name

    @property
    def baseline(self) -> bool:
        """Whether it is the arm that every other of its dataset is compared with."""
        return self.label == BASELINE

    @property
    def name(self) -> str:
        """The arm's name in its study: dataset and label."""
        return f"{self.dataset}/{self.label}"

    def settings(self, params: Mapping[str, Any], side: str) -> dict[str, Value]:
        """Return all settings of `side` ("training" | "modulation" | "model") at `params`, by their own names.

        Of the model only those that the study searches.
        """
        return {
            name.removeprefix(f"{side}."): value
            for name, value in self.space.values(params).items()
            if name.startswith(f"{side}.")
        }

    def epochs(self, params: Mapping[str, Any]) -> int:
        """Return the length of a trial at `params`."""
        return int(self.settings(params, "training")["epochs"] or 0)

    def modulation(self, params: Mapping[str, Any]) -> Modulation:
        """Return the method at `params`."""
        variant = {"modality": self.variant} if self.variant else {}
        modulation: Modulation = modulations().get(self.method).of({**self.settings(params, "modulation"), **variant})
        return modulation

    def min_epochs(self, params: Mapping[str, Any]) -> int:
        """Return the number of finished epochs from which on a trial at `params` may be judged."""
        return self.modulation(params).min_epochs(self.epochs(params))


def arms_of(config: StudyConfig) -> list[Arm]:
    """Return the arms: datasets in their order, in each the methods in theirs, in each its variants.

    Raises:
        UserError: a space that cannot be, settings that training or method reject (at the default, or at an end of one
            parameter's range), or a method that would never act; the line names the arm.
    """
    arms = []
    for dataset_name in config.datasets:
        dataset: type[Dataset] = datasets().get(dataset_name)
        joint = space_of(config, dataset, modulations().get(BASELINE), StudyMethod(name=BASELINE, method=BASELINE))
        epochs = int(joint.values(joint.defaults())["training.epochs"] or 0)
        for entry in (*config.methods, *extra_entries(config, dataset_name, epochs)):
            method: type[Modulation] = modulations().get(entry.method)
            space = with_model(space_of(config, dataset, method, entry), config, dataset)
            for variant in method.variants(tuple(dataset.modalities)) or (None,):
                arm = Arm(dataset_name, entry.method, variant, space, entry.name if entry.named else None)
                _check(arm)
                arms.append(arm)
    return arms


def trial_config(
    config: StudyConfig,
    arm: Arm,
    params: Mapping[str, Any],
    *,
    phase: Phase,
    number: int,
    seed: int,
    study_folder: Path,
    store: Path | str,
    replicate: int = 0,
) -> dict[str, Any]:
    """Return the complete configuration of one trial as JSON-able data; `params` name the arm's searched parameters."""
    place = study_folder / "trials" / arm.dataset / arm.label
    stopping = config.search.early_stopping
    rungs = rule_of(stopping, arm.epochs(params)).rung_epochs(arm.min_epochs(params)) if phase == "search" else ()
    return {
        "study": config.name,
        "arm": arm.name,
        "dataset": arm.dataset,
        "method": arm.method,
        "variant": arm.variant,
        "phase": phase,
        "number": number,
        "seed": seed,
        "folder": str((place / f"replicate-{replicate + 1}" if replicate else place) / f"{phase}-{number:04d}"),
        **_replicate(config, replicate),
        "store": str(store),
        "residency": config.data.residency,
        "objective": config.objective,
        "protocol": config.protocol,
        "training": arm.settings(params, "training"),
        **({"augment": dict(config.augment)} if config.augment else {}),
        **_missing(config, arm.dataset),
        "model": model_at(config.model, arm.settings(params, "model")),
        "modulation": arm.settings(params, "modulation"),
        "rung_epochs": list(rungs),
        "workers": config.resources.workers,
        "device": _device(config.resources.of(arm.dataset)),
    }


def _replicate(config: StudyConfig, replicate: int) -> dict[str, int]:
    """Return the entries about the replicate in a trial's configuration; the first one has the store's own split."""
    if replicate == 0:
        return {}
    seed = {"split_seed": config.seed * MAX_REPLICATES + replicate} if config.splits == "redrawn" else {}
    return {"replicate": replicate, **seed}


def _missing(config: StudyConfig, dataset: str) -> dict[str, Any]:
    """Return the rates at which training and validation rows lack modalities; nothing where they are as stored."""
    modalities = list(datasets().get(dataset).modalities)
    rates = {part: config.missing.rates(part, modalities) for part in ("train", "val")}
    return {"missing": rates} if any(rates.values()) else {}


def check_names(config: StudyConfig) -> None:
    """Raise a `UserError` with the nearest existing name where the study names what is not installed."""
    for name in config.datasets:
        check_objective(config.objective, getattr(datasets().get(name), "task", "classes"), name)
    for entry in config.methods:
        modulations().get(entry.method)
        if entry.named and entry.name in modulations().names():
            raise UserError(
                f"the name of an arm must not be the name of a method, but there is a method {shown(entry.name)}."
            )
    rule_of(config.search.early_stopping, epochs=100)
    named(fusions(), config.model.fusion)
    if config.model.name is not None:
        import_path("a model", config.model.name)
    modalities = {m: None for cls in datasets().classes().values() for m in cls.modalities}
    for modality, encoder in config.model.encoders.items():
        if modality not in modalities:
            raise UserError(f"{shown(modality)} is not a modality of any dataset.{did_you_mean(modality, modalities)}")
        if "name" in encoder:
            named(encoders(), encoder["name"])
    for modality in config.augment:
        if modality not in modalities:
            raise UserError(f"{shown(modality)} is not a modality of any dataset.{did_you_mean(modality, modalities)}")
    for name in config.datasets:
        try:
            overridden(datasets().get(name).modalities, config.augment)
        except UserError as error:
            raise UserError(f"{str(error).rstrip('.')} (`augment` of the study, dataset {name}).") from error
    own = {m: None for name in config.datasets for m in datasets().get(name).modalities}
    for modality in config.missing.named():
        if modality not in own:
            raise UserError(
                f"`missing` must name modalities of the study's datasets, but got {shown(modality)}."
                f"{did_you_mean(modality, own)}"
            )
    arm_sections = {name for entry in config.methods for name in (entry.name, entry.method)}
    for section, entries in config.search.space.items():
        sections = ["training", MODEL, *sorted(arm_sections), *modulations().names()]
        if section not in sections:
            raise UserError(
                "`search.space` must name `training`, `model`, a method or an arm of `methods`, but got "
                f"{shown(section)}.{did_you_mean(section, dict.fromkeys(sections))}"
            )
        if section not in ("training", MODEL, *arm_sections):  # left by an override: its names must exist still
            settings = declared_method(modulations().get(section))
            for name in entries:
                if name not in settings:
                    raise UserError(f"{shown(name)} is not a setting of {section}.{did_you_mean(name, settings)}")


def check_models(config: StudyConfig, arms: list[Arm]) -> None:
    """Raise a `UserError` where an arm's dataset, encoders, fusion and method cannot be combined."""
    for arm in arms:
        settings = json.dumps(arm.settings(arm.space.defaults(), "modulation"), sort_keys=True)
        for where, params in _edges(arm.space):
            if where and not where.startswith(f" at {MODEL}."):  # the model is that of the default
                continue
            model = json.dumps(model_at(config.model, arm.settings(params, MODEL)), sort_keys=True)
            with _arm_in_errors(arm, where):
                _build(arm.dataset, arm.method, arm.variant, settings, model)


@lru_cache(maxsize=1024)
def _build(dataset: str, method: str, variant: str | None, settings: str, model: str) -> None:
    from balance_tune.models.blank import Blank
    from balance_tune.training.setup import method_settings, model_spec

    config = {"method": method, "variant": variant, "modulation": json.loads(settings), "model": json.loads(model)}
    cls: type[Dataset] = datasets().get(dataset)
    unopened: Any = SimpleNamespace(manifest=cls)  # the class has modalities and classes like a manifest
    spec, modulation = model_spec(config, unopened), modulations().get(method).of(method_settings(config))
    modulation.check_task(spec.task)  # before a model is made, which may take seconds
    with Blank():
        modulation.build(spec.build(seed=0))


def _check(arm: Arm) -> None:
    from balance_tune.settings import TrainingSettings

    for where, params in _edges(arm.space):
        with _arm_in_errors(arm, where):
            training = TrainingSettings.of(arm.settings(params, "training"))
            arm.modulation(params).check_training(training)
    default = arm.space.defaults()
    epochs = arm.epochs(default)
    reason = arm.modulation(default).never_acts(epochs)
    if reason is not None:
        raise UserError(
            f"every method must act, but arm {arm.name} never would in {epochs} epochs: {reason}; change its window, "
            f"train longer, or leave `{arm.alias or arm.method}` out."
        )


def _edges(space: Space) -> Iterator[tuple[str, dict[str, Value]]]:
    """Yield the default, then each parameter at the ends of its range and the others at their defaults."""
    default = space.defaults()
    yield "", default
    for p in space.parameters:
        for value in _ends(p):
            yield f" at {p.name} = {value}", {**default, p.name: value}


def _ends(p: Parameter) -> tuple[Value, ...]:
    return p.choices if p.choices is not None else (p.low, p.high)


@contextlib.contextmanager
def _arm_in_errors(arm: Arm, where: str = "") -> Iterator[None]:
    """Name the arm in errors that settings, method or model raise in the block."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, ArithmeticError, MemoryError) as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(one_line(f"arm {arm.name}{where}: {kind}{error}")) from error


def _device(resources: Resources) -> str:
    if resources.gpus_per_trial == "auto":
        return "auto"
    return "cuda" if resources.gpus_per_trial else "cpu"
