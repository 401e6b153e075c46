"""Files whose names hide modules: a numpy.py or queue.py in the working directory is imported instead of the real one.

`python -m` looks there first, and so do Ray's workers. Nothing but `os` and `sys` is imported here, so that it can be
asked after any other import has failed.
"""

from __future__ import annotations

import os
import sys

KNOWN = frozenset({
    "av", "google", "grpc", "jinja2", "mlflow", "numpy", "optuna", "pandas", "PIL", "psycopg", "pyarrow", "pydantic",
    "ray", "rich", "safetensors", "scipy", "sklearn", "soundfile", "soxr", "sqlalchemy", "torch", "torchaudio",
    "torchvision", "transformers", "yaml",
})  # fmt: skip
"""The packages that a study imports."""
ALWAYS = frozenset({"mlflow", "numpy", "optuna", "pandas", "pyarrow", "ray", "sqlalchemy", "torch"})
"""Those of them that every study imports sooner or later."""


def imported_shadow() -> str | None:
    """Return the file of a module that was imported from outside of Python's own folders under one of their names."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." not in name and file and _is_taken(name) and not _is_own(file):
            return str(os.path.abspath(file))
    return None


def hidden_by(folder: str) -> str | None:
    """Return a file in `folder` with the name of a module that this process has imported from elsewhere, or will."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError:  # a folder that is gone hides nothing
        return None
    for entry in entries:
        name, _, ending = entry.partition(".")
        path = os.path.join(os.path.abspath(folder), entry)
        package = os.path.join(path, "__init__.py")
        is_module = ending == "py" or (ending.startswith(("cpython-", "abi3")) and ending.endswith("so"))
        if not (is_module or (not ending and os.path.isfile(package))):
            continue
        module = sys.modules.get(name)
        will = module is None and name in ALWAYS
        if will or (module is not None and _is_taken(name) and _is_own(getattr(module, "__file__", None) or "")):
            return package if not ending else path
    return None


def sentence(file: str) -> str:
    """Return what to tell of such a file, in one line."""
    name = os.path.basename(os.path.dirname(file) if file.endswith("__init__.py") else file).partition(".")[0]
    return f"no file may hide a module that a study imports, but {file} hides `{name}`; rename it."


def _is_taken(name: str) -> bool:
    return name in KNOWN or (name in sys.stdlib_module_names and name not in sys.builtin_module_names)


def _is_own(file: str) -> bool:
    """Return whether a file lies where Python and its packages are installed."""
    folder = os.path.realpath(os.path.dirname(file))
    installed = any(part in ("site-packages", "dist-packages") for part in folder.split(os.sep))
    roots = {os.path.realpath(p) for p in (os.path.dirname(os.__file__), sys.prefix, sys.base_prefix)}
    return installed or any(folder == root or folder.startswith(root + os.sep) for root in roots)
