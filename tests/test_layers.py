"""Who may import whom: the arrow points one way, and only studies and the command line know Ray, Optuna and MLflow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "balance_tune"
SHARED = {"cache_folder", "errors", "kinds", "registry", "tunable", "seeds", "tasks"}
ALLOWED = {
    "replicas": set(),
    "seeds": set(),
    "tunable": set(),
    "tasks": set(),
    "models": {"models"},
    "datasets": {"datasets"},
    "modulations": {"modulations", "models", "replicas"},
    "training": {"training", "modulations", "models", "datasets", "replicas"},
}
SCHEDULERS = {"ray", "optuna", "mlflow"}


def imports(path: Path, *, at_runtime: bool = True) -> set[str]:
    """Module names a file imports; those under `if TYPE_CHECKING` only where `at_runtime` is false."""
    tree = ast.parse(path.read_text())
    typing_only: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            typing_only |= {id(n) for child in node.body for n in ast.walk(child)}
    found = set()
    for node in ast.walk(tree):
        if at_runtime and id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_studies_and_the_command_line_import_ray_optuna_or_mlflow(path: Path) -> None:
    if layer(path) in {"studies", "cli", "commands"}:
        return
    assert not {m for m in imports(path, at_runtime=False) if m.split(".")[0] in SCHEDULERS}


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) in ALLOWED], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_layer_imports_only_what_lies_below_it(path: Path) -> None:
    ours = {m.split(".")[1] for m in imports(path) if m.startswith("balance_tune.")}
    assert ours - SHARED <= ALLOWED[layer(path)]


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {m.split(".")[0] for m in done.stdout.splitlines()[-1].split()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not modules_after("import balance_tune") & {*SCHEDULERS, "torch", "numpy", "pydantic", "yaml"}


def test_a_trial_loads_no_tracker_and_no_decoders() -> None:
    loaded = modules_after("import balance_tune.training.setup, balance_tune.training.loop")
    assert not loaded & {*SCHEDULERS, "torchvision", "torchaudio", "sklearn", "scipy", "pydantic"}
