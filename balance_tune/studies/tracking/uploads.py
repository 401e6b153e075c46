"""Puts files and texts among the artifacts of a run."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

logger = logging.getLogger(__name__)


def upload(artifacts: ArtifactRepository, source: Path, name: str) -> None:
    """Store a file, or a folder with all it holds, as `name` (a path below the run's artifacts)."""
    if not source.exists():
        logger.warning("MLflow gets no `%s`: %s is gone.", name, source)
        return
    target = PurePosixPath(name)
    folder = "" if target.parent == PurePosixPath(".") else str(target.parent)
    if source.is_dir():
        artifacts.log_artifacts(str(source), name)
    elif source.name == target.name:
        artifacts.log_artifact(str(source), folder or None)
    else:  # MLflow keeps the name of the local file
        with tempfile.TemporaryDirectory() as here:
            renamed = shutil.copy(source, Path(here) / target.name)
            artifacts.log_artifact(str(renamed), folder or None)


def write(artifacts: ArtifactRepository, documents: Mapping[str, str]) -> None:
    """Store texts as files, by their names."""
    with tempfile.TemporaryDirectory() as here:
        for name, text in documents.items():
            path = Path(here) / name
            path.write_text(text, encoding="utf-8")
            artifacts.log_artifact(str(path), None)
