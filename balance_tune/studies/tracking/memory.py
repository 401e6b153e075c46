"""What a study folder remembers of MLflow: under which id the study's runs are found, and what is in already."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.storage.records import TrialRecord
from balance_tune.studies.storage.study_folder import StudyFolder

FILE = "mlflow.json"
STUDY_ID = re.compile("[0-9a-f]{32}")


@dataclass
class Memory:
    """`study_id` sets this study apart from another of the same name in the same store.

    `store` is the address (without secrets) that holds the trials digested in `records` and the leaderboard digested in
    `leaderboard`; another address holds nothing yet.
    """

    folder: StudyFolder
    study_id: str
    store: str = ""
    records: str = ""
    leaderboard: str = ""

    @classmethod
    def of(cls, folder: StudyFolder) -> Memory:
        """Return what `folder` remembers; a new study is given its id, on disk, before anything is sent under it.

        Raises:
            UserError: the file is damaged.
        """
        if (folder.path / FILE).exists():
            return _read(folder)
        memory = cls(folder, uuid.uuid4().hex)
        memory.save()
        return memory

    def save(self) -> None:
        self.folder.write_json(FILE, {field.name: getattr(self, field.name) for field in fields(self)[1:]})


def _read(folder: StudyFolder) -> Memory:
    path, known = (
        folder.path / FILE,
        {field.name for field in fields(Memory)[1:]},
    )  # a later version may have remembered more
    try:
        found = {name: value for name, value in json.loads(path.read_text()).items() if name in known}
        if not all(isinstance(value, str) for value in found.values()) or not STUDY_ID.fullmatch(found["study_id"]):
            raise ValueError("no id of a study")  # folders are named by it
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} must be JSON that says under which id MLflow knows the study, but it is damaged; put a copy back, "
            "or remove it, and MLflow is told of the study anew."
        ) from error
    return Memory(folder, **found)


def digest(value: Any) -> str:
    """Return 16 hex digits of JSON-able data."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of(records: Iterable[TrialRecord]) -> str:
    """Return 16 hex digits that change with every trial that ends."""
    return digest(sorted([r.arm, r.phase, r.number, r.state] for r in records if r.finished))
