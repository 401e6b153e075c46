"""Every key of a study file with type, default, meaning and example, as a page:

python -m balance_tune.studies.config.reference > docs/study-file.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from balance_tune.settings import TrainingSettings
from balance_tune.studies.config.meanings import MEANINGS
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.config.study_method import StudyMethod
from balance_tune.tunable import Tunable, tunables

HEAD = """# Study file: every key

Generated from the schema by `python -m balance_tune.studies.config.reference > docs/study-file.md`.
`balance-tune init NAME` writes a study file that has every key with its meaning.

A study file is YAML 1.2 without aliases and tags. `name`, `datasets` and `methods` must be given. Every other key is
optional; a section that is left out has the defaults of its keys. A key that does not exist, or a value outside its
range, is refused in one line before anything starts. The command line can set any key:
`balance-tune run mine.yaml search.trials=4`. DATASET stands for the name of a dataset of the study.
"""
REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key of a study file.

    Attributes:
        path: dotted, as an override on the command line names it.
        kind: what its value may be, in words.
        default: its value where it is not given; `REQUIRED` where it must be given.
        section: whether other keys lie in it.
    """

    path: str
    kind: str
    default: Any
    section: bool = False

    @property
    def meaning(self) -> str:
        """What the key decides."""
        return MEANINGS[self.path].text

    @property
    def example(self) -> str:
        """A value, as it stands in a study file."""
        return MEANINGS[self.path].example


def keys() -> list[Key]:
    """Return every key of a study file, in the order of the schema; a section comes before the keys in it."""
    minimal = {"name": "study", "datasets": ["dataset"], "methods": ["joint"]}
    defaults = StudyConfig.model_validate(minimal).model_dump(mode="json")
    return list(_keys(StudyConfig, defaults, ""))


def _keys(model: type[BaseModel], defaults: dict[str, Any] | None, prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        path = prefix + name
        default: Any = REQUIRED if field.is_required() else None if defaults is None else defaults[name]
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield Key(path, "section", {}, section=True)
            yield from _keys(inner, default, f"{path}.")
        elif path == "training":
            yield Key(path, "section", {}, section=True)
            for setting, spec in tunables(TrainingSettings).items():
                yield Key(f"{path}.{setting}", _tunable(spec), spec.default)
        else:
            yield Key(path, _words(inner, field.metadata), default)
            value = get_args(inner)[-1] if get_origin(inner) is dict else None
            if isinstance(value, type) and issubclass(value, BaseModel):
                yield from _keys(value, None, f"{path}.DATASET.")


def _words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return what a value of this type may be."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0], [m for entry in inner[1:] for m in _constraints(entry)])
    if origin in (Union, UnionType):
        return " or ".join(_words(one, metadata) for one in inner if one is not type(None))
    if origin is Literal:
        return _choices(inner)
    if annotation is bool:
        return "`true` or `false`"
    if annotation in (int, float):
        return ("whole number" if annotation is int else "number") + _bounds(metadata)
    if origin is tuple:
        return "list of " + {float: "numbers", StudyMethod: "names and mappings"}.get(inner[0], "names")
    return "mapping" if origin is dict else "text"


def _constraints(entry: Any) -> Sequence[Any]:
    return entry.metadata if isinstance(entry, FieldInfo) else [entry]


def _bounds(metadata: Sequence[Any]) -> str:
    limits = {name: getattr(m, name) for m in metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)}
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    return "".join(f" {words[name]} {limits[name]:,.12g}" for name in words if name in limits)


def _tunable(spec: Tunable) -> str:
    if spec.choices is not None:
        return _choices(spec.choices)
    return "whole number" if spec.kind == "int" else "number"


def _choices(values: Sequence[Any]) -> str:
    *first, last = (f"`{as_yaml(value)}`" for value in values)
    return f"{', '.join(first)} or {last}" if first else last


def as_yaml(value: Any) -> str:
    """Return a default as YAML on one line; nothing for None."""
    if value is None:
        return ""
    return yaml.safe_dump([value], default_flow_style=True, width=1000).strip()[1:-1]


def as_markdown() -> str:
    """Return docs/study-file.md: a table per section."""
    every = keys()
    sections = [key for key in every if key.section]
    parts = [HEAD, _table([key for key in every if key.path.count(".") == 0])]
    for section in sections:
        inside = [key for key in every if key.path.startswith(f"{section.path}.") and _owner(key, sections) == section]
        parts += [f"## `{section.path}`\n", section.meaning + "\n", _table(inside)]
    return "\n".join(parts)


def _owner(key: Key, sections: Sequence[Key]) -> Key:
    return max((s for s in sections if key.path.startswith(f"{s.path}.")), key=lambda section: len(section.path))


def _table(inside: Sequence[Key]) -> str:
    rows = ["| key | value | default | meaning | example |", "|---|---|---|---|---|"]
    for key in inside:
        default = "must be given" if key.default is REQUIRED else _code(as_yaml(key.default))
        link = f"[`{key.path}`](#{key.path.replace('.', '')})" if key.section else f"`{key.path}`"
        cells = (link, key.kind, "" if key.section else default, key.meaning, _code(key.example))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else "none"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
