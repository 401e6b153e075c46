"""Finds the modules and packages that a user's own classes need where their model is served."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OURS = "balance_tune"
INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class OwnCode:
    """The code of classes of other packages.

    Attributes:
        modules: that define the classes; importing them registers methods and encoders.
        places: top-level module -> its file or folder, which a model has to bring.
        packages: distributions on an index that these modules import, sorted.
    """

    modules: tuple[str, ...]
    places: dict[str, Path]
    packages: tuple[str, ...]


def own_code(classes: Iterable[Any]) -> OwnCode:
    """Return the modules and packages that classes (or functions) of other packages need.

    Imports are read from the source, those inside functions too. What was typed in by hand (a notebook's class) has no
    file and is left out.
    """
    modules, places, packages, visited = set[str](), dict[str, Path](), set[str](), set[str]()
    queue = []
    for cls in classes:
        top = cls.__module__.partition(".")[0]
        place = None if top in (OURS, "__main__") else _place(top)
        if place is not None:
            modules.add(cls.__module__)
            places[top] = place
            queue.append(cls.__module__)
    while queue:
        name = queue.pop()
        top = name.partition(".")[0]
        if name in visited or top == OURS or top in sys.stdlib_module_names:
            continue
        visited.add(name)
        if top not in places:
            place = _place(top)
            if place is None:
                continue
            if any(part in INSTALLED for part in place.parts):
                packages.update(_distributions().get(top, ()))
                continue
            places[top] = place
        file = _file(name, places[top])
        if file is not None:
            queue += [name.rpartition(".")[0]] if "." in name else []
            queue += _imports(name, file)
    return OwnCode(tuple(sorted(modules)), places, tuple(sorted(packages)))


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return top-level module -> its distributions; reading all that is installed takes more than half a second."""
    return packages_distributions()


def _place(top: str) -> Path | None:
    """Return the file of a top-level module, or its folder where it is a package."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):  # a module that was made by hand
        return None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    if folders:  # a package, with or without an __init__.py
        return Path(folders[0])
    return Path(spec.origin) if spec.has_location and spec.origin else None


def _file(name: str, place: Path) -> Path | None:
    """Return the source of a module below the place of its top-level module; None where it is not a module."""
    if place.suffix == ".py":
        return place if "." not in name else None
    below = place.joinpath(*name.split(".")[1:])
    candidates = (below / "__init__.py", below.with_name(f"{below.name}.py"))
    return next((file for file in candidates if file.is_file()), None)


def _imports(name: str, file: Path) -> Iterator[str]:
    """Yield every name that a module imports, as a module's; some are attributes of one."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    nodes: list[ast.AST] = [ast.parse(file.read_bytes())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and _for_types(node.test):
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)


def _for_types(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
