"""What a study searches of the model (`search.space.model`): encoders, fusion, and their keyword arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.registry import encoders, fusions, import_path, named
from balance_tune.studies.protocol.space import RANGE_KEYS, Declaration, Parameter, Space, parameter_of
from balance_tune.studies.wording import did_you_mean, shown
from balance_tune.tunable import Value

if TYPE_CHECKING:
    from balance_tune.datasets.base import Dataset
    from balance_tune.studies.config.schema import Model, StudyConfig

SECTION = "model"
WHOLE, PARTS = ("name", "settings"), ("fusion", "fusion_settings", "encoders")
_MISSING: Any = object()


def with_model(space: Space, config: StudyConfig, dataset: type[Dataset]) -> Space:
    """Return an arm's space with what `search.space.model` searches on its dataset.

    An address is one of the section `model`: `fusion`, `fusion_settings.KEYWORD`, `encoders.MODALITY` (its name),
    `encoders.MODALITY.KEYWORD`; of a whole model `name` and `settings.KEYWORD`. Trial 0 has the range's `default`, else
    the study's, dataset's or keyword's own default, else the first choice.

    Raises:
        UserError: an address or keyword does not exist, is fixed in `model` too, or its range cannot be.
    """
    parameters, fixed = list(space.parameters), dict(space.fixed)
    for address, entry in _flat(config.search.space.get(SECTION, {})):
        path = _path(address, config)
        if path[0] == "encoders" and path[1] not in dataset.modalities:  # of another dataset of the study
            continue
        where = f"search.space.{SECTION}.{address}"
        setting = parameter_of(
            f"{SECTION}.{'.'.join(path)}", where, _declaration(path, where, entry, config, dataset), entry
        )
        if isinstance(setting, Parameter):
            parameters.append(setting)
        else:
            fixed[f"{SECTION}.{'.'.join(path)}"] = setting
    return Space(tuple(parameters), fixed)


def model_at(model: Model, values: Mapping[str, Value]) -> dict[str, Any]:
    """Return the section `model` of a study, as plain data, with the values of a trial (address -> value)."""
    section = model.model_dump(mode="json")
    for address, value in values.items():
        *above, last = _parts(address)
        place = section
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return section


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (address, entry) of nested sections; a mapping of nothing but a range's keys is a range."""
    for key, entry in entries.items():
        if isinstance(entry, Mapping) and entry and not entry.keys() <= set(RANGE_KEYS):
            yield from _flat(entry, f"{prefix}{key}.")
        elif entry is not None:
            yield f"{prefix}{key}", entry


def _parts(address: str) -> tuple[str, ...]:
    parts = tuple(address.split("."))
    return (*parts, "name") if len(parts) == 2 and parts[0] == "encoders" else parts


def _path(address: str, config: StudyConfig) -> tuple[str, ...]:
    """Return an address as keys of the section `model`, or raise a `UserError` where it can be none."""
    path = _parts(address)
    keys = WHOLE if config.model.name is not None else PARTS
    lengths = {"fusion": 1, "name": 1, "fusion_settings": 2, "settings": 2, "encoders": 3}
    if path[0] not in keys or len(path) != lengths[path[0]] or not all(path):
        forms = {1: "", 2: ".KEYWORD", 3: ".MODALITY.KEYWORD"}
        able = ", ".join(f"{key}{forms[lengths[key]]}" for key in keys)
        kind = "a whole model (`model.name`)" if keys == WHOLE else "a model of encoders and a fusion"
        raise UserError(f"`search.space.{SECTION}` of {kind} must name {able}, but got {shown(address)}.")
    if path[0] == "encoders":
        from balance_tune.registry import datasets

        modalities = dict.fromkeys(m for name in config.datasets for m in datasets().get(name).modalities)
        if path[1] not in modalities:
            raise UserError(
                f"{shown(path[1])} is not a modality of the study's datasets (`search.space.{SECTION}`)."
                f"{did_you_mean(path[1], modalities)}"
            )
    if len(path) > 1 and _model_value(config.model, path) is not _MISSING and path[-1] != "name":
        raise UserError(
            f"a setting of the model must be fixed or searched, but `{'.'.join(path)}` is in `model` and in "
            f"`search.space.{SECTION}`; leave one out (`default:` in the range sets trial 0)."
        )
    return path


def _declaration(
    path: tuple[str, ...], where: str, entry: Any, config: StudyConfig, dataset: type[Dataset]
) -> Declaration:
    """Return the default of a setting (its value in trial 0) and where the default comes from."""
    choices = entry if isinstance(entry, list) else entry.get("choices") if isinstance(entry, Mapping) else [entry]
    if choices is not None and not all(isinstance(value, bool | int | float | str) for value in choices):
        raise UserError(f"a choice must be a number, text, true or false, but `{where}` has {shown(choices)}.")
    default = entry.get("default") if isinstance(entry, Mapping) else None
    if default is not None:
        return Declaration(default, "study file", None, True)
    for value, source in _defaults(path, config, dataset):
        fits = choices is None or any(value == choice for choice in choices)
        if fits and isinstance(value, bool | int | float | str):
            return Declaration(value, source, None, True)
    if choices:
        return Declaration(choices[0], "study file", None, True)
    raise UserError(f"`{where}` must have a `default`, because the model declares none.")


def _defaults(path: tuple[str, ...], config: StudyConfig, dataset: type[Dataset]) -> Iterator[tuple[Any, str]]:
    """Yield (value, source) of what a setting is by default, the first source before others.

    Raises:
        UserError: what is to take the keyword does not have it.
    """
    own = _model_value(config.model, path)
    if own is not _MISSING:
        yield own, "study file"
    if path[0] == "encoders":
        modality = dataset.modalities[path[1]]
        if path[2] == "name":
            yield modality.encoder, f"dataset {dataset.name}"
            return
        encoder = _model_value(config.model, (*path[:2], "name"))
        name = modality.encoder if encoder is _MISSING else encoder
        if name == modality.encoder and path[2] in modality.settings:
            yield modality.settings[path[2]], f"dataset {dataset.name}"
        taker: Any = named(encoders(), name)
    elif path[0] == "fusion_settings":
        name, taker = config.model.fusion, named(fusions(), config.model.fusion)
    elif path[0] == "settings":
        name, taker = str(config.model.name), import_path("a model", str(config.model.name))
    else:
        return
    searched = dict(_flat(config.search.space.get(SECTION, {})))
    chooser = {"encoders": (f"encoders.{path[1]}", f"encoders.{path[1]}.name")}.get(path[0], (path[0].split("_")[0],))
    keywords = _keywords(taker)
    if keywords is not None and path[-1] not in keywords and not any(key in searched for key in chooser):
        raise UserError(
            f"`{path[-1]}` is not a keyword of {name} (`search.space.{SECTION}`).{did_you_mean(path[-1], keywords)}"
        )
    if (keywords or {}).get(path[-1], _MISSING) is not _MISSING:
        yield (keywords or {})[path[-1]], name


def _keywords(taker: Any) -> dict[str, Any] | None:
    """Return keyword -> default of what makes an encoder, fusion or model; None where it takes any.

    Its first argument (shape, widths) and, of a fusion or model, the number of answers are not settings.
    """
    try:
        parameters = list(inspect.signature(taker).parameters.values())
    except (TypeError, ValueError):  # not written in Python: it is asked when it is built
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    keywords = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    own = [p for p in keywords if p.name not in ("shape", "shapes", "widths", "classes", "answers")]
    return {p.name: _MISSING if p.default is p.empty else p.default for p in own}


def _model_value(model: Model, path: tuple[str, ...]) -> Any:
    """Return the value of an address in the study's section `model`, or `_MISSING`."""
    value: Any = model.model_dump(mode="json", exclude_none=True)
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value
