"""Every public module, class and function of the package has a docstring; a method may leave it to its base."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "balance_tune"
TREES = {path.relative_to(PACKAGE.parent): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
COMMAND = {"add", "run"}  # of each module in commands/: what they do is in the package's docstring
CLASSES = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def bases(cls: ast.ClassDef) -> list[str]:
    """The names of a class's bases, without modules and type arguments."""
    return [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in cls.bases]


def inherited(cls: ast.ClassDef, name: str) -> bool:
    """Whether a base, of this package or of another one, has a method of this name."""
    for base in bases(cls):
        if base not in CLASSES:
            if base not in ("object", "Protocol", "NamedTuple", "Exception", "ABC"):
                return True
        elif any(getattr(part, "name", "") == name for part in CLASSES[base].body) or inherited(CLASSES[base], name):
            return True
    return False


def only_declares(function: ast.FunctionDef) -> bool:
    """Whether a function is `...`: a protocol's, which its class describes."""
    return ast.unparse(function.body[-1]) == "..."


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield the module, and its public functions, classes and methods that must describe themselves."""
    yield "the module", tree
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        for part in node.body if isinstance(node, ast.ClassDef) else []:
            if not isinstance(part, ast.FunctionDef) or part.name.startswith(("_", "test_", "pytest_")):
                continue
            decorators = " ".join(map(ast.unparse, part.decorator_list))  # of setters the getter says it
            described = ".setter" in decorators or "fixture" in decorators or only_declares(part)
            if not described and not inherited(node, part.name):
                yield f"{node.name}.{part.name}", part


def without_docstring() -> list[str]:
    """Where a docstring is missing."""
    return [
        f"{path}:{getattr(node, 'lineno', 1)}: {name}"
        for path, tree in TREES.items()
        for name, node in public(tree)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
        and not (path.parent.name == "commands" and name in COMMAND)
        and not (isinstance(node, ast.Module) and not node.body)
    ]


def test_everything_public_has_a_docstring() -> None:
    missing = without_docstring()
    assert not missing, "\n".join(missing)


def test_a_missing_docstring_is_noticed() -> None:
    source = '"""Module."""\n\nclass A:\n    """A."""\n\n    def f(self):\n        return 1\n\ndef g():\n    return 1\n'
    tree = ast.parse(source)
    assert [name for name, node in public(tree) if not ast.get_docstring(node)] == ["A.f", "g"]  # type: ignore[arg-type]


def test_arguments_that_are_described_exist() -> None:
    wrong = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or "Args:\n" not in (text := ast.get_docstring(node) or ""):
                continue
            all_of = node.args
            named = [*all_of.posonlyargs, *all_of.args, *all_of.kwonlyargs, all_of.vararg, all_of.kwarg]
            names = {argument.arg for argument in named if argument}
            for line in text.partition("Args:\n")[2].split("\n\n")[0].splitlines():
                described = line[4:].partition(":")[0] if line.startswith("    ") and line[4:5].strip() else ""
                absent = [name for name in described.split(", ") if name and name.strip("*") not in names]
                wrong += [f"{path}:{node.lineno}: {name}" for name in absent]
    assert not wrong, "\n".join(wrong)
