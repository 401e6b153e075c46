"""Two small files about MLflow in a study folder: the id of the study's runs, and what was synced already."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.studies.storage.study_folder import StudyFolder

IDENTITY, CACHE = "mlflow.json", "mlflow.sync"
STUDY_ID = re.compile("[0-9a-f]{32}")

logger = logging.getLogger(__name__)


def study_id(folder: StudyFolder) -> str:
    """Return the id that distinguishes this study from another one of the same name in the same store.

    A new study gets its id here, on disk, before anything is written under it.

    Raises:
        UserError: the file is damaged.
    """
    path = folder.path / IDENTITY
    if not path.exists():
        identity = uuid.uuid4().hex
        folder.write_json(IDENTITY, {"study_id": identity})
        return identity
    try:
        identity = json.loads(path.read_text())["study_id"]
        if not STUDY_ID.fullmatch(identity):
            raise ValueError("no id of a study")  # folders are named by it
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} must be JSON with the id of the study in MLflow, but it is damaged; put a copy back, "
            "or remove it, and the study is written to MLflow anew."
        ) from error
    return str(identity)


@dataclass
class Cache:
    """Facts about MLflow that need no further request. If the file is lost, MLflow is asked, or gets the upload, again.

    Attributes:
        store: address (without secrets) of the store that the rest is about.
        complete: `fingerprint` of the study when all of it was in the store; empty: never.
        uploaded: name of a run -> digest of the files that were uploaded to it.
    """

    path: Path
    store: str
    complete: str = ""
    uploaded: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, store: str) -> Cache:
        """Return the cache in `folder`; an empty one where it is missing, damaged, or about another store."""
        path = folder / CACHE
        try:
            content = json.loads(path.read_text())
            if content["store"] == store:
                return cls(path, store, str(content["complete"]), dict(content["uploaded"]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read (%s); MLflow is asked instead.", path, error)
        return cls(path, store)

    def save(self) -> None:
        """Write the file; a disk that refuses it costs the next sync some time and nothing else."""
        content = {"store": self.store, "complete": self.complete, "uploaded": self.uploaded}
        try:
            durable.write(self.path, durable.as_json(content))
        except OSError as error:
            logger.warning("%s cannot be written (%s); the next run asks MLflow instead.", self.path, error)


def fingerprint(records: Iterable[TrialRecord], folder: Path) -> str:
    """Return 16 hex digits that change with every trial that ends and with the leaderboard."""
    board = folder / "report" / "leaderboard.json"
    trials = sorted([r.cell, r.phase, r.number, r.state] for r in records if r.finished)
    return digest([trials, board.read_text() if board.is_file() else ""])


def digest(value: Any) -> str:
    """Return 16 hex digits of JSON-able data."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
