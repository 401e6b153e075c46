"""The user's own classes that a study names: methods, a model, its fusion and encoders, searched ones too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from balance_tune.registry import encoders, fusions, import_path, modulations, named

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig

OURS = "balance_tune"
OwnName = tuple[str, str]
"""Kind ("method", "fusion", "encoder", "model") and registered name, or import path."""
REGISTRIES = {"method": modulations, "fusion": fusions, "encoder": encoders}


def own_names(config: StudyConfig) -> list[OwnName]:
    """Return the classes of other packages that trials of a study need, in the order in which it names them."""
    names: list[OwnName] = [("method", entry.method) for entry in config.methods]
    names += [("model", config.model.name)] if config.model.name else [("fusion", config.model.fusion)]
    names += [("encoder", encoder["name"]) for encoder in config.model.encoders.values() if "name" in encoder]
    for key, entry in config.search.space.get("model", {}).items():
        kind = {"name": "model", "fusion": "fusion"}.get(key, "encoder")
        names += [(kind, text) for text in _texts(entry) if ":" in text]
    return [name for name in dict.fromkeys(names) if module_of(*name).partition(".")[0] != OURS]


def class_of(kind: str, name: str) -> Any:
    """Return the class (or function) of a name; raises a `UserError` where there is none."""
    return import_path("a model", name) if kind == "model" else named(REGISTRIES[kind](), name)


def module_of(kind: str, name: str) -> str:
    """Return the name of the module that defines the class; an import path is not imported for that."""
    return name.partition(":")[0] if ":" in name else str(class_of(kind, name).__module__)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
