"""Tests mirror the package: a module of `studies` is tested in the file of its name at the same place below tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
STUDIES = ROOT / "balance_tune" / "studies"
BY_OTHERS = {  # tested through what uses them alone
    "cluster/ray_address",
    *(f"storage/{name}" for name in ("db_retry", "files", "trial_file")),
    *(f"tracking/{name}" for name in ("artifacts", "client", "history", "inputs", "memory", "models", "note")),
    *(f"tracking/{name}" for name in ("origin", "pictures", "tracker", "worker_process")),
}


def test_every_module_of_a_studies_package_has_a_test_of_its_own() -> None:
    modules = {path.relative_to(STUDIES).with_suffix("") for path in STUDIES.glob("*/**/*.py")}
    untested = {
        module.as_posix()
        for module in modules
        if module.name != "__init__"
        and not (ROOT / "tests" / "studies" / module.parent / f"test_{module.name}.py").is_file()
    }
    assert untested <= BY_OTHERS
