"""Finds methods, datasets, encoders, fusions and stopping rules by subclassing and by entry point, never by a list."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from balance_tune.errors import UserError


def unknown(kind: str, name: str, names: list[str]) -> UserError:
    """Return the error for a name that does not exist; the nearest existing names come first."""
    near = difflib.get_close_matches(name, names, n=len(names), cutoff=0.5)
    ordered = near + [k for k in names if k not in near]
    hint = f"; did you mean `{near[0]}`?" if near else "."
    return UserError(f"{kind} must be one that exists, but got `{name}`{hint} There are: {', '.join(ordered)}.")


class Registry:
    """All classes below `base` ("module:Class") in `package` and in the entry-point group `group`.

    A class is registered by having its own `name`; importing the modules of `package` is enough for ours, an entry
    point in `group` for those of other packages.
    """

    def __init__(self, kind: str, base: str, package: str, group: str) -> None:
        self.kind, self.base, self.package, self.group = kind, base, package, group

    @cache  # noqa: B019  (the registries live as long as the process)
    def _load(self) -> type[Any]:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__, self.package + "."):
            importlib.import_module(module.name)
        for point in entry_points(group=self.group):
            try:
                point.load()
            except Exception as error:
                raise UserError(
                    f"every entry point of `{self.group}` must load, but `{point.name} = {point.value}` raised "
                    f"{type(error).__name__}: {error}; fix or uninstall that package."
                ) from error
        module_name, class_name = self.base.split(":")
        base: type[Any] = getattr(importlib.import_module(module_name), class_name)
        return base

    def classes(self) -> dict[str, type[Any]]:
        """Return name -> class, sorted by name; two classes under one name are an error that names both."""
        classes: dict[str, type[Any]] = {}
        for cls in _below(self._load()):
            name = cls.__dict__.get("name")
            if not isinstance(name, str) or not name:
                continue
            if name in classes and classes[name] is not cls:
                raise UserError(
                    f"a {self.kind} name must be unique, but `{name}` is both {_path(classes[name])} and {_path(cls)}."
                )
            classes[name] = cls
        return dict(sorted(classes.items()))

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return list(self.classes())

    def get(self, name: str) -> type[Any]:
        """Return the class called `name`, or raise a `UserError` that lists the existing names, nearest first."""
        classes = self.classes()
        if name not in classes:
            raise unknown(self.kind, name, list(classes))
        return classes[name]


def named(registry: Registry, name: str) -> Any:
    """Return the class called `name`, or what a user's own import path `package.module:name` leads to."""
    if ":" not in name:
        return registry.get(name)
    return import_path(f"{'an' if registry.kind[0] in 'aeiou' else 'a'} {registry.kind}", name)


def import_path(kind: str, path: str) -> Any:
    """Return the object at `package.module:attribute` (a user's own encoder, say).

    Modules of Python's own library are not imported: nothing that is meant is there, and some act when imported.

    Raises:
        UserError: there is no such module or attribute, or importing it fails.
    """
    module, _, attribute = path.partition(":")
    try:
        if module.partition(".")[0] in sys.stdlib_module_names:
            raise ImportError("the module is of Python's own library")
        value = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:  # a module may raise anything, and a script ends the process
        reason = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        reason = (reason.splitlines() or [""])[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        hint = "; put its folder on PYTHONPATH" if missing else ""
        raise UserError(f"{kind} `{path}` must be importable as `package.module:name`, but: {reason}{hint}.") from error
    return value


def _below(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for cls in base.__subclasses__():
        yield from _below(cls)


def _path(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def modulations() -> Registry:
    """Return the registry of methods."""
    return Registry(
        "method", "balance_tune.modulations.base:Modulation", "balance_tune.modulations", "balance_tune.modulations"
    )


@cache
def datasets() -> Registry:
    """Return the registry of datasets."""
    return Registry("dataset", "balance_tune.datasets.base:Dataset", "balance_tune.datasets", "balance_tune.datasets")


@cache
def encoders() -> Registry:
    """Return the registry of encoders."""
    return Registry("encoder", "balance_tune.models.encoders:Encoder", "balance_tune.models", "balance_tune.encoders")


@cache
def fusions() -> Registry:
    """Return the registry of fusions."""
    return Registry("fusion", "balance_tune.models.fusion:Fusion", "balance_tune.models", "balance_tune.fusions")


@cache
def stopping_rules() -> Registry:
    """Return the registry of early-stopping rules."""
    room = "balance_tune.studies.early_stopping"
    return Registry("early-stopping rule", f"{room}.rules:StoppingRule", room, "balance_tune.stopping_rules")
