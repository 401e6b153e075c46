"""The public API is documented whole: what a function takes, returns and raises, of all pages in docs/api."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import balance_tune

PAGES = sorted((Path(__file__).parents[2] / "docs" / "api").glob("*.md"))
ENTRY = re.compile(r"^::: ([\w.]+)\n(?:    options: \{(.*)\})?", re.MULTILINE)
SECTION = r"^{}:\n((?:    .*\n?|\n)+)"


def resolved(name: str) -> Any:
    """Return what is at an import path: a module, or an attribute of one."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def own(value: Any) -> dict[str, Any]:
    """Return the public attributes that a module or class defines itself."""
    if inspect.ismodule(value):
        return {k: v for k, v in vars(value).items() if k[0] != "_" and getattr(v, "__module__", "") == value.__name__}
    return {k: v for k, v in vars(value).items() if not k.startswith("_")}


def entries() -> Iterator[tuple[str, Any]]:
    """Yield each function, class, method and property of the public API with its import path."""
    named = [(f"balance_tune.{name}", "") for name in balance_tune.__all__ if name != "__version__"]
    for name, options in [*named, *(found for page in PAGES for found in ENTRY.findall(page.read_text()))]:
        value = resolved(name)
        members = re.search(r"(?<!\w)members: (false|\[(.*)\])", options or "")
        if not inspect.ismodule(value):
            yield name, value
        if members and members[1] == "false":
            continue
        if not (inspect.ismodule(value) or inspect.isclass(value)):
            continue
        for member in [m.strip() for m in members[2].split(",")] if members else own(value):
            part = inspect.getattr_static(value, member)
            yield f"{name}.{member}", part
            if inspect.ismodule(value) and inspect.isclass(part):
                yield from ((f"{name}.{member}.{k}", v) for k, v in own(part).items())


def function_of(value: Any) -> Callable[..., Any] | None:
    """Return the function behind a method, property or decorator; None of what is no function."""
    value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return inspect.unwrap(value) if inspect.isfunction(inspect.unwrap(value)) else None


def raised(function: Callable[..., Any]) -> set[str]:
    """Return the exceptions that a function's own body raises by name, without those that subclasses replace."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [n.exc for n in ast.walk(tree) if isinstance(n, ast.Raise) and n.exc is not None]
    names = {ast.unparse(call.func if isinstance(call, ast.Call) else call) for call in calls}
    return {name for name in names if name[0].isupper() and name not in ("NotImplementedError", "AttributeError")}


def complaints(value: Any) -> list[str]:
    """Return what the docstring of a function, class, method or property lacks."""
    function, text = function_of(value), inspect.getdoc(value) or ""
    if function is None:
        return [] if text or not inspect.isclass(value) else ["a docstring"]
    if not text:
        return ["a docstring"]
    if isinstance(value, property):
        return []
    signature = inspect.signature(function)
    section = re.search(SECTION.format("Args"), text + "\n", re.MULTILINE)
    described = section[1] if section else ""
    names = [p.name for p in signature.parameters.values() if p.name not in ("self", "cls")]
    lacks = [f"argument `{n}`" for n in names if not re.search(rf"^    [^:]*\b{n}\b[^:]*:", described, re.MULTILINE)]
    returns = str(signature.return_annotation) not in ("None", "<class 'inspect._empty'>")
    if returns and not re.search(r"^Returns:|^Yields:|\b(Return|Yield)\b", text, re.MULTILINE):
        lacks.append("what it returns")
    errors = re.search(SECTION.format("Raises"), text + "\n", re.MULTILINE)
    lacks += [f"`{name}`, which it raises" for name in raised(function) if name not in (errors[1] if errors else "")]
    return lacks


@pytest.mark.parametrize(("name", "value"), [pytest.param(n, v, id=n) for n, v in dict(entries()).items()])
def test_everything_public_is_documented(name: str, value: Any) -> None:
    assert complaints(value) == []


def test_what_is_missing_is_noticed() -> None:
    def function(rows: int, unit: str) -> int:
        """Count.

        Args:
            rows: how many.
        """
        raise ValueError(rows, unit)

    assert complaints(function) == ["argument `unit`", "what it returns", "`ValueError`, which it raises"]
    assert complaints(lambda: 1) == ["a docstring"]
