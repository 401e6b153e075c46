"""A search space as data: what is searched, what is fixed, and where every default comes from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.studies.storage.records import Range
from balance_tune.studies.wording import did_you_mean, shown
from balance_tune.tunable import Kind, Tunable, Value, tunables

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from balance_tune.datasets.base import Dataset
    from balance_tune.modulations.base import Modulation
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.config.study_method import StudyMethod

STUDY_FILE = "study file"
METHOD = "method"  # the source of a setting that is no tunable
SEARCHED = ("lr",)  # of the training settings, what every study searches unless it fixes it
VARIANT = "modality"  # the field of a method that its variants fill in
RANGE_KEYS = ("low", "high", "log", "choices", "default")


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: numbers from `low` to `high` (inclusive), or one of `choices`.

    `name` is "training.lr" or "modulation.alpha"; `source` says where `default`, its value in trial 0, comes from.
    """

    name: str
    kind: Kind
    low: float | int | None
    high: float | int | None
    log: bool
    choices: tuple[Value, ...] | None
    default: Value
    source: str

    def contains(self, value: Any) -> bool:
        """Return whether a value is of the parameter's kind and within its range."""
        if self.choices is not None:
            return any(_same(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else int | float):
            return False
        return self.low is not None and self.high is not None and self.low <= value <= self.high

    def distribution(self) -> BaseDistribution:
        """Return the parameter as Optuna knows it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(float(self.low), float(self.high), log=self.log)


@dataclass(frozen=True)
class Fixed:
    """A setting that is the same in every trial, and where its value comes from."""

    value: Value
    source: str


@dataclass(frozen=True)
class Space:
    """One arm's search space; together, `parameters` and `fixed` are all settings of training and method."""

    parameters: tuple[Parameter, ...]
    fixed: Mapping[str, Fixed]

    def defaults(self) -> dict[str, Value]:
        """Return the searched parameters of trial 0."""
        return {p.name: p.default for p in self.parameters}

    def sources(self) -> dict[str, str]:
        """Return, for every setting of trial 0, searched or fixed, where its value comes from."""
        return {p.name: p.source for p in self.parameters} | {name: f.source for name, f in self.fixed.items()}

    def ranges(self) -> dict[str, Range]:
        """Return what is searched, as the records of trials hold it."""
        return {p.name: Range(p.low, p.high, p.log, p.kind == "int", p.choices) for p in self.parameters}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the searched parameters as Optuna knows them."""
        return {p.name: p.distribution() for p in self.parameters}

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Return whether `params` name exactly the searched parameters, each inside its range."""
        return params.keys() == {p.name for p in self.parameters} and all(
            p.contains(params[p.name]) for p in self.parameters
        )

    def values(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Return every setting of a trial at `params`, which name exactly the searched parameters."""
        names = [p.name for p in self.parameters]
        if params.keys() != set(names):
            raise UserError(f"a trial must give the parameters {names}, but got {sorted(params)}.")
        return {name: f.value for name, f in self.fixed.items()} | dict(params)


@dataclass(frozen=True)
class Declaration:
    """A setting as declared, before the study file narrows, widens or fixes it; without `spec` it is no tunable.

    `searched` says whether it is searched where the study file does not set it.
    """

    default: Value
    source: str
    spec: Tunable | None
    searched: bool

    @property
    def kind(self) -> Kind:
        """By the default's type: numeric choices may be replaced by a range."""
        if isinstance(self.default, bool) or not isinstance(self.default, int | float):
            return "categorical"
        return "int" if isinstance(self.default, int) else "float"


def space_of(config: StudyConfig, dataset: type[Dataset], method: type[Modulation], entry: StudyMethod) -> Space:
    """Return the space of one dataset and one entry of the study's methods.

    Of the training settings `lr` is searched, and others that `search.space.training` names; the rest is fixed: by the
    study's `training`, else by the dataset's recipe, else by their default. A method's tunables are all searched. An
    arm with a name of its own has the ranges of its method, those of `search.space.<name>` before them, and what its
    `set` names is fixed.

    Args:
        config: the study.
        dataset: the class of the dataset.
        method: the class of the method that `entry` names.
        entry: the entry of the study's methods.

    Raises:
        UserError: a setting that does not exist, a value of the wrong type, a range upside down or without the default.
    """
    ranges = config.search.space
    training = _declared_training(config, dataset)
    for name in ranges.get("training", {}):
        if name in config.training:
            raise UserError(
                f"a training setting must be fixed or searched, but `{name}` is in `training` and in "
                f"`search.space.training`; leave one out (`default:` in the range sets trial 0)."
            )
    parameters: list[Parameter] = []
    fixed: dict[str, Fixed] = {}
    for prefix, sections, declared in (
        ("training", ("training",), training),
        ("modulation", (method.name, entry.name), declared_method(method)),
    ):
        own = _set(entry, prefix, declared, ranges.get(entry.name, {}))
        entries = _searched_entries(ranges, sections, declared) | own
        for name, setting in declared.items():
            where, range_entry = entries.get(name, ("", None))
            result = parameter_of(f"{prefix}.{name}", where, setting, range_entry)
            if isinstance(result, Parameter):
                parameters.append(result)
            else:
                fixed[f"{prefix}.{name}"] = result
    return Space(tuple(parameters), fixed)


def _searched_entries(
    ranges: Mapping[str, Mapping[str, Any]], sections: Sequence[str], declared: Mapping[str, Declaration]
) -> dict[str, tuple[str, Any]]:
    """Return setting -> (address, entry) of `search.space`; a later one of `sections` goes before an earlier one."""
    entries: dict[str, tuple[str, Any]] = {}
    for section in sections:
        for name, entry in ranges.get(section, {}).items():
            if name not in declared:
                raise UserError(f"{shown(name)} is not a setting of {section}.{did_you_mean(name, declared)}")
            entries[name] = f"search.space.{section}.{name}", entry
    return entries


def _set(
    entry: StudyMethod, prefix: str, declared: Mapping[str, Declaration], own_ranges: Mapping[str, Any]
) -> dict[str, tuple[str, Any]]:
    """Return setting -> (address, value) of what a named arm fixes of one side ("training" | "modulation")."""
    fixed = entry.fixed(prefix)
    for name in fixed:
        if name not in declared:
            of = "training" if prefix == "training" else entry.method
            raise UserError(
                f"{shown(name)} is not a setting of {of} (`set` of arm {entry.name}).{did_you_mean(name, declared)}"
            )
        if prefix == "modulation" and name in own_ranges:
            raise UserError(
                f"a setting of an arm must be fixed or searched, but `{name}` is in `set` of {entry.name} and in "
                f"`search.space.{entry.name}`; leave one out."
            )
    return {name: (entry.where(prefix, name), value) for name, value in fixed.items()}


def declared_method(method: type[Modulation]) -> dict[str, Declaration]:
    """Return the settings of a method that a study can set, in their order."""
    specs = tunables(method)
    declared = {}
    for f in dataclasses.fields(method):
        if f.init and f.name != VARIANT and isinstance(f.default, bool | int | float | str):
            spec = specs.get(f.name)
            declared[f.name] = Declaration(f.default, spec.source if spec else METHOD, spec, spec is not None)
    return declared


def _declared_training(config: StudyConfig, dataset: type[Dataset]) -> dict[str, Declaration]:
    from balance_tune.settings import TrainingSettings

    specs = tunables(TrainingSettings)
    for name in dataset.recipe:
        if name not in specs:
            raise UserError(
                f"{shown(name)} in the recipe of dataset `{dataset.name}` is not a training setting."
                f"{did_you_mean(name, specs)}"
            )
    for name in config.training:
        if name not in specs:
            raise UserError(f"{shown(name)} is not a training setting.{did_you_mean(name, specs)}")
    declared = {}
    for name, spec in specs.items():
        default, source, searched = spec.default, spec.source, name in SEARCHED
        if name in dataset.recipe:
            default, source = dataset.recipe[name]
            spec = _around(spec, default)
        value = config.training.get(name)
        if value is not None:
            setting = Declaration(spec.default, spec.source, spec, False)
            default, source, searched = _check_value(f"training.{name}", setting, value), STUDY_FILE, False
        declared[name] = Declaration(default, source, spec, searched)
    return declared


def _around(spec: Tunable, default: Value) -> Tunable:
    """Return a range of the same width about a dataset's own default, where that lies outside the declared one."""
    if spec.low is None or spec.high is None or isinstance(default, bool | str) or default is None:
        return spec
    if spec.low <= default <= spec.high:
        return spec
    if not spec.log:
        return dataclasses.replace(spec, low=min(spec.low, default), high=max(spec.high, default))
    reach = math.sqrt(spec.high / spec.low)
    return dataclasses.replace(spec, low=float(f"{default / reach:.3g}"), high=float(f"{default * reach:.3g}"))


def parameter_of(name: str, where: str, declared: Declaration, entry: Any) -> Parameter | Fixed:
    """Return a setting after applying the study file's `entry`; None keeps the declaration."""
    if entry is None:
        spec = declared.spec
        if not declared.searched or spec is None:
            return Fixed(declared.default, declared.source)
        entry = {"choices": list(spec.choices)} if spec.choices is not None else {}
    if isinstance(entry, list):
        entry = {"choices": entry}
    if not isinstance(entry, dict):
        return Fixed(_check_value(where, declared, entry), STUDY_FILE)
    range_ = {key: value for key, value in entry.items() if value is not None}
    for key in range_:
        if key not in RANGE_KEYS:
            raise UserError(f"{shown(key)} is not part of a range (`{where}`).{did_you_mean(key, RANGE_KEYS)}")
    if "choices" in range_ and len(range_.keys() & {"low", "high", "log"}) > 0:
        raise UserError(f"`{where}` must be `choices` or a range from `low` to `high`, but got both.")
    default, source = declared.default, declared.source
    if "default" in range_:
        default, source = _check_value(f"{where}.default", declared, range_["default"]), STUDY_FILE
    numeric = "choices" not in range_ and (declared.spec is None or declared.spec.choices is None or "low" in range_)
    parameter = (_range_parameter if numeric else _choice_parameter)(name, where, declared, range_, default, source)
    if not parameter.contains(default):
        span = (
            ", ".join(map(str, parameter.choices))
            if parameter.choices is not None
            else f"{parameter.low:g} to {parameter.high:g}"
        )
        raise UserError(
            f"a default must lie inside the study's range, but `{where}` has the default {default} ({source}) and the "
            f"range {span}; change the range, or give it a `default`."
        )
    single = parameter.low == parameter.high if parameter.choices is None else len(parameter.choices) == 1
    return Fixed(default, STUDY_FILE) if single else parameter


def _range_parameter(
    name: str, where: str, declared: Declaration, range_: Mapping[str, Any], default: Value, source: str
) -> Parameter:
    if declared.kind == "categorical":
        of = f"choices ({_in_words(declared.spec.choices)})" if declared.spec and declared.spec.choices else "words"
        raise UserError(f"`{where}` must be given as a list, because it has {of}, but got a range.")
    spec = declared.spec
    low, high = range_.get("low", spec and spec.low), range_.get("high", spec and spec.high)
    if low is None or high is None:
        raise UserError(f"`{where}` must have `low` and `high`, but got {shown(dict(range_))}.")
    low, high = _number(f"{where}.low", declared, low), _number(f"{where}.high", declared, high)
    log = range_.get("log", bool(spec and spec.log))
    if not isinstance(log, bool):
        raise UserError(f"`{where}.log` must be true or false, but got {shown(log)}.")
    if not low <= high:
        raise UserError(f"`low <= high` must hold for `{where}`, but got ({low=}, {high=}).")
    if log and low <= 0:
        raise UserError(f"`low > 0` must hold on a log scale for `{where}`, but got ({low=}).")
    if declared.kind == "float" and isinstance(default, int):
        default = float(default)
    return Parameter(name, declared.kind, low, high, log, None, default, source)


def _choice_parameter(
    name: str, where: str, declared: Declaration, range_: Mapping[str, Any], default: Value, source: str
) -> Parameter:
    choices = range_.get("choices", declared.spec and declared.spec.choices)
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise UserError(f"`{where}` must be a list of choices, but got {shown(choices)}.")
    values = [_check_value(where, declared, choice) for choice in choices]
    for i, choice in enumerate(values):
        if any(_same(choice, other) for other in values[:i]):
            raise UserError(f"a choice must be given once, but `{where}` has {shown(choice)} twice.")
    return Parameter(name, "categorical", None, None, False, tuple(values), default, source)


def _check_value(where: str, declared: Declaration, value: Any) -> Value:
    """Return a value of the setting's type, or raise."""
    choices = declared.spec.choices if declared.spec else None
    if declared.kind != "categorical":
        return _number(where, declared, value)
    if choices is not None:
        for choice in choices:
            if _same(value, choice):
                return choice
        hint = did_you_mean(value, map(str, choices)) if isinstance(value, str) else ""
        raise UserError(f"`{where}` must be one of {_in_words(choices)}, but got {shown(value)}.{hint}")
    if type(value) is not type(declared.default):
        kind = "true or false" if isinstance(declared.default, bool) else "text"
        raise UserError(f"`{where}` must be {kind}, but got {shown(value)}.")
    result: Value = value
    return result


def _number(where: str, declared: Declaration, value: Any) -> float | int:
    whole = declared.kind == "int"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise UserError(f"`{where}` must be {'a whole number' if whole else 'a number'}, but got {shown(value)}.")
    return int(value) if whole else float(value)


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are one choice: 1 and 1.0 are, 1 and true are not."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _in_words(choices: Sequence[Value]) -> str:
    return ", ".join(map(str, choices))
