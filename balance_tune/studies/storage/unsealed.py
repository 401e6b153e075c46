"""The log of evaluations on a sealed test part outside of studies, one line each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.object_store import reason
from balance_tune.studies.storage.study_folder import StudyFolder

FILE, FOLDER = "unsealed.jsonl", "unsealed"


def record(root: StudyFolder, entry: Mapping[str, Any]) -> None:
    """Append who opened what, and what came out, to `<root>/unsealed.jsonl`.

    In an object store, where nothing can be appended to, each look is an object below `<root>/unsealed/`.

    Raises:
        UserError: the root cannot be written; a look that cannot be recorded must not be shown.
    """
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
    try:
        if root.store is not None:
            root.write_json(f"{FOLDER}/{line['at']}-{uuid.uuid4().hex[:8]}.json", line)
            return
        with (root.path / FILE).open("ab", buffering=0) as file:
            durable.append(file, json.dumps(line) + "\n")
    except OSError as error:
        raise UserError(
            f"opening a sealed part must be recorded, but {root.display_uri(FILE)} cannot be written: {reason(error)}."
        ) from error


def looks_below(root: StudyFolder) -> list[dict[str, Any]]:
    """Return the looks that were recorded below a root, each with its "dataset" and "split_hash".

    Raises:
        StoreUnavailable: the store does not answer.
        UserError: the record is damaged.
    """
    try:
        if root.store is None:
            path = root.path / FILE
            return list(durable.json_lines(path)) if path.is_file() else []
        (root / FOLDER).download()
        return [json.loads(path.read_text()) for path in sorted((root.path / FOLDER).glob("*.json"))]
    except ValueError as error:
        raise UserError(
            f"the record of looks at sealed parts must be readable, but {root.display_uri(FILE)} is not: {error}."
        ) from error
