"""Tags that say where a study ran and with which code, versions and job."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from balance_tune.package import FOLDER, VERSION
from balance_tune.studies.tracking.runs import TAG

if TYPE_CHECKING:
    from balance_tune.datasets.manifest import Manifest

DIRTY = "-dirty"
NAMED = ("torch", "ray", "optuna", "mlflow")


@cache
def code_version() -> str:
    """Return the package's version, with commit and `-dirty` where it runs from a git checkout of its own."""
    package = FOLDER
    if not (package.parent / ".git").exists():  # the checkout is another project's, which contains the package
        return VERSION
    try:
        process = subprocess.run(
            ["git", "-C", str(package), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return VERSION
    return f"{VERSION}+{process}"


def origin_tags() -> dict[str, str]:
    """Return tags for the study's run: code, versions of what it rests on, host, user, and the Ray job if it is one.

    Those named `mlflow.` are MLflow's own, which its pages show in columns of their own.
    """
    version_, _, commit = code_version().partition("+")
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("metadata", {}).get("job_submission_id")
    tags = {
        TAG + "code_version": code_version(),
        TAG + "dirty": str(commit.endswith(DIRTY)).lower(),
        "mlflow.source.name": f"balance-tune {version_}",
        "mlflow.source.type": "JOB" if job else "LOCAL",
        **({"mlflow.source.git.commit": commit.removesuffix(DIRTY)} if commit else {}),
        **_user(),
        TAG + "host": platform.node(),
        TAG + "python": platform.python_version(),
        **{TAG + name: _version(name) for name in NAMED},
    }
    return tags | ({TAG + "ray_job": job} if job else {})


def origin_of(manifest: Manifest) -> dict[str, Any]:
    """Return the entries of a trial's configuration that identify its data and code."""
    versions = {name: _version(name) for name in NAMED}
    data = {"data_hash": manifest.data_hash, "split_hash": manifest.split_hash}
    return {**data, "code_version": code_version(), "versions": versions}


def _user() -> dict[str, str]:
    import getpass

    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError, ImportError):  # a number without a name, in a container say
        return {}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
