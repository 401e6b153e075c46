"""Who may import whom: the arrow points one way, and only studies and the command line know Ray, Optuna and MLflow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "balance_tune"
SCHEDULERS = {"ray", "optuna", "mlflow"}
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
BASE = {
    "cache_folder",
    "file_lock",
    "reachable",
    "timeouts",
    "errors",
    "kinds",
    "package",
    "private_api",
    "private_torch",
    "registry",
    "replicas",
    "seeds",
    "settings",
    "tasks",
    "tunable",
}
LAYERS = {  # what a part of the package may import of the others, beside `BASE`
    **{name: set() for name in BASE},
    "models": set(),
    "datasets": set(),
    "modulations": {"models"},
    "training": {"modulations", "models", "datasets"},
    "balancing": {"training", "modulations", "models"},
    "testing": {"training", "modulations", "models", "datasets"},
}
ROOMS = (  # of `studies`, the lowest first: each may import those before it
    "wording",
    "signals",
    "private_apis",
    "config",
    "storage",
    "early_stopping",
    "surrogate",
    "protocol",
    "cluster",
    "data",
    "search",
    "execution",
    "monitor",
    "results",
    "tracking",
    "evaluation",
    "loading",
    "doctor",
    "deletion",
    "miniature",
    "study_result",
    "engine",
)


def names_of(module: str) -> set[str]:
    """Every module that a file imports: at its top, inside functions and under TYPE_CHECKING alike."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def imports_of(module: str) -> set[str]:
    """The modules of this package that a file imports; `from package import module` is an import of the module."""
    parents = {name.rpartition(".")[0] for name in names_of(module) if name in FILES}
    return {name for name in names_of(module) if name in FILES} - parents - {module}


IMPORTS = {module: imports_of(module) for module in FILES}


def circle() -> list[str]:
    """The shortest chain of imports that ends where it began; empty where there is none."""
    shortest: list[str] = []
    for start in IMPORTS:
        chains, seen = [[start]], {start}
        while chains:
            chain = chains.pop(0)
            if start in IMPORTS[chain[-1]]:
                shortest = min(shortest or [*chain, start], [*chain, start], key=len)
                break
            for module in sorted(IMPORTS[chain[-1]] - seen):
                seen.add(module)
                chains.append([*chain, module])
    return shortest


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def room(module: str) -> str:
    return module.split(".")[2]


def test_no_module_imports_itself_through_others() -> None:
    assert not circle(), f"a circle of imports: {' -> '.join(circle())}"


@pytest.mark.parametrize("module", [m for m in FILES if part(m) not in {"", "studies", "cli", "commands", "__main__"}])
def test_a_layer_imports_only_what_lies_below_it(module: str) -> None:
    assert not {name for name in names_of(module) if name.split(".")[0] in SCHEDULERS}
    above = {name for name in IMPORTS[module] if part(name) not in LAYERS[part(module)] | BASE | {part(module)}}
    assert not above, f"{module} imports {above}"


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("balance_tune.studies.")])
def test_a_room_of_studies_imports_only_rooms_below_it(module: str) -> None:
    others = {m for m in IMPORTS[module] if m.startswith("balance_tune.studies.")}
    above = {m for m in others if ROOMS.index(room(m)) > ROOMS.index(room(module))}
    assert not above, f"{module} imports {above}"
    assert not {m for m in IMPORTS[module] if part(m) in {"commands", "cli"}}


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {m.split(".")[0] for m in done.stdout.splitlines()[-1].split()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not modules_after("import balance_tune") & {*SCHEDULERS, "torch", "numpy", "pydantic", "yaml"}


def test_a_trial_loads_no_tracker_and_no_decoders() -> None:
    loaded = modules_after("import balance_tune.training.setup, balance_tune.training.loop")
    assert not loaded & {*SCHEDULERS, "torchvision", "torchaudio", "sklearn", "scipy", "pydantic"}
